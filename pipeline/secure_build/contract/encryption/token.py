"""The token: the encrypted form of a contract section, as IBM's page "About the contract" describes it.

`prefix.wrapped.sealed`: RSA carries a password, and the password opens what
`openssl enc -aes-256-cbc -pbkdf2` sealed. A token hides its section and no more: nothing in it tells
whether somebody changed it, and who has the runtime's public certificate can make another one.
Integrity comes from the signature (`signature.py`) and from the hash that the runtime attests.

This module neither chooses a key nor knows what stands in a section.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest
from secure_build.secret import Secret

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.modes import CBC

# Which one an image expects depends on its version, so these are only what to begin with.
DEFAULT_PREFIX: Mapping[str, str] = MappingProxyType(
    {
        "hpvs": "hyper-protect-basic",
        "ccrt": "contract-basic",
        "ccrv": "contract-basic",
        "ccco": "hyper-protect-basic",
    }
)
PREFIXES = frozenset(DEFAULT_PREFIX.values())

_PREFIX = re.compile(r"[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_MAGIC = b"Salted__"
_MAGIC_BASE64 = "U2FsdGVkX1"
_SALT = 8
_BLOCK = 16
# The defaults of `openssl enc -pbkdf2`.
_ITERATIONS = 10_000
# RSA keys of 2048 to 8192 bits.
_WRAPPED = range(256, 1024 + 1)
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{43,86}")
# 33 bytes are 44 characters of base64 without `=`.
_PASSWORD_BYTES = 33
_SHORTEST_PADDING = 8
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class Token:
    """The parts of a token: `wrapped` is RSA's output, `sealed` is `Salted__`, salt and ciphertext."""

    prefix: str
    wrapped: bytes
    sealed: bytes

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise UsageError("its prefix has other characters than letters, digits and `-`")
        if len(self.wrapped) not in _WRAPPED:
            raise UsageError(
                f"its second part has {len(self.wrapped)} bytes: no RSA key of 2048 to 8192 bits made it"
            )
        if not self.sealed.startswith(_MAGIC):
            raise UsageError("its third part does not begin with `Salted__`, as openssl's output does")
        length = len(self.sealed) - len(_MAGIC) - _SALT
        if length <= 0 or length % _BLOCK:
            raise UsageError("its third part is not whole blocks of AES: it was cut or changed")

    @classmethod
    def parse(cls, text: str, what: str) -> Token:
        """Read a token exactly as it stands; raises UsageError that names `what` and the reason."""
        try:
            return cls._parse(text)
        except UsageError as error:
            raise UsageError(
                f"{what} is no token: {error.message}",
                hint="a token is `prefix.base64.base64`, on one line",
            ) from None

    @classmethod
    def _parse(cls, text: str) -> Token:
        if text != text.strip():
            # Signature and attested hash are over the text, white space and all.
            raise UsageError("it has white space or a newline around it")
        if len(text.splitlines()) > 1:
            raise UsageError("it has a newline inside")
        parts = text.split(".")
        if len(parts) != 3:
            raise UsageError(f"it has {len(parts)} parts with `.` between them, not 3")
        prefix, wrapped, sealed = parts
        return cls(prefix, _decoded(wrapped, "second"), _decoded(sealed, "third"))

    def __str__(self) -> str:
        wrapped, sealed = (base64.b64encode(part).decode() for part in (self.wrapped, self.sealed))
        return f"{self.prefix}.{wrapped}.{sealed}"

    @property
    def is_known(self) -> bool:
        """Whether some runtime is known to take this prefix."""
        return self.prefix in PREFIXES

    @property
    def digest(self) -> Digest:
        """SHA-256 of the text: what the attestation record shows for the section."""
        return Digest.of(str(self).encode())

    @property
    def salt(self) -> bytes:
        return self.sealed[len(_MAGIC) :][:_SALT]


def looks_like_token(text: str) -> bool:
    """Whether a section's text is meant as a token, perhaps a damaged one, and not as plain YAML."""
    prefix, _, rest = text.strip().partition(".")
    sealed = rest.partition(".")[2]
    return prefix in PREFIXES or bool(_PREFIX.fullmatch(prefix) and sealed.startswith(_MAGIC_BASE64))


@dataclass(frozen=True, slots=True)
class Opening:
    """All that was random in a token: with it, who has the plaintext can make the same token again.

    The password opens the token, so an opening is as secret as the section.
    """

    password: Secret = field(repr=False)
    salt: bytes = field(repr=False)
    padding: bytes = field(repr=False)

    def __post_init__(self) -> None:
        # No character at which openssl, or a shell, would end the password: every reader takes the same.
        if not _PASSWORD.fullmatch(self.password.reveal()):
            raise UsageError("the password of an opening is not 43 to 86 characters of base64")
        if len(self.salt) != _SALT:
            raise UsageError(f"the salt of an opening has {len(self.salt)} bytes, not {_SALT}")
        if len(self.padding) < _SHORTEST_PADDING or 0 in self.padding:
            raise UsageError("the RSA padding of an opening is too short or has a zero byte")


@dataclass(frozen=True, slots=True)
class Sealed:
    """A new token, and what opens it."""

    token: Token
    opening: Opening


def encrypt(plaintext: bytes, key: RSAPublicKey, prefix: str, random: Callable[[int], bytes]) -> Sealed:
    """A new token of exactly these bytes; `random(n)` returns n unpredictable bytes.

    The password has 264 bits in 44 characters of base64. IBM's recipe takes 32 random bytes, of which
    openssl uses only those before the first newline or NUL; with this alphabet there is none.
    """
    password = base64.b64encode(random(_PASSWORD_BYTES))
    salt = random(_SALT)
    length = _size(key) - len(password) - 3
    filler = b""
    while len(filler) < length:
        filler += random(length - len(filler)).replace(b"\0", b"")
    opening = Opening(Secret(password.decode()), salt, filler)
    return Sealed(recreate(plaintext, opening, key, prefix), opening)


def recreate(plaintext: bytes, opening: Opening, key: RSAPublicKey, prefix: str) -> Token:
    """The token of this plaintext, opening and key: always the same, byte for byte.

    Raises UsageError when the opening belongs to a key of another length.
    """
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

    password = opening.password.reveal().encode()
    padder = padding.PKCS7(AES.block_size).padder()
    encryptor = _cipher(password, opening.salt).encryptor()
    ciphertext = encryptor.update(padder.update(plaintext) + padder.finalize()) + encryptor.finalize()
    return Token(prefix, _wrap(password, opening.padding, key), _MAGIC + opening.salt + ciphertext)


def _wrap(message: bytes, filler: bytes, key: RSAPublicKey) -> bytes:
    """RSAES-PKCS1-v1_5 encryption (RFC 8017, section 7.2.1) with this padding string.

    The library draws the padding itself and takes none, so that nobody could show afterwards that a
    token carries a certain password. Only the public key is at work here: there is no private exponent
    that the time could tell something of.
    """
    encoded = b"\0\2" + filler + b"\0" + message
    size = _size(key)
    if len(encoded) != size:
        raise UsageError(f"the opening is not of a token for an RSA key of {key.key_size} bits")
    numbers = key.public_numbers()
    return pow(int.from_bytes(encoded, "big"), numbers.e, numbers.n).to_bytes(size, "big")


def _size(key: RSAPublicKey | RSAPrivateKey) -> int:
    return (key.key_size + 7) // 8


def is_text(plaintext: bytes) -> bool:
    """Whether it is UTF-8 without control characters that YAML refuses."""
    try:
        text = plaintext.decode()
    except UnicodeDecodeError:
        return False
    return not _CONTROL.search(text)


def decrypt(token: Token, key: RSAPrivateKey, *, is_plausible: Callable[[bytes], bool] = is_text) -> bytes:
    """The plaintext, untouched; the prefix does not matter. Raises RefusedError.

    A wrong key is not noticed by RSA, which returns random bytes instead of an error (implicit
    rejection), and one in 256 wrong passwords gives valid AES padding: therefore `is_plausible` has the
    last word, and even then the result is not authenticated.
    """
    for password in _passwords(token.wrapped, key):
        plaintext = _opened(token, password)
        if plaintext is not None and is_plausible(plaintext):
            return plaintext
    of, has = len(token.wrapped), _size(key)
    raise RefusedError(
        "wrong key or damaged token"
        + (f": the token is for an RSA key of {of * 8} bits, this one has {has * 8}" if of != has else ""),
        hint="a token opens only with the private key of the certificate that it was encrypted with",
    )


def open_with(token: Token, opening: Opening) -> bytes | None:
    """What the opening's password makes of the token, unchecked; None when the AES padding is wrong.

    This is no proof of anything: see `disclosure.py`.
    """
    return _opened(token, opening.password.reveal().encode())


def _passwords(wrapped: bytes, key: RSAPrivateKey) -> list[bytes]:
    """What a writer may have used of the bytes that RSA carries, most usual first.

    `openssl enc -pass stdin` reads one line and ends it at a NUL; a library takes all bytes; a shell
    drops the newlines and NULs at the end.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    try:
        carried = key.decrypt(wrapped, PKCS1v15())
    except ValueError:
        return []
    line = carried.partition(b"\n")[0].partition(b"\0")[0]
    return list(dict.fromkeys((line, carried, carried.rstrip(b"\n\0"))))


def _opened(token: Token, password: bytes) -> bytes | None:
    from cryptography.hazmat.primitives import padding
    from cryptography.hazmat.primitives.ciphers.algorithms import AES

    decryptor = _cipher(password, token.salt).decryptor()
    ciphertext = token.sealed[len(_MAGIC) + _SALT :]
    unpadder = padding.PKCS7(AES.block_size).unpadder()
    try:
        return unpadder.update(decryptor.update(ciphertext) + decryptor.finalize()) + unpadder.finalize()
    except ValueError:
        return None


def _cipher(password: bytes, salt: bytes) -> Cipher[CBC]:
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CBC
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

    derived = PBKDF2HMAC(SHA256(), length=48, salt=salt, iterations=_ITERATIONS).derive(password)
    return Cipher(AES(derived[:32]), CBC(derived[32:]))


def _decoded(part: str, which: str) -> bytes:
    try:
        content = base64.b64decode(part, validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(f"its {which} part is damaged base64") from None
    # Python overlooks bits that belong to no byte; the text would then not be the same again.
    if base64.b64encode(content).decode() != part:
        raise UsageError(f"its {which} part is damaged base64")
    return content
