"""Disclosure."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from secure_build.contract.token import Opening, Token


def seal(section: str, token: Token, opening: Opening, auditor: RSAPublicKey) -> bytes:
    return b"{}"
