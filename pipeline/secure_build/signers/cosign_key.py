"""Keys of cosign: ECDSA on the curve P-256, read from a file or kept by a command.

Files are those that `cosign generate-key-pair` writes (scrypt and NaCl's secretbox around PKCS#8) and
PEM as openssl writes it (PKCS#8, plain or encrypted). cosign can use other kinds of key; here only the
kind that it makes is taken, which every verifier knows. No message shows any of a key's text.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)

from secure_build import manifest
from secure_build.attestations.encoding import decoded, encoded
from secure_build.errors import MachineError, RefusedError, UsageError
from secure_build.reference import Digest
from secure_build.secret import Secret

_SIGSTORE, _COSIGN = b"ENCRYPTED SIGSTORE PRIVATE KEY", b"ENCRYPTED COSIGN PRIVATE KEY"
_ES256 = ec.ECDSA(Prehashed(SHA256()))
# What cosign writes; its first versions wrote half of it.
_COST = {"N": 1 << 16, "r": 8, "p": 1}
# A file may not ask for more memory (128 · N · r bytes) and time than four times that.
_MOST_COST, _MOST_ROUNDS = 4 * _COST["N"] * _COST["r"], 4
_HINT = (
    "`cosign generate-key-pair` makes one, and so does "
    "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`"
)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half: who signs."""

    key: ec.EllipticCurvePublicKey

    @property
    def pem(self) -> bytes:
        """The content of `cosign.pub`."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the key's DER (SubjectPublicKeyInfo): its name wherever a key is named."""
        return Digest.of(self.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Whether this is the key's signature of the content: ECDSA with SHA-256, DER."""
        return self.verifies_digest(signature, hashlib.sha256(content).digest())

    def verifies_digest(self, signature: bytes, digest: bytes) -> bool:
        try:
            self.key.verify(signature, digest, _ES256)
        except InvalidSignature:
            return False
        return True


class Key(Protocol):
    """Who can sign."""

    @property
    def public(self) -> PublicKey: ...

    def sign(self, content: bytes) -> bytes:
        """The signature of the content: ECDSA with SHA-256, DER; another one each time."""


@dataclass(frozen=True, slots=True, repr=False)
class FileKey:
    """A private key that is here."""

    private: ec.EllipticCurvePrivateKey

    @property
    def public(self) -> PublicKey:
        return PublicKey(self.private.public_key())

    def sign(self, content: bytes) -> bytes:
        return self.private.sign(content, ec.ECDSA(SHA256()))


@dataclass(frozen=True, slots=True)
class CommandKey:
    """A private key that somebody else keeps: `command` gets a SHA-256 digest and returns its signature."""

    public: PublicKey
    command: Callable[[bytes], bytes]

    def sign(self, content: bytes) -> bytes:
        """As `Key.sign`; raises RefusedError for what is not the public key's signature."""
        digest = hashlib.sha256(content).digest()
        signature = self.command(digest)
        if not self.public.verifies_digest(signature, digest):
            raise RefusedError(
                "the command's signature does not fit the public key",
                hint="it reads 32 bytes, the SHA-256 digest, and writes ECDSA's signature of it in DER",
            )
        return signature


def public_key(content: bytes, what: str) -> PublicKey:
    """The key in a PEM file such as `cosign.pub`, called `what` in messages; raises UsageError."""
    if b"PRIVATE KEY-----" in content:
        raise UsageError(f"{what} is a private key, and a public one belongs there")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            f"{what} is no public key: it must begin with `-----BEGIN PUBLIC KEY-----`"
        ) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _other_kind(what)
    return PublicKey(key)


def load(content: bytes, passphrase: Secret | None, what: str) -> FileKey:
    """The private key in a file, called `what` in messages.

    A passphrase for a key that has none is not used, as openssl does. Raises UsageError for a key that
    cannot be read or is of another kind, MachineError when a library for cosign's own form is missing.
    """
    label = next((label for label in (_SIGSTORE, _COSIGN) if _begin(label) in content), None)
    encrypted = b"ENCRYPTED" in content
    password = passphrase.reveal().encode() if encrypted and passphrase else None
    try:
        if label is not None:
            # cosign takes an empty passphrase too, and a secret cannot be empty.
            return _checked(load_der_private_key(_open(content, label, password or b"", what), None), what)
        return _checked(load_pem_private_key(content, password), what)
    except _NotOpenedError:
        raise _not_opened(what, passphrase) from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted and label is None:
            raise _not_opened(what, passphrase) from None
        raise UsageError(f"{what} is damaged, or no private key in PEM", hint=_HINT) from None


def dump(key: ec.EllipticCurvePrivateKey, passphrase: Secret) -> bytes:
    """The key as a file that `cosign` reads with this passphrase; another one each time."""
    salt, nonce = os.urandom(32), os.urandom(24)
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    box = _secretbox(_derived(passphrase.reveal().encode(), salt, _COST))
    document = {
        "kdf": {"name": "scrypt", "params": _COST, "salt": encoded(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": encoded(nonce)},
        "ciphertext": encoded(box.encrypt(plain, nonce).ciphertext),
    }
    text = "\n".join(textwrap.wrap(encoded(json.dumps(document, separators=(",", ":")).encode()), 64))
    return b"%b\n%b\n%b\n" % (_begin(_SIGSTORE), text.encode(), _end(_SIGSTORE))


class _NotOpenedError(Exception):
    """The passphrase does not open the key."""


def _open(content: bytes, label: bytes, password: bytes, what: str) -> bytes:
    """The PKCS#8 DER in a file of cosign's (go-securesystemslib, package `encrypted`)."""
    text, ending, _ = content.partition(_begin(label))[2].partition(_end(label))
    try:
        if not ending:
            raise ValueError
        document = manifest.load_object(base64.b64decode(b"".join(text.split()), validate=True))
        derivation, cipher = document["kdf"], document["cipher"]
        if derivation["name"] != "scrypt" or cipher["name"] != "nacl/secretbox":
            raise ValueError
        cost = {name: derivation["params"][name] for name in _COST}
        salt, nonce = decoded(derivation["salt"]), decoded(cipher["nonce"])
        ciphertext = decoded(document["ciphertext"])
        if len(nonce) != 24 or any(type(value) is not int or value < 1 for value in cost.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{what} is damaged, or in a form that is not known here", hint=_HINT) from None
    if cost["N"] * cost["r"] > _MOST_COST or cost["p"] > _MOST_ROUNDS or cost["N"] & (cost["N"] - 1):
        raise UsageError(f"{what} asks for more memory or time than any key of cosign's, so it is not opened")
    box = _secretbox(_derived(password, salt, cost))
    from nacl.exceptions import CryptoError

    try:
        return bytes(box.decrypt(ciphertext, nonce))
    except CryptoError:
        raise _NotOpenedError from None


def _derived(password: bytes, salt: bytes, cost: dict[str, int]) -> bytes:
    n, r, p = (cost[name] for name in ("N", "r", "p"))
    # OpenSSL counts a little more than the 128 · N · r bytes.
    return hashlib.scrypt(password, salt=salt, n=n, r=r, p=p, maxmem=128 * r * (n + p + 8), dklen=32)


def _secretbox(key: bytes) -> Any:
    try:
        from nacl.secret import SecretBox
    except ImportError:
        raise MachineError(
            "keys in cosign's own form need PyNaCl, which is not on this machine",
            hint="install the package `python3-nacl`, or take a key in PKCS#8 PEM",
        ) from None
    return SecretBox(key)


def _checked(key: object, what: str) -> FileKey:
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _other_kind(what)
    return FileKey(key)


def _other_kind(what: str) -> UsageError:
    return UsageError(f"{what} is not of ECDSA on the curve P-256, the kind that cosign makes", hint=_HINT)


def _not_opened(what: str, passphrase: Secret | None) -> UsageError:
    if passphrase is None:
        return UsageError(
            f"{what} is encrypted, and there is no passphrase for it",
            hint="name one: `passphrase: {secret: NAME}`",
        )
    return UsageError(
        f"the passphrase of {what} is wrong, or the key is damaged",
        hint="a newline at its end belongs to a passphrase; the last one of a secret's file does not",
    )


def _begin(label: bytes) -> bytes:
    return b"-----BEGIN " + label + b"-----"


def _end(label: bytes) -> bytes:
    return b"-----END " + label + b"-----"
