"""Base64 in JSON documents that are signed or hashed: one text for one content, and nothing beside it."""

from __future__ import annotations

import base64
from typing import Any


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def decoded(text: Any) -> bytes:
    """The content; raises ValueError for what `encoded` does not write.

    Python's decoder takes several texts for the same content.
    """
    if not isinstance(text, str):
        raise ValueError("it is no text")
    content = base64.b64decode(text, validate=True)
    if encoded(content) != text:
        raise ValueError("it is no base64")
    return content
