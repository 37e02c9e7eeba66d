"""Submodules: which repository and commit each stands for, and their files in their places.

`.gitmodules` is a stranger's file: names and paths that git refuses are refused, addresses are
those that `Address` takes, and neither how many there are nor how deep is without a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from secure_build.address import Address
from secure_build.errors import UsageError
from secure_build.model import Submodule
from secure_build.source.repository import DEEPEST, SUBMODULE, SYMLINK, Entry, Repository

_FILE = PurePosixPath(".gitmodules")
_LARGEST = 1 << 20
_MOST = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """A submodule to open: where it stands in its repository, its commit and its written address."""

    path: PurePosixPath
    commit: str
    written: str
    # Of the repository that has it, where that came from a server.
    parent: Address | None
    within: Repository

    @property
    def address(self) -> Address:
        """Where it is served; raises UsageError for what is no such place."""
        try:
            if self.written.startswith(("./", "../")):
                if self.parent is None:
                    raise UsageError("it is relative to an address that is not known")
                return self.parent.resolve(self.written)
            return Address.parse(self.written)
        except UsageError as error:
            raise UsageError(
                f"the submodule `{self.path}` cannot be fetched: {error.message}",
                hint="correct its `url` in `.gitmodules`",
            ) from None


# Opens a submodule; the address is where it is known to come from.
Opener = Callable[[Wanted], tuple[Repository, Address | None, str | None]]


@dataclass(frozen=True, slots=True)
class Tree:
    """Entries by path, and the submodules whose entries are among them."""

    entries: Mapping[PurePosixPath, Entry]
    submodules: tuple[Submodule, ...] = ()


class Finder:
    """Puts trees and those of their submodules together, and holds the repositories they are read from."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._count = 0
        self.repositories: list[Repository] = []

    def keep(self, repository: Repository) -> Repository:
        self.repositories.append(repository)
        return repository

    def close(self) -> None:
        for repository in self.repositories:
            repository.close()

    def tree(self, repository: Repository, commit: str, address: Address | None, depth: int = 0) -> Tree:
        """The files of the commit with those of its submodules in their places."""
        entries = repository.entries(commit)
        links = [entry for entry in entries.values() if entry.mode == SUBMODULE]
        if not links:
            return Tree(entries)
        self._count += len(links)
        if depth >= DEEPEST or self._count > _MOST:
            raise UsageError(
                f"the source has more than {_MOST} submodules, or more than {DEEPEST} within each other"
            )
        urls = _urls(repository, entries.get(_FILE))
        found: list[Submodule] = []
        for link in links:
            if link.path not in urls:
                raise UsageError(f"`.gitmodules` has no address for the submodule `{link.path}`")
            wanted = Wanted(link.path, link.hexsha, urls[link.path], address, repository)
            opened, its_address, shown = self._opener(wanted)
            self.keep(opened)
            inner = self.tree(opened, link.hexsha, its_address, depth + 1)
            del entries[link.path]
            entries |= {
                link.path / path: replace(entry, path=link.path / path)
                for path, entry in inner.entries.items()
            }
            found.append(Submodule(str(link.path), link.hexsha, shown))
            found += [replace(sub, path=str(link.path / sub.path)) for sub in inner.submodules]
        return Tree(entries, tuple(sorted(found, key=lambda sub: sub.path)))


def _urls(repository: Repository, file: Entry | None) -> dict[PurePosixPath, str]:
    """The written address of each submodule, by its path. Raises UsageError for what git refuses too."""
    if file is None:
        return {}
    if file.mode in (SYMLINK, SUBMODULE):
        raise UsageError("`.gitmodules` is no regular file of the commit")
    repository.content(file, at_most=_LARGEST)
    # Of a blob, too, git would read the files of this machine that it includes.
    said = repository.git("config", "--no-includes", "--null", f"--blob={file.hexsha}", "--list")
    values: dict[str, dict[str, str]] = {}
    for line in said.split("\0"):
        key, _, value = line.partition("\n")
        if key.startswith("submodule.") and key.count(".") > 1:
            name, _, part = key.removeprefix("submodule.").rpartition(".")
            values.setdefault(name, {})[part] = value
    result = {}
    for name, parts in values.items():
        if not name or ".." in PurePosixPath(name.replace("\\", "/")).parts or name.startswith(("/", "-")):
            raise UsageError(f"`.gitmodules` has the impossible name `{name}`")
        path = PurePosixPath(parts.get("path", name))
        refused = {"..", ".git"} & {part.lower() for part in path.parts}
        if refused or path.is_absolute() or str(path).startswith("-") or not path.parts:
            raise UsageError(f"`.gitmodules` has the impossible path `{path}`")
        if "url" in parts:
            result[path] = parts["url"]
    return result


def local(wanted: Wanted) -> tuple[Repository, Address | None, str | None]:
    """A submodule as it lies in the working tree; nothing is fetched."""
    missing = UsageError(
        f"the submodule `{wanted.path}` is not here at commit {wanted.commit}",
        hint="run `git submodule update --init --recursive`",
    )
    place = wanted.within.root / wanted.path
    if not (place / ".git").exists():
        raise missing
    repository = Repository.at(place)
    if not repository.holds(wanted.commit):
        repository.close()
        raise missing
    return repository, None, repository.origin()
