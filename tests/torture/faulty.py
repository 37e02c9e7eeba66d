"""A proxy in front of a registry, or another service, that spoils one request, or all from one on."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

from services.counting import Counted
from services.serving import Serving

Kind = Literal[
    "500", "503", "429", "429 in an hour", "404", "401", "wrong scope", "403", "reset", "cut answer",
    "cut upload", "lying digest", "other bytes", "no length", "html", "redirect", "kill before", "kill after",
]  # fmt: skip
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
_KILLS: tuple[Kind, ...] = ("kill before", "kill after")
# In what a service can stay.
_LASTING: tuple[Kind, ...] = ("503", "429 in an hour", "reset", "401", "404")
_STATUS: dict[str, tuple[int, dict[str, str]]] = {
    "500": (500, {}),
    "503": (503, {}),
    "429": (429, {"Retry-After": "1"}),
    "429 in an hour": (429, {"Retry-After": "3600"}),
    "404": (404, {}),
    "401": (401, {"WWW-Authenticate": 'Basic realm="elsewhere"'}),
    "wrong scope": (
        401,
        {
            "WWW-Authenticate": 'Bearer realm="http://HOST/token",service="tests",scope="repository:other:push"'
        },
    ),
    "403": (403, {}),
    "html": (200, {"Content-Type": "text/html"}),
}
_OWN_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


@dataclass(frozen=True, slots=True)
class Spoiled:
    """What is done to the request of this number, counted from 0; with `always`, to all after it too."""

    number: int
    kind: Kind
    always: bool = False

    def hits(self, number: int) -> bool:
        return number == self.number or (self.always and number > self.number)

    def __str__(self) -> str:
        return f"{self.kind} at request {self.number}{' and after' if self.always else ''}"


def spoiled(requests: int) -> list[Spoiled]:
    """Each of so many requests in every way but death, once, and for good where a service can stay so."""
    once = [kind for kind in KINDS if kind not in _KILLS]
    return [
        *(Spoiled(*point) for point in itertools.product(range(requests), once)),
        *(Spoiled(*point, always=True) for point in itertools.product(range(requests), _LASTING)),
    ]


def deadly(requests: int) -> list[Spoiled]:
    """Death at each of so many requests."""
    return [Spoiled(*point) for point in itertools.product(range(requests), _KILLS)]


class FaultyProxy(Serving):
    """Listens on the loopback while the `with` block lasts; `victim` is the group that `kill` ends.

    `tokens` is where what is below `/token` is sent on to. With `trust`, the upstream is spoken to by HTTPS.
    """

    def __init__(self, upstream: str = "", *, tokens: str = "", trust: ssl.SSLContext | None = None) -> None:
        self.upstream, self._tokens, self._trust = upstream, tokens, trust
        self.spoiled: Spoiled | None = None
        self.victim = 0
        self.requests: list[Counted] = []
        self.elsewhere: list[str] = []
        self._lock = threading.Condition()
        self._number = self._under_way = 0
        super().__init__(_Server(self))

    def start(self, spoiled: Spoiled | None) -> None:
        """Begin to count anew."""
        with self._lock:
            self.spoiled, self._number = spoiled, 0

    def forget(self) -> None:
        """Forget what came by."""
        self.requests, self.elsewhere = [], []

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A request that is under way."""
        with self._lock:
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()

    def settle(self) -> None:
        """Wait for requests whose sender has ended, and which are on their way all the same."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._under_way, 60)

    def connection(self, path: str) -> http.client.HTTPConnection:
        """A new one, to the upstream of this path."""
        host = self._tokens if self._tokens and path.startswith("/token") else self.upstream
        if self._trust is None:
            return http.client.HTTPConnection(host, timeout=60)
        return http.client.HTTPSConnection(host, timeout=60, context=self._trust)

    def next_fault(self) -> Kind | None:
        with self._lock:
            number, self._number = self._number, self._number + 1
        return self.spoiled.kind if self.spoiled and self.spoiled.hits(number) else None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, proxy: FaultyProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, *_: object) -> None:
        """Clients that are killed leave connections behind."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        with self.server.proxy.one():
            self._pass_on()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _pass_on(self) -> None:
        proxy = self.server.proxy
        if self.path.startswith("/elsewhere"):
            proxy.elsewhere.append(self.headers.get("Authorization", ""))
            self._answer(404, {}, b"")
            return
        fault = proxy.next_fault()
        if fault == "kill before":
            os.killpg(proxy.victim, signal.SIGKILL)
            self._hang_up()
            return
        body = self._body(half=fault == "cut upload")
        if fault in ("reset", "cut upload"):
            self._hang_up()
        elif fault in _STATUS:
            status, headers = _STATUS[fault]
            told = {name: value.replace("HOST", self.headers["Host"]) for name, value in headers.items()}
            self._answer(status, told, b"<html>" if fault == "html" else b"")
        elif fault == "redirect":
            host = self.headers["Host"].replace("127.0.0.1", "localhost")
            self._answer(307, {"Location": f"http://{host}/elsewhere{self.path}"}, b"")
        else:
            self._forward(body, fault)

    def _forward(self, body: bytes, fault: Kind | None) -> None:
        proxy = self.server.proxy
        upstream = proxy.connection(self.path)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN_HEADERS}
        upstream.request(self.command, self.path, body or None, headers | {"Content-Length": str(len(body))})
        answer = upstream.getresponse()
        content = answer.read()
        proxy.requests.append(Counted(self.command, self.path, answer.status))
        upstream.close()
        if fault == "kill after":
            os.killpg(proxy.victim, signal.SIGKILL)
            self._hang_up()
            return
        given = {name: value for name, value in answer.getheaders() if name.lower() not in _OWN_HEADERS}
        if self.command == "HEAD" and answer.getheader("Content-Length"):
            given["Content-Length"] = str(answer.getheader("Content-Length"))
        if fault == "lying digest":
            given["Docker-Content-Digest"] = f"sha256:{'0' * 64}"
        if fault == "other bytes" and content:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == "no length":
            given.pop("Content-Length", None)
        self._answer(answer.status, given, content, cut=fault == "cut answer")

    def _body(self, *, half: bool) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            pieces = []
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
                if half:
                    return b""
            self.rfile.readline()
            return b"".join(pieces)
        size = int(self.headers.get("Content-Length") or 0)
        return self.rfile.read(size // 2 if half else size)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.connection.close()

    def _answer(self, status: int, headers: dict[str, str], content: bytes, *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if self.command != "HEAD" or "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.wfile.flush()
        if cut:
            self._hang_up()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass
