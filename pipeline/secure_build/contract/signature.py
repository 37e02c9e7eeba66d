"""Signatures."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from secure_build.contract.key_material import public_key, spki_pem
from secure_build.contract.token import Token
from secure_build.errors import RefusedError
from secure_build.model import Finding


@dataclass(frozen=True, slots=True)
class SigningKey:
    key: RSAPublicKey
    certificate: x509.Certificate | None


def digest(workload: str, env: str) -> bytes:
    return hashlib.sha256(workload.encode() + env.encode()).digest()


def digest_signer(key: RSAPrivateKey) -> Callable[[bytes], bytes]:
    return lambda value: key.sign(value, PKCS1v15(), Prehashed(hashes.SHA256()))


def sign_with(workload: Token, env: Token, sign: Callable[[bytes], bytes], key: RSAPublicKey) -> str:
    made = digest(str(workload), str(env))
    value = sign(made)
    try:
        key.verify(value, made, PKCS1v15(), Prehashed(hashes.SHA256()))
    except InvalidSignature:
        raise RefusedError("the signature does not verify") from None
    return base64.b64encode(value).decode()


def signing_key(text: str, what: str) -> SigningKey:
    content = text.encode() if text.startswith("-----") else base64.b64decode(text)
    certificate = x509.load_pem_x509_certificate(content) if b"CERTIFICATE" in content else None
    return SigningKey(public_key(content, what), certificate)


def signing_key_text(key: RSAPublicKey) -> str:
    return base64.b64encode(spki_pem(key).encode()).decode()


def signing_certificate_text(content: bytes, what: str) -> str:
    return base64.b64encode(content).decode()


def expiry_findings(key: SigningKey, now: datetime) -> list[Finding]:
    return []
