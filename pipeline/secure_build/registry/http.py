"""HTTP as registries need it: time-outs, few classified retries, no surprise redirects.

Knows nothing of registries but their habit of answering with structured errors. Bodies are
streamed. Nothing here adds a credential, so nothing here can send one to the wrong host.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, NewConnectionError, SSLError
from urllib3.response import BaseHTTPResponse

from secure_build import __version__, stopping
from secure_build.errors import ServiceError
from secure_build.manifest import load_object
from secure_build.secret import mask

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
_PAUSES = (0.5, 1.0, 2.0)
_LONGEST_PAUSE = 60.0
_DEADLINE_SECONDS = 180.0
TEMPORARY = frozenset({408, 429, 500, 502, 503, 504})
_LARGEST_ERROR = 64 << 10
_CHUNK = 1 << 20
# Connections kept per host; requests beyond it wait for one instead of opening another.
_CONNECTIONS = 16


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers, and the body as chunks that can be read once."""

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
            raise InterruptedTransferError(
                f"{_request(self.method, self.url)} broke off: {_why(error)}"
            ) from None
        finally:
            self.close()

    def body(self, at_most: int) -> bytes:
        """The whole body; raises ServiceError when it is larger than `at_most` bytes."""
        content = bytearray()
        for chunk in self.chunks():
            content += chunk
            if len(content) > at_most:
                self._response.close()
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
        try:
            text = self.body(_LARGEST_ERROR).decode(errors="replace")
        except ServiceError:
            text = ""
        own = _registry_errors(text)
        return f"{what}: {_request(self.method, self.url)} answered {self.status}" + (
            f" ({own})" if own else ""
        )


class InterruptedTransferError(ServiceError):
    """The connection broke or stalled; trying again may help."""


class Transport:
    """A connection pool. One is shared by all registries of a run, and by all threads."""

    def __init__(self) -> None:
        self._pool = urllib3.PoolManager(
            maxsize=_CONNECTIONS,
            block=True,
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=READ_SECONDS),
            headers={"User-Agent": f"secure-build/{__version__}"},
        )

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Callable[[], Iterator[bytes] | bytes] | None = None,
        fields: Mapping[str, str] | None = None,
        retry: bool = True,
    ) -> Answer:
        """One request, tried again while the answer is temporary and `retry` allows it.

        `body` is called for each attempt. Redirects are handed back as they are. Raises
        ServiceError when no answer comes; an answer with an error status is an answer.
        """
        deadline = time.monotonic() + _DEADLINE_SECONDS
        pauses = iter(_PAUSES if retry else ())
        while True:
            stopping.check()
            pause = next(pauses, None)
            try:
                answer = self._once(method, url, headers, body, fields)
            except InterruptedTransferError:
                if pause is None or time.monotonic() + pause > deadline:
                    raise
            else:
                if answer.status not in TEMPORARY or pause is None:
                    return answer
                pause = _retry_after(answer.headers.get("Retry-After")) or pause
                if pause > _LONGEST_PAUSE or time.monotonic() + pause > deadline:
                    return answer
                answer.close()
            stopping.pause(pause)

    def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        body: Callable[[], Iterator[bytes] | bytes] | None,
        fields: Mapping[str, str] | None,
    ) -> Answer:
        extra: dict[str, Any] = {"body": body()} if body else {}
        if fields is not None:
            extra |= {"fields": dict(fields), "encode_multipart": False}
        try:
            response = self._pool.request(
                method,
                url,
                headers={**self._pool.headers, **(headers or {})},
                redirect=False,
                preload_content=False,
                decode_content=False,
                **extra,
            )
        except LocationParseError:
            raise ServiceError(f"`{redacted(url)}` is no address") from None
        except SSLError as error:
            raise ServiceError(
                f"{_request(method, url)}: no trusted connection: {_why(error)}",
                hint="when the registry has a certificate of your own authority, set `SSL_CERT_FILE`",
            ) from None
        except NewConnectionError as error:
            raise InterruptedTransferError(
                f"cannot reach {urlsplit(url).netloc}: {_why(error)}",
                hint="check the name of the registry and the network",
            ) from None
        except (HTTPError, OSError) as error:
            raise InterruptedTransferError(f"{_request(method, url)} got no answer: {_why(error)}") from None
        return Answer(method, url, response.status, response.headers, response)


def redacted(url: str) -> str:
    """The address without query and credentials: signed addresses of blob stores are secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


def _request(method: str, url: str) -> str:
    return f"{method} {redacted(url)}"


def _why(error: Exception) -> str:
    text = str(error.__cause__ or error)
    # urllib3 puts the repr of a connection before the reason.
    return mask(text.rpartition(">: ")[2] or type(error).__name__)[:300]


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _registry_errors(text: str) -> str:
    """The codes and messages of a distribution error document, or nothing."""
    try:
        errors = load_object(text.encode())["errors"]
        told = [f"{error.get('code', '?')}: {error.get('message', '')}".rstrip(": ") for error in errors[:3]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ""
    return mask("; ".join(told))[:300]
