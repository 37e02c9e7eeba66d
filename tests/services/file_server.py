"""A web server for the files of a folder, which takes files too."""

from __future__ import annotations

import base64
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from services.serving import Serving


class FileServer(Serving):
    """Gives the files of a folder to all, and takes files by PUT from those who know the login."""

    def __init__(self, folder: Path, login: str) -> None:
        self.writes: list[str] = []
        expected = f"Basic {base64.b64encode(login.encode()).decode()}"
        made = {"folder": folder, "expected": expected, "writes": self.writes}
        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Files,), made)))


class _Files(BaseHTTPRequestHandler):
    folder: Path
    expected: str
    writes: list[str]

    def do_GET(self) -> None:
        path = self.folder / self.path.lstrip("/")
        self._say(200, path.read_bytes()) if path.is_file() else self._say(404)

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != self.expected:
            return self._say(401)
        path = self.folder / self.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.writes.append(self.path)
        return self._say(201)

    def _say(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...
