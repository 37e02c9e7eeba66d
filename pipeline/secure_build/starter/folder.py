"""The files of a commit as a config sees them: by paths relative to the config's folder."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from secure_build import strict_yaml

# Folders whose files are not this project's to build.
_FOREIGN = frozenset(
    "node_modules vendor third_party third-party site-packages test tests __tests__ testdata fixtures".split()
)


class File(Protocol):
    """A file of the commit; its path starts at the repository's root."""

    @property
    def path(self) -> PurePosixPath: ...


class Tree(Protocol):
    """What `source.Checkout` offers of a commit, local or remote."""

    def files(self, path: PurePosixPath) -> Sequence[File]: ...

    def read(self, path: PurePosixPath, *, at_most: int) -> bytes | None: ...

    def is_directory(self, path: PurePosixPath) -> bool: ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder of a commit. Paths are POSIX text relative to it; `..` may lead up to the root."""

    tree: Tree
    root: PurePosixPath

    def paths(self) -> list[str]:
        """Every file at or below this folder that is the project's own, sorted."""
        found = (file.path.relative_to(self.root) for file in self.tree.files(self.root))
        return [str(path) for path in found if not any(_is_foreign(part) for part in path.parts[:-1])]

    def join(self, start: str, relative: str) -> str | None:
        """`relative`, which starts at the folder `start`, from here; None outside the repository."""
        if relative.startswith(("/", "~")) or "\0" in relative:
            return None
        path = posixpath.normpath(posixpath.join(start, relative))
        if posixpath.normpath(posixpath.join(str(self.root), path)).startswith(".."):
            return None
        return path

    def read(self, path: str, *, at_most: int = strict_yaml.LARGEST) -> bytes | None:
        """The content of a file, None when the commit has none; raises UsageError as the tree does."""
        return self.tree.read(self._absolute(path), at_most=at_most)

    def has_file(self, path: str) -> bool:
        found = self._absolute(path)
        return any(file.path == found for file in self.tree.files(found))

    def has_folder(self, path: str) -> bool:
        return self.tree.is_directory(self._absolute(path))

    def _absolute(self, path: str) -> PurePosixPath:
        joined = posixpath.normpath(posixpath.join(str(self.root), path))
        return PurePosixPath(joined)


def _is_foreign(part: str) -> bool:
    return part.startswith(".") or part in _FOREIGN
