"""Files on web servers: names with TLS behind a proxy that opens tunnels, and names without.

The names are known to these proxies only, so nothing ever leaves the machine.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from services import certificates
from services.serving import Serving
from services.tunnel import TunnelProxy


@dataclass
class Web:
    """What is served by its address; `asked` has the addresses that were asked for."""

    variables: Mapping[str, str]
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    # Addresses whose answer begins and never ends, until the test does.
    endless: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_GET(self) -> None:
        # A client that uses a proxy without a tunnel sends whole addresses.
        url = self.path if "://" in self.path else f"https://{self.headers['Host']}{self.path}"
        self.web.asked.append(url)
        if target := self.web.redirects.get(url):
            self.send_response(302)
            self.send_header("Location", target)
        elif (content := self.web.files.get(url)) is not None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content) + (url in self.web.endless)))
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()
            if url in self.web.endless:
                self.web.over.wait()
            return
        else:
            self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@contextmanager
def web(directory: Path, *names: str) -> Iterator[Web]:
    """Servers for these names; `variables` of the result lead a program there."""
    authority = certificates.authority(directory)
    certificate, key = certificates.signed(directory, authority, names[0], others=names[1:])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    handler = type("Handler", (_Handler,), {})
    plain = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    secure = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    secure.socket = context.wrap_socket(secure.socket, server_side=True)
    for server in (plain, secure):
        server.daemon_threads = True
        server.block_on_close = False
    with (
        Serving(plain) as without,
        Serving(secure) as behind,
        TunnelProxy({f"{name}:443": behind.host for name in names}) as proxy,
    ):
        handler.web = served = Web(
            {
                "HTTP_PROXY": f"http://{without.host}",
                "HTTPS_PROXY": f"http://{proxy.host}",
                "NO_PROXY": "",
                "SSL_CERT_FILE": str(authority[0]),
            }
        )
        try:
            yield served
        finally:
            served.over.set()
