"""One git repository on this machine, read with GitPython; nothing in it is run or changed."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Self

from secure_build.errors import MachineError, UsageError
from secure_build.source import settings

if TYPE_CHECKING:
    from git import Repo

EXECUTABLE = 0o100755
SYMLINK = 0o120000
SUBMODULE = 0o160000
# Submodules of submodules.
DEEPEST = 8
_MOST_ARGUMENTS = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, symbolic link or submodule of the commit, and the repository that holds its content."""

    path: PurePosixPath
    mode: int
    hexsha: str
    repository: Repository = field(repr=False, compare=False)

    @property
    def executable(self) -> bool:
        return self.mode == EXECUTABLE


class Repository:
    """Commits, trees and blobs, and of one with a working tree its state. Keeps processes of git."""

    def __init__(self, repo: Repo, described: str) -> None:
        self._repo = repo
        self._described = described
        # Images are built side by side, and one process answers all.
        self._lock = threading.Lock()
        self._make_harmless()
        self._check_format()

    @classmethod
    def around(cls, directory: Path) -> Self:
        """The repository in whose working tree `directory` is; raises UsageError when there is none."""
        repo = _open(directory, search=True)
        if repo.bare or not repo.working_tree_dir:
            raise UsageError(f"`{directory}` is in a bare git repository", hint="clone it")
        root = Path(str(repo.working_tree_dir)).resolve()
        if not directory.resolve().is_relative_to(root):
            raise UsageError(f"`{directory}` lies outside the working tree `{root}` of its git repository")
        return cls(repo, f"the git repository of `{directory}`")

    @classmethod
    def at(cls, directory: Path) -> Self:
        """The repository that is `directory` itself, bare or not."""
        return cls(_open(directory, search=False), f"the git repository `{directory}`")

    def close(self) -> None:
        self._repo.close()

    @property
    def root(self) -> Path:
        return Path(str(self._repo.working_tree_dir)).resolve()

    def head(self) -> tuple[str, str | None]:
        """The commit that is checked out, and its branch unless HEAD is detached."""
        if not self._repo.head.is_valid():
            raise UsageError(f"{self._described} has no commit yet", hint="commit first")
        ref = None if self._repo.head.is_detached else self._repo.head.reference.path
        return self._repo.head.commit.hexsha, ref

    def origin(self) -> str | None:
        """The address of the remote `origin` without user name and password."""
        address = self._setting("remote.origin.url")
        if not address:
            return None
        scheme, separator, rest = address.partition("://")
        if not separator:
            return address
        host, slash, path = re.split("[?#]", rest)[0].partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"

    def changes(self, depth: int = 0) -> list[str]:
        """Paths that differ from the commit: changed, staged, untracked, hidden, in submodules."""
        changed = [*self._status(), *self._hidden()]
        for path in self._submodules() if depth < DEEPEST else ():
            # One that is missing is no difference: its content cannot be another.
            if (self.root / path / ".git").exists() and path not in changed:
                inner = Repository.at(self.root / path)
                try:
                    changed += [f"{path}/{name}" for name in inner.changes(depth + 1)]
                finally:
                    inner.close()
        return list(dict.fromkeys(changed))

    def moment(self, commit: str) -> datetime:
        """When the commit was made; raises UsageError when it is not here, or is something else."""
        from git import Commit

        binary = bytes.fromhex(commit)
        with self._reading(f"commit {commit}"):
            if self._repo.odb.info(binary).type != b"commit":
                raise UsageError(f"`{commit}` is no commit")
            return Commit(self._repo, binary).committed_datetime

    def tree(self, commit: str) -> str:
        """The id of a commit's tree, read from bytes that hash to the commit's own id; raises UsageError."""
        self.moment(commit)
        with self._reading(f"commit {commit}"):
            content = bytes(self._repo.odb.stream(bytes.fromhex(commit)).read())
        named = hashlib.sha1(b"commit %d\0%b" % (len(content), content), usedforsecurity=False).hexdigest()
        first = content.partition(b"\n")[0].decode(errors="replace")
        if named != commit or not re.fullmatch("tree [0-9a-f]{40}", first):
            raise UsageError(f"the commit {commit} is damaged: its content is that of {named}")
        return first.removeprefix("tree ")

    def signed_by(self, commit: str, *, gpg_home: Path, ssh_signers: Path) -> tuple[str, str]:
        """What git says of a commit's signature, `%G?` of git-log(1), and the fingerprint of the key.

        Only keys in `gpg_home` and in `ssh_signers`, a file of allowed signers (ssh-keygen(1)), count.
        """
        checking = settings.HARMLESS | settings.checking(str(ssh_signers))
        variables = {"GNUPGHOME": str(gpg_home), **settings.variables(checking)}
        options = ("-1", "--no-show-signature", "--format=%G?%n%GF")
        said = self.git("log", *options, commit, "--", **variables)
        letter, _, fingerprint = said.partition("\n")
        return letter, fingerprint.strip()

    def holds(self, commit: str) -> bool:
        """Whether the commit is here."""
        try:
            self.moment(commit)
        except UsageError:
            return False
        return True

    def entries(self, commit: str) -> dict[PurePosixPath, Entry]:
        """All entries of the commit. Raises UsageError for paths that git itself would not make."""
        entries = {}
        for line in self.git("ls_tree", "-r", "-z", "--full-tree", commit).split("\0"):
            if not line:
                continue
            description, _, name = line.partition("\t")
            mode, _, hexsha = description.split(" ")
            path = PurePosixPath(name)
            if str(path) != name or path.is_absolute() or not path.parts or not _possible(path):
                raise UsageError(f"the commit has a file with the impossible path `{name}`")
            entries[path] = Entry(path, int(mode, 8), hexsha, self)
        for path in entries:
            for folder in path.parents:
                if folder in entries:
                    raise UsageError(f"`{folder}` is a file and a folder of the commit")
        return entries

    def content(self, entry: Entry, *, at_most: int | None = None) -> bytes:
        """The raw bytes of a blob."""
        binary = bytes.fromhex(entry.hexsha)
        with self._reading(f"`{entry.path}` of the commit"):
            size = self._repo.odb.info(binary).size
            if at_most is not None and size > at_most:
                raise UsageError(f"`{entry.path}` has {size} bytes; the limit is {at_most}")
            return bytes(self._repo.odb.stream(binary).read())

    def git(self, command: str, *arguments: str, **variables: str) -> str:
        """What a command of git that only reads says; raises UsageError when it fails."""
        from git.exc import GitCommandError

        try:
            with self._repo.git.custom_environment(**variables):
                return str(getattr(self._repo.git, command)(*arguments))
        except GitCommandError as error:
            said = str(error.stderr).strip().removeprefix("stderr: ").strip("'\n ")
            raise UsageError(f"`git {command.replace('_', '-')}` failed: {said[:500]}") from None

    @contextlib.contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        from git.exc import ODBError

        try:
            with self._lock:
                yield
        except (ODBError, ValueError):
            raise UsageError(f"git cannot read {what}", hint="fetch the repository completely") from None

    def _make_harmless(self) -> None:
        """From here on nothing that the repository names is run, and nothing is fetched."""
        git = self._repo.git
        # GitPython expands `$` in paths and then works wherever it is; `-C` leaves no doubt.
        git.set_persistent_git_options(C=str(self._repo.working_tree_dir or self._repo.git_dir))
        git.update_environment(
            # Replaced objects would make the commit id stand for other content.
            GIT_NO_REPLACE_OBJECTS="1",
            GIT_OPTIONAL_LOCKS="0",
            # Versions of git before 2.45 do not know the first of these.
            GIT_NO_LAZY_FETCH="1",
            GIT_ALLOW_PROTOCOL="none",
            GIT_TERMINAL_PROMPT="0",
            **settings.variables(settings.HARMLESS),
        )
        said = self.git("config", "--null", "--show-scope", "--list").split("\0")
        listed = [
            (scope, *entry.partition("\n")[::2]) for scope, entry in zip(said[::2], said[1::2], strict=False)
        ]
        self._settings = {key: value for scope, key, value in listed if scope == "local"}
        keys = [key for _, key, _ in listed]
        git.update_environment(**settings.variables(settings.HARMLESS | settings.without_filters(keys)))

    def _check_format(self) -> None:
        for key, supported in (("objectformat", "sha1"), ("refstorage", "files")):
            value = self._setting(f"extensions.{key}") or supported
            if value != supported:
                raise UsageError(
                    f"{self._described} has {key} `{value}`, which GitPython cannot read",
                    hint=f"clone it into a repository with {key} `{supported}`",
                )

    def _setting(self, key: str) -> str:
        """What the repository's own config says, empty where it says nothing; read by git itself."""
        return self._settings.get(key, "").encode("utf-8", "surrogateescape").decode(errors="replace")

    def _status(self, **variables: str) -> list[str]:
        # Submodules are looked into by `changes`: git would run what their own config names.
        said = self.git(
            "status",
            "--porcelain",
            "-z",
            "--untracked-files=normal",
            "--ignore-submodules=dirty",
            "--no-renames",
            **variables,
        )
        return [entry[3:] for entry in said.split("\0") if entry]

    def _hidden(self) -> list[str]:
        """Differences in files that git was told not to look at (git-update-index(1)).

        A file of a sparse checkout that is not there hides nothing.
        """
        flagged = {
            line[2:]: line[0]
            for line in self.git("ls_files", "-v", "-z").split("\0")
            if line[:1].islower() or line[:1] == "S"
        }
        if not flagged:
            return []
        names = {
            name
            for name, flag in flagged.items()
            if flag not in "Ss" or (self.root / name).is_symlink() or (self.root / name).exists()
        }
        with tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
            index = Path(folder) / "index"
            shutil.copyfile(self._index(), index)
            ordered = sorted(names)
            for option in ("--no-assume-unchanged", "--no-skip-worktree"):
                for start in range(0, len(names), _MOST_ARGUMENTS):
                    self.git(
                        "update_index",
                        option,
                        "--",
                        *ordered[start : start + _MOST_ARGUMENTS],
                        GIT_INDEX_FILE=str(index),
                    )
            return [name for name in self._status(GIT_INDEX_FILE=str(index)) if name in names]

    def _index(self) -> Path:
        path = Path(self.git("rev_parse", "--git-path", "index"))
        return path if path.is_absolute() else self.root / path

    def _submodules(self) -> list[str]:
        staged = self.git("ls_files", "--stage", "-z").split("\0")
        return [line.partition("\t")[2] for line in staged if line.startswith("160000 ")]


def _possible(path: PurePosixPath) -> bool:
    return not any(part == ".." or part.lower() == ".git" for part in path.parts)


def _open(directory: Path, *, search: bool) -> Repo:
    try:
        from git import Repo
        from git.exc import InvalidGitRepositoryError, NoSuchPathError
    except ImportError:
        raise MachineError("`git` is not on this machine", hint="install the package `git`") from None
    try:
        return Repo(directory.resolve(), search_parent_directories=search, expand_vars=False)
    except (InvalidGitRepositoryError, NoSuchPathError):
        raise UsageError(
            f"`{directory}` is not in a git repository",
            hint="images are built from a commit: run `git init`, add your files and commit",
        ) from None
