"""Variables in compose files (Compose specification, Interpolation), as far as images need them.

The guest fills them in from the contract's variables. Where a workload is made they are not known: only
a variable's own default is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from secure_build.errors import UsageError
from secure_build.strict_yaml import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)")
_DEEPEST = 16


def with_defaults(text: str) -> str | None:
    """The text with every variable unset, so that defaults count; None when one has no default.

    Raises UsageError for what compose would refuse.
    """
    return with_values(text, {})


def with_values(text: str, values: Mapping[str, str], *, blank: bool = False) -> str | None:
    """The text with these variables set and all others unset; None when one has neither value nor default.

    With `blank` that counts as empty, as for compose, and None is what it refuses to do without (`:?`).
    Raises UsageError for what compose would refuse.
    """
    return _Reader(text, values, "" if blank else None).read(0, closing=False, depth=0)[0]


def names(text: str) -> set[str]:
    """The names of the variables that the text asks for, defaults among it or not."""
    return {found[1] for found in _VARIABLE.finditer(text.replace("$$", ""))}


def required(data: Any) -> list[str]:
    """The names of the variables in a document's values that have no default, sorted."""
    return sorted({name for _, text in texts(data) for name in _without_default(text)})


def is_valid(text: str) -> bool:
    """Whether compose takes the text: each `$` in it begins a variable, or is written `$$`."""
    try:
        with_defaults(text)
    except UsageError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class _Reader:
    text: str
    values: Mapping[str, str]
    unset: str | None

    def read(self, position: int, *, closing: bool, depth: int) -> tuple[str | None, int]:
        """What stands from a position on, to its end or to the brace that closes it."""
        text = self.text
        if depth > _DEEPEST:
            raise UsageError(f"`{text[:80]}`: variables in variables, too deep")
        pieces: list[str | None] = []
        while position < len(text):
            if closing and text[position] == "}":
                return _joined(pieces), position + 1
            if text[position] != "$":
                pieces.append(text[position])
                position += 1
            elif text.startswith("$$", position):
                pieces.append("$")
                position += 2
            elif name := _NAME.match(text, position + 1):
                pieces.append(self.values.get(name[0], self.unset))
                position = name.end()
            else:
                value, position = self._braced(position, depth)
                pieces.append(value)
        if closing:
            raise _invalid(text)
        return _joined(pieces), position

    def _braced(self, position: int, depth: int) -> tuple[str | None, int]:
        text = self.text
        name = _NAME.match(text, position + 2) if text.startswith("${", position) else None
        if name is None:
            raise _invalid(text)
        value = self.values.get(name[0])
        if text.startswith("}", name.end()):
            return self.unset if value is None else value, name.end() + 1
        operator = _OPERATOR.match(text, name.end())
        if operator is None:
            raise _invalid(text)
        argument, end = self.read(operator.end(), closing=True, depth=depth + 1)
        is_set = bool(value) if operator[0].startswith(":") else value is not None
        if operator[0].endswith("+"):
            return (argument if is_set else ""), end
        if is_set:
            return value, end
        return (argument if operator[0].endswith("-") else None), end


def _joined(pieces: list[str | None]) -> str | None:
    known = [piece for piece in pieces if piece is not None]
    return "".join(known) if len(known) == len(pieces) else None


def _invalid(text: str) -> UsageError:
    return UsageError(
        f"`{text[:200]}` has a `$` that begins no variable", hint="for the character itself write `$$`"
    )


def texts(data: Any, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """The values of a document that have a `$`, each with its path."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from texts(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, (*path, index))
    elif isinstance(data, str) and "$" in data:
        yield path, data


_WITHOUT_DEFAULT = re.compile(r"\$\$|\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)(?:\}|:?\?))")


def _without_default(text: str) -> Iterator[str]:
    for found in _WITHOUT_DEFAULT.finditer(text):
        if name := found[1] or found[2]:
            yield name
