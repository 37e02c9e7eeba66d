"""Git: which commit is built, whether the tree had other content, and clean exports of it.

Only this module touches git, and only to read. What is built are the raw blobs of the commit's
tree: no archive attributes, end-of-line conversion, smudge or LFS filters, and nothing of the
working tree. Remote repositories are not fetched here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from secure_build.errors import MachineError, RefusedError, UsageError
from secure_build.model import Source

if TYPE_CHECKING:
    from git import Commit, Repo

_EXECUTABLE = 0o100755
_SYMLINK = 0o120000
_SUBMODULE = 0o160000
_MOST_SYMLINKS = 40
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or symbolic link of the commit."""

    path: PurePosixPath
    mode: int
    hexsha: str

    @property
    def executable(self) -> bool:
        return self.mode == _EXECUTABLE


class Checkout:
    """One commit of a local repository."""

    def __init__(self, repository: Repo, commit: Commit, source: Source) -> None:
        self._repository = repository
        self._commit = commit
        self._entries = {entry.path: entry for entry in _walk(commit)}
        self.source = source

    @classmethod
    def open(cls, directory: Path, *, allow_dirty: bool) -> Checkout:
        """The commit checked out in the repository that holds `directory`.

        Raises UsageError when there is none, and RefusedError when the working tree differs from
        it, unless `allow_dirty`: then the commit is built all the same, and `source.clean` is false.
        """
        repository = _open(directory)
        if repository.bare or not repository.working_tree_dir:
            raise UsageError(f"`{directory}` is in a bare git repository")
        if not repository.head.is_valid():
            raise UsageError(f"the git repository of `{directory}` has no commit yet", hint="commit first")
        commit = repository.head.commit
        changed = _changes(repository)
        if changed and not allow_dirty:
            named = ", ".join(f"`{path}`" for path in changed[:_MOST_NAMED])
            more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
            raise RefusedError(
                f"the working tree differs from the commit: {named}{more}",
                hint="commit, or remove what does not belong there; `--allow-dirty` builds the commit "
                "without these changes and says so in the build record",
            )
        root = Path(repository.working_tree_dir).resolve()
        source = Source(
            url=_origin(repository),
            commit=commit.hexsha,
            ref=None if repository.head.is_detached else repository.head.reference.path,
            clean=not changed,
            committed_at=commit.committed_datetime,
            subdir=directory.resolve().relative_to(root).as_posix(),
        )
        return cls(repository, commit, source)

    def __enter__(self) -> Checkout:
        return self

    def __exit__(self, *_: object) -> None:
        # GitPython keeps `git cat-file` processes for reading.
        self._repository.close()

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
        size = self._repository.odb.info(bytes.fromhex(entry.hexsha)).size
        if size > at_most:
            raise UsageError(f"`{path}` has {size} bytes; the limit is {at_most}")
        return self._content(entry)

    def is_directory(self, path: PurePosixPath) -> bool:
        return path == PurePosixPath() or any(path in entry.path.parents for entry in self._entries.values())

    def files(self, path: PurePosixPath) -> list[Entry]:
        """The files and links of the commit at or below a path, sorted."""
        found = [entry for entry in self._entries.values() if path in (entry.path, *entry.path.parents)]
        return sorted(found, key=lambda entry: entry.path.parts)

    def export(self, directory: PurePosixPath, destination: Path) -> None:
        """Write a directory of the commit to `destination`, equal for everyone everywhere.

        Modes are 0644 or 0755 whatever the umask, times are the commit's. Raises UsageError for a
        submodule, whose content is not part of the commit.
        """
        moment = int(self._commit.committed_date)
        destination.mkdir(parents=True, exist_ok=True)
        for entry in self.files(directory):
            target = destination / entry.path.relative_to(directory)
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.mode == _SUBMODULE:
                raise UsageError(
                    f"`{entry.path}` is a git submodule, whose content the commit does not hold",
                    hint="move the build context, or add the files to this repository",
                )
            content = self._content(entry)
            if entry.mode == _SYMLINK:
                target.symlink_to(os.fsdecode(content))
            else:
                target.write_bytes(content)
                target.chmod(0o755 if entry.mode == _EXECUTABLE else 0o644)
            os.utime(target, (moment, moment), follow_symlinks=False)
        for folder, _, _ in os.walk(destination, topdown=False):
            Path(folder).chmod(0o755)
            os.utime(folder, (moment, moment))

    def _resolve(self, path: PurePosixPath) -> Entry | None:
        for _ in range(_MOST_SYMLINKS):
            link = next(
                (
                    self._entries[part]
                    for part in [*reversed(path.parents), path]
                    if part in self._entries and self._entries[part].mode == _SYMLINK
                ),
                None,
            )
            if link is None:
                entry = self._entries.get(path)
                return entry if entry and entry.mode != _SUBMODULE else None
            target = os.fsdecode(self._content(link))
            inside = _normal(link.path.parent / target) if not target.startswith("/") else None
            if inside is None:
                raise UsageError(f"`{link.path}` is a symbolic link to `{target}`, outside the repository")
            path = inside / path.relative_to(link.path)
        raise UsageError(f"`{path}`: too many symbolic links")

    def _content(self, entry: Entry) -> bytes:
        return bytes(self._repository.odb.stream(bytes.fromhex(entry.hexsha)).read())


def _open(directory: Path) -> Repo:
    try:
        from git import Repo
        from git.exc import InvalidGitRepositoryError, NoSuchPathError
    except ImportError:
        raise MachineError("`git` is not on this machine", hint="install the package `git`") from None
    try:
        repository = Repo(directory, search_parent_directories=True)
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise UsageError(
            f"`{directory}` is not in a git repository",
            hint="images are built from a commit: run `git init`, add your files and commit",
        ) from None
    # Replaced objects would make the commit id stand for other content.
    repository.git.update_environment(GIT_NO_REPLACE_OBJECTS="1", GIT_OPTIONAL_LOCKS="0")
    return repository


def _changes(repository: Repo) -> list[str]:
    """Paths that differ from the commit: changed, staged, untracked, submodules elsewhere."""
    from git.exc import GitCommandError

    try:
        status = repository.git.status("--porcelain", "-z", "--untracked-files=normal", "--no-renames")
    except GitCommandError as error:
        raise UsageError(
            f"git cannot tell the state of the working tree: {str(error.stderr).strip()[:500]}"
        ) from None
    return [entry[3:] for entry in status.split("\0") if entry]


def _origin(repository: Repo) -> str | None:
    """The address of the remote `origin` without user name and password."""
    if "origin" not in [remote.name for remote in repository.remotes]:
        return None
    parts = urlsplit(repository.remotes["origin"].url)
    if parts.scheme not in ("http", "https"):
        return parts.geturl()
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _walk(commit: Commit) -> Iterator[Entry]:
    trees = [commit.tree]
    while trees:
        for item in trees.pop():
            if item.type == "tree":
                trees.append(item)
            else:
                yield Entry(PurePosixPath(item.path), item.mode, item.hexsha)


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
