"""Keys."""

from __future__ import annotations

import base64

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from secure_build.errors import UsageError
from secure_build.secret import Secret


def public_key(content: bytes, what: str) -> RSAPublicKey:
    if not content.startswith(b"-----"):
        content = base64.b64decode(content)
    if b"BEGIN CERTIFICATE" in content:
        key = x509.load_pem_x509_certificate(content).public_key()
    else:
        key = serialization.load_pem_public_key(content)
    if not isinstance(key, RSAPublicKey):
        raise UsageError(f"{what} is no RSA key")
    return key


def private_key(content: bytes, passphrase: Secret | None, what: str) -> RSAPrivateKey:
    key = serialization.load_pem_private_key(content, passphrase.reveal().encode() if passphrase else None)
    if not isinstance(key, RSAPrivateKey):
        raise UsageError(f"{what} is no RSA key")
    return key


def spki_pem(key: RSAPublicKey) -> str:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()
