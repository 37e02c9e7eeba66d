"""Keys, signatures and JSON in the forms that the services of sigstore take and give."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SHA256 = ec.ECDSA(hashes.SHA256())
PREHASHED = ec.ECDSA(Prehashed(hashes.SHA256()))


class Refused(Exception):
    """What a client sent is wrong."""


def new() -> ec.EllipticCurvePrivateKey:
    """A key of the kind that everybody in sigstore has."""
    return ec.generate_private_key(ec.SECP256R1())


def check(key: Any, signature: str, content: bytes, algorithm: ec.ECDSA = SHA256) -> None:
    """Raise Refused when the signature, base64, is not one of this content by this key."""
    try:
        key.verify(base64.b64decode(signature), content, algorithm)
    except InvalidSignature:
        raise Refused("a signature is wrong") from None


def read(content: str) -> Any:
    """The public key in PEM or base64 of it, with or without a certificate around it."""
    raw = content.encode() if "-----" in content else base64.b64decode(content)
    if b"CERTIFICATE" in raw:
        return x509.load_pem_x509_certificate(raw).public_key()
    return serialization.load_pem_public_key(raw)


def der(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key, DER."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key, PEM."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def digest(key: ec.EllipticCurvePrivateKey) -> bytes:
    """What logs are known by: the SHA-256 of the public key."""
    return hashlib.sha256(der(key)).digest()


def canonical(document: object) -> bytes:
    """JSON as in RFC 8785, for what occurs here."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def text(content: bytes) -> str:
    """Base64."""
    return base64.b64encode(content).decode()
