"""HTTP as registries need it: time-outs, few classified retries, no surprise redirects.

Knows nothing of registries but their habit of answering with structured errors. Bodies are
streamed. Nothing here adds a credential, so nothing here can send one to the wrong host.
"""

from __future__ import annotations

import contextlib
import email.utils
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ProxyError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse

from secure_build import __version__, stopping
from secure_build.errors import ServiceError
from secure_build.manifest import load_object
from secure_build.registry import network
from secure_build.registry.network import Proxy
from secure_build.registry.pace import Pace
from secure_build.secret import mask

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
DEADLINE_SECONDS = 180.0
_PAUSES = (0.5, 1.0, 2.0)
_LONGEST_PAUSE = 60.0
TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_LARGEST_ERROR = 64 << 10
_CHUNK = 1 << 20
_PIECE = 64 << 10
# Connections kept per host. More may be open: waiting for a free one could last for ever.
_CONNECTIONS = 32
# To one host; more than all threads of a run together.
_MOST_UNDER_WAY = 1000
# A request is mostly waited for: so many cost about what one thing to build does.
_REQUESTS_PER_JOB = 8
# Registries, their token services and their blob stores: more than one run can meet.
_HOSTS = 100

Body = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers, and the body as chunks that can be read once.

    Whoever gets one reads its body or closes it; else a connection is lost.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str]
    _response: BaseHTTPResponse

    def chunks(self) -> Iterator[bytes]:
        """The body; raises InterruptedTransferError when it breaks off or stalls."""
        try:
            for chunk in self._response.stream(_CHUNK):
                stopping.check()
                yield chunk
        except (HTTPError, OSError) as error:
            raise _interrupted(f"{_request(self.method, self.url)} broke off: {_why(error)}") from None
        finally:
            self.close()

    def body(self, at_most: int) -> bytes:
        """The whole body; raises ServiceError when it is larger than `at_most` bytes."""
        content = bytearray()
        for chunk in self.chunks():
            content += chunk
            if len(content) > at_most:
                raise ServiceError(
                    f"{_request(self.method, self.url)} answered with more than {at_most} bytes"
                )
        return bytes(content)

    def close(self) -> None:
        """Give the connection back to the pool, or up when much of a body is left unread."""
        left = self._response.length_remaining
        if left is not None and left <= _LARGEST_ERROR:
            self._response.drain_conn()
        else:
            self._response.close()
        self._response.release_conn()

    def explained(self, what: str) -> str:
        """A sentence on an answer that was not hoped for, with the registry's own words."""
        return self.explained_with_codes(what)[0]

    def explained_with_codes(self, what: str) -> tuple[str, frozenset[str]]:
        """The same, and the error codes of the distribution specification in it."""
        try:
            text = self.body(_LARGEST_ERROR).decode(errors="replace")
        except ServiceError:
            text = ""
        own, codes = _registry_errors(text)
        sentence = f"{what}: {_request(self.method, self.url)} answered {self.status}"
        return sentence + (f" ({own})" if own else ""), codes


class _Stoppable:
    """A connection whose socket is shut when the run is ending, so that nobody waits for a silent host."""

    sock: socket.socket | None

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        if self.sock is not None:
            with _lock:
                _sockets.add(self.sock)


class _HTTPConnection(_Stoppable, urllib3.connection.HTTPConnection): ...


class _HTTPSConnection(_Stoppable, urllib3.connection.HTTPSConnection): ...


class _HTTPConnectionPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSConnectionPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


_lock = threading.Lock()
_sockets: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _shut_all() -> None:
    with _lock:
        for open_socket in _sockets:
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)


stopping.on_stop(_shut_all)


class UnavailableError(ServiceError):
    """A service cannot answer now; it was tried again, where that could help."""


class InterruptedTransferError(UnavailableError):
    """The connection broke or stalled; trying again may help."""


def at_once(jobs: int) -> int:
    """How many requests may be under way, where `jobs` things may be done side by side; of one, one."""
    return 1 if jobs == 1 else min(jobs * _REQUESTS_PER_JOB, _CONNECTIONS)


class Transport:
    """A connection pool. One is shared by all registries of a run, and by all threads.

    A connection must stand after `connect_seconds`, some bytes must move every `read_seconds`, and
    after `deadline_seconds` nothing is tried again.
    """

    def __init__(
        self,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._read_seconds = read_seconds
        self._deadline_seconds = deadline_seconds
        self._timeout = urllib3.Timeout(connect=connect_seconds, read=read_seconds)
        self._proxies = network.proxies()
        self._lock = threading.Lock()
        self._paces: dict[str, Pace] = {}
        self._ways: dict[tuple[str, str], urllib3.PoolManager] = {}
        # By proxy and certificates; most runs have one.
        self._pools: dict[tuple[Proxy | None, ssl.SSLContext | None], urllib3.PoolManager] = {}
        self._usual_trust: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections that are kept."""
        for pool in self._pools.values():
            pool.clear()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        retry: bool = True,
    ) -> Answer:
        """One request, tried again while the answer is temporary and `retry` allows it.

        `body` is called for each attempt; its length stands in the headers. Redirects are handed
        back as they are. Raises ServiceError when no answer comes; an answer with an error status
        is an answer.
        """

        def attempt() -> Answer:
            return self._once(method, url, headers or {}, body)

        return self.persist(attempt) if retry else attempt()

    def persist(self, attempt: Callable[[], Answer]) -> Answer:
        """What `attempt` answers, after few more attempts while it breaks off or is temporary.

        A registry's `Retry-After` goes before our own pauses; one that is too long ends the trying. One that
        lets only so many requests through may say so again and again.
        """
        deadline = time.monotonic() + self._deadline_seconds
        usual = iter(_PAUSES)
        while True:
            waiting: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
            try:
                answer = attempt()
            except InterruptedTransferError:
                pause = next(usual, None)
                if pause is None or time.monotonic() + pause > deadline:
                    raise
            else:
                if answer.status not in TEMPORARY:
                    return answer
                told = _retry_after(answer.headers.get("Retry-After"))
                pause = told if told and answer.status == 429 else next(usual, None)
                if pause is None:
                    return answer
                pause = told or pause
                if pause > _LONGEST_PAUSE or time.monotonic() + pause > deadline:
                    return answer
                answer.close()
                if answer.status == 429:
                    waiting = self._pace(answer.url).refused()
            with waiting:
                stopping.pause(pause)

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> Answer:
        stopping.check()
        extra: dict[str, Any] = {}
        if body is not None:
            # urllib3 sends under the time-out for connecting, which is too short for a registry
            # that writes to slow storage.
            extra = {"body": _pieces(body()), "timeout": self._read_seconds}
        pace = self._pace(url)
        try:
            with pace.turn():
                response = self._pool(url).request(
                    method,
                    url,
                    headers={"User-Agent": f"secure-build/{__version__}", **headers},
                    redirect=False,
                    preload_content=False,
                    decode_content=False,
                    **extra,
                )
        except LocationValueError:
            raise ServiceError(f"`{redacted(url)}` is no address") from None
        except ProxyError as error:
            raise _interrupted(
                f"cannot reach {urlsplit(url).netloc} through the proxy: {_why(error)}",
                hint="check `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`",
            ) from None
        except (NewConnectionError, ConnectTimeoutError) as error:
            raise _interrupted(
                f"cannot reach {urlsplit(url).netloc}: {_why(error)}",
                hint="check the name of the registry and the network",
            ) from None
        except (HTTPError, OSError) as error:
            if isinstance(error, SSLError) and isinstance(error.args[0], ssl.CertificateError):
                raise ServiceError(
                    f"{_request(method, url)}: no trusted connection: {_why(error)}",
                    hint="when the registry has a certificate of your own authority, set `SSL_CERT_FILE` or "
                    f"put it into `/etc/docker/certs.d/{urlsplit(url).netloc}/ca.crt`",
                ) from None
            raise _interrupted(f"{_request(method, url)} got no answer: {_why(error)}") from None
        answer = Answer(method, url, response.status, response.headers, response)
        if not _is_whole(response):
            answer.close()
            raise _interrupted(f"{_request(method, url)} got no answer: it broke off in the headers")
        if response.status != 429:
            pace.went_well()
        return answer

    def _pace(self, url: str) -> Pace:
        """The pace of the host of this address."""
        host = url.partition("://")[2].partition("/")[0]
        with self._lock:
            return self._paces.setdefault(host, Pace(_MOST_UNDER_WAY))

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The connections that take the way to this address."""
        try:
            parts = urlsplit(url)
            host = (parts.scheme, parts.netloc)
            with self._lock:
                if host not in self._ways:
                    self._ways[host] = self._way(url)
                return self._ways[host]
        except ValueError:
            raise ServiceError(f"`{redacted(url)}` is no address") from None

    def _way(self, url: str) -> urllib3.PoolManager:
        proxy, certificates = self._proxies.for_address(url), network.trust(url)
        if certificates is None and url.startswith("https:"):
            # One for all: to read the system's authorities takes longer than a request.
            certificates = self._usual_trust = self._usual_trust or ssl.create_default_context()
        if (proxy, certificates) not in self._pools:
            options: dict[str, Any] = {
                "num_pools": _HOSTS,
                "maxsize": _CONNECTIONS,
                "retries": False,
                "timeout": self._timeout,
                "ssl_context": certificates,
            }
            if proxy is None:
                pool = urllib3.PoolManager(**options)
            else:
                login = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else None
                pool = urllib3.ProxyManager(proxy.url, proxy_headers=login, **options)
            pool.pool_classes_by_scheme = {"http": _HTTPConnectionPool, "https": _HTTPSConnectionPool}
            self._pools[proxy, certificates] = pool
        return self._pools[proxy, certificates]


def _interrupted(message: str, *, hint: str | None = None) -> InterruptedTransferError:
    """The error for a broken connection; raises StoppedError when it was us who shut it."""
    stopping.check()
    return InterruptedTransferError(message, hint=hint)


def redacted(url: str) -> str:
    """The address without query and credentials: signed addresses of blob stores are secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "***"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


def _pieces(chunks: Iterator[bytes]) -> Iterator[memoryview]:
    """The chunks in small pieces: a time-out covers each as a whole, and a stop comes in between."""
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), _PIECE):
            stopping.check()
            yield view[start : start + _PIECE]


def _is_whole(response: BaseHTTPResponse) -> bool:
    """Whether the end of the headers was seen: Python takes a connection that closes for that end.

    From HTTP/1.1 on, what is neither counted nor chunked must say that closing ends it.
    """
    return (
        response.length_remaining is not None
        or "Transfer-Encoding" in response.headers
        or response.headers.get("Connection", "").lower() == "close"
        or response.version < 11
    )


def _request(method: str, url: str) -> str:
    return f"{method} {redacted(url)}"


def _why(error: Exception) -> str:
    """The reason in few words; urllib3 puts connections, pools and wrappers before it."""
    timed_out = isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError)
    if timed_out and not isinstance(error, NewConnectionError):
        return "timed out"
    inner = error.args[-1] if error.args and isinstance(error.args[-1], Exception) else error.__cause__
    if isinstance(inner, NewConnectionError):
        inner = inner.__cause__
    text = str(inner or error)
    return mask(text.rpartition(">: ")[2] or type(error).__name__)[:300]


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _registry_errors(text: str) -> tuple[str, frozenset[str]]:
    """The codes and messages of a distribution error document, or nothing, and the codes alone."""
    try:
        errors = load_object(text.encode())["errors"]
        told = [f"{error.get('code', '?')}: {error.get('message', '')}".rstrip(": ") for error in errors[:3]]
        codes = frozenset(str(error.get("code")) for error in errors[:100])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", frozenset()
    # In one line: what a registry says must not look like something that we say.
    return mask(" ".join("; ".join(told).split()))[:300], codes
