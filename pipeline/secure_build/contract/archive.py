"""The archive in `compose.archive` and `play.archive`: a gzip-compressed tar that is the same for everybody.

ustar with fixed fields, sorted names, only folders and regular files, as IBM's page "About the
contract" asks. Equality is promised for the tar, and for the gzip with the same zlib.
"""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from secure_build.errors import UsageError
from secure_build.reference import Digest

# The runtime looks for this name (or `.yaml`) at the top level, else HPL06008E.
COMPOSE_NAME = "docker-compose.yml"
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


def read(archive: str) -> dict[PurePosixPath, bytes]:
    raise UsageError("not yet")
