"""What the guest makes of a section's text where YAML readers differ.

The guest reads with Go's yaml.v3, which takes more plain scalars for numbers than YAML 1.2 does, and
dates for times. Its schema then refuses them where it wants text, so they must not pass here either.
"""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from secure_build import strict_yaml
from secure_build.strict_yaml import Document

_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt \t].*)?")
_BASED = re.compile(r"[-+]?0[bBoOxX][0-9A-Fa-f]+")
_OCTAL = re.compile(r"[-+]?0[0-7]+")
_DECIMAL = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,18})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NAMED = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


def guest_data(document: Document) -> Any:
    """The data of a document as the guest reads it; a time is some date, infinity no number."""
    return _data(document.root, document.data)


def _data(node: Node, plain: Any) -> Any:
    if isinstance(node, MappingNode):
        return {key.value: _data(value, plain[key.value]) for key, value in strict_yaml.items(node)}
    if isinstance(node, SequenceNode):
        return [_data(item, value) for item, value in zip(node.value, plain, strict=True)]
    if isinstance(node, ScalarNode) and node.style is None and isinstance(plain, str):
        return _scalar(plain)
    return plain


def _scalar(text: str) -> str | int | float | datetime.date:
    if _DATE.fullmatch(text):
        return datetime.date.min
    bare = text.replace("_", "") if text[:1] in set("+-.0123456789") else text
    if _OCTAL.fullmatch(bare):
        return int(bare, 8)
    if _BASED.fullmatch(bare):
        try:
            return int(bare, 0)
        except ValueError:
            return text
    if _DECIMAL.fullmatch(bare):
        return int(bare)
    if _NAMED.fullmatch(bare):
        return math.nan
    return float(bare) if _FLOAT.fullmatch(bare) else text
