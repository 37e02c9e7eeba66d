"""With what the config signs: keys and identities, opened once and closed with the job.

A key that is not at hand is no mistake where nothing is to be signed with it, as in a job that only
publishes or writes contracts. Who only checks needs no private key: the config can name public halves.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from typing import TYPE_CHECKING

from secure_build import secret
from secure_build.config import CosignSigning, DctSigning, File, KeylessSigning, SecretFile, SecretName
from secure_build.config import NotaryKey as NotaryKeyConfig
from secure_build.config import Rekor as LogConfig
from secure_build.errors import AbsentKeyError, MachineError, SecureBuildError, UsageError
from secure_build.model import Credential
from secure_build.reference import Repository
from secure_build.secret import Secret
from secure_build.signers import StatementSigner, StatementVerifier
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file, secret_content
from secure_build.steps.signing import command_of

if TYPE_CHECKING:
    from secure_build.signers.classic import ClassicSigner
    from secure_build.signers.cosign import CosignSigner
    from secure_build.signers.cosign_key import Key, PublicKey
    from secure_build.signers.dct import Notary
    from secure_build.signers.gpg import GpgKey, GpgVerifier
    from secure_build.signers.keyless import KeylessSigner
    from secure_build.signers.notary_keys import NotaryKey
    from secure_build.signers.rekor import Rekor
    from secure_build.signers.sigstore_trust import Trust
    from secure_build.signers.trust_data import RootCertificate

# A trust config names every key of an instance of sigstore, with certificates.
_LARGEST_TRUST = 4 << 20


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
        return CosignSigner(_cosign_key(self._work, self._signing.cosign), self._rekor)

    @functools.cached_property
    def cosign_public(self) -> PublicKey:
        """The public half, without the private one where that is not here; else raises AbsentKeyError."""
        config = self._signing.cosign
        assert config is not None
        if self._has_cosign:
            return self.cosign.key.public
        assert config.key is not None
        if config.public_key is None:
            raise _absent("the cosign key", "cosign", config.key)
        return _cosign_public(self._work, config.public_key)

    @functools.cached_property
    def classic(self) -> ClassicSigner:
        """The same key, for signatures of the older kind."""
        from secure_build.signers.classic import ClassicSigner

        return ClassicSigner(self.cosign.key, self._rekor)

    @functools.cached_property
    def keyless(self) -> KeylessSigner:
        assert self._signing.keyless is not None
        return _keyless(self._work, self._signing.keyless, self._trust)

    @functools.cached_property
    def rhs(self) -> GpgKey:
        """The OpenPGP key, in a home of its own until the job ends."""
        from secure_build.signers import gpg

        config, work = self._signing.rhs, self._work
        assert config is not None
        passphrase = _passphrase(config.passphrase)
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
        from secure_build.signers import gpg

        config, work = self._signing.rhs, self._work
        assert config is not None
        own = self._rhs_here()
        if config.public_key is not None:
            content, what = read_file(work, config.public_key), f"the OpenPGP key `{config.public_key}`"
        elif own is not None:
            content, what = own.public_key, own.what
        else:
            raise _absent("the OpenPGP key", "rhs", None if config.key.fingerprint else config.key.stored)
        verifier = work.exits.enter_context(gpg.opened_verifier(content, work.options.workdir, what))
        if own is not None and own.fingerprint != verifier.fingerprint:
            raise _two_keys(what, own.what)
        return verifier

    def _rhs_here(self) -> GpgKey | None:
        config = self._signing.rhs
        assert config is not None
        if config.key.fingerprint is None and not self._are_here(config.key.stored, config.passphrase):
            return None
        try:
            return self.rhs
        except AbsentKeyError:
            return None

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
        if config.root is not None and self._are_here(config.root.key, config.root.passphrase):
            return self._notary_key(config.root)
        if config.root_certificate is None:
            assert config.root is not None
            raise AbsentKeyError(
                f"the root key ({_named(config.root.key)}) is not here",
                hint="give it, or name its certificate: `signing: dct: root-certificate:`",
            )
        return None

    def root_certificates(self, config: DctSigning) -> bytes | None:
        """What trust data must rest on, as the config names it."""
        if config.root_certificate is None:
            return None
        return read_file(self._work, config.root_certificate.file, at_most=_LARGEST_TRUST)

    def _notary_key(self, config: NotaryKeyConfig | None) -> NotaryKey | None:
        from secure_build.signers.notary_keys import NotaryKey

        if config is None:
            return None
        passphrase = _passphrase(config.passphrase)
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
            _token(self._work, self._signing.keyless)

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
        return config is not None and self._are_here(config.key, config.passphrase)

    def _are_here(self, *named: SecretName | SecretFile | None) -> bool:
        return all(
            secret.is_known(one.secret)
            if isinstance(one, SecretName)
            else (self._work.loaded.directory / one.file).exists()
            for one in named
            if one is not None
        )

    @property
    def log(self) -> PublicKey | None:
        """The key of the transparency log; None where key signatures are not entered in one."""
        return self._rekor.key if self._rekor else None

    @functools.cached_property
    def _rekor(self) -> Rekor | None:
        config = self._signing.cosign
        return _rekor(self._work, config.rekor) if config and config.rekor else None

    @functools.cached_property
    def _trust(self) -> Trust:
        assert self._signing.keyless is not None
        return _trust(self._work, self._signing.keyless)


def keys(work: Job) -> Keys:
    """The job's; what is opened of them is opened once."""
    if not work.keys:
        work.keys.append(Keys(work))
    return work.keys[0]


def _passphrase(config: SecretName | None) -> Secret | None:
    return secret.look_up(config.secret) if config else None


def _cosign_key(work: Job, config: CosignSigning) -> Key:
    from secure_build.signers import cosign_key

    public = _cosign_public(work, config.public_key) if config.public_key is not None else None
    if config.command is not None:
        assert public is not None
        return cosign_key.CommandKey(public, command_of(work, config, config.command))
    assert config.key is not None
    passphrase = _passphrase(config.passphrase)
    content, what = secret_content(work, config.key)
    key = cosign_key.load(content, passphrase, f"the cosign key {what}")
    if public is not None and public.digest != key.public.digest:
        raise _two_keys(f"the cosign key `{config.public_key}`", f"the cosign key {what}")
    return key


def _cosign_public(work: Job, name: str) -> PublicKey:
    from secure_build.signers import cosign_key

    return cosign_key.public_key(read_file(work, name), f"the cosign key `{name}`")


def _absent(what: str, kind: str, named: SecretName | SecretFile | None) -> AbsentKeyError:
    return AbsentKeyError(
        f"{what}{f' ({_named(named)})' if named else ''} is not here",
        hint=f"give it, or name its public half: `signing: {kind}: public-key:`",
    )


def _named(one: SecretName | SecretFile) -> str:
    return f"the secret `{one.secret}`" if isinstance(one, SecretName) else f"`{one.file}`"


def _two_keys(public: str, private: str) -> UsageError:
    return UsageError(
        f"{public} is not the public half of {private}",
        hint="name the public half of the key that signs, or leave `public-key:` out",
    )


def _rekor(work: Job, config: LogConfig) -> Rekor:
    from secure_build.signers import cosign_key
    from secure_build.signers.rekor import Rekor

    key = cosign_key.public_key(read_file(work, config.public_key), f"the log's key `{config.public_key}`")
    return Rekor(config.url, key, work.transport)


def _trust(work: Job, config: KeylessSigning) -> Trust:
    from secure_build.signers import sigstore_trust

    if isinstance(config.instance, File):
        return sigstore_trust.Trust(read_file(work, config.instance.file, at_most=_LARGEST_TRUST))
    if work.options.offline:
        return sigstore_trust.embedded(config.instance)
    return sigstore_trust.fetched(config.instance, work.options.workdir / "sigstore", work.transport)


def _keyless(work: Job, config: KeylessSigning, trust: Trust) -> KeylessSigner:
    from secure_build.signers import fulcio, keyless

    wanted = None
    if config.identity is not None and config.issuer is not None:
        wanted = fulcio.Identity(config.identity, config.issuer)
    token = functools.partial(_token, work, config)
    return keyless.KeylessSigner(trust, token, work.transport, wanted=wanted)


def _token(work: Job, config: KeylessSigning) -> Secret:
    from secure_build.signers import identity

    given = Secret(secret_content(work, config.token)[0].decode()) if config.token else None
    return identity.find(work.transport, given=given)
