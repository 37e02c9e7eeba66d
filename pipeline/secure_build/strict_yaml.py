"""YAML read strictly, with the place of every value.

PyYAML does the parsing; this module takes away what surprises people: duplicate keys, YAML 1.1
words (`NO`, `12:30`, `0777`), keys that are no text, tags, several documents where one is meant,
and documents that are small on disk and huge in memory. `true`, `null` and decimal numbers mean what
they do in YAML 1.2; every other scalar is text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.resolver import Resolver

from secure_build.errors import UsageError

LARGEST = 1 << 20
_MOST_NODES = 50_000
_DEEPEST = 64
# NUL, byte order marks, and the line breaks on which YAML 1.1, YAML 1.2 and editors disagree.
_ODD = re.compile("[\0\ufeff\x85\u2028\u2029]|\r(?!\n)")
_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE = _TAG + "str", _TAG + "merge"
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
        return _place(self.name, node)


def load(content: bytes, name: str, *, largest: int = LARGEST) -> Document:
    """The one document in `content`; raises UsageError with `name` and line."""
    documents = load_all(content, name, most=1, largest=largest)
    if not documents:
        raise UsageError(f"{name} is empty")
    return documents[0]


def load_all(content: bytes, name: str, *, most: int | None = None, largest: int = LARGEST) -> list[Document]:
    """All documents in `content`, none for an empty file; raises UsageError with `name` and line.

    Each has the whole text, so that the places of its nodes are places in the file.
    """
    if len(content) > largest:
        raise UsageError(f"{name} has {len(content)} bytes; the limit is {largest}")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text (byte {error.start})") from None
    if odd := _ODD.search(text):
        raise _odd_character(name, text, odd.start())
    try:
        roots = list(_Composer(_checked_events(text, name, most)).documents())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        # PyYAML names the alias or tag, which may be a password without quotes.
        problem = re.sub(r"(alias|handle) .*", r"\1", error.problem or str(error.context))
        # YAML allows one after a value, and PyYAML does not.
        hint = "write spaces instead of the tab" if r"'\t'" in problem else None
        raise UsageError(f"{place}: this is not YAML: {problem}", hint=hint) from None
    except yaml.reader.ReaderError as error:
        raise _odd_character(name, text, error.position) from None
    _check_nodes(roots, name)
    return [Document(name, text, root, _plain(root, {})) for root in roots]


def _odd_character(name: str, text: str, position: int) -> UsageError:
    line = text.count("\n", 0, position) + 1
    return UsageError(
        f"{name}:{line}: the character U+{ord(text[position]):04X} is not allowed",
        hint="save the file as UTF-8 without byte order mark; write special characters in quotes, escaped",
    )


def pairs(node: MappingNode) -> Iterator[tuple[ScalarNode, Node]]:
    """Keys and values of a mapping as they are written, merge keys included."""
    return cast(Iterator[tuple[ScalarNode, Node]], iter(node.value))


def items(node: MappingNode) -> list[tuple[ScalarNode, Node]]:
    """Keys and values that count: its own, and those it merges where it has no own ones."""
    found: dict[str, tuple[ScalarNode, Node]] = {}
    for merged in reversed(_merged(node)):
        found |= {key.value: (key, value) for key, value in items(merged)}
    found |= {key.value: (key, value) for key, value in pairs(node) if key.tag != _MERGE}
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Found:
    """An entry and the mapping that it is written in, which may be one that is merged."""

    mapping: MappingNode
    key: ScalarNode
    value: Node


def find(node: Node, name: str) -> Found | None:
    """The entry with this key that counts: in the mapping itself, else in what it merges (`<<`)."""
    return next(find_all(node, name), None)


def find_all(node: Node, name: str) -> Iterator[Found]:
    """Every entry with this key, also those that the first one hides."""
    if not isinstance(node, MappingNode):
        return
    for key, value in pairs(node):
        if key.value == name and key.tag != _MERGE:
            yield Found(node, key, value)
    for merged in _merged(node):
        yield from find_all(merged, name)


def at(root: Node, path: Path) -> Node:
    """The node at a path of keys and positions; raises KeyError when there is none."""
    node = root
    for part in path:
        if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        elif isinstance(part, str) and (found := find(node, part)):
            node = found.value
        else:
            raise KeyError(path)
    return node


def is_text(node: Node) -> bool:
    """Whether a scalar is read as text, and not as a number, `true` or nothing."""
    return isinstance(node, ScalarNode) and node.tag not in _SCALARS


def _merged(node: MappingNode) -> list[MappingNode]:
    """The mappings that stand behind `<<`; a key in an earlier one wins."""
    for key, value in pairs(node):
        if key.tag == _MERGE:
            return cast(list[MappingNode], value.value if isinstance(value, SequenceNode) else [value])
    return []


class _Resolver(Resolver):
    """Gives plain scalars the tags below, and no others."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,18})", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?", list("-+0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Resolver.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_pattern})\Z"), _first)


class _Composer(Composer, _Resolver):
    """Makes nodes of events that have been read already."""

    def __init__(self, events: Iterable[yaml.Event]) -> None:
        Composer.__init__(self)
        _Resolver.__init__(self)
        self._events = deque(events)

    def documents(self) -> Iterator[Node]:
        while self.check_node():
            node = self.get_node()
            assert node is not None
            yield node

    def check_event(self, *choices: type[yaml.Event]) -> bool:
        return bool(self._events) and (not choices or isinstance(self._events[0], choices))

    def peek_event(self) -> yaml.Event | None:
        return self._events[0] if self._events else None

    def get_event(self) -> yaml.Event:
        return self._events.popleft()


def _checked_events(text: str, name: str, most: int | None) -> Iterator[yaml.Event]:
    """The flat stream of events, with depth and count bounded before anything recursive runs."""
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
        if most is not None and documents > most:
            raise UsageError(f"{name}:{line}: a second document begins here; one is allowed")
        if getattr(event, "tag", None) is not None:
            raise UsageError(f"{name}:{line}: tags (`!`) are not allowed", hint="put text in quotes")
        if depth > _DEEPEST or nodes > _MOST_NODES:
            raise UsageError(f"{name}:{line}: more than {_DEEPEST} levels or {_MOST_NODES} values")
        yield event


# What an escape can make, and neither a process nor a file can take.
_UNTEXT = re.compile(r"[\0\ud800-\udfff]")


def _check_nodes(roots: list[Node], name: str) -> None:
    """Keys are text and stand once, `<<` merges mappings, aliases do not multiply without bound."""
    count = 0
    waiting = [(root, 0) for root in roots]
    while waiting:
        node, depth = waiting.pop()
        count += 1
        if count > _MOST_NODES or depth > _DEEPEST:
            raise UsageError(f"{_place(name, node)}: its aliases make this document too large")
        if isinstance(node, ScalarNode) and _UNTEXT.search(node.value):
            raise UsageError(f"{_place(name, node)}: this text holds a character that is none")
        if isinstance(node, MappingNode):
            _check_keys(node, name)
            waiting.extend((value, depth + 1) for _, value in pairs(node))
        elif isinstance(node, SequenceNode):
            waiting.extend((item, depth + 1) for item in node.value)


def _check_keys(node: MappingNode, name: str) -> None:
    seen = set()
    for key, _ in pairs(node):
        if not isinstance(key, ScalarNode):
            raise UsageError(f"{_place(name, key)}: a key must be text")
        if key.value in seen:
            raise UsageError(f"{_place(name, key)}: the key `{key.value}` stands twice")
        if key.tag not in (_TEXT, _MERGE):
            raise UsageError(
                f"{_place(name, key)}: the key `{key.value}` is not text", hint=f'quote it: "{key.value}"'
            )
        seen.add(key.value)
    for merged in _merged(node):
        if not isinstance(merged, MappingNode):
            raise UsageError(f"{_place(name, node)}: `<<` merges mappings only")


def _place(name: str, node: Node) -> str:
    return f"{name}:{node.start_mark.line + 1}"


def _plain(node: Node, known: dict[Node, Any]) -> Any:
    """The data of a node. What an alias repeats is one object, as in the document."""
    if node in known:
        return known[node]
    result: Any
    if isinstance(node, MappingNode):
        result = {key.value: _plain(value, known) for key, value in items(node)}
    elif isinstance(node, SequenceNode):
        result = [_plain(item, known) for item in node.value]
    else:
        read = _SCALARS.get(node.tag)
        result = read(node.value) if read else node.value
    known[node] = result
    return result


_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": int,
    _TAG + "float": float,
}
