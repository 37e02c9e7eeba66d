"""Where OpenPGP signatures are served: a registry that has a place for them, and a web server for files."""

from __future__ import annotations

import base64
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from services.counting import CountingProxy, PassingHandler
from services.serving import Serving

_EXTENSION = "/extensions/v2/"


class ExtendedRegistry(CountingProxy):
    """A proxy in front of a registry that adds the extension; `kept` has what was put, by path."""

    def __init__(self, upstream: str) -> None:
        self.kept: dict[str, list[dict[str, Any]]] = {}
        super().__init__(upstream, type("Handler", (_Extension,), {"kept": self.kept}))


class _Extension(PassingHandler):
    kept: dict[str, list[dict[str, Any]]]

    def end_headers(self) -> None:
        self.send_header("X-Registry-Supports-Signatures", "1")
        super().end_headers()

    def do_GET(self) -> None:  # noqa: N802
        if not self.path.startswith(_EXTENSION):
            return self._pass_on()
        return self._say(200, {"signatures": self.kept.get(self.path, [])})

    def do_PUT(self) -> None:  # noqa: N802
        if not self.path.startswith(_EXTENSION):
            return self._pass_on()
        put = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kept = self.kept.setdefault(self.path, [])
        digest, _, name = put["name"].partition("@")
        # OpenShift names a signature by its image and 32 digits.
        if put["schemaVersion"] != 2 or not self.path.endswith(f"/{digest}") or len(name) != 32:
            return self._say(400, {})
        if any(one["name"] == put["name"] for one in kept):
            return self._say(409, {})
        kept.append(put)
        return self._say(201, {})

    def _say(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_: object) -> None: ...


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
