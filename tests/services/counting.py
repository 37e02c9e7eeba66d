"""A proxy in front of a registry that passes everything on and counts it."""

from __future__ import annotations

import contextlib
import http.client
import math
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from services.serving import Serving

_CHUNK = 1 << 18
# What concerns one connection only; the body's length is told anew.
_OWN_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "proxy-connection"})


@dataclass(frozen=True, slots=True)
class Counted:
    """One request and the status of its answer."""

    method: str
    path: str
    status: int

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


class CountingProxy(Serving):
    """Listens on a loopback port while the `with` block lasts; `requests` holds what came by.

    The upstream registry sees the proxy's own host name, so that its addresses lead back here. `most`
    tells how many requests were under way at the same moment. More than `rate` in one second are told to come
    again in the next.
    """

    def __init__(self, upstream: str, *, rate: float = math.inf) -> None:
        self.requests: list[Counted] = []
        self._counter = _Server(upstream, self.requests, rate)
        super().__init__(self._counter)

    @property
    def most(self) -> int:
        return self._counter.most

    def hold(self, seconds: float) -> None:
        """Keep requests waiting so long from now on, and begin to count those at the same moment anew."""
        self._counter.hold, self._counter.most = seconds, 0

    @property
    def writes(self) -> list[Counted]:
        """The requests that were to change something."""
        return [request for request in self.requests if request.writes]

    @property
    def methods(self) -> Counter[str]:
        return Counter(request.method for request in self.requests)

    def taken(self) -> list[Counted]:
        """What came by since the last time this was asked for."""
        taken = self.requests[:]
        del self.requests[: len(taken)]
        return taken


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str, requests: list[Counted], rate: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.requests = requests
        self.most = self._under_way = 0
        self.hold, self._rate = 0.0, rate
        self._second, self._in_second = 0, 0
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A request that is under way."""
        with self._lock:
            self._under_way += 1
            self.most = max(self.most, self._under_way)
        time.sleep(self.hold)
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1

    def admits(self) -> bool:
        """Whether this second has room for one more request."""
        with self._lock:
            if (now := int(time.monotonic())) != self._second:
                self._second, self._in_second = now, 0
            self._in_second += 1
            return self._in_second <= self._rate


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def _pass_on(self) -> None:
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=60)
        with self.server.one(), contextlib.closing(upstream):
            # The chunks come unpacked: the upstream gets chunks of its own.
            chunked = "chunked" in self.headers.get("Transfer-Encoding", "").lower()
            size = None if chunked else int(self.headers.get("Content-Length") or 0)
            if not self.server.admits():
                for _ in self._chunks() if size is None else self._counted(size):
                    pass
                self.server.requests.append(Counted(self.command, self.path, 429))
                self.send_response_only(429)
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _OWN_HEADERS:
                    upstream.putheader(name, value)
            if chunked:
                upstream.putheader("Transfer-Encoding", "chunked")
            upstream.endheaders()
            for piece in self._chunks() if size is None else self._counted(size):
                upstream.send(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if chunked:
                upstream.send(b"0\r\n\r\n")
            answer = upstream.getresponse()
            self.server.requests.append(Counted(self.command, self.path, answer.status))
            self._answer(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on  # noqa: N815

    def _answer(self, answer: http.client.HTTPResponse) -> None:
        self.send_response_only(answer.status, answer.reason)
        counted = answer.getheader("Content-Length") is not None
        bodiless = self.command == "HEAD" or answer.status in (204, 304)
        for name, value in answer.getheaders():
            if name.lower() not in _OWN_HEADERS:
                self.send_header(name, value)
        if not counted and not bodiless:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while piece := answer.read(_CHUNK):
            self.wfile.write(piece if counted else b"%x\r\n%s\r\n" % (len(piece), piece))
        if not counted and not bodiless:
            self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def _counted(self, size: int) -> Any:
        while size and (piece := self.rfile.read(min(size, _CHUNK))):
            size -= len(piece)
            yield piece

    def _chunks(self) -> Any:
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
