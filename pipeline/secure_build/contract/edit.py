"""Changes to YAML text that leave every other byte as it is.

Round-trip libraries print a document anew and lose some of what its author wrote. Here the parsed
nodes only say where in the text a value stands, and the text is cut there. What cannot be cut
safely raises UsageError; callers parse the result again and compare.
"""

from __future__ import annotations

import re

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build.errors import UsageError
from secure_build.strict_yaml import Document, pairs

_PROPERTIES = re.compile(r"(?:[&!]\S*[ \t]+)*")
_BLOCK_STYLES = ("|", ">")
_CONTENT = (
    yaml.ValueToken,
    yaml.ScalarToken,
    yaml.AliasToken,
    yaml.AnchorToken,
    yaml.TagToken,
    yaml.FlowMappingStartToken,
    yaml.FlowMappingEndToken,
    yaml.FlowSequenceStartToken,
    yaml.FlowSequenceEndToken,
)


class Edits:
    """Replacements in one document's text, collected and then applied at once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._text = document.text
        self._tokens = [token for token in yaml.scan(document.text) if isinstance(token, _CONTENT)]
        self._replacements: dict[tuple[int, int], str] = {}

    def replace_scalar(self, node: ScalarNode, text: str) -> None:
        """Put `text` where the scalar stands, keeping its anchor."""
        if node.style in _BLOCK_STYLES:
            raise UsageError(f"{self._document.where(node)}: write this value on one line")
        start = node.start_mark.index
        properties = _PROPERTIES.match(self._text, start)
        assert properties is not None
        self._replace(properties.end(), max(properties.end(), node.end_mark.index), text, node)

    def replace_entry(self, key: ScalarNode, value: Node, text: str) -> None:
        """Put `text` where a whole `key: value` stands."""
        self._replace(key.start_mark.index, self._end_of(key, value), text, key)

    def remove_entry(self, mapping: MappingNode, key: ScalarNode, value: Node) -> None:
        """Take out a key with its value: whole lines in block style, up to the comma in flow style."""
        start, end = key.start_mark.index, self._end_of(key, value)
        if mapping.flow_style:
            after = re.compile(r"\s*,[ \t]*").match(self._text, end)
            before = re.compile(r",\s*\Z").search(self._text[:start])
            if after:
                end = after.end()
            elif before:
                start = before.start()
        else:
            start = self._text.rfind("\n", 0, start) + 1
            newline = self._text.find("\n", end)
            end = len(self._text) if newline < 0 else newline + 1
        self._replace(start, end, "", key)

    def add_entry(self, mapping: MappingNode, lines: list[str]) -> None:
        """Add a key with its lines at the end of a block mapping, indented like its other keys."""
        last_key, last_value = list(pairs(mapping))[-1]
        newline = self._text.find("\n", self._end_of(last_key, last_value))
        position = len(self._text) if newline < 0 else newline + 1
        opening = "\n" if newline < 0 else ""
        indent = " " * last_key.start_mark.column
        self._insert(position, opening + "".join(f"{indent}{line}\n" for line in lines))

    def replace_value(self, key: ScalarNode, value: Node, text: str) -> None:
        """Put `text` behind a key's colon, instead of its value."""
        colon = self._text.index(":", key.end_mark.index) + 1
        self._replace(colon, self._end_of(key, value), text, key)

    def apply(self) -> str:
        text = self._text
        for (start, end), new in sorted(self._replacements.items(), reverse=True):
            text = text[:start] + new + text[end:]
        return text

    def _insert(self, position: int, text: str) -> None:
        span = (position, position)
        self._replacements[span] = self._replacements.get(span, "") + text

    def _replace(self, start: int, end: int, text: str, node: Node) -> None:
        if self._replacements.setdefault((start, end), text) != text:
            raise UsageError(
                f"{self._document.where(node)}: this value is shared by places that need different values",
                hint="write it out in each place instead of sharing it by anchor",
            )

    def _end_of(self, key: ScalarNode, value: Node) -> int:
        """Where the text of an entry ends, without the blanks and comments after it.

        Tokens say it, not nodes: a block collection's node reaches to the next token, and the
        node of an alias stands where its anchor does.
        """
        after_key = [token for token in self._tokens if token.start_mark.index >= key.end_mark.index]
        colon, first = after_key[0], after_key[1] if len(after_key) > 1 else None
        if isinstance(first, yaml.AliasToken) and value.start_mark.index != first.start_mark.index:
            return int(first.end_mark.index)
        last = colon
        for token in after_key:
            if token.end_mark.index > value.end_mark.index:
                break
            last = token
        return len(self._text[: last.end_mark.index].rstrip())
