"""Git: which commit is built, whether the tree had other content, and clean exports of it.

Only this module touches git, and only to read. What is built are the raw blobs of the commit's
tree: no archive attributes, end-of-line conversion, smudge or LFS filters, and nothing of the
working tree. Remote repositories are not fetched here.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from secure_build.errors import MachineError, RefusedError, UsageError
from secure_build.model import Source

if TYPE_CHECKING:
    from git import Commit, Repo

_EXECUTABLE = 0o100755
_SYMLINK = 0o120000
_SUBMODULE = 0o160000
_MOST_SYMLINKS = 40
_MOST_NAMED = 5
_LONGEST_TARGET = 4096


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
    """One commit of a local repository. A context manager: it keeps processes of git for reading."""

    def __init__(self, repository: Repo, commit: Commit, source: Source) -> None:
        self._repository = repository
        self._moment = int(source.committed_at.timestamp())
        self._entries = _entries(repository, commit.hexsha)
        # Images are built side by side, and one process answers all.
        self._lock = threading.Lock()
        self.source = source

    @classmethod
    def open(cls, directory: Path, *, allow_dirty: bool) -> Self:
        """The commit checked out in the repository that holds `directory`.

        Raises UsageError when there is none, and RefusedError when the working tree differs from
        it, unless `allow_dirty`: then the commit is built all the same, and `source.clean` is false.
        """
        repository = _open(directory)
        try:
            changed = _changes(repository)
            if not repository.head.is_valid():
                raise UsageError(
                    f"the git repository of `{directory}` has no commit yet", hint="commit first"
                )
            if changed and not allow_dirty:
                raise _dirty(changed)
            commit = repository.head.commit
            return cls(repository, commit, _source(repository, commit, directory, clean=not changed))
        except BaseException:
            repository.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
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
        return self._content(entry, at_most=at_most)

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
            if entry.mode == _SUBMODULE:
                raise UsageError(
                    f"`{entry.path}` is a git submodule, whose content the commit does not hold",
                    hint="move the build context, or add the files to this repository",
                )
            if entry.mode == _SYMLINK:
                target.symlink_to(self._target(entry))
            else:
                target.write_bytes(self._content(entry))
                target.chmod(0o755 if entry.mode == _EXECUTABLE else 0o644)
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
                    if part in self._entries and self._entries[part].mode == _SYMLINK
                ),
                None,
            )
            if link is None:
                entry = self._entries.get(path)
                return entry if entry and entry.mode != _SUBMODULE else None
            target = self._target(link)
            inside = _normal(link.path.parent / target) if not target.startswith("/") else None
            if inside is None:
                raise UsageError(f"`{link.path}` is a symbolic link to `{target}`, outside the repository")
            path = inside / path.relative_to(link.path)
        raise UsageError(f"`{path}`: too many symbolic links")

    def _target(self, link: Entry) -> str:
        target = os.fsdecode(self._content(link, at_most=_LONGEST_TARGET))
        if not target or "\0" in target:
            raise UsageError(f"`{link.path}` is a symbolic link that no file system can hold")
        return target

    def _content(self, entry: Entry, *, at_most: int | None = None) -> bytes:
        from git.exc import ODBError

        binary = bytes.fromhex(entry.hexsha)
        try:
            with self._lock:
                size = self._repository.odb.info(binary).size
                if at_most is not None and size > at_most:
                    raise UsageError(f"`{entry.path}` has {size} bytes; the limit is {at_most}")
                return bytes(self._repository.odb.stream(binary).read())
        except (ODBError, ValueError):
            raise UsageError(
                f"git cannot read `{entry.path}` of the commit", hint="fetch the repository completely"
            ) from None


def _open(directory: Path) -> Repo:
    try:
        from git import Repo
        from git.exc import InvalidGitRepositoryError, NoSuchPathError
    except ImportError:
        raise MachineError("`git` is not on this machine", hint="install the package `git`") from None
    try:
        repository = Repo(directory.resolve(), search_parent_directories=True, expand_vars=False)
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise UsageError(
            f"`{directory}` is not in a git repository",
            hint="images are built from a commit: run `git init`, add your files and commit",
        ) from None
    if repository.bare or not repository.working_tree_dir:
        raise UsageError(f"`{directory}` is in a bare git repository", hint="clone it")
    with repository.config_reader("repository") as settings:
        for key, supported in (("objectformat", "sha1"), ("refstorage", "files")):
            value = settings.get_value("extensions", key, supported)
            if value != supported:
                raise UsageError(
                    f"the git repository of `{directory}` has {key} `{value}`, which GitPython cannot read",
                    hint=f"clone it into a repository with {key} `{supported}`",
                )
    # Replaced objects would make the commit id stand for other content. Nothing is fetched here.
    repository.git.update_environment(
        GIT_NO_REPLACE_OBJECTS="1", GIT_OPTIONAL_LOCKS="0", GIT_NO_LAZY_FETCH="1"
    )
    # GitPython expands `$` in paths and then works wherever it is; `-C` leaves no doubt. A file
    # system monitor is a program that the repository names.
    repository.git.set_persistent_git_options(C=str(repository.working_tree_dir), c="core.fsmonitor=")
    return repository


def _git(repository: Repo, command: str, *arguments: str) -> str:
    from git.exc import GitCommandError

    try:
        return str(getattr(repository.git, command)(*arguments))
    except GitCommandError as error:
        said = str(error.stderr).strip().removeprefix("stderr: ").strip("'\n ")
        raise UsageError(f"`git {command}` failed: {said[:500]}") from None


def _changes(repository: Repo) -> list[str]:
    """Paths that differ from the commit: changed, staged, untracked, submodules elsewhere."""
    status = _git(
        repository,
        "status",
        "--porcelain",
        "-z",
        "--untracked-files=normal",
        "--ignore-submodules=none",
        "--no-renames",
    )
    return [entry[3:] for entry in status.split("\0") if entry]


def _dirty(changed: list[str]) -> RefusedError:
    named = ", ".join(f"`{path}`" for path in changed[:_MOST_NAMED])
    more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
    return RefusedError(
        f"the working tree differs from the commit: {named}{more}",
        hint="commit, or remove what does not belong there; `--allow-dirty` builds the commit "
        "without these changes and says so in the build record",
    )


def _source(repository: Repo, commit: Commit, directory: Path, *, clean: bool) -> Source:
    root = Path(str(repository.working_tree_dir)).resolve()
    if not directory.resolve().is_relative_to(root):
        raise UsageError(f"`{directory}` lies outside the working tree `{root}` of its git repository")
    return Source(
        url=_origin(repository),
        commit=commit.hexsha,
        ref=None if repository.head.is_detached else repository.head.reference.path,
        clean=clean,
        committed_at=commit.committed_datetime,
        subdir=directory.resolve().relative_to(root).as_posix(),
    )


def _origin(repository: Repo) -> str | None:
    """The address of the remote `origin` without user name and password."""
    if "origin" not in [remote.name for remote in repository.remotes]:
        return None
    address = str(repository.remotes["origin"].url)
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address
    host, slash, path = re.split("[?#]", rest)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def _entries(repository: Repo, commit: str) -> dict[PurePosixPath, Entry]:
    """All files and links of the commit. Raises UsageError for paths that git itself would not make."""
    entries = {}
    for line in _git(repository, "ls_tree", "-r", "-z", "--full-tree", commit).split("\0"):
        if not line:
            continue
        description, _, name = line.partition("\t")
        mode, _, hexsha = description.split(" ")
        path = PurePosixPath(name)
        if str(path) != name or path.is_absolute() or ".." in path.parts or not path.parts:
            raise UsageError(f"the commit has a file with the impossible path `{name}`")
        entries[path] = Entry(path, int(mode, 8), hexsha)
    for path in entries:
        for folder in path.parents:
            if folder in entries:
                raise UsageError(f"`{folder}` is a file and a folder of the commit")
    return entries


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
