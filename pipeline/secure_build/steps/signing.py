"""Who signs the contract: a key that is here, or a command that has one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from secure_build import process, secret
from secure_build.config import KeyOrCommand, SigningKey
from secure_build.errors import UsageError
from secure_build.process import Program
from secure_build.secret import Secret
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from secure_build.contract.encryption.token import Token

# A person may have to touch a token.
_COMMAND_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Signer:
    """`sign` gives the `envWorkloadSignature` of two sections; `text` is the env section's `signingKey`."""

    text: str
    sign: Callable[[Token, Token], str]


def signer(work: Job) -> Signer | None:
    """Who signs by the config, None when nobody does; raises UsageError for a key that cannot be used."""
    if not work.signers:
        work.signers.append(_opened(work))
    return work.signers[0]


def _opened(work: Job) -> Signer | None:
    config = work.loaded.config.encrypt.signing_key
    if config is None:
        return None
    from secure_build.contract.encryption import key_material, signature

    sign: Callable[[Token, Token], str]
    if config.command is not None:
        key = _public_key(work, config)
        sign = functools.partial(
            signature.sign_with, key=key, signer=command_of(work, config, config.command)
        )
    else:
        private = key_material.private_key(*_private_key(work, config))
        key, sign = private.public_key(), functools.partial(signature.sign, key=private)
    if config.certificate is None:
        return Signer(signature.signing_key_text(key), sign)
    what = f"the signing certificate `{config.certificate}`"
    material = key_material.public_material(read_file(work, config.certificate), what)
    if material.certificate is None:
        raise UsageError(f"{what} is a key, and no certificate")
    if material.key.public_numbers() != key.public_numbers():
        raise UsageError(f"{what} is of another key than the one that signs")
    return Signer(signature.signing_key_text(material.certificate), sign)


def _private_key(work: Job, config: SigningKey) -> tuple[bytes, Secret | None, str]:
    passphrase = secret.look_up(config.passphrase.secret) if config.passphrase else None
    if config.secret is not None:
        found = secret.look_up(config.secret)
        return found.reveal().encode(), passphrase, f"the signing key in the secret `{config.secret}`"
    assert config.file is not None
    return read_file(work, config.file), passphrase, f"the signing key `{config.file}`"


def _public_key(work: Job, config: SigningKey) -> RSAPublicKey:
    from secure_build.contract.encryption import key_material

    name = config.public_key or config.certificate
    assert name is not None
    return key_material.public_key(read_file(work, name), f"the signing key `{name}`")


def command_of(work: Job, config: KeyOrCommand, command: tuple[str, ...]) -> Callable[[bytes], bytes]:
    """The config's command, run in the config's folder: it reads the digest and writes the signature."""
    folder, name = work.loaded.directory.absolute(), command[0]
    program = Program(str(folder / name) if "/" in name else name, package=name, variables=config.variables)

    def sign(digest: bytes) -> bytes:
        return process.run(program, command[1:], stdin=digest, folder=folder, timeout=_COMMAND_SECONDS)

    return sign
