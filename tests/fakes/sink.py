"""A registry on loopback for very large uploads: it hashes blobs and forgets them, and keeps manifests."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from services.serving import Serving

_CHUNK = 1 << 20


class SinkRegistry(Serving):
    """Serves while the `with` block lasts; `received` counts the bytes of blobs that were right."""

    def __init__(self) -> None:
        self.received = 0
        self.blobs: set[str] = set()
        self.manifests: dict[str, tuple[str, bytes]] = {}
        self.lock = threading.Lock()
        super().__init__(_Server(self))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: SinkRegistry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def do_HEAD(self) -> None:
        self._look()

    def do_GET(self) -> None:
        self._look()

    def do_POST(self) -> None:
        path = urlsplit(self.path).path
        self._answer(202, {"Location": f"{path}upload"})

    def do_PUT(self) -> None:
        registry, parts = self.server.registry, urlsplit(self.path)
        left = size = int(self.headers["Content-Length"])
        if "/manifests/" in parts.path:
            body = self.rfile.read(size)
            digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
            for name in (self.path, f"{parts.path.rpartition('/')[0]}/{digest}"):
                registry.manifests[name] = (self.headers["Content-Type"], body)
            self._answer(201, {"Docker-Content-Digest": digest})
            return
        hasher = hashlib.sha256()
        while left and (piece := self.rfile.read(min(left, _CHUNK))):
            hasher.update(piece)
            left -= len(piece)
        digest = f"sha256:{hasher.hexdigest()}"
        if left or parse_qs(parts.query)["digest"] != [digest]:
            self._answer(400, {})
            return
        with registry.lock:
            registry.received += size
            registry.blobs.add(digest)
        self._answer(201, {"Docker-Content-Digest": digest})

    def _look(self) -> None:
        found = self.server.registry.manifests.get(self.path)
        if found is None:
            self._answer(404, {})
            return
        digest = f"sha256:{hashlib.sha256(found[1]).hexdigest()}"
        self._answer(200, {"Content-Type": found[0], "Docker-Content-Digest": digest}, found[1])

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
