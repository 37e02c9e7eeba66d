"""Keys as Notary writes and reads them, and the names it gives them.

Read are the PEM files that `notary` and `docker trust` keep and export, and PKCS #8 and traditional PEM
as openssl writes them; elliptic curves and RSA. Written is one form, which is encrypted, for the key
store of one run. Which key may sign what is not asked here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from secure_build.errors import UsageError
from secure_build.secret import Secret

# What signs is ECDSA on P-256 by default; keys of RSA can be imported, from this size on.
_LEAST_BITS = 2048
_BLOCK = re.compile(
    rb"-----BEGIN (?P<label>(?:ENCRYPTED |EC |RSA )?PRIVATE KEY)-----\r?\n"
    rb"(?P<headers>(?:[A-Za-z-]+: ?[^\r\n]*\r?\n)*)(?:\r?\n)?(?P<body>[A-Za-z0-9+/=\r\n]+)"
    rb"-----END (?P=label)-----"
)
# Headers of Notary's, which other readers of PEM stumble over.
_OWN_HEADERS = re.compile(rb"(?:role|gun|path): ?[^\r\n]*\r?\n")
_INTEGER, _OCTETS, _NAME, _SEQUENCE = 0x02, 0x04, 0x06, 0x30
_MOST_ROUNDS = 10_000_000


@dataclass(frozen=True, slots=True)
class NotaryKey:
    """A private key that has been opened; nothing of it is printed."""

    private: EllipticCurvePrivateKey | RSAPrivateKey = field(repr=False)

    @classmethod
    def parse(cls, content: bytes, passphrase: Secret | None, what: str) -> NotaryKey:
        """The only key in a PEM text that messages call `what`; raises UsageError.

        An encrypted key needs its passphrase; one that is not encrypted must come without.
        """
        blocks = list(_BLOCK.finditer(content.strip() + b"\n"))
        if len(blocks) != 1:
            why = "holds several private keys" if blocks else "is no private key in PEM"
            raise UsageError(f"{what} {why}", hint="give one key, as `notary key export` writes it")
        (block,) = blocks
        encrypted = block["label"].startswith(b"ENCRYPTED") or b"ENCRYPTED" in block["headers"]
        if encrypted and passphrase is None:
            raise UsageError(f"{what} is encrypted, and no passphrase is given", hint="name its `passphrase`")
        if not encrypted and passphrase is not None:
            raise UsageError(
                f"{what} is not encrypted, although a passphrase is given",
                hint="leave out the `passphrase`, or give the encrypted key",
            )
        password = passphrase.reveal().encode() if passphrase is not None else None
        try:
            private = _opened(block, password)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            why = "its passphrase is wrong, or it is damaged" if encrypted else "it is damaged"
            raise UsageError(f"{what} cannot be opened: {why}, or its kind is not known") from None
        if not isinstance(private, EllipticCurvePrivateKey | RSAPrivateKey):
            raise UsageError(f"{what} is neither an ECDSA nor an RSA key")
        if private.key_size < _LEAST_BITS and isinstance(private, RSAPrivateKey):
            raise UsageError(f"{what} is an RSA key of {private.key_size} bits, fewer than {_LEAST_BITS}")
        return cls(private)

    @property
    def identifier(self) -> str:
        """What trust data calls the key: 64 hexadecimal digits."""
        return key_identifier(self.private.public_key())

    @property
    def public(self) -> bytes:
        """The public half, PEM."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def locked(self, passphrase: str, role: str) -> bytes:
        """The key for the key store, encrypted under a passphrase that must be random.

        The form is the traditional one, with AES-256 and a weak derivation of the key: of the newer one
        `notary` reads PBKDF2 with SHA-1 only, which nothing here can write.
        """
        text = self.private.private_bytes(
            Encoding.PEM, PrivateFormat.TraditionalOpenSSL, BestAvailableEncryption(passphrase.encode())
        )
        headers, _, body = text.partition(b"\n\n")
        return b"%s\nrole: %s\n\n%s" % (headers, role.encode(), body)


def key_identifier(public: object) -> str:
    """What trust data calls a bare public key; raises ValueError for another kind than ECDSA and RSA."""
    if not isinstance(public, EllipticCurvePublicKey | RSAPublicKey):
        raise ValueError("it is neither an ECDSA nor an RSA key")
    kind = "ecdsa" if isinstance(public, EllipticCurvePublicKey) else "rsa"
    return _identifier(kind, public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def certificate_identifier(chain: list[x509.Certificate]) -> str:
    """What trust data calls a key that is a certificate, with those above it if there are any."""
    kind = "ecdsa-x509" if isinstance(chain[0].public_key(), EllipticCurvePublicKey) else "rsa-x509"
    return _identifier(kind, b"".join(one.public_bytes(Encoding.PEM) for one in chain))


def _identifier(kind: str, public: bytes) -> str:
    value = {"keytype": kind, "keyval": {"private": None, "public": base64.b64encode(public).decode()}}
    # Canonical JSON: here that is sorted keys and no spaces.
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()


def _opened(block: re.Match[bytes], password: bytes | None) -> object:
    if block["label"] in (b"EC PRIVATE KEY", b"RSA PRIVATE KEY"):
        return load_pem_private_key(_OWN_HEADERS.sub(b"", block[0]), password)
    try:
        content = base64.b64decode(b"".join(block["body"].split()), validate=True)
    except binascii.Error:
        raise ValueError("it is no base64") from None
    try:
        return load_der_private_key(content, password)
    except ValueError:
        return load_der_private_key(
            _as_version_0(_decrypted(content, password) if password else content), None
        )


def _as_version_0(content: bytes) -> bytes:
    """A PKCS #8 key (RFC 5958) with the version that fits: Notary writes 1 without what 1 stands for."""
    inside, _ = _first(content, _SEQUENCE)
    version, rest = _first(inside, _INTEGER)
    if version != b"\1":
        raise ValueError("it is no key of Notary's")
    start = len(content) - len(inside)
    return content[:start] + bytes([_INTEGER, 1, 0]) + rest


def _decrypted(content: bytes, password: bytes) -> bytes:
    """The key inside an encrypted one of Notary's: PBES2 with PBKDF2, HMAC-SHA-1, AES-256-CBC (RFC 8018)."""
    whole, _ = _first(content, _SEQUENCE)
    algorithm, rest = _first(whole, _SEQUENCE)
    encrypted, _ = _first(rest, _OCTETS)
    schemes, _ = _first(_parameters(algorithm), _SEQUENCE)
    derivation, rest = _first(schemes, _SEQUENCE)
    encryption, _ = _first(rest, _SEQUENCE)
    salted, _ = _first(_parameters(derivation), _SEQUENCE)
    salt, rest = _first(salted, _OCTETS)
    rounds, other_function = _first(rest, _INTEGER)
    vector, _ = _first(_parameters(encryption), _OCTETS)
    count = int.from_bytes(rounds)
    if other_function or not 0 < count <= _MOST_ROUNDS:
        raise ValueError("it is no key of Notary's")
    key = PBKDF2HMAC(hashes.SHA1(), 32, salt, count).derive(password)  # noqa: S303  # the format has no other
    decryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).decryptor()
    unpadder = padding.PKCS7(128).unpadder()
    padded = decryptor.update(encrypted) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _parameters(algorithm: bytes) -> bytes:
    """What follows the name of an algorithm."""
    return _first(algorithm, _NAME)[1]


def _first(content: bytes, tag: int) -> tuple[bytes, bytes]:
    """The value of the first DER element, which must have this tag, and what follows the element."""
    if len(content) < 2 or content[0] != tag:
        raise ValueError("it has another structure")
    length, start = content[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(content[2:start])
    if len(content) < start + length:
        raise ValueError("it is cut off")
    return content[start : start + length], content[start + length :]
