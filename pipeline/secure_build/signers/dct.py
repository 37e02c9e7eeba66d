"""Docker Content Trust: names for digests, signed through the `notary` program (Notary v1, 0.7).

The program verifies and signs; what is trusted is decided here. Trust data rests on the root key that
is at hand, or on a root certificate that the caller has; never on what a server says the first time.
Which tag may get another digest is the caller's business: whatever is to be published is published.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from secure_build import files
from secure_build.address import is_loopback
from secure_build.contract.certificates.pem import MALFORMED
from secure_build.errors import RefusedError, ServiceError, UsageError
from secure_build.model import Credential, Finding
from secure_build.reference import Repository
from secure_build.signers.notary import (
    NotaryError,
    NoTrustDataError,
    Room,
    Server,
    answers,
    read_documents,
)
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import (
    RELEASES,
    ROOT,
    TARGETS,
    Documents,
    RootCertificate,
    Target,
    TrustData,
    certificates,
    older,
)

KEPT = "notary"
_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Keys:
    """What there is to sign with; none is needed to look something up."""

    root: NotaryKey | None = None
    targets: NotaryKey | None = None
    delegation: NotaryKey | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """How a repository's tags are signed now.

    `root_certificate` is the contract's `publicKey`, `signer` what trust data calls it (64 hexadecimal
    digits), and `published` tells whether anything was new.
    """

    root_certificate: str
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
    keys: Keys | None = None,
    seconds: float = _SECONDS,
) -> Iterator[Notary]:
    """A Notary server to use while the block lasts, by keys that are below `folder` just as long.

    `ca` are the only authorities, PEM, that the server's certificate may rest on; None leaves that to
    the system. `root_certificates`, PEM or a `root.json`, are what trust data may rest on; without one
    for a repository it must rest on the root key. Public trust data is kept in `folder / KEPT`. No run
    of the program takes longer than `seconds`. Raises UsageError.
    """
    parts = urlsplit(server)
    if not parts.hostname or not (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))
    ):
        raise UsageError(f"`{server}` is no address of a Notary server", hint="write `https://HOST`")
    if ca is not None:
        try:
            x509.load_pem_x509_certificates(ca)
        except MALFORMED:
            raise UsageError(f"the authority for `{server}` is no certificate in PEM") from None
    anchors = certificates(root_certificates) if root_certificates is not None else []
    replies = answers(login)
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=".keys-", dir=folder)).resolve()
    try:
        authorities = home / "ca.pem" if ca is not None else None
        if ca is not None:
            files.write(home / "ca.pem", ca)
        reached = Server(server.rstrip("/"), home, authorities, replies, seconds)
        yield Notary(reached, folder / KEPT, anchors, keys or Keys())
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
    """One server. Its methods may be called side by side."""

    def __init__(self, server: Server, kept: Path, anchors: list[RootCertificate], keys: Keys) -> None:
        self._server, self._kept, self._anchors, self._keys = server, kept, anchors, keys
        # Whoever publishes second would do all of it twice, and only twice.
        self._busy: dict[Repository, threading.Lock] = {}

    def trust_data(self, repository: Repository, root_certificate: str | None = None) -> TrustData | None:
        """What the server has now, verified as a client does that sees it for the first time.

        It must rest on `root_certificate`, the contract's `publicKey`, or else on what this was opened
        with. None when the server has none. Raises RefusedError when it does not verify, MachineError
        when the program is absent or the login is refused, and ServiceError when the server does not
        answer.
        """
        return self._look(repository, root_certificate)[0]

    def lookup(self, repository: Repository, tag: str, root_certificate: str | None = None) -> Target | None:
        """What a tag names for Docker's clients, None for nothing; raises as `trust_data` does."""
        data = self.trust_data(repository, root_certificate)
        return data.target(tag) if data is not None else None

    def publish(self, repository: Repository, targets: Mapping[str, Target]) -> Signed:
        """Have these tags name these manifests, and see that they do, as a new client sees it.

        Trust data is begun when there is none and the root key is here, with the certificate that this
        was opened with if there is one for the repository. Signs with the delegation's key, else with
        the targets key, else with a targets key made for this once, which the root key lets in. What is
        right already is not published again. Raises as `trust_data` does, and RefusedError also when
        the keys may not sign.
        """
        with self._busy.setdefault(repository, threading.Lock()):
            return self._publish(repository, targets)

    def _publish(self, repository: Repository, targets: Mapping[str, Target]) -> Signed:
        for attempt in (1, 2):
            data, documents = self._look(repository)
            if data is not None and all(data.target(tag) == target for tag, target in targets.items()):
                return Signed(data.root.text, data.root.identifier, published=False)
            try:
                self._sign(repository, data, documents, targets)
                break
            except NotaryError as error:
                # Somebody else may have published meanwhile.
                if attempt == 2:
                    raise ServiceError(
                        f"the trust data of {repository} cannot be published: {error.message}"
                    ) from None
        data, documents = self._look(repository)
        for tag, target in targets.items():
            if data is None or data.target(tag) != target:
                raise RefusedError(
                    f"`{self._server.url}` does not show what was published: {repository}:{tag}"
                )
        assert data is not None
        self._keep(repository, documents)
        return Signed(data.root.text, data.root.identifier, published=True)

    def change_root(self, repository: Repository, new: NotaryKey) -> str:
        """Put `new` in the place of the root key that is here; returns the contract's new `publicKey`.

        Contracts with the old one no longer fit. Raises as `publish` does.
        """
        data, documents = self._look(repository)
        if data is None:
            raise NoTrustDataError(f"`{self._server.url}` has no trust data for {repository}")
        self._need_root(repository, data, "to change it")
        with self._staged(repository, documents) as room:
            path = room.path / "new.pem"
            files.write(path, new.locked(self._server.passphrase, "root"), mode=files.PRIVATE)
            # The program asks whether one is sure.
            room.run("key", "rotate", str(repository), "root", "-k", str(path), answer=b"yes\n")
        data, documents = self._look(repository, key=new.identifier)
        assert data is not None
        self._keep(repository, documents)
        return data.root.text

    def _look(
        self, repository: Repository, root_certificate: str | None = None, *, key: str | None = None
    ) -> tuple[TrustData | None, Documents]:
        """What the server has, and the documents themselves."""
        anchors = [one for one in self._anchors if one.is_for(repository)] if key is None else []
        if root_certificate is not None:
            anchors = [RootCertificate.parse(root_certificate)]
        elif key is None and self._keys.root is not None:
            key = self._keys.root.identifier
        if not anchors and key is None:
            raise UsageError(
                f"none of the root certificates is for {repository}",
                hint="its common name must be the repository: give that one, or the root key",
            )
        pins = [anchor.identifier for anchor in anchors]
        with self._server.room(repository, pins) as room:
            try:
                room.run("list", str(repository))
            except NoTrustDataError:
                return None, {}
            except NotaryError as error:
                raise RefusedError(
                    f"the trust data of {repository} does not verify: {error.message}",
                    hint="nothing that it names can be relied on",
                ) from None
            documents = read_documents(room.metadata)
        data = TrustData.read(documents)
        # Without a pin the program took what came, which is signed by the key in its own certificate.
        if (data.root.identifier not in pins) if pins else (data.root.key != key):
            raise RefusedError(f"the trust data of {repository} rests on another root key than yours")
        self._not_older(repository, data.root, documents)
        return data, documents

    def _sign(
        self,
        repository: Repository,
        data: TrustData | None,
        documents: Documents,
        targets: Mapping[str, Target],
    ) -> None:
        delegation, gun = self._keys.delegation, str(repository)
        role, other = (RELEASES, TARGETS) if delegation else (TARGETS, RELEASES)
        for tag, target in targets.items():
            if data is not None and data.by_role.get(other, {}).get(tag, target) != target:
                raise RefusedError(
                    f"`{other}` of {repository} names another digest for `{tag}`, and clients would differ "
                    f"in which they take if `{role}` named this one",
                    hint=f"remove it: `notary remove {repository} {tag} --roles {other} --publish`",
                )
        with self._staged(repository, documents) as room:
            if data is None:
                self._begin(room, repository)
            elif delegation is None or delegation.identifier not in data.releases_keys:
                self._let_in(room, repository, data)
            if delegation and (data is None or delegation.identifier not in data.releases_keys):
                public = room.path / "delegation.pem"
                files.write(public, delegation.public)
                room.run("delegation", "add", gun, RELEASES, str(public), "--all-paths")
            for tag, target in targets.items():
                named = (gun, tag, str(target.size), "--sha256", target.digest.hexadecimal)
                room.run("addhash", *named, "--roles", role)
            room.run("publish", gun)

    def _begin(self, room: Room, repository: Repository) -> None:
        """Make trust data whose snapshot and timestamp keys the server has, and publish it, empty."""
        kept, gun = self._place(repository), str(repository)
        if self._keys.root is None:
            raise NoTrustDataError(
                f"`{self._server.url}` has no trust data for {repository}",
                hint="to begin it takes the root key",
            )
        if kept.exists():
            raise NoTrustDataError(
                f"`{self._server.url}` has no trust data for {repository}, although it had some",
                hint=f"what is begun anew needs new contracts: to begin all the same, remove `{kept}`",
            )
        certificate: tuple[str, ...] = ()
        if given := next((one for one in self._anchors if one.is_for(repository)), None):
            if given.key != self._keys.root.identifier:
                raise UsageError(f"the root certificate for {repository} is not of the root key that is here")
            files.write(room.path / "root.pem", given.pem)
            certificate = ("--rootcert", str(room.path / "root.pem"))
        room.run("init", gun, *certificate)
        # The first publication, so that never a snapshot key is trusted that is lost with this run.
        room.run("key", "rotate", gun, "snapshot", "--server-managed")
        if self._keys.targets is not None:
            room.run("key", "rotate", gun, TARGETS, "-k", str(room.key(self._keys.targets)))

    def _let_in(self, room: Room, repository: Repository, data: TrustData) -> None:
        """See that a targets key is here that is trusted, by the root key when it is not yet."""
        own = self._keys.targets
        if own is not None and own.identifier in data.targets_keys:
            return
        if own is None and self._keys.root is None:
            raise RefusedError(
                f"the key of the delegation is not in the trust data of {repository}",
                hint=f"let an owner of the targets key run `notary delegation add {repository} {RELEASES} "
                "KEY.pem --all-paths --publish`",
            )
        self._need_root(repository, data, "to let in the targets key")
        given = ("-k", str(room.key(own))) if own is not None else ()
        room.run("key", "rotate", str(repository), TARGETS, *given)

    def _need_root(self, repository: Repository, data: TrustData, purpose: str) -> None:
        root = self._keys.root
        if root is None or root.identifier not in data.root_keys:
            why = "is not here" if root is None else "is another one than that which is here"
            raise RefusedError(f"the root key of {repository} {why}, and it is needed {purpose}")

    @contextlib.contextmanager
    def _staged(self, repository: Repository, documents: Documents) -> Iterator[Room]:
        """A room with the keys and what has been verified, which the program trusts from then on."""
        keys = (("root", self._keys.root), (TARGETS, self._keys.targets), (RELEASES, self._keys.delegation))
        with self._server.room(repository) as room:
            for role, key in keys:
                if key is not None:
                    room.keep(key, role)
            files.write_tree(room.metadata, documents)
            yield room

    def _keep(self, repository: Repository, documents: Documents) -> None:
        files.write_tree(self._place(repository), documents)

    def _place(self, repository: Repository) -> Path:
        """Where the public trust data is kept: as in a server's addresses, so that none is inside another."""
        return self._kept / str(repository) / "_trust"

    def _not_older(self, repository: Repository, root: RootCertificate, documents: Documents) -> None:
        """Refuse what is older than what was kept of the same root; another root is a new beginning."""
        kept = read_documents(self._place(repository))
        if ROOT in kept and certificates(kept[ROOT]) == [root] and (name := older(documents, kept)):
            raise RefusedError(
                f"`{self._server.url}` shows an older `{name}` of {repository} than before",
                hint="somebody has put back trust data; when that was you, remove "
                f"`{self._place(repository)}`",
            )
