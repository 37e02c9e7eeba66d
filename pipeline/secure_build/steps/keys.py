"""With what the config signs: keys and identities, opened once and closed with the job.

A key that is not at hand is no mistake where nothing is to be signed with it, as in a job that only
publishes or writes contracts. Who only checks needs no private key: the config can name public halves.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING

from secure_build.config import DctSigning
from secure_build.config import NotaryKey as NotaryKeyConfig
from secure_build.errors import AbsentKeyError, MachineError, SecureBuildError
from secure_build.model import Credential
from secure_build.reference import Repository
from secure_build.signers import StatementSigner, StatementVerifier
from secure_build.steps import key_opening
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file, secret_content

if TYPE_CHECKING:
    from secure_build.signers.classic import ClassicSigner
    from secure_build.signers.cosign import CosignSigner
    from secure_build.signers.cosign_key import PublicKey
    from secure_build.signers.dct import Notary
    from secure_build.signers.gpg import GpgKey, GpgVerifier
    from secure_build.signers.keyless import KeylessSigner
    from secure_build.signers.notary_keys import NotaryKey
    from secure_build.signers.rekor import Rekor
    from secure_build.signers.sigstore_trust import Trust
    from secure_build.signers.trust_data import RootCertificate


class Keys:
    """The keys and identities of one config; each is opened when it is first asked for.

    What is asked for raises UsageError when it cannot be used, or is not here.
    """

    def __init__(self, work: Job) -> None:
        self._work = work
        self._signing = work.loaded.config.signing
        self._lock = threading.Lock()
        self._notaries: dict[Credential | None, Notary] = {}

    @functools.cached_property
    def cosign(self) -> CosignSigner:
        from secure_build.signers.cosign import CosignSigner

        assert self._signing.cosign is not None
        return CosignSigner(key_opening.cosign_key(self._work, self._signing.cosign), self._rekor)

    @functools.cached_property
    def cosign_public(self) -> PublicKey:
        """The public half, without the private one where that is not here; else raises AbsentKeyError."""
        config = self._signing.cosign
        assert config is not None
        if self._has_cosign:
            return self.cosign.key.public
        assert config.key is not None
        if config.public_key is None:
            raise key_opening.absent("the cosign key", "cosign", config.key)
        return key_opening.cosign_public(self._work, config.public_key)

    @functools.cached_property
    def classic(self) -> ClassicSigner:
        """The same key, for signatures of the older kind."""
        from secure_build.signers.classic import ClassicSigner

        return ClassicSigner(self.cosign.key, self._rekor)

    @functools.cached_property
    def keyless(self) -> KeylessSigner:
        assert self._signing.keyless is not None
        return key_opening.keyless(self._work, self._signing.keyless, self._trust)

    @functools.cached_property
    def rhs(self) -> GpgKey:
        """The OpenPGP key, in a home of its own until the job ends."""
        key, named = self._own_rhs(), self._named_rhs
        if named is not None and named.fingerprint != key.fingerprint:
            assert self._signing.rhs is not None
            raise key_opening.two_keys(f"the OpenPGP key `{self._signing.rhs.public_key}`", key.what)
        return key

    def _own_rhs(self) -> GpgKey:
        from secure_build.signers import gpg

        config, work = self._signing.rhs, self._work
        assert config is not None
        passphrase = key_opening.passphrase(config.passphrase)
        if config.key.fingerprint is not None:
            return gpg.own_key(config.key.fingerprint, passphrase, work.options.workdir)
        content, where = secret_content(work, config.key.stored)
        key = gpg.opened_key(content, passphrase, work.options.workdir, f"the OpenPGP key {where}")
        return work.exits.enter_context(key)

    @functools.cached_property
    def rhs_verifier(self) -> GpgVerifier:
        """Tells what the OpenPGP key has signed, by its public half.

        Raises AbsentKeyError where neither half is here, and UsageError where they are of two keys.
        """
        config = self._signing.rhs
        assert config is not None
        stored = config.key.stored if config.key.fingerprint is None else None
        own: GpgKey | None = None
        if stored is None or key_opening.are_here(self._work, stored, config.passphrase):
            with contextlib.suppress(AbsentKeyError):
                own = self.rhs
        if self._named_rhs is not None:
            return self._named_rhs
        if own is None:
            raise key_opening.absent("the OpenPGP key", "rhs", stored)
        return self._gpg_verifier(own.public_key, own.what)

    @property
    def rhs_public(self) -> bytes:
        """The public half of the OpenPGP key, armored; raises AbsentKeyError where neither half is here."""
        _ = self.rhs_verifier
        config = self._signing.rhs
        assert config is not None
        return read_file(self._work, config.public_key) if config.public_key else self.rhs.public_key

    @functools.cached_property
    def _named_rhs(self) -> GpgVerifier | None:
        config = self._signing.rhs
        if config is None or config.public_key is None:
            return None
        content = read_file(self._work, config.public_key)
        return self._gpg_verifier(content, f"the OpenPGP key `{config.public_key}`")

    def _gpg_verifier(self, content: bytes, what: str) -> GpgVerifier:
        from secure_build.signers import gpg

        work = self._work
        return work.exits.enter_context(gpg.opened_verifier(content, work.options.workdir, what))

    def notary(self, repository: Repository) -> Notary:
        """The Notary server, with the login for pushing to the repository; open until the job ends."""
        from secure_build.signers import dct

        config, work = self._signing.dct, self._work
        assert config is not None
        with self._lock:
            login = work.push_login(repository)
            if login not in self._notaries:
                opened = dct.opened(
                    work.options.workdir,
                    config.server,
                    ca=read_file(work, config.ca.file) if config.ca else None,
                    login=login,
                    root_certificates=self.root_certificates(config),
                    keys=dct.Keys(*map(self._notary_key, (config.root, config.targets, config.delegation))),
                )
                self._notaries[login] = work.exits.enter_context(opened)
            return self._notaries[login]

    def notary_reader(self, repository: Repository) -> Notary:
        """The Notary server to look something up, trusted by the config's certificate or the root key.

        Raises AbsentKeyError where neither is here.
        """
        from secure_build.signers import dct

        config, work = self._signing.dct, self._work
        assert config is not None
        root = self._root()
        opened = dct.opened(
            work.options.workdir,
            config.server,
            ca=read_file(work, config.ca.file) if config.ca else None,
            login=work.own_login(repository),
            root_certificates=self.root_certificates(config),
            keys=dct.Keys(root),
        )
        return work.exits.enter_context(opened)

    def is_own_root(self, certificate: RootCertificate, repository: Repository) -> bool:
        """Whether a root certificate is what the config names, or of the root key.

        Raises AbsentKeyError where neither is here.
        """
        from secure_build.signers import trust_data

        config = self._signing.dct
        assert config is not None
        root, content = self._root(), self.root_certificates(config)
        if content is None:
            assert root is not None
            return certificate.key == root.identifier
        known = trust_data.certificates(content)
        return certificate.identifier in {one.identifier for one in known if one.is_for(repository)}

    def _root(self) -> NotaryKey | None:
        """Notary's root key; None where a certificate says as much as it."""
        config = self._signing.dct
        assert config is not None
        root = config.root
        if root is not None and key_opening.are_here(self._work, root.key, root.passphrase):
            return self._notary_key(root)
        if config.root_certificate is None:
            assert config.root is not None
            raise AbsentKeyError(
                f"the root key ({key_opening.named(config.root.key)}) is not here",
                hint="give it, or name its certificate: `signing: dct: root-certificate:`",
            )
        return None

    def root_certificates(self, config: DctSigning) -> bytes | None:
        """What trust data must rest on, as the config names it."""
        if config.root_certificate is None:
            return None
        return read_file(self._work, config.root_certificate.file, at_most=key_opening.LARGEST_TRUST)

    def _notary_key(self, config: NotaryKeyConfig | None) -> NotaryKey | None:
        from secure_build.signers.notary_keys import NotaryKey

        if config is None:
            return None
        passphrase = key_opening.passphrase(config.passphrase)
        content, where = secret_content(self._work, config.key)
        return NotaryKey.parse(content, passphrase, f"the Notary key {where}")

    @property
    def statements(self) -> tuple[StatementSigner, ...]:
        """All who sign statements."""
        by_key = (self.cosign,) if self._signing.cosign else ()
        return (*by_key, *((self.keyless,) if self._signing.keyless else ()))

    def check(self) -> None:
        """Raise what would stop signing later: a key that is not here, or nobody to sign without one.

        No certificate is asked for: each of those is public.
        """
        config = self._work.loaded.config
        wanted = {kind for name in self._work.selected() for kind in config.built[name].signatures}
        if "rhs" in wanted:
            _ = self.rhs.public_key
        if "dct" in wanted and self._signing.dct is not None:
            for key in (self._signing.dct.root, self._signing.dct.targets, self._signing.dct.delegation):
                self._notary_key(key)
        if self._signing.cosign is not None:
            _ = self.cosign.signer
        if self._signing.keyless is not None:
            _ = self._trust
            key_opening.token(self._work, self._signing.keyless)

    @property
    def at_hand(self) -> tuple[StatementSigner, ...]:
        """Those of them that can sign here."""
        found: list[StatementSigner] = [self.cosign] if self._has_cosign else []
        if self._signing.keyless is not None:
            try:
                # Only with a token and a certificate it is known who signs.
                found += [self.keyless] if self.keyless.signer else []
            except SecureBuildError as error:
                # Whoever has to sign hears of it then.
                self._work.report.step(f"nobody to sign without a key here: {error.message}")
        return tuple(found)

    @property
    def verifiers(self) -> tuple[StatementVerifier, ...]:
        """Who can tell whether a statement is by whom the config names; without keys that are not here.

        An identity that the config does not name cannot be verified: whoever signed would do.
        """
        found: list[StatementVerifier] = []
        with contextlib.suppress(AbsentKeyError):
            found += [self.cosign_verifier] if self._signing.cosign else []
        try:
            found += [self.keyless_verifier] if self._signing.keyless else []
        except AbsentKeyError:
            pass
        except MachineError as error:
            self._work.report.step(f"signatures without a key are not checked here: {error.message}")
        return tuple(found)

    @functools.cached_property
    def cosign_verifier(self) -> StatementVerifier:
        """Raises AbsentKeyError where neither half of the key is here."""
        from secure_build.signers.cosign import CosignVerifier

        return CosignVerifier(self.cosign_public, self.log)

    @functools.cached_property
    def keyless_verifier(self) -> StatementVerifier:
        """Raises AbsentKeyError where the config names nobody, MachineError without sigstore's library."""
        from secure_build.signers.keyless import KeylessVerifier

        config = self._signing.keyless
        assert config is not None
        if config.identity is None or config.issuer is None:
            raise AbsentKeyError(
                "the config does not say who signs without a key, so whoever did would do",
                hint="name them: `signing: keyless: identity:` and `issuer:`",
            )
        return KeylessVerifier(self._trust, config.identity, config.issuer)

    @property
    def _has_cosign(self) -> bool:
        config = self._signing.cosign
        return config is not None and key_opening.are_here(self._work, config.key, config.passphrase)

    @property
    def log(self) -> PublicKey | None:
        """The key of the transparency log; None where key signatures are not entered in one."""
        return self._rekor.key if self._rekor else None

    @functools.cached_property
    def _rekor(self) -> Rekor | None:
        config = self._signing.cosign
        return key_opening.rekor(self._work, config.rekor) if config and config.rekor else None

    @functools.cached_property
    def _trust(self) -> Trust:
        assert self._signing.keyless is not None
        return key_opening.trust(self._work, self._signing.keyless)


def keys(work: Job) -> Keys:
    """The job's; what is opened of them is opened once."""
    if not work.keys:
        work.keys.append(Keys(work))
    return work.keys[0]
