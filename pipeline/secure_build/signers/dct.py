"""Docker Content Trust: names for digests, signed through the `notary` program (Notary v1, 0.7).

The program verifies and signs; what is trusted is decided here. Trust data rests on the root key that
is at hand, or on a root certificate that the caller has; never on what a server says the first time.
Which tag may get another digest is the caller's business: whatever is to be published is published.

Private keys go into a throw-away key store, encrypted under a passphrase that is drawn for the run.
Only this worthless passphrase is in the program's environment; a login for the server goes in by
standard input. The program asks whatever token service the server names, with that login.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from secure_build import files, process
from secure_build.address import is_loopback
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.model import Credential, Finding
from secure_build.process import ProcessError, Program
from secure_build.reference import Repository
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import (
    RELEASES,
    TARGETS,
    RootCertificate,
    Target,
    TrustData,
    certificates,
)

KEPT = "notary"
_NOTARY = Program("notary", "notary")
_SECONDS = 120.0
_LARGEST_DOCUMENT = 64 << 20
# The program reads each answer through a buffer of its own of this size, so one fills it wholly.
_BUFFER = 4096
_MOST_LOGINS = 8
_ROLES = ("ROOT", "TARGETS", "SNAPSHOT", "DELEGATION")
_NOTHING_THERE = "does not have trust data for"
_NO_LOGIN = re.compile(r"not authorized|unauthorized|server returned 401|: 40[13]\b", re.IGNORECASE)
_NO_SERVICE = re.compile(
    r"could not reach|client is offline|unable to reach|dial tcp|connection re|timeout|: EOF|no such host"
)


@dataclass(frozen=True, slots=True)
class Keys:
    """What there is to sign with; none is needed to look something up."""

    root: NotaryKey | None = None
    targets: NotaryKey | None = None
    delegation: NotaryKey | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """How a repository's tags are signed now.

    `root_certificate` is the contract's `publicKey`, `signer` what trust data calls the key that signs
    the role, and `published` whether anything was new.
    """

    root_certificate: str
    role: str
    signer: str
    published: bool


@contextlib.contextmanager
def opened(
    folder: Path,
    server: str,
    *,
    ca: bytes | None = None,
    login: Credential | None = None,
    root_certificates: bytes | None = None,
    keys: Keys = Keys(),
    seconds: float = _SECONDS,
) -> Iterator[Notary]:
    """A Notary server to use while the block lasts, by keys that are below `folder` just as long.

    `ca` are the only authorities, PEM, that the server's certificate may rest on; None leaves that to
    the system. `root_certificates`, PEM or a `root.json`, are what trust data may rest on when the root
    key is not here. Public trust data is kept in `folder / KEPT`. Every program may take `seconds`.
    Raises UsageError.
    """
    parts = urlsplit(server)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise UsageError(f"`{server}` is no address of a Notary server", hint="write `https://HOST`")
    anchors = certificates(root_certificates) if root_certificates is not None else []
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=".keys-", dir=folder)).resolve()
    try:
        if ca is not None:
            files.write(home / "ca.pem", ca)
        yield Notary(home, folder / KEPT, server.rstrip("/"), ca is not None, login, anchors, keys, seconds)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def server_findings(server: str) -> tuple[Finding, ...]:
    """What is to be said of the server itself: that Docker's ends."""
    if urlsplit(server).hostname != "notary.docker.io":
        return ()
    return (
        Finding(
            "dct-server",
            "warn",
            "`https://notary.docker.io` ends on 8 December 2026",
            "from then on no image on Docker Hub can be checked against trust data there",
            hint="run a Notary server of your own, or pin digests (`enforce: digest`)",
            where=server,
        ),
    )


class Notary:
    """One server. Its methods may be called side by side for different repositories."""

    def __init__(
        self,
        home: Path,
        kept: Path,
        server: str,
        has_ca: bool,  # noqa: FBT001
        login: Credential | None,
        anchors: list[RootCertificate],
        keys: Keys,
        seconds: float,
    ) -> None:
        self._home, self._kept, self._server, self._has_ca = home, kept, server, has_ca
        self._anchors, self._keys, self._seconds = anchors, keys, seconds
        self._answers = _answers(login) if login else b""
        # In the environment of child processes: what it opens is gone with the run.
        self._passphrase = secrets.token_urlsafe(32)

    def trust_data(self, repository: Repository, root_certificate: str | None = None) -> TrustData | None:
        """What the server has now, verified as a client does that sees it for the first time.

        It must rest on `root_certificate`, the contract's `publicKey`, or else on what this was opened
        with. None when there is no trust data. Raises RefusedError when it does not verify, and
        ServiceError when the server does not answer.
        """
        return self._look(repository, root_certificate)[0]

    def lookup(self, repository: Repository, tag: str, root_certificate: str | None = None) -> Target | None:
        """What a tag names for Docker's clients, None for nothing; raises as `trust_data` does."""
        data = self.trust_data(repository, root_certificate)
        return data.target(tag) if data is not None else None

    def publish(self, repository: Repository, targets: Mapping[str, Target]) -> Signed:
        """Have these tags name these manifests, and see that they do, as a new client sees it.

        Trust data is begun when there is none and the root key is here, with the certificate that this
        was opened with if it is of that key. Signs with the delegation's key, else the targets key, else
        with a targets key that is made anew each time, which the root key allows. What is right already
        is not published again. Raises as `trust_data` does, and RefusedError also when the keys may
        not sign.
        """
        for attempt in (1, 2):
            data, _ = self._look(repository)
            if data is not None and all(data.target(tag) == target for tag, target in targets.items()):
                return self._signed(data, published=False)
            try:
                with self._staged(repository, data) as room:
                    self._sign(room, repository, data, targets)
                break
            except ProcessError as error:
                problem = self._explained(error)
                if problem is not None:
                    raise problem from None
                # Somebody else may have published meanwhile.
                if attempt == 2:
                    raise ServiceError(
                        f"`{self._server}` does not take the trust data of {repository}: {_last(error)}"
                    ) from None
        data, documents = self._look(repository)
        for tag, target in targets.items():
            if data is None or data.target(tag) != target:
                raise RefusedError(
                    f"`{self._server}` does not show what was published for {repository}:{tag}"
                )
        assert data is not None
        files.write_tree(self._kept / str(repository), documents)
        return self._signed(data, published=True)

    def change_root(self, repository: Repository, new: NotaryKey) -> str:
        """Put `new` in the place of the root key that is here; returns the contract's new `publicKey`.

        Contracts with the old one no longer fit. Raises as `publish` does.
        """
        data, _ = self._look(repository)
        if data is None:
            raise RefusedError(f"`{self._server}` has no trust data for {repository}")
        self._root_for(repository, data, "to change it")
        with self._staged(repository, data, pinned=False) as room:
            key = room.path / "new.pem"
            files.write(key, new.locked(self._passphrase, "root"), mode=files.PRIVATE)
            try:
                # The program asks whether one is sure.
                room.run("key", "rotate", str(repository), "root", "-k", str(key), answer=b"yes\n")
            except ProcessError as error:
                raise self._explained(error) or ServiceError(
                    f"the root key of {repository} could not be changed: {_last(error)}"
                ) from None
        data, documents = self._look(repository, trusted_key=new.identifier)
        assert data is not None
        files.write_tree(self._kept / str(repository), documents)
        return data.root.text

    def _look(
        self, repository: Repository, root_certificate: str | None = None, *, trusted_key: str | None = None
    ) -> tuple[TrustData | None, dict[PurePosixPath, bytes]]:
        """What the server has, and the documents themselves."""
        anchors = []
        if root_certificate is not None:
            anchors = [RootCertificate.parse(root_certificate)]
        elif trusted_key is None:
            anchors = [one for one in self._anchors if one.is_for(repository)]
        key = trusted_key or (self._keys.root.identifier if self._keys.root else None)
        if not anchors and key is None:
            raise UsageError(
                f"none of the root certificates is for {repository}",
                hint="its common name must be the repository: give that one, or the root key",
            )
        pins = [anchor.identifier for anchor in anchors]
        with self._room(repository, pins) as room:
            try:
                room.run("list", str(repository))
            except ProcessError as error:
                if _NOTHING_THERE in error.output:
                    return None, {}
                raise self._explained(error) or RefusedError(
                    f"the trust data of {repository} does not verify: {_last(error)}",
                    hint="nothing that it names can be relied on",
                ) from None
            documents = room.documents()
        data = TrustData.read(
            documents.get(PurePosixPath("root.json"), b""),
            documents.get(PurePosixPath(f"{TARGETS}.json"), b""),
            documents.get(PurePosixPath(f"{RELEASES}.json")),
        )
        # Without a pin the program took what came. That is signed by the key in its certificate.
        if (data.root.identifier not in pins) if pins else (data.root.key != key):
            raise RefusedError(f"the trust data of {repository} rests on another root key than yours")
        return data, documents

    def _sign(
        self, room: _Room, repository: Repository, data: TrustData | None, targets: Mapping[str, Target]
    ) -> None:
        delegation, gun = self._keys.delegation, str(repository)
        if data is None:
            self._begin(room, repository)
        elif delegation is None or delegation.identifier not in data.releases_keys:
            self._may_sign_targets(room, repository, data)
        if delegation and (data is None or delegation.identifier not in data.releases_keys):
            public = room.path / "delegation.pem"
            files.write(public, delegation.public)
            room.run("delegation", "add", gun, RELEASES, str(public), "--all-paths")
        role = ("--roles", RELEASES) if delegation else ()
        for tag, target in targets.items():
            named = (gun, tag, str(target.size), "--sha256", target.digest.hexadecimal)
            room.run("addhash", *named, *role)
        room.run("publish", gun)

    def _begin(self, room: _Room, repository: Repository) -> None:
        """Make trust data whose snapshot and timestamp keys the server has, and publish it empty."""
        if self._keys.root is None:
            raise RefusedError(
                f"`{self._server}` has no trust data for {repository}", hint="to begin it takes the root key"
            )
        if (self._kept / str(repository)).exists():
            raise RefusedError(
                f"`{self._server}` has no trust data for {repository}, although it had some",
                hint="what is begun anew needs new contracts: to do that all the same, remove "
                f"`{self._kept / str(repository)}`",
            )
        given = [one for one in self._anchors if one.is_for(repository)]
        certificate: tuple[str, ...] = ()
        if given:
            if given[0].key != self._keys.root.identifier:
                raise UsageError(
                    f"the root certificate for {repository} is not of the root key that is given"
                )
            files.write(room.path / "root.pem", _pem(given[0]))
            certificate = ("--rootcert", str(room.path / "root.pem"))
        room.run("init", str(repository), *certificate)
        # The first publication, so that never a snapshot key is trusted that is lost with this run.
        room.run("key", "rotate", str(repository), "snapshot", "--server-managed")
        if self._keys.targets is not None:
            room.run("key", "rotate", str(repository), TARGETS, "-k", room.key(self._keys.targets))

    def _may_sign_targets(self, room: _Room, repository: Repository, data: TrustData) -> None:
        """See that the targets key is trusted, by the root key when it is not yet."""
        own = self._keys.targets
        if own is not None and own.identifier in data.targets_keys:
            return
        if own is None and self._keys.root is None:
            raise RefusedError(
                f"the key of the delegation is not in the trust data of {repository}",
                hint=f"let an owner of the targets key run `notary delegation add {repository} {RELEASES} "
                "KEY.pem --all-paths --publish`",
            )
        self._root_for(repository, data, "to trust the targets key that is here")
        given = ("-k", room.key(own)) if own is not None else ()
        room.run("key", "rotate", str(repository), TARGETS, *given)

    def _root_for(self, repository: Repository, data: TrustData, purpose: str) -> None:
        root = self._keys.root
        if root is None or root.identifier not in data.root_keys:
            why = "is not here" if root is None else "is another one than that which is here"
            raise RefusedError(f"the root key of {repository} {why}, and it takes that {purpose}")

    def _signed(self, data: TrustData, *, published: bool) -> Signed:
        keys = self._keys
        role, key = (RELEASES, keys.delegation) if keys.delegation else (TARGETS, keys.targets)
        signer = key.identifier if key else min(data.targets_keys)
        return Signed(data.root.text, role, signer, published)

    @contextlib.contextmanager
    def _staged(
        self, repository: Repository, data: TrustData | None, *, pinned: bool = True
    ) -> Iterator[_Room]:
        """A room with the keys and, so that a server cannot go back, what was kept of the same root."""
        pins = [data.root.identifier] if data is not None and pinned else []
        with self._room(repository, pins) as room:
            for role, key in (
                ("root", self._keys.root),
                (TARGETS, self._keys.targets),
                (RELEASES, self._keys.delegation),
            ):
                if key is not None:
                    room.keep(key, role)
            kept = self._kept / str(repository)
            if data is not None and (kept / "root.json").exists():
                same = certificates(files.read(kept / "root.json", at_most=_LARGEST_DOCUMENT))
                if same == [data.root]:
                    shutil.copytree(kept, room.metadata)
            yield room

    @contextlib.contextmanager
    def _room(self, repository: Repository, pins: list[str]) -> Iterator[_Room]:
        path = Path(tempfile.mkdtemp(dir=self._home))
        remote = {"url": self._server}
        if self._has_ca:
            remote["root_ca"] = str(self._home / "ca.pem")
        pinning = {"certs": {str(repository): pins}, "disable_tofu": True} if pins else {}
        config = {"trust_dir": str(path / "trust"), "remote_server": remote, "trust_pinning": pinning}
        files.write(path / "config.json", json.dumps(config).encode())
        try:
            yield _Room(path, repository, self._passphrase, self._answers, self._seconds)
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _explained(self, error: ProcessError) -> SecureBuildError | None:
        """What kept the program from an answer, None when it did get one."""
        if error.status < 0:
            return ServiceError(f"`{self._server}` gave no answer: `notary` {error.ending}")
        if "x509:" in error.output or "tls:" in error.output:
            return ServiceError(
                f"no trusted connection to `{self._server}`: {_last(error, 'x509:', 'tls:')}",
                hint="name the authority of its certificate: `signing.dct.ca`",
            )
        if _NO_LOGIN.search(error.output):
            return MachineError(
                f"`{self._server}` refuses the login: {_last(error)}",
                hint="the `push` login of the registry is used, and needs the right to sign too",
            )
        if _NO_SERVICE.search(error.output):
            return ServiceError(f"`{self._server}` gave no answer: {_last(error, 'could not reach')}")
        return None


@dataclass(frozen=True, slots=True)
class _Room:
    """A trust folder of its own for the program, with its config."""

    path: Path
    repository: Repository
    passphrase: str
    answers: bytes
    seconds: float

    @property
    def metadata(self) -> Path:
        return self.path / "trust" / "tuf" / str(self.repository) / "metadata"

    def run(self, *arguments: str, answer: bytes = b"") -> None:
        process.run(
            _NOTARY,
            ["--configFile", str(self.path / "config.json"), *arguments],
            stdin=answer + self.answers,
            environment={f"NOTARY_{role}_PASSPHRASE": self.passphrase for role in _ROLES},
            timeout=self.seconds,
            quiet=True,
        )

    def keep(self, key: NotaryKey, role: str) -> None:
        files.write(Path(self.key(key)), key.locked(self.passphrase, role), mode=files.PRIVATE)

    def key(self, key: NotaryKey) -> str:
        return str(self.path / "trust" / "private" / f"{key.identifier}.key")

    def documents(self) -> dict[PurePosixPath, bytes]:
        """What the program has fetched: it keeps only what it has verified."""
        return {
            PurePosixPath(path.relative_to(self.metadata)): files.read(path, at_most=_LARGEST_DOCUMENT)
            for path in self.metadata.rglob("*.json")
        }


def _answers(login: Credential) -> bytes:
    """What the program reads when it asks for a login, as often as it may."""
    password = login.password.reveal()
    answer = f"{login.username}\n{password}\n".encode()
    if answer.count(b"\n") != 2 or len(answer) > _BUFFER:
        raise UsageError(f"the login for `{login.registry}` cannot be given to `notary`: it is not two lines")
    return answer.rjust(_BUFFER) * _MOST_LOGINS


def _pem(certificate: RootCertificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return b"".join(one.public_bytes(Encoding.PEM) for one in certificate.chain)


def _last(error: ProcessError, *words: str) -> str:
    """The line that says why: one with such a word, else the program's last word."""
    lines = [line for line in error.output.splitlines() if line.strip()]
    telling = (
        [line for line in lines if any(word in line for word in words)] or lines[-1:] or ["no reason given"]
    )
    return telling[-1].removeprefix("* fatal: ").strip()[:500]
