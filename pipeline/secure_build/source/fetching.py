"""Fetching one commit from a git server into a bare repository that is kept between runs.

The git command is told everything it needs: none of the user's or the machine's settings are read,
one protocol is allowed, and the token or key reaches it by a private file that is removed
afterwards. It is sent to the server that it is meant for and to no other.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from secure_build import files, process, stopping
from secure_build.address import Address
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.process import ProcessError, Program
from secure_build.secret import Secret
from secure_build.source import settings

_GIT = Program("git", "git")
_SSH = Program("ssh", "openssh-client")
_FULL = re.compile(r"[0-9a-f]{40}")
_LONGEST_SECONDS = 3600.0
_ATTEMPTS = 3
_PAUSE_SECONDS = 1.0
# What a server or the way to it may not do again a moment later.
_PASSING = re.compile(
    "Could not resolve host|Failed to connect|Connection (?:reset|refused|timed out|closed)|early EOF"
    "|unexpected disconnect|error: (?:429|5[0-9][0-9])|RPC failed|Operation (?:timed out|too slow)"
)
# As git-check-ref-format(1) has them.
_REF = re.compile(r"(?!/)(?!.*(?:\.\.|//|@\{|/\.|\.lock(?:/|$)))[^\x00-\x20\x7f~^:?*\[\\]+(?<![/.])")
_SETTINGS = settings.HARMLESS | {
    # A server that counts objects says little, but something.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "120",
    "fetch.recurseSubmodules": "false",
    "fetch.fsckObjects": "false",
    "fetch.writeCommitGraph": "false",
    "transfer.credentialsInUrl": "die",
    "submodule.recurse": "false",
    "protocol.version": "2",
}


@dataclass(frozen=True, slots=True)
class Login:
    """What to show to one server: a token over HTTPS, or a private key over SSH and the host's keys."""

    server: Address
    username: str = ""
    token: Secret | None = None
    key: Secret | None = None
    known_hosts: bytes = b""


class Remote:
    """A repository on a server, and the bare repository that keeps what was taken from it."""

    def __init__(self, address: Address, work: Path, login: Login | None) -> None:
        self._address = address
        self._work = work
        self._login = login if login and login.server.same_server(address) else None
        if address.scheme == "ssh" and self._login is None:
            raise UsageError(
                f"`{address}` needs an SSH key, and there is none for {address.origin}",
                hint="the login of `source` is used for its own server only; public submodules can use `https://`",
            )
        self._prepared = False
        name = hashlib.sha256(str(address).encode()).hexdigest()[:20]
        self.folder = work / "source" / f"{name}.git"

    def resolve(self, ref: str | None) -> tuple[str, str | None]:
        """Full commit id, and full name of the ref; raises UsageError when it is none or two.

        40 hexadecimal digits are always a commit.
        """
        if ref is None:
            return self._head()
        if _FULL.fullmatch(ref):
            return ref, None
        if re.fullmatch("[0-9a-f]{64}", ref):
            raise UsageError(f"`{ref}` is of a SHA-256 repository, which GitPython cannot read")
        if _FULL.fullmatch(ref.lower()):
            raise UsageError(f"the commit `{ref}` is not in lower case", hint=f"write `{ref.lower()}`")
        if not _REF.fullmatch(ref):
            raise UsageError(f"`{ref}` cannot be the name of a branch or tag")
        wanted = [ref] if ref.startswith("refs/") else [f"refs/heads/{ref}", f"refs/tags/{ref}"]
        refs = self._list(*wanted, *(f"{name}^{{}}" for name in wanted))
        found = [name for name in wanted if name in refs]
        if len(found) > 1:
            raise UsageError(
                f"`{self._address}` has a branch and a tag called `{ref}`",
                hint=f"write `{found[0]}` or `{found[1]}`",
            )
        if not found:
            short = re.fullmatch("[0-9a-fA-F]{4,39}", ref)
            raise UsageError(
                f"`{self._address}` has no branch or tag `{ref}`",
                hint="write all 40 digits of a commit" if short else "see `git ls-remote`",
            )
        # An annotated tag is followed by what it leads to.
        return refs.get(f"{found[0]}^{{}}", refs[found[0]]), found[0]

    def take(self, commit: str, ref: str | None) -> Path:
        """The bare repository with this commit; nothing is fetched when it is there already."""
        self._prepare()
        if not self._has(commit):
            # What a fetch that was killed left behind.
            for lock in self.folder.rglob("*.lock"):
                lock.unlink(missing_ok=True)
            self._fetch(commit, ref)
            if not self._has(commit):
                raise UsageError(f"`{ref or commit}` of `{self._address}` is no commit")
        return self.folder

    def check_out(self, commit: str, ref: str | None, folder: Path) -> None:
        """Let `folder`, which is not there yet, be a clone with this commit checked out."""
        self.take(commit, ref)
        folder.mkdir(parents=True)
        shutil.move(self.folder, folder / ".git")
        self.folder = folder / ".git"
        self._local("config", "core.bare", "false")
        self._local("config", "remote.origin.url", str(self._address))
        self._local(f"--work-tree={folder}", "checkout", "--quiet", "--force", "--detach", commit)

    def _prepare(self) -> None:
        """Have a repository here that is empty or complete.

        All commands are given it, also those that need none: git would read the settings of the
        repository that this process happens to be in.
        """
        if self._prepared:
            return
        # Whatever a ref leads to must be here.
        sound = self.folder.exists() and self._succeeds(
            "rev-list", "--quiet", "--objects", "--glob=refs/kept/*"
        )
        if not sound:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._local("init", "--quiet", "--bare", "--template=", "--object-format=sha1")
        self._prepared = True

    def _has(self, commit: str) -> bool:
        # A ref holds each commit that was taken, so that `git gc` keeps it.
        return self._succeeds("rev-parse", "--verify", "--quiet", f"refs/kept/{commit}^{{commit}}")

    def _succeeds(self, *arguments: str) -> bool:
        try:
            self._local(*arguments)
        except ProcessError:
            return False
        return True

    def _fetch(self, commit: str, ref: str | None) -> None:
        kept = f"+{commit}:refs/kept/{commit}"
        try:
            self._ask("fetch", *_FETCH, "--depth=1", "--", str(self._address), kept)
            return
        except ProcessError as error:
            if not re.search("not our ref|does not allow request for|unadvertised object", error.output):
                raise self._explained(error) from None
        # The server gives only what its branches and tags lead to.
        try:
            if ref is not None:
                arguments = ["--depth=1", "--", str(self._address), f"+{ref}:refs/fetched/one"]
            else:
                # What is kept may be shallow, and all of the history is wanted now.
                arguments = ["--depth=2147483647", "--", str(self._address)]
                arguments += ["+refs/heads/*:refs/fetched/heads/*", "+refs/tags/*:refs/fetched/tags/*"]
            self._ask("fetch", *_FETCH, *arguments)
        except ProcessError as error:
            raise self._explained(error) from None
        if not self._succeeds("update-ref", f"refs/kept/{commit}", f"{commit}^{{commit}}"):
            raise UsageError(
                f"`{self._address}` has no commit {commit} on a branch or tag",
                hint="the branch or tag may have moved meanwhile: run again" if ref else None,
            )

    def _head(self) -> tuple[str, str | None]:
        lines = [line.split("\t") for line in self._asked("ls-remote", "--symref", "HEAD")]
        targets = [left.removeprefix("ref: ") for left, name in lines if name == "HEAD" and " " in left]
        commits = [left for left, name in lines if name == "HEAD" and " " not in left]
        if not commits:
            raise UsageError(f"`{self._address}` has no HEAD", hint="name a branch: `source: {ref: …}`")
        return self._commit(commits[0]), targets[0] if targets else None

    def _list(self, *names: str) -> dict[str, str]:
        pairs = (line.split("\t") for line in self._asked("ls-remote", None, *names))
        # Patterns match the ends of names too.
        return {name: self._commit(commit) for commit, name in pairs if name in names}

    def _commit(self, text: str) -> str:
        if not _FULL.fullmatch(text):
            raise UsageError(f"`{self._address}` is a SHA-256 repository, which GitPython cannot read")
        return text

    def _asked(self, command: str, option: str | None, *patterns: str) -> list[str]:
        options = [option] if option else []
        try:
            answer = self._ask(command, *options, "--", str(self._address), *patterns)
        except ProcessError as error:
            raise self._explained(error) from None
        return [line for line in answer.decode(errors="surrogateescape").split("\n") if "\t" in line]

    def _ask(self, *arguments: str) -> bytes:
        """Run git with what the server is to be shown, in a private folder that goes away."""
        self._prepare()
        for attempt in range(_ATTEMPTS):
            with tempfile.TemporaryDirectory(prefix=".login-", dir=self._work) as private:
                try:
                    return self._run(arguments, self._environment(Path(private).absolute(), self._login))
                except ProcessError as error:
                    if attempt + 1 == _ATTEMPTS or not _PASSING.search(error.output):
                        raise
            stopping.pause(_PAUSE_SECONDS * 2**attempt)
        raise AssertionError

    def _local(self, *arguments: str) -> bytes:
        return self._run(arguments, self._environment(self.folder.parent))

    def _run(self, arguments: tuple[str, ...], environment: dict[str, str]) -> bytes:
        return process.run(
            _GIT,
            (f"--git-dir={self.folder.absolute()}", *arguments),
            environment=environment,
            timeout=_LONGEST_SECONDS,
            quiet=True,
        )

    def _environment(self, home: Path, login: Login | None = None) -> dict[str, str]:
        result = {
            # Where curl and git would look for logins and settings of the user.
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": self._address.scheme,
        }
        if authorities := process.passed_on("SSL_CERT_FILE"):
            result["GIT_SSL_CAINFO"] = authorities
        own = dict(_SETTINGS)
        if login and login.token:
            store = home / "token"
            scheme, _, host = self._address.origin.partition("://")
            shown = ":".join(quote(part, safe="") for part in (login.username, login.token.reveal()))
            # git-credential-store(1): git asks it for this scheme, host and port only.
            files.write(store, f"{scheme}://{shown}@{host}\n".encode(), mode=files.PRIVATE)
            own["credential.helper"] = f"store --file={shlex.quote(str(store))}"
            own["credential.username"] = login.username
        if login and login.key:
            result |= _ssh(login, home)
        return result | settings.variables(own)

    def _explained(self, error: ProcessError) -> SecureBuildError:
        said = error.output.strip()
        for pattern, kind, what, hint in _CAUSES:
            if re.search(pattern, said):
                return kind(f"`{self._address}`: {what}\n{said}", hint=hint)
        return ServiceError(f"`{self._address}` cannot be fetched: git {error.ending}\n{said}")


_FETCH = (
    *("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"),
    *("--no-auto-maintenance", "--force", "--no-show-forced-updates"),
)
_CAUSES: tuple[tuple[str, type[SecureBuildError], str, str], ...] = (
    (
        "Host key verification failed",
        RefusedError,
        "the server does not have the key that `known-hosts` says",
        "ask the server's owner for its keys; a wrong one can mean that somebody else answers",
    ),
    (
        "terminal prompts disabled|could not read Username",
        MachineError,
        "the server wants a login",
        "name a token: `source: {token: {secret: NAME}}`",
    ),
    (
        "Authentication failed|error: 40[13]|Permission denied",
        MachineError,
        "the server refuses the login",
        "check that it is valid, and that it may read this repository",
    ),
    (
        (
            "certificate verification failed|server verification failed|SSL certificate problem"
            "|self.signed certificate|gnutls_handshake"
        ),
        RefusedError,
        "the server's certificate is not trusted",
        "name the authority's certificate with the variable `SSL_CERT_FILE`",
    ),
    (
        "not our ref|couldn't find remote ref",
        UsageError,
        "the server does not have this commit",
        "see `git ls-remote`, and whether it was pushed",
    ),
    (
        "not found|does not appear to be a git repository",
        UsageError,
        "there is no such repository, or it is hidden from this login",
        "check `url`, and `token` or `ssh-key`",
    ),
)


def _ssh(login: Login, folder: Path) -> dict[str, str]:
    """The environment that makes git use this key, these host keys and nothing of the user's."""
    assert login.key is not None
    if _SSH.find() is None:
        raise MachineError("`ssh` is not on this machine", hint=f"install the package `{_SSH.package}`")
    if set('"\\$\n') & set(str(folder)):
        raise UsageError(f"the path `{folder}` has a character that ssh gives a meaning")
    files.write(folder / "key", login.key.reveal().rstrip("\n").encode() + b"\n", mode=files.PRIVATE)
    files.write(folder / "known_hosts", login.known_hosts, mode=files.PRIVATE)
    place = str(folder).replace("%", "%%")
    lines = [
        f'IdentityFile "{place}/key"',
        f'UserKnownHostsFile "{place}/known_hosts"',
        "GlobalKnownHostsFile /dev/null",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        "StrictHostKeyChecking yes",
        "UpdateHostKeys no",
        "PreferredAuthentications publickey",
        "BatchMode yes",
        "ForwardAgent no",
        "ForwardX11 no",
        "PermitLocalCommand no",
        "ConnectTimeout 30",
        "ServerAliveInterval 15",
        "LogLevel ERROR",
    ]
    files.write(folder / "ssh_config", "".join(f"{line}\n" for line in lines).encode(), mode=files.PRIVATE)
    command = shlex.join(["ssh", "-F", str(folder / "ssh_config")])
    return {"GIT_SSH_COMMAND": command, "GIT_SSH_VARIANT": "ssh"}
