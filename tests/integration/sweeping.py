"""Looks for secrets in everything that was written or shown, in every form that a secret may take there.

What is packed is unpacked on the way: gzip, tar, base64 as in contracts and DSSE envelopes. What is counted
are places: one output, file, layer, command line or environment each.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import html
import io
import json
import re
import stat
import tarfile
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote, quote_plus

import yaml

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_DEEPEST = 4
_LARGEST = 64 << 20


def forms(secret: str) -> dict[str, list[bytes]]:
    """A secret as it may be written, by kinds of writing."""
    content = secret.encode()
    # Only whole groups of four characters are the same whatever stands around the secret.
    around = {before: (bytes(before) + content, 4 if before else 0) for before in range(3)}
    aligned = {
        f"base64 {before}": encode(text)[start : len(text) // 3 * 4]
        for encode in (base64.b64encode,)
        for before, (text, start) in around.items()
    }
    quoted = yaml.dump(secret, width=10_000)
    named: dict[str, list[bytes]] = {
        "plain": [content],
        "hex": [content.hex().encode(), content.hex().upper().encode(), content.hex(":").encode()],
        "url": [quote(secret).encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()],
        "json": [json.dumps(secret)[1:-1].encode(), json.dumps(secret, ensure_ascii=False)[1:-1].encode()],
        "html": [html.escape(secret).encode()],
        "yaml": [secret.replace("'", "''").encode(), quoted.strip("\"'\n. ").encode()],
        "repr": [repr(content)[2:-1].encode(), repr(secret)[1:-1].encode()],
        "utf-16": [secret.encode("utf-16-le"), secret.encode("utf-16-be")],
    }
    for name, text in aligned.items():
        named[name] = [text, text.replace(b"+", b"-").replace(b"/", b"_")]
    return named


def secrets_of(values: Mapping[str, str]) -> dict[str, str]:
    """What is looked for: each value, and of PEM some lines of what it frames."""
    found = {}
    for name, value in values.items():
        lines = [line for line in value.splitlines() if len(line) > 20 and "-----" not in line]
        if "\n" in value.strip():
            # Four of them, from all over the key.
            found |= {f"{name} {number}": line for number, line in enumerate(lines[:: -(-len(lines) // 4)])}
        else:
            found[name] = value
    return found


def slot(secret: str) -> str:
    """Which of the values that `secrets_of` was given a name is of."""
    return secret.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Leak:
    """A secret where it does not belong."""

    place: str
    secret: str
    form: str


@dataclass
class Search:
    """Searches places for these secrets; `may_hold` says what a place must hold, by its name.

    A private file is one that only its owner can read.
    """

    secrets: Mapping[str, str]
    may_hold: Callable[[str], frozenset[str]] = lambda _: frozenset()
    places: Counter[str] = field(default_factory=Counter)
    leaks: set[Leak] = field(default_factory=set)
    # What was found where it may be: the control that what is looked for can be found.
    held: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._forms = [
            (name, kind, form)
            for name, secret in self.secrets.items()
            for kind, found in forms(secret).items()
            for form in dict.fromkeys(found)
        ]
        # Most of what is there stays the same from one command to the next.
        self._known: dict[bytes, set[tuple[str, str]]] = {}

    def look(self, kind: str, place: str, content: bytes | str) -> set[Leak]:
        """What is found in one place of this kind."""
        self.places[kind] += 1
        raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        digest = hashlib.sha256(raw).digest()
        if digest not in self._known:
            self._known[digest] = {
                (name, form) for view in views(raw) for name, form, written in self._forms if written in view
            }
        found = {Leak(f"{kind}: {place}", name, form) for name, form in self._known[digest]}
        allowed = self.may_hold(place)
        self.held |= {one.secret for one in found if slot(one.secret) in allowed}
        self.leaks |= {one for one in found if slot(one.secret) not in allowed}
        return found

    def look_below(self, kind: str, folder: Path, *, without: Iterable[str] = ()) -> None:
        """Every file below a folder, and their names."""
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if any(name.startswith(one) for one in without):
                continue
            self.look(f"{kind} (names)", name, name)
            if path.is_symlink():
                self.look(f"{kind} (names)", name, str(path.readlink()))
            elif path.is_file():
                found = self.look(kind, name, path.read_bytes())
                if found and stat.S_IMODE(path.stat().st_mode) & 0o077:
                    self.leaks |= found


def views(content: bytes, depth: int = 0) -> Iterator[bytes]:
    """The content, and what is packed in it."""
    yield content
    if depth == _DEEPEST:
        return
    with contextlib.suppress(OSError, EOFError, zlib.error):
        if content.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
                yield from views(file.read(_LARGEST), depth + 1)
    with contextlib.suppress(tarfile.TarError):
        if content[257:262] == b"ustar":
            with tarfile.open(fileobj=io.BytesIO(content)) as tar:
                for member in tar:
                    if member.isfile() and (file := tar.extractfile(member)):
                        yield from views(file.read(), depth + 1)
    if len(content) < 1 << 22 and b"\0" not in content[:512]:
        for match in _BASE64.finditer(content):
            text = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
            decoded = base64.b64decode(text[: -1 if len(text) % 4 == 1 else None] + b"==")
            if decoded[:2] == b"\x1f\x8b" or decoded[:1] in b"{[" or _is_text(decoded):
                yield from views(decoded, depth + 1)


def _is_text(content: bytes) -> bool:
    return all(byte in b"\t\n\r" or 0x20 <= byte < 0x7F for byte in content[:200])


class Snapshots:
    """Looks at every file below some folders as long as it runs, and keeps each content that a file had.

    With each content stands whether only its owner could read it.
    """

    def __init__(self, *folders: Path) -> None:
        self.seen: dict[tuple[Path, bytes], bool] = {}
        self.looks = 0
        self._folders, self._known = folders, dict[Path, tuple[int, int, int]]()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            self.looks += 1
            for folder in self._folders:
                # What is there now may be gone a moment later.
                with contextlib.suppress(OSError):
                    for path in folder.rglob("*"):
                        with contextlib.suppress(OSError):
                            self._look(path)

    def _look(self, path: Path) -> None:
        found = path.lstat()
        state = (found.st_ino, found.st_size, found.st_mtime_ns)
        if stat.S_ISREG(found.st_mode) and found.st_size < _LARGEST and self._known.get(path) != state:
            self._known[path] = state
            self.seen[path, path.read_bytes()] = not found.st_mode & 0o077
