"""Base64 and PEM as the contract's schema takes them: what it takes and what is in it."""

from __future__ import annotations

import base64
import binascii
import re

# `\s` of Go's regular expressions.
_SPACE = " \t\n\f\r"
_GROUPS = re.compile(
    rf"(?:[A-Za-z0-9+/]{{4}}[{_SPACE}]*)*+(?:[A-Za-z0-9+/]{{3}}=|[A-Za-z0-9+/]{{2}}==)?", re.ASCII
)
_PEM = re.compile(
    rf"-----BEGIN ((?:[A-Z]+ )*[A-Z]+)-----[{_SPACE}]([A-Za-z0-9+/={_SPACE}]*)[{_SPACE}]"
    rf"-----END ((?:[A-Z]+ )*[A-Z]+)-----[{_SPACE}]*"
)
PEM_START = "-----BEGIN "


def grouped(value: str) -> bytes | None:
    """What base64 stands for that may have white space between its groups; None when it is not that."""
    return base64.b64decode("".join(value.split())) if _GROUPS.fullmatch(value) else None


def flat(value: str) -> bytes | None:
    """What standard base64 on one line stands for; None when it does not decode."""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def pem(value: str, kind: str) -> list[bytes] | None:
    """The contents of the PEM blocks that the text is made of, whose labels match `kind`; None for others."""
    bodies, position = [], 0
    while position < len(value):
        block = _PEM.match(value, position)
        body = grouped(block[2].strip(_SPACE)) if block else None
        if not block or not body or not re.fullmatch(kind, block[1]) or not re.fullmatch(kind, block[3]):
            return None
        bodies.append(body)
        position = block.end()
    return bodies or None
