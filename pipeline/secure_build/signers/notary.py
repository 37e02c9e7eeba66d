"""The `notary` program (Notary v1, 0.7): a trust folder for each task, and what failures mean.

Private keys are only in the trust folders, encrypted under a passphrase that is drawn for the run. This
worthless passphrase is all that the program's environment holds; a login for the server goes in by
standard input. The program shows it to whatever token service the server names. What may be trusted,
and what is to be signed, is not decided here.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from secure_build import files, process
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.model import Credential
from secure_build.process import ProcessError, Program
from secure_build.reference import Repository
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import Documents

_LARGEST_DOCUMENT = 64 << 20
_NOTARY = Program("notary", "notary")
_ROLES = ("ROOT", "TARGETS", "SNAPSHOT", "DELEGATION")
# The program reads each answer through a new buffer of this size, so an answer must fill one wholly.
_BUFFER = 4096
_MOST_LOGINS = 8
_NOTHING_THERE = "does not have trust data for"
_TLS = re.compile(r"x509:|tls:")
_LOGIN = re.compile(r"not authorized|unauthorized:|: 40[13]\b")
_NO_ANSWER = re.compile(
    r"could not reach|client is offline|unable to reach|dial tcp|connection re(?:set|fused)|: EOF"
    r"|no such host|i/o timeout|handshake timeout|Client\.Timeout|deadline exceeded"
)
# What the program's words for its refusals mean.
_MEANT = {
    "unable to match any certificates": "it rests on another root certificate than yours",
    "unable to retrieve valid leaf certificates": "its root certificate has expired, or is for another name",
}


class NoTrustDataError(RefusedError):
    """The server knows nothing of the repository, or says so."""


class NotaryError(RefusedError):
    """The program refused, or was refused by the server, for a reason that is no failure of a service."""


@dataclass(frozen=True, slots=True)
class Server:
    """A Notary server, and how the program reaches it. Folders for its tasks are made below `home`."""

    url: str
    home: Path
    ca: Path | None
    answers: bytes = field(repr=False)
    seconds: float
    passphrase: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    @contextlib.contextmanager
    def room(self, repository: Repository, pins: Sequence[str] = ()) -> Iterator[Room]:
        """An empty trust folder; with `pins`, only root certificates of these identifiers are trusted."""
        path = Path(tempfile.mkdtemp(dir=self.home))
        remote = {"url": self.url} | ({"root_ca": str(self.ca)} if self.ca else {})
        pinning = {"certs": {str(repository): list(pins)}, "disable_tofu": True} if pins else {}
        config = {"trust_dir": str(path / "trust"), "remote_server": remote, "trust_pinning": pinning}
        files.write(path / "config.json", json.dumps(config).encode())
        try:
            yield Room(path, repository, self)
        finally:
            shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Room:
    """A trust folder of the program's, for one repository and one task."""

    path: Path
    repository: Repository
    server: Server

    @property
    def metadata(self) -> Path:
        return self.path / "trust" / "tuf" / str(self.repository) / "metadata"

    def run(self, *arguments: str, answer: bytes = b"") -> None:
        """Let the program do something.

        Raises NoTrustDataError, NotaryError, and, when no answer could be had, ServiceError or MachineError.
        """
        try:
            process.run(
                _NOTARY,
                ["--configFile", str(self.path / "config.json"), *arguments],
                stdin=answer + self.server.answers,
                environment={f"NOTARY_{role}_PASSPHRASE": self.server.passphrase for role in _ROLES},
                timeout=self.server.seconds,
                quiet=True,
            )
        except ProcessError as error:
            raise _explained(error, self.server.url, self.repository) from None

    def keep(self, key: NotaryKey, role: str) -> None:
        """Let the program sign with a key."""
        files.write(self.key(key), key.locked(self.server.passphrase, role), mode=files.PRIVATE)

    def key(self, key: NotaryKey) -> Path:
        """Where a key that the program may sign with is."""
        return self.path / "trust" / "private" / f"{key.identifier}.key"


def read_documents(folder: Path) -> Documents:
    """The trust data in a folder. The program puts there only what it has verified."""
    return {
        PurePosixPath(path.relative_to(folder)): files.read(path, at_most=_LARGEST_DOCUMENT)
        for path in folder.rglob("*.json")
    }


def answers(login: Credential | None) -> bytes:
    """What the program reads when it asks for a login, as often as it may; raises UsageError."""
    if login is None:
        return b""
    answer = f"{login.username}\n{login.password.reveal()}\n".encode()
    if answer.count(b"\n") != 2 or len(answer) > _BUFFER:
        raise UsageError(f"the login for `{login.registry}` cannot be given to `notary`: it is not two lines")
    return answer.rjust(_BUFFER) * _MOST_LOGINS


def _explained(error: ProcessError, url: str, repository: Repository) -> SecureBuildError:
    told = error.output
    if error.status < 0:
        return ServiceError(f"`{url}` gave no answer: `notary` {error.ending}")
    if _NOTHING_THERE in told:
        return NoTrustDataError(f"`{url}` has no trust data for {repository}")
    if found := _line(told, _TLS):
        return ServiceError(
            f"no trusted connection to `{url}`: {found}",
            hint="name the authority of its certificate: `signing.dct.ca`",
        )
    if found := _line(told, _LOGIN):
        return MachineError(
            f"`{url}` refuses the login for {repository}: {found}",
            hint="the `push` login of the registry is used, and needs the right to sign too",
        )
    if found := _line(told, _NO_ANSWER):
        return ServiceError(f"`{url}` gave no answer: {found}")
    reason = _line(told, re.compile(r"\* fatal: ")) or f"`notary` {error.ending}"
    return NotaryError(next((meant for words, meant in _MEANT.items() if words in reason), reason))


def _line(text: str, pattern: re.Pattern[str]) -> str:
    """The first line with this pattern, without what is no part of the reason."""
    line = next((line for line in text.splitlines() if pattern.search(line)), "")
    logged = line.partition(' msg="')[2].removesuffix('"').replace('\\"', '"')
    return (logged or line.removeprefix("* fatal: ").strip())[:500]
