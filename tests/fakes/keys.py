"""RSA keys, made once for all tests, and certificates with any dates."""

from __future__ import annotations

from datetime import datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


@cache
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Always the same key for a name, within one run."""
    return rsa.generate_private_key(65537, bits)


def certificate(key: rsa.RSAPrivateKey, begin: datetime, end: datetime) -> x509.Certificate:
    """A certificate of the key that signs itself."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "contract")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
    return builder.sign(key, SHA256())


def private_pem(
    key: rsa.RSAPrivateKey, passphrase: str = "", form: PrivateFormat = PrivateFormat.PKCS8
) -> bytes:
    """The private key as PEM."""
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, form, encryption)
