"""Each key and identity of `signing:`, opened as the config names it; which are needed is `keys.py`'s."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from secure_build import secret
from secure_build.config import CosignSigning, File, KeylessSigning, SecretFile, SecretName
from secure_build.config import Rekor as LogConfig
from secure_build.errors import AbsentKeyError, UsageError
from secure_build.secret import Secret
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file, secret_content
from secure_build.steps.signing import command_of

if TYPE_CHECKING:
    from secure_build.signers.cosign_key import Key, PublicKey
    from secure_build.signers.keyless import KeylessSigner
    from secure_build.signers.rekor import Rekor
    from secure_build.signers.sigstore_trust import Trust

# A trust config names every key of an instance of sigstore, with certificates.
LARGEST_TRUST = 4 << 20


def are_here(work: Job, *named: SecretName | SecretFile | None) -> bool:
    """Whether all of these secrets can be had."""
    return all(
        secret.is_known(one.secret)
        if isinstance(one, SecretName)
        else (work.loaded.directory / one.file).exists()
        for one in named
        if one is not None
    )


def passphrase(config: SecretName | None) -> Secret | None:
    return secret.look_up(config.secret) if config else None


def cosign_key(work: Job, config: CosignSigning) -> Key:
    from secure_build.signers import cosign_key as keys

    public = cosign_public(work, config.public_key) if config.public_key is not None else None
    if config.command is not None:
        assert public is not None
        return keys.CommandKey(public, command_of(work, config, config.command))
    assert config.key is not None
    content, what = secret_content(work, config.key)
    key = keys.load(content, passphrase(config.passphrase), f"the cosign key {what}")
    if public is not None and public.digest != key.public.digest:
        raise two_keys(f"the cosign key `{config.public_key}`", f"the cosign key {what}")
    return key


def cosign_public(work: Job, name: str) -> PublicKey:
    from secure_build.signers import cosign_key as keys

    return keys.public_key(read_file(work, name), f"the cosign key `{name}`")


def absent(what: str, kind: str, private: SecretName | SecretFile | None) -> AbsentKeyError:
    """That neither half of a key is here, `private` being where the config has the private one."""
    return AbsentKeyError(
        f"{what}{f' ({named(private)})' if private else ''} is not here",
        hint=f"give it, or name its public half: `signing: {kind}: public-key:`",
    )


def named(one: SecretName | SecretFile) -> str:
    """How messages call it."""
    return f"the secret `{one.secret}`" if isinstance(one, SecretName) else f"`{one.file}`"


def two_keys(public: str, private: str) -> UsageError:
    """That the halves that the config names do not belong together."""
    return UsageError(
        f"{public} is not the public half of {private}",
        hint="name the public half of the key that signs, or leave `public-key:` out",
    )


def rekor(work: Job, config: LogConfig) -> Rekor:
    from secure_build.signers import cosign_key as keys
    from secure_build.signers.rekor import Rekor

    key = keys.public_key(read_file(work, config.public_key), f"the log's key `{config.public_key}`")
    return Rekor(config.url, key, work.transport)


def trust(work: Job, config: KeylessSigning) -> Trust:
    from secure_build.signers import sigstore_trust

    if isinstance(config.instance, File):
        return sigstore_trust.Trust(read_file(work, config.instance.file, at_most=LARGEST_TRUST))
    if work.options.offline:
        return sigstore_trust.embedded(config.instance)
    return sigstore_trust.fetched(config.instance, work.options.workdir / "sigstore", work.transport)


def keyless(work: Job, config: KeylessSigning, trusted: Trust) -> KeylessSigner:
    from secure_build.signers.fulcio import Identity
    from secure_build.signers.keyless import KeylessSigner

    wanted = None
    if config.identity is not None and config.issuer is not None:
        wanted = Identity(config.identity, config.issuer)
    asked = functools.partial(token, work, config)
    return KeylessSigner(trusted, asked, work.transport, wanted=wanted)


def token(work: Job, config: KeylessSigning) -> Secret:
    from secure_build.signers import identity

    given = Secret(secret_content(work, config.token)[0].decode()) if config.token else None
    return identity.find(work.transport, given=given)
