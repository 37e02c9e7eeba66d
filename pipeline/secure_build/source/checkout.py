"""One commit as the steps see it: its files and folders, with submodules where they were asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Self

from secure_build.errors import RefusedError, UsageError
from secure_build.model import Source
from secure_build.source.repository import EXECUTABLE, SUBMODULE, SYMLINK, Entry, Repository
from secure_build.source.submodules import Finder, Tree, local

_MOST_SYMLINKS = 40
_MOST_NAMED = 5
_LONGEST_TARGET = 4096


class Checkout:
    """One commit. A context manager: it keeps processes of git for reading."""

    def __init__(self, tree: Tree, source: Source, repositories: Sequence[Repository]) -> None:
        self._moment = int(source.committed_at.timestamp())
        self._entries = tree.entries
        self._repositories = repositories
        self.source = replace(source, submodules=tree.submodules)

    @classmethod
    def open(cls, directory: Path, *, allow_dirty: bool, submodules: bool = False) -> Self:
        """The commit checked out in the repository that holds `directory`.

        Raises UsageError when there is none, and RefusedError when the working tree differs from
        it, unless `allow_dirty`: then the commit is built all the same, and `source.clean` is false.
        """
        finder = Finder(local)
        repository = finder.keep(Repository.around(directory))
        try:
            commit, ref = repository.head()
            changed = repository.changes()
            if changed and not allow_dirty:
                raise _dirty(changed)
            source = Source(
                url=repository.origin(),
                commit=commit,
                ref=ref,
                clean=not changed,
                committed_at=repository.moment(commit),
                subdir=directory.resolve().relative_to(repository.root).as_posix(),
            )
            tree = finder.tree(repository, commit, None) if submodules else Tree(repository.entries(commit))
            return cls(tree, source, finder.repositories)
        except BaseException:
            finder.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for repository in self._repositories:
            repository.close()

    def locate(self, relative: str, *, what: str) -> PurePosixPath:
        """A path written relative to the config's folder as a path from the repository's root.

        Raises UsageError when it leaves the repository.
        """
        if relative.startswith("/"):
            raise UsageError(f"{what} `{relative}` is an absolute path; write it relative to the config file")
        path = _normal(PurePosixPath(self.source.subdir) / relative)
        if path is None:
            raise UsageError(f"{what} `{relative}` lies outside the repository")
        return path

    def read(self, path: PurePosixPath, *, at_most: int) -> bytes | None:
        """A file of the commit, symbolic links inside the tree followed; None when it is not there."""
        entry = self._resolve(path)
        if entry is None:
            return None
        return entry.repository.content(entry, at_most=at_most)

    def is_directory(self, path: PurePosixPath) -> bool:
        return path == PurePosixPath() or any(path in entry.path.parents for entry in self._entries.values())

    def files(self, path: PurePosixPath) -> list[Entry]:
        """The files and links of the commit at or below a path, sorted."""
        depth = len(path.parts)
        found = [entry for entry in self._entries.values() if entry.path.parts[:depth] == path.parts]
        return sorted(found, key=lambda entry: entry.path.parts)

    def export(self, directory: PurePosixPath, destination: Path) -> None:
        """Write a directory of the commit to `destination`, equal for everyone everywhere.

        Modes are 0644 or 0755 whatever the umask, times are the commit's. Raises UsageError for a
        submodule, whose content is not part of the commit.
        """
        destination.mkdir(parents=True, exist_ok=True)
        for entry in self.files(directory):
            target = destination / entry.path.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.mode == SUBMODULE:
                raise UsageError(
                    f"`{entry.path}` is a git submodule, whose content the commit does not hold",
                    hint="take its content too with `source: {submodules: true}`, or move the build context",
                )
            if entry.mode == SYMLINK:
                target.symlink_to(self._target(entry))
            else:
                target.write_bytes(entry.repository.content(entry))
                target.chmod(0o755 if entry.mode == EXECUTABLE else 0o644)
            os.utime(target, (self._moment, self._moment), follow_symlinks=False)
        for folder, _, _ in os.walk(destination, topdown=False):
            Path(folder).chmod(0o755)
            os.utime(folder, (self._moment, self._moment))

    def _resolve(self, path: PurePosixPath) -> Entry | None:
        for _ in range(_MOST_SYMLINKS):
            link = next(
                (
                    self._entries[part]
                    for part in [*reversed(path.parents), path]
                    if part in self._entries and self._entries[part].mode == SYMLINK
                ),
                None,
            )
            if link is None:
                entry = self._entries.get(path)
                return entry if entry and entry.mode != SUBMODULE else None
            target = self._target(link)
            inside = _normal(link.path.parent / target) if not target.startswith("/") else None
            if inside is None:
                raise UsageError(f"`{link.path}` is a symbolic link to `{target}`, outside the repository")
            path = inside / path.relative_to(link.path)
        raise UsageError(f"`{path}`: too many symbolic links")

    def _target(self, link: Entry) -> str:
        target = os.fsdecode(link.repository.content(link, at_most=_LONGEST_TARGET))
        if not target or "\0" in target:
            raise UsageError(f"`{link.path}` is a symbolic link that no file system can hold")
        return target


def _dirty(changed: list[str]) -> RefusedError:
    named = ", ".join(f"`{path}`" for path in changed[:_MOST_NAMED])
    more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    return RefusedError(
        f"the working tree differs from the commit: {named}{more}",
        hint="commit, or remove what does not belong there; `--allow-dirty` builds the commit "
        "without these changes and says so in the build record",
    )


def _normal(path: PurePosixPath) -> PurePosixPath | None:
    """The path with `..` resolved, None when it leaves the root."""
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            if not parts:
                return None
            parts.pop()
        else:
            parts.append(part)
    return PurePosixPath(*parts)
