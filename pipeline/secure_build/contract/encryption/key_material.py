"""RSA keys and certificates as people hand them over: PEM, or base64 of PEM.

Only what the contract runtimes take is taken here: RSA from 2048 to 8192 bits. Whether a certificate
is to be trusted is not asked. No message shows any of a key's text.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from secure_build.contract.certificates.pem import MALFORMED
from secure_build.errors import UsageError
from secure_build.reference import Digest
from secure_build.secret import Secret

_BITS = range(2048, 8192 + 1)
_BEGIN = b"-----BEGIN "


@dataclass(frozen=True, slots=True)
class PublicMaterial:
    """A public key, the certificate that it stood in, and how many times base64 was around the PEM."""

    key: RSAPublicKey
    certificate: x509.Certificate | None
    encodings: int


def public_key(content: bytes, what: str) -> RSAPublicKey:
    """The RSA key of a PEM public key or certificate, or of base64 of one; raises UsageError."""
    return public_material(content, what).key


def public_material(content: bytes, what: str, *, most_encodings: int = 1) -> PublicMaterial:
    """Public key and certificate, taken out of up to `most_encodings` times base64; raises UsageError."""
    encodings = 0
    while _BEGIN not in content and encodings < most_encodings:
        try:
            content = base64.b64decode(b"".join(content.split()), validate=True)
        except ValueError:
            break
        encodings += 1
    if b"PRIVATE KEY-----" in content:
        raise UsageError(
            f"{what} is a private key, and a public one belongs there",
            hint="`openssl pkey -in KEY -pubout` writes the public key",
        )
    if content.count(_BEGIN) != 1:
        why = "holds several PEM blocks" if _BEGIN in content else "is neither PEM nor base64 of PEM"
        raise UsageError(f"{what} {why}", hint="give one public key, or one certificate")
    certificate = None
    try:
        if b"-----BEGIN CERTIFICATE-----" in content:
            certificate = x509.load_pem_x509_certificate(content)
        key = certificate.public_key() if certificate else load_pem_public_key(content)
    except MALFORMED:
        raise UsageError(f"{what} is damaged, or no PEM public key or certificate") from None
    if not isinstance(key, RSAPublicKey):
        raise _no_rsa(what)
    _check_size(key, what)
    return PublicMaterial(key, certificate, encodings)


def private_key(content: bytes, passphrase: Secret | None, what: str) -> RSAPrivateKey:
    """The RSA key of a PEM private key (PKCS#8 or PKCS#1); raises UsageError.

    A passphrase for a key that has none is not used, as openssl does.
    """
    encrypted = b"ENCRYPTED" in content
    if encrypted and passphrase is None:
        raise UsageError(f"{what} is encrypted, and there is no passphrase for it")
    password = passphrase.reveal().encode() if encrypted and passphrase else None
    try:
        key = load_pem_private_key(content, password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        if encrypted:
            raise UsageError(f"the passphrase of {what} is wrong, or the key is damaged") from None
        raise UsageError(
            f"{what} is damaged, or no PEM private key",
            hint="`openssl pkey -in KEY -out KEY.pem` writes the form that is read here",
        ) from None
    if not isinstance(key, RSAPrivateKey):
        raise _no_rsa(what)
    _check_size(key, what)
    return key


def spki_pem(key: RSAPublicKey) -> str:
    """The key as PEM (`-----BEGIN PUBLIC KEY-----`), which ends with a newline."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def spki_digest(key: RSAPublicKey) -> Digest:
    """SHA-256 of the key's DER (SubjectPublicKeyInfo): its name wherever a key is named."""
    return Digest.of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _no_rsa(what: str) -> UsageError:
    return UsageError(
        f"{what} is no RSA key, and contract runtimes take no other",
        hint="make one with `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out KEY`",
    )


def _check_size(key: RSAPublicKey | RSAPrivateKey, what: str) -> None:
    if key.key_size not in _BITS:
        raise UsageError(f"{what} has {key.key_size} bits, and must have 2048 to 8192")
