"""A commit in memory, in place of `source.Checkout` where only its files matter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from secure_build.errors import UsageError


@dataclass(frozen=True)
class MemoryFile:
    """A file's path from the root of the repository."""

    path: PurePosixPath


class MemoryTree:
    """Files by path; a value that is an exception is raised when the file is read."""

    def __init__(self, files: Mapping[str, str | bytes | UsageError]) -> None:
        self._files = {PurePosixPath(name): content for name, content in files.items()}

    def files(self, path: PurePosixPath) -> list[MemoryFile]:
        depth = len(path.parts)
        return [MemoryFile(found) for found in sorted(self._files) if found.parts[:depth] == path.parts]

    def read(self, path: PurePosixPath, *, at_most: int) -> bytes | None:
        content = self._files.get(path)
        if isinstance(content, UsageError):
            raise content
        found = content.encode() if isinstance(content, str) else content
        if found is not None and len(found) > at_most:
            raise UsageError(f"`{path}` has {len(found)} bytes; the limit is {at_most}")
        return found

    def is_directory(self, path: PurePosixPath) -> bool:
        return path == PurePosixPath() or any(path in found.parents for found in self._files)
