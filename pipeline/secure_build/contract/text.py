"""Contract text: YAML that every reader takes the same way, and the literal block it stands in.

A section is one string in the contract: text in a block scalar (`|`), or a token. Strings are
quoted unless no YAML version could take them for anything else, and lines are never folded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from secure_build.secret import MASK, Secret

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./+=:@-]*[A-Za-z0-9_/+=-]")
_WORDS = frozenset("true false null yes no on off y n none nan inf infinity".split())


class Plain(str):
    """A value that is written without quotes, as its author did, and means what readers make of it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, repr=False)
class SecretText:
    """Contract text with its secrets, and the same text with each secret as `***`."""

    plain: str
    masked: str


class _Dumper(yaml.SafeDumper):
    """Block style, order kept, doubtful strings in double quotes, nothing shared by anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


def _plain(dumper: yaml.SafeDumper, value: Plain) -> yaml.ScalarNode:
    # With the tag that the dumper itself reads in it, it adds no quotes for the reader's sake.
    tag = dumper.resolve(yaml.ScalarNode, str(value), (True, False))  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, str(value))


class _Masking(_Dumper):
    """Shows secrets as `***`."""


class _Revealing(_Dumper):
    """Writes secrets out."""


_Dumper.add_representer(str, _string)
_Dumper.add_representer(Plain, _plain)
_Masking.add_representer(Secret, lambda dumper, _: _string(dumper, MASK))
_Revealing.add_representer(Secret, lambda dumper, value: _string(dumper, value.reveal()))


def dump(data: dict[str, Any]) -> str:
    """The data as YAML text that ends with one newline."""
    return _dump(data, _Dumper)


def dump_secret(data: dict[str, Any]) -> SecretText:
    """The same for data with values that are `Secret`."""
    return SecretText(_dump(data, _Revealing), _dump(data, _Masking))


def _dump(data: dict[str, Any], dumper: type[_Dumper]) -> str:
    return yaml.dump(data, Dumper=dumper, sort_keys=False, default_flow_style=False, width=float("inf"))


def block(name: str, section: str) -> str:
    """`name: |` and the section indented below it; the value read back is `section` exactly.

    The section begins with a key, ends with one newline and knows no other line break than that.
    """
    return f"{name}: |\n" + indented(section, 2)


def indented(section: str, depth: int) -> str:
    """The lines of a section, moved to the right by `depth` columns; empty ones stay empty."""
    return re.sub(r"(?m)^(?=[^\r\n])", " " * depth, section)


def scalar(value: str) -> str:
    """One string as it stands in a document."""
    return dump({"value": value}).removeprefix("value: ").removesuffix("\n")
