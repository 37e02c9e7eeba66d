"""Encrypted sections."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest

HYPER, CONTRACT = "hyper-protect-basic", "contract-basic"
PREFIXES = (HYPER, CONTRACT)
DEFAULT_PREFIX = {"hpvs": HYPER, "ccrt": CONTRACT, "ccrv": CONTRACT, "ccco": HYPER}


@dataclass(frozen=True, slots=True, repr=False)
class Opening:
    password: bytes
    salt: bytes
    padding: bytes


@dataclass(frozen=True, slots=True)
class Token:
    prefix: str
    wrapped: bytes
    sealed: bytes

    @classmethod
    def parse(cls, text: str, what: str) -> Token:
        parts = text.split(".")
        if len(parts) != 3:
            raise UsageError(f"{what} has {len(parts)} parts, and a token has three")
        try:
            return cls(parts[0], *(base64.b64decode(part, validate=True) for part in parts[1:]))
        except binascii.Error:
            raise UsageError(f"{what}: damaged base64") from None

    def __str__(self) -> str:
        return ".".join(
            (self.prefix, *(base64.b64encode(part).decode() for part in (self.wrapped, self.sealed)))
        )

    @property
    def digest(self) -> Digest:
        return Digest.of(str(self).encode())


@dataclass(frozen=True, slots=True)
class Sealed:
    token: Token
    opening: Opening


def looks_like_token(value: str) -> bool:
    return value.startswith(tuple(f"{prefix}." for prefix in PREFIXES)) and len(value.split()) == 1


def encrypt(plaintext: bytes, key: RSAPublicKey, prefix: str, random: Callable[[int], bytes]) -> Sealed:
    password = base64.b64encode(random(33))
    salt = random(8)
    wrapped = key.encrypt(password, PKCS1v15())
    padder = padding.PKCS7(128).padder()
    encryptor = _cipher(password, salt).encryptor()
    data = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    return Sealed(Token(prefix, wrapped, b"Salted__" + salt + data), Opening(password, salt, b""))


def decrypt(token: Token, key: RSAPrivateKey) -> bytes:
    carried = key.decrypt(token.wrapped, PKCS1v15())
    salt, data = token.sealed[8:16], token.sealed[16:]
    for password in (carried.split(b"\n")[0].split(b"\0")[0], carried, carried.rstrip(b"\n")):
        decryptor = _cipher(password, salt).decryptor()
        unpadder = padding.PKCS7(128).unpadder()
        try:
            plain = unpadder.update(decryptor.update(data) + decryptor.finalize()) + unpadder.finalize()
            plain.decode()
        except ValueError:
            continue
        return plain
    raise RefusedError("wrong key or damaged token")


def _cipher(password: bytes, salt: bytes) -> Cipher[modes.CBC]:
    derived = PBKDF2HMAC(hashes.SHA256(), 48, salt, 10_000).derive(password)
    return Cipher(algorithms.AES256(derived[:32]), modes.CBC(derived[32:]))
