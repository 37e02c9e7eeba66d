"""Public files, fetched by their address and kept in the work folder.

What is fetched is bounded in size and time, whatever the server does. It is never believed: whoever
asks for it checks what it says. Plain HTTP is for data that is signed, where the caller allows it.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

from secure_build import files
from secure_build.address import is_private
from secure_build.errors import SecureBuildError, ServiceError, UsageError
from secure_build.registry.http import Transport, redacted

Content = TypeVar("Content")

_LARGEST = 16 << 20
_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONNECT_SECONDS = 5.0
_READ_SECONDS = 10.0
# For one file, from its first redirect to its last byte.
_SECONDS = 20.0


class AbsentError(ServiceError):
    """The server says that there is no such file."""


@dataclass(frozen=True, slots=True)
class Downloads:
    """Files by address; `folder` holds those that were fetched, `offline` uses nothing else."""

    folder: Path
    offline: bool

    def get(
        self,
        url: str,
        load: Callable[[bytes, str], Content],
        is_current: Callable[[Content], bool],
        *,
        plain: bool = False,
    ) -> Content:
        """What `load` makes of the file.

        A file that is kept is used as long as it is current, and after that when there is no newer
        one to be had. `plain` allows HTTP without TLS. Raises ServiceError, UsageError without a
        network, and what `load` raises.
        """
        path = self.folder / hashlib.sha256(url.encode()).hexdigest()
        kept = _read(path, load)
        if kept is not None and (self.offline or is_current(kept)):
            return kept
        try:
            if self.offline:
                raise UsageError(
                    f"`{redacted(url)}` has not been fetched yet, and `--offline` fetches nothing",
                    hint="run once without `--offline`",
                )
            content = _fetch(url, plain=plain)
            loaded = load(content, url)
        except SecureBuildError:
            if kept is None:
                raise
            return kept
        files.write(path, content)
        return loaded


def _read(path: Path, load: Callable[[bytes, str], Content]) -> Content | None:
    try:
        return load(path.read_bytes(), str(path))
    except (FileNotFoundError, SecureBuildError):
        return None


def _fetch(url: str, *, plain: bool) -> bytes:
    """The file, in time: a thread of its own, since a server can drip bytes for ever."""
    content: list[bytes] = []
    failures: list[SecureBuildError] = []

    def fetch() -> None:
        try:
            with Transport(connect_seconds=_CONNECT_SECONDS, read_seconds=_READ_SECONDS) as transport:
                content.append(_follow(transport, url, plain=plain))
        except SecureBuildError as error:
            failures.append(error)

    thread = threading.Thread(target=fetch, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if content:
        return content[0]
    raise failures[0] if failures else ServiceError(f"GET {redacted(url)} took longer than {_SECONDS:.0f} s")


def _follow(transport: Transport, url: str, *, plain: bool) -> bytes:
    target = url
    for _ in range(_MOST_REDIRECTS):
        _check(target, plain=plain)
        answer = transport.request("GET", target, retry=False)
        if answer.status == 200:
            return answer.body(_LARGEST)
        if answer.status not in _REDIRECTS:
            kind = AbsentError if answer.status in (403, 404, 410) else ServiceError
            raise kind(answer.explained("not fetched"))
        answer.close()
        target = urljoin(target, answer.headers.get("Location", ""))
    raise ServiceError(f"{redacted(url)} redirects more than {_MOST_REDIRECTS} times")


def _check(url: str, *, plain: bool) -> None:
    """Refuse what would lead into a network: certificates and redirects say where to go."""
    try:
        parts = urlsplit(url)
        allowed = parts.scheme in (("https", "http") if plain else ("https",))
        public = not is_private(parts.hostname) and parts.username is None
    except ValueError:
        allowed = public = False
    if not (allowed and public):
        raise ServiceError(f"`{redacted(url)}` is not an address that files are fetched from")
