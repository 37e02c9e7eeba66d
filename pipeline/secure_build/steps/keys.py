"""With what the config signs: keys and identities, opened once and closed with the job.

A key that is not at hand is no mistake where nothing is to be signed with it, as in a job that only
publishes or writes contracts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_build import secret
from secure_build.config import CosignSigning, File, KeylessSigning
from secure_build.config import Rekor as LogConfig
from secure_build.secret import Secret
from secure_build.signers import StatementSigner, StatementVerifier
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file, secret_content
from secure_build.steps.signing import command_of

if TYPE_CHECKING:
    from secure_build.signers.classic import ClassicSigner
    from secure_build.signers.cosign_key import Key
    from secure_build.signers.keyless import KeylessSigner, Trust
    from secure_build.signers.rekor import Rekor

# A trust config names every key of an instance of sigstore, with certificates.
_LARGEST_TRUST = 4 << 20


@dataclass(frozen=True, slots=True)
class StatementKeys:
    """Who signs statements by the config: with a key, without one, or both."""

    cosign: Key | None
    rekor: Rekor | None
    keyless: KeylessSigner | None

    @property
    def signers(self) -> tuple[StatementSigner, ...]:
        from secure_build.signers.cosign import CosignSigner

        by_key = [CosignSigner(self.cosign, self.rekor)] if self.cosign else []
        return (*by_key, *([self.keyless] if self.keyless else []))

    @property
    def classic(self) -> ClassicSigner:
        """The same key, for signatures of the older kind."""
        from secure_build.signers.classic import ClassicSigner

        assert self.cosign is not None
        return ClassicSigner(self.cosign, self.rekor)


def statement_keys(work: Job) -> StatementKeys:
    """All of the config's; raises UsageError for one that cannot be used or is not here."""
    if not work.statement_keys:
        signing = work.loaded.config.signing
        work.statement_keys.append(
            StatementKeys(
                cosign=_cosign_key(work, signing.cosign) if signing.cosign else None,
                rekor=_rekor(work, signing.cosign.rekor) if signing.cosign and signing.cosign.rekor else None,
                keyless=_keyless(work, signing.keyless) if signing.keyless else None,
            )
        )
    return work.statement_keys[0]


def at_hand(work: Job) -> bool:
    """Whether the secrets are here that statements are signed with; of identities nobody can tell."""
    signing = work.loaded.config.signing
    named = [
        signing.cosign.key if signing.cosign else None,
        signing.keyless.token if signing.keyless else None,
    ]
    return all(secret.is_known(one.secret) for one in named if one is not None and hasattr(one, "secret"))


def verifiers(work: Job) -> Sequence[StatementVerifier]:
    """Who can tell whether a statement is by whom the config names; without the keys that are not here.

    An identity that the config does not name cannot be verified: whoever signed would do.
    """
    from secure_build.signers.cosign import CosignVerifier

    signing = work.loaded.config.signing
    found: list[StatementVerifier] = []
    if signing.cosign and (at_hand(work) or signing.cosign.public_key):
        public = _cosign_key(work, signing.cosign).public
        rekor = _rekor(work, signing.cosign.rekor) if signing.cosign.rekor else None
        found.append(CosignVerifier(public, rekor.key if rekor else None))
    if signing.keyless and signing.keyless.identity and signing.keyless.issuer:
        from secure_build.signers.keyless import KeylessVerifier

        trust = _trust(work, signing.keyless)
        found.append(KeylessVerifier(trust, signing.keyless.identity, signing.keyless.issuer))
    return found


def _cosign_key(work: Job, config: CosignSigning) -> Key:
    from secure_build.signers import cosign_key

    if config.command is not None:
        assert config.public_key is not None
        public = cosign_key.public_key(
            read_file(work, config.public_key), f"the cosign key `{config.public_key}`"
        )
        return cosign_key.CommandKey(public, command_of(work, config, config.command))
    assert config.key is not None
    passphrase = secret.look_up(config.passphrase.secret) if config.passphrase else None
    content, what = secret_content(work, config.key)
    return cosign_key.load(content, passphrase, f"the cosign key {what}")


def _rekor(work: Job, config: LogConfig) -> Rekor:
    from secure_build.signers import cosign_key
    from secure_build.signers.rekor import Rekor

    key = cosign_key.public_key(read_file(work, config.public_key), f"the log's key `{config.public_key}`")
    return Rekor(config.url, key, work.transport)


def _trust(work: Job, config: KeylessSigning) -> Trust:
    from secure_build.signers import keyless

    if isinstance(config.instance, File):
        return keyless.Trust(read_file(work, config.instance.file, at_most=_LARGEST_TRUST))
    if work.options.offline:
        return keyless.embedded(config.instance)
    return keyless.fetched(config.instance, work.options.workdir / "sigstore", work.transport)


def _keyless(work: Job, config: KeylessSigning) -> KeylessSigner:
    from secure_build.signers import fulcio, identity, keyless

    def token() -> Secret:
        given = Secret(secret_content(work, config.token)[0].decode()) if config.token else None
        return identity.find(work.transport, given=given)

    wanted = None
    if config.identity is not None and config.issuer is not None:
        wanted = fulcio.Identity(config.identity, config.issuer)
    return keyless.KeylessSigner(_trust(work, config), token, work.transport, wanted=wanted)
