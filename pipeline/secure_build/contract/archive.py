"""The archive in `compose.archive` and `play.archive`: a gzip-compressed tar that is the same for everybody.

Written is ustar with fixed fields, sorted names, only folders and regular files, as IBM's page "About
the contract" asks; equality is promised for the tar, and for the gzip with the same zlib. Read is
whatever somebody made, into memory and with bounds; nothing is ever extracted.
"""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from secure_build.errors import UsageError
from secure_build.reference import Digest

# Far more than user data can hold that is no bomb: unpacked bytes, and entries.
LARGEST = 64 << 20
_MOST = 10_000
# What the runtime looks for at the top level, else HPL06008E; the first is what is written here.
COMPOSE_NAME = "docker-compose.yml"
COMPOSE_NAMES = (PurePosixPath(COMPOSE_NAME), PurePosixPath("docker-compose.yaml"))
# Compose reads these beside, or instead of, the file that was checked and pinned.
RESERVED_NAMES = (
    *(f"{stem}.{ending}" for stem in ("docker-compose", "compose") for ending in ("yml", "yaml")),
    *(f"{stem}.override.{ending}" for stem in ("docker-compose", "compose") for ending in ("yml", "yaml")),
    ".env",
)


@dataclass(frozen=True, slots=True)
class Archive:
    """The tar and its gzip."""

    tar: bytes
    compressed: bytes

    @property
    def tar_digest(self) -> Digest:
        return Digest.of(self.tar)

    @property
    def compressed_digest(self) -> Digest:
        return Digest.of(self.compressed)

    def base64(self) -> str:
        """Standard base64 on one line, as the contract wants it."""
        return base64.b64encode(self.compressed).decode()


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file of an archive."""

    content: bytes
    executable: bool = False


def build(members: Mapping[PurePosixPath, Member]) -> Archive:
    """The archive of these files; raises UsageError for a name that cannot stand in it."""
    buffer = io.BytesIO()
    folders = {folder for path in members for folder in path.parents if path.parts} - {PurePosixPath()}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT, encoding="utf-8") as tar:
        for path in sorted(members.keys() | folders, key=lambda path: path.parts):
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise _refused(path, "it must be the relative path of a file")
            if path in members and path in folders:
                raise _refused(path, "it is a file and a folder")
            header = tarfile.TarInfo(str(path))
            member = members.get(path)
            if member is None:
                header.type, header.mode = tarfile.DIRTYPE, 0o755
            else:
                header.size = len(member.content)
                header.mode = 0o755 if member.executable else 0o644
            try:
                tar.addfile(header, io.BytesIO(member.content) if member else None)
            except ValueError as error:
                raise _refused(path, str(error)) from None
    return Archive(buffer.getvalue(), _compress(buffer.getvalue()))


def _refused(path: PurePosixPath, why: str) -> UsageError:
    return UsageError(f"`{path}` cannot go into the archive: {why}")


def _compress(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
        file.write(content)
    return buffer.getvalue()


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with an archive: what kind of thing, and in words."""

    kind: Literal["damaged", "empty", "special", "name", "dot", "twice", "large"]
    what: str


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The regular files of an archive, and all that is wrong with it."""

    files: Mapping[PurePosixPath, bytes]
    flaws: tuple[Flaw, ...]


def read(text: str) -> Mapping[PurePosixPath, bytes]:
    """The files of an archive from its base64; raises UsageError for one that cannot be read to its end."""
    unpacked = unpack(text)
    for flaw in unpacked.flaws:
        if flaw.kind in ("damaged", "empty", "large"):
            raise UsageError(f"this archive cannot be read: {flaw.what}")
    return unpacked.files


def digest(text: str) -> Digest | None:
    """SHA-256 of the gzip file in an archive's base64; None for what is no base64."""
    try:
        return Digest.of(base64.b64decode(text, validate=True))
    except ValueError:
        return None


def unpack(text: str) -> Unpacked:
    """What is in an archive, from its base64, and what is wrong with it."""
    files: dict[PurePosixPath, bytes] = {}
    flaws: list[Flaw] = []
    for found in _walk(text):
        if isinstance(found, Flaw):
            flaws.append(found)
        else:
            path, content = found
            if path in files:
                flaws.append(Flaw("twice", f"`{path}` is in it twice"))
            files[path] = content
    if not files and not flaws:
        flaws.append(Flaw("empty", "it has no file"))
    return Unpacked(files, tuple(flaws))


def _walk(text: str) -> Iterator[tuple[PurePosixPath, bytes] | Flaw]:
    try:
        compressed = base64.b64decode(text, validate=True)
        with gzip.GzipFile(fileobj=io.BytesIO(compressed)) as file:
            tar = file.read(LARGEST + 1)
    except (ValueError, OSError, EOFError, zlib.error):
        yield Flaw("damaged", "it is not base64 of a whole gzip file")
        return
    if len(tar) > LARGEST:
        yield Flaw("large", f"it has more than {LARGEST >> 20} MiB when it is unpacked")
        return
    if not tar.strip(b"\0"):
        yield Flaw("empty", "it has no file")
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as opened:
            for number, member in enumerate(opened):
                if number == _MOST:
                    yield Flaw("large", f"it has more than {_MOST} entries")
                    return
                yield from _entry(opened, member)
    # What hostile headers can make of the standard library's parser.
    except (tarfile.TarError, ValueError, OverflowError, EOFError, OSError, RecursionError, KeyError):
        yield Flaw("damaged", "what is in its gzip is no whole tar file")


def _entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[tuple[PurePosixPath, bytes] | Flaw]:
    shown = ascii(member.name[:200])[1:-1]
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or not member.name.isprintable():
        yield Flaw("name", f"`{shown}` is not the relative path of a file in it")
        return
    if member.name == "." or member.name.startswith("./"):
        yield Flaw("dot", f"`{shown}` begins with `.`")
    if member.isdir():
        return
    if not member.isreg() or member.issparse():
        yield Flaw("special", f"`{shown}` is neither a folder nor a regular file")
        return
    file = tar.extractfile(member)
    content = file.read() if file else b""
    if len(content) != member.size:
        yield Flaw("damaged", f"`{shown}` ends too early")
    yield path, content
