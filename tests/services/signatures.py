"""A registry that keeps OpenPGP signatures, as OpenShift's and IBM's do: a front before a plain one."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from services.serving import Serving

_PATH = re.compile(r"/extensions/v2/(?P<name>.+)/signatures/(?P<digest>sha256:[0-9a-f]{64})")


class SignatureRegistry(Serving):
    """Passes everything on to `upstream` but signatures: those it keeps for whoever may log in there.

    `certificate` is its own, with the key. With `has_extension` off it says nothing of signatures.
    """

    def __init__(self, upstream: str, certificate: tuple[Path, Path]) -> None:
        server = _Server(self)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        super().__init__(server)
        self.upstream = upstream
        self.has_extension = True
        self.kept: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.lock = threading.Lock()

    def ask(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """What the registry behind answers."""
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            connection.request(method, path, body, {**headers, "X-Forwarded-Proto": "https"})
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, front: SignatureRegistry) -> None:
        self.front = front
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, *_: object) -> None:
        """Clients hang up as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        front = self.server.front
        body = self._body()
        found = _PATH.fullmatch(self.path) if front.has_extension else None
        if found is None:
            asked = {name: ", ".join(self.headers.get_all(name, ())) for name in self.headers}
            status, headers, content = front.ask(self.command, self.path, asked, body)
        else:
            status, headers, content = self._signatures((found["name"], found["digest"]), body)
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                self.send_header(name, value)
        length = {name.lower(): value for name, value in headers}.get("content-length")
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        if front.has_extension:
            self.send_header("X-Registry-Supports-Signatures", "1")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _signatures(self, key: tuple[str, str], body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        front = self.server.front
        login = {name: value for name, value in self.headers.items() if name.lower() == "authorization"}
        # Whoever may not read the registry may not read its signatures.
        status, headers, content = front.ask("GET", "/v2/", login, b"")
        if status != 200:
            return status, headers, content
        with front.lock:
            listed = front.kept.setdefault(key, [])
            if self.command == "PUT":
                signature = json.loads(body)
                if any(one["name"] == signature["name"] for one in listed):
                    return 409, [], b""
                listed.append(signature)
                return 201, [], b""
            kind = [("Content-Type", "application/json")]
            return 200, kind, json.dumps({"signatures": listed}).encode()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        content = b""
        while size := int(self.rfile.readline(), 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is said."""
