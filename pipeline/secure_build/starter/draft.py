"""A starter as data and comments, and the text that a person would have written for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secure_build import config, strict_yaml
from secure_build.contract import text
from secure_build.errors import UsageError

KeyPath = tuple[str, ...]

_ORDER = ("version", "target", "source", "images", "registries", "workload")
# Sections after an empty line; `target` stands beside `version`.
_APART = frozenset({"source", "images", "registries", "workload"})
_LONGEST = 400
# Mappings that people write on one line.
_ON_ONE_LINE = frozenset({"push", "pull", "runtime", "password", "token", "ssh-key"})


@dataclass(frozen=True, slots=True)
class Note:
    """Something that was found and that the user has to know: where it stands, what, and what next."""

    text: str
    where: str | None = None
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """The config as plain data, what to say above its keys, and what could not go into it.

    A comment at a top-level key that is not in `data` stands at that key's place.
    """

    data: dict[str, Any]
    comments: dict[KeyPath, str] = field(default_factory=dict)
    head: str = ""
    notes: tuple[Note, ...] = ()

    def text(self) -> str:
        """The file's text; raises UsageError when the loader would not read this draft from it."""
        written = "\n".join(self._lines()) + "\n"
        name = "the starter"
        if strict_yaml.load(written.encode(), name).data != self.data:
            raise UsageError("what was found cannot be written as YAML", hint="write the config by hand")
        config.parse(written.encode(), Path(name))
        return written

    def _lines(self) -> Iterator[str]:
        yield from _comment(self.head, 0)
        for key in _ORDER:
            if key in self.data or (key,) in self.comments:
                if key in _APART:
                    yield ""
                yield from self._entry((key,))

    def _entry(self, path: KeyPath) -> Iterator[str]:
        depth = len(path) - 1
        yield from _comment(self.comments.get(path, ""), depth)
        value: Any = self.data
        for key in path:
            if key not in value:
                return
            value = value[key]
        start = "  " * depth + text.scalar(path[-1]) + ":"
        if isinstance(value, dict) and value and not _is_short(path):
            yield start
            for key in value:
                yield from self._entry((*path, key))
        else:
            yield f"{start} {_flow(value)}"


def shown(found: str) -> str:
    """Text of a stranger's file as it may stand in a message or a comment: one line, nothing invisible."""
    return "".join(letter if letter.isprintable() else "?" for letter in found[:_LONGEST])


def _is_short(path: KeyPath) -> bool:
    return path[-1] in _ON_ONE_LINE or path[-2:-1] == ("secrets",)


def _comment(words: str, depth: int) -> Iterator[str]:
    for line in words.splitlines():
        yield f"{'  ' * depth}# {shown(line)}".rstrip()


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{text.scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else text.scalar(str(value))
