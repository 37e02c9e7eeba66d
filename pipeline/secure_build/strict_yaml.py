"""YAML read strictly, with the place of every value.

PyYAML does the parsing; this module takes away what surprises people: duplicate keys, YAML 1.1
words (`NO`, `12:30`, `0777`), keys that are no text, tags, several documents where one is meant,
and documents that are small on disk and huge in memory. Scalars follow the YAML 1.2 core schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from secure_build.errors import UsageError

LARGEST = 1 << 20
_MOST_NODES = 50_000
_DEEPEST = 64
_MERGE = "tag:yaml.org,2002:merge"
_ALLOWED_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")
)
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document: its plain data, its text and the nodes that say where each value stands."""

    name: str
    text: str
    root: Node
    data: Any

    def line(self, path: Path) -> int:
        """The line, counted from 1, of the value at the path or of the nearest one above it."""
        node = self.root
        line = node.start_mark.line
        for part in path:
            if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
                line = node.start_mark.line
            elif found := find(node, str(part)):
                node = found.value
                line = found.key.start_mark.line
            else:
                break
        return int(line) + 1

    def where(self, node: Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def load(content: bytes, name: str) -> Document:
    """The one document in `content`; raises UsageError with `name` and line."""
    if len(content) > LARGEST:
        raise UsageError(f"{name} has {len(content)} bytes; the limit is {LARGEST}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text (byte {error.start})") from None
    if "\0" in text or text.startswith("\ufeff"):
        raise UsageError(f"{name} holds a NUL character or begins with a byte order mark")
    try:
        _check_shape(text, name)
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
            if root is None:
                raise UsageError(f"{name} is empty")
            _check_nodes(root, name)
            return Document(name, text, root, loader.construct_document(root))
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise UsageError(f"{place}: this is not YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name}: this is not YAML: {error}") from None


def pairs(node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
    """Keys and values of a mapping as they are written, merge keys included."""
    return cast(Iterator[tuple[ScalarNode, Node]], iter(node.value))


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the mapping that it is written in, which may be one that is merged."""

    mapping: MappingNode
    key: ScalarNode
    value: Node


def find(node: Node, name: str) -> Found | None:
    """The entry with this key: in the mapping itself, else in what it merges (`<<`)."""
    if not isinstance(node, MappingNode):
        return None
    for key, value in pairs(node):
        if key.value == name and key.tag != _MERGE:
            return Found(node, key, value)
    for key, value in pairs(node):
        if key.tag == _MERGE:
            for merged in value.value if isinstance(value, SequenceNode) else [value]:
                if found := find(merged, name):
                    return found
    return None


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of the YAML 1.2 core schema."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,18})", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?", list("-+0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def _check_shape(text: str, name: str) -> None:
    """Bound depth and count from the flat event stream, before anything recursive runs."""
    depth = nodes = documents = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
        nodes += isinstance(event, yaml.NodeEvent)
        line = event.start_mark.line + 1 if event.start_mark else 0
        if documents > 1:
            raise UsageError(f"{name}:{line}: a second document begins here; one is allowed")
        if depth > _DEEPEST or nodes > _MOST_NODES:
            raise UsageError(f"{name}:{line}: more than {_DEEPEST} levels or {_MOST_NODES} values")


def _check_nodes(root: Node, name: str) -> None:
    """Keys are text and stand once, tags are plain, aliases do not multiply without bound."""
    count = 0
    waiting: list[tuple[Node, int]] = [(root, 0)]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        place = f"{name}:{node.start_mark.line + 1}"
        if count > _MOST_NODES or depth > _DEEPEST:
            raise UsageError(f"{place}: its aliases make this document too large")
        if node.tag not in _ALLOWED_TAGS:
            raise UsageError(f"{place}: the tag `{node.tag}` is not allowed")
        if isinstance(node, MappingNode):
            seen: set[str] = set()
            for key, value in pairs(node):
                where = f"{name}:{key.start_mark.line + 1}"
                if not isinstance(key, ScalarNode):
                    raise UsageError(f"{where}: a key must be text")
                if key.value in seen:
                    raise UsageError(f"{where}: the key `{key.value}` stands twice")
                if key.tag not in ("tag:yaml.org,2002:str", _MERGE):
                    raise UsageError(
                        f"{where}: the key `{key.value}` is not text", hint=f'quote it: "{key.value}"'
                    )
                seen.add(key.value)
                waiting.append((value, depth + 1))
        elif isinstance(node, SequenceNode):
            waiting.extend((item, depth + 1) for item in node.value)
