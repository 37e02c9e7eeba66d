"""Disclosure: showing an auditor what is in a token that only the runtime can open.

A disclosure carries the token's opening, encrypted to the auditor. A password alone would prove
nothing: a token has no authentication code, and RSA may carry another password than the one shown,
so that the runtime reads something else. With the opening the auditor makes the whole token again,
RSA part and all, and only the same token, byte for byte, shows that the runtime gets this plaintext.

Nothing in a disclosure tells who wrote it, and nothing needs to: what it claims is checked against
the token, and the token against the hash that the runtime attests.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from secure_build.contract.encryption import token as tokens
from secure_build.contract.encryption.key_material import spki_digest
from secure_build.contract.encryption.token import Opening, Token
from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest
from secure_build.secret import Secret

_VERSION = 1
_KEYS = {"version", "section", "token", "auditor", "opening"}
_OPENING_KEYS = {"password", "salt", "padding"}
# An opening has some 1,500 bytes: more blocks than this hold something else.
_MOST_BLOCKS = 32
_OAEP = OAEP(MGF1(SHA256()), SHA256(), None)
# What OAEP adds to a block (RFC 8017, section 7.1.1): two digests and two bytes.
_OVERHEAD = 2 * 32 + 2


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What was disclosed: the section's name, the digest of its token, and what opens it.

    Until `recreate` or `plaintext` returned it is a claim.
    """

    section: str
    token: Digest
    opening: Opening = field(repr=False)

    def recreate(self, plaintext: bytes, key: RSAPublicKey, token: Token) -> None:
        """Show that `token` is of this plaintext; `key` is of the runtime's encryption certificate.

        Raises RefusedError when it is another token than the one that comes out.
        """
        if token.digest != self.token:
            raise RefusedError(f"the disclosure of `{self.section}` is about another token: {self.token}")
        try:
            again = tokens.recreate(plaintext, self.opening, key, token.prefix)
        except UsageError:
            again = None
        if again != token:
            raise RefusedError(
                f"the disclosure of `{self.section}` is not true: it makes another token",
                hint="the plaintext, or the encryption certificate, is not the one that the token is of",
            )

    def plaintext(self, token: Token, key: RSAPublicKey) -> bytes:
        """What the runtime reads from `token`, proven; raises RefusedError."""
        plaintext = tokens.open_with(token, self.opening)
        if plaintext is None:
            raise RefusedError(f"the disclosure of `{self.section}` does not open the token")
        self.recreate(plaintext, key, token)
        return plaintext


def seal(section: str, token: Token, opening: Opening, auditor: RSAPublicKey) -> bytes:
    """The disclosure as a JSON document that only the auditor's private key opens.

    The opening is JSON, cut into pieces that RSA-OAEP with SHA-256 takes, in order.
    """
    content = json.dumps(
        {
            "password": opening.password.reveal(),
            "salt": base64.b64encode(opening.salt).decode(),
            "padding": base64.b64encode(opening.padding).decode(),
        },
        separators=(",", ":"),
    ).encode()
    size = _size(auditor) - _OVERHEAD
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    document = {
        "version": _VERSION,
        "section": section,
        "token": str(token.digest),
        "auditor": str(spki_digest(auditor)),
        "opening": [base64.b64encode(auditor.encrypt(piece, _OAEP)).decode() for piece in pieces],
    }
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def is_for(content: bytes, token: Token, auditor: RSAPublicKey) -> bool:
    """Whether it is the disclosure of this token to this auditor, by what it says of itself."""
    try:
        document = _object(content, _KEYS, "the disclosure")
    except UsageError:
        return False
    return (document["token"], document["auditor"]) == (str(token.digest), str(spki_digest(auditor)))


def unseal(content: bytes, key: RSAPrivateKey, what: str) -> Disclosure:
    """What a disclosure claims.

    Raises UsageError when `content` is no disclosure, RefusedError when it is for another key.
    """
    document = _object(content, _KEYS, what)
    section, blocks = document["section"], document["opening"]
    if document["version"] != _VERSION:
        raise UsageError(f"{what} is no disclosure of version {_VERSION}")
    if not isinstance(section, str) or not section.isidentifier():
        raise UsageError(f"{what} does not name a section")
    if not isinstance(blocks, list) or not 0 < len(blocks) <= _MOST_BLOCKS:
        raise UsageError(f"{what} has no opening of 1 to {_MOST_BLOCKS} blocks")
    if document["auditor"] != str(spki_digest(key.public_key())):
        raise RefusedError(f"{what} is for another auditor's key: {str(document['auditor'])[:80]}")
    try:
        opened = b"".join(key.decrypt(_bytes(block), _OAEP) for block in blocks)
    except ValueError:
        raise RefusedError(f"{what} is damaged: the key does not open it") from None
    parts = _object(opened, _OPENING_KEYS, f"the opening in {what}")
    try:
        opening = Opening(Secret(_text(parts["password"])), _bytes(parts["salt"]), _bytes(parts["padding"]))
        return Disclosure(section, Digest.parse(_text(document["token"])), opening)
    except (ValueError, UsageError):
        raise UsageError(f"{what} is damaged: it holds no digest or no opening") from None


def _object(content: bytes, keys: set[str], what: str) -> dict[str, Any]:
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        raise UsageError(f"{what} is no JSON") from None
    if not isinstance(data, dict) or data.keys() != keys:
        raise UsageError(f"{what} does not hold exactly {', '.join(f'`{key}`' for key in sorted(keys))}")
    return data


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _bytes(value: Any) -> bytes:
    return base64.b64decode(_text(value), validate=True)


def _size(key: RSAPublicKey) -> int:
    return (key.key_size + 7) // 8
