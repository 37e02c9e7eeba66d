"""Changes to YAML text that leave every other byte as it is.

Round-trip libraries print a document anew and lose some of what its author wrote. Here the parsed
nodes and tokens only say where in the text a value stands, and the text is cut there. Rare shapes
can come out wrong: callers parse the result again and compare it with what they meant.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build.errors import UsageError
from secure_build.strict_yaml import Document, pairs

_ANCHOR = re.compile(r"&\S+\s+")
_COMMA = re.compile(r"\s*,[ \t]*")
_BLANKS = " \t\r\n"
# Tokens that stand for characters of the text, unlike the ends of blocks.
_WRITTEN = (
    yaml.ValueToken,
    yaml.ScalarToken,
    yaml.AliasToken,
    yaml.AnchorToken,
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
        self._newline = "\r\n" if "\r\n" in document.text else "\n"
        self._tokens = [token for token in yaml.scan(document.text) if isinstance(token, _WRITTEN)]
        self._starts = [token.start_mark.index for token in self._tokens]
        self._replacements: dict[tuple[int, int], str] = {}

    def replace_scalar(self, node: ScalarNode, text: str) -> None:
        """Put `text` where a scalar is written, keeping its anchor; aliases to it follow."""
        start, end = node.start_mark.index, self._without_blanks(node.end_mark.index)
        if anchor := _ANCHOR.match(self._text, start):
            start = anchor.end()
        self._replace(start, max(start, end), text, node)

    def replace_value(self, key: ScalarNode, value: Node, text: str) -> None:
        """Put `text` behind a key instead of its value, or instead of the alias to its value."""
        end = self._end_of(key, value)
        written = self._tokens_from(key.end_mark.index)[1:3]
        starts = [token.start_mark.index for token in written if not isinstance(token, yaml.AnchorToken)]
        start = min([*starts[:1], end])
        self._replace(start, end, text if start < end else f" {text}", key)

    def replace_entry(self, key: ScalarNode, value: Node, text: str) -> None:
        """Put `text` where a whole `key: value` stands."""
        self._replace(key.start_mark.index, self._end_of(key, value), text, key)

    def remove_entry(self, mapping: MappingNode, key: ScalarNode, value: Node) -> None:
        """Take out a key with its value: whole lines in block style, a comma too in flow style."""
        start, end = key.start_mark.index, self._end_of(key, value)
        if mapping.flow_style:
            before = self._without_blanks(start)
            if comma := _COMMA.match(self._text, end):
                end = comma.end()
            elif self._text.endswith(",", 0, before):
                start = before - 1
        line, next_line = self._text.rfind("\n", 0, start) + 1, self._next_line(end)
        alone = not self._text[line:start].strip() and not self._text[end:next_line].strip()
        if not mapping.flow_style and len(mapping.value) == 1:
            # Without any key it would be no mapping.
            self._replace(start, end, "{}", key)
        elif alone or not mapping.flow_style:
            self._replace(line, next_line, "", key)
        else:
            self._replace(start, end, "", key)

    def add_entry(self, mapping: MappingNode, lines: list[str]) -> None:
        """Add a key with its lines at the end of a block mapping, indented like its other keys."""
        key, value = list(pairs(mapping))[-1]
        self.add_lines(key, value, [" " * key.start_mark.column + line for line in lines])

    def add_to(self, mapping: MappingNode, entry: str) -> None:
        """Add `key: value` at the end of a mapping, in the style that it is written in."""
        if not mapping.flow_style:
            self.add_entry(mapping, [entry])
            return
        end = mapping.end_mark.index - 1
        before = self._text[:end].rstrip(_BLANKS)
        self._replace(end, end, entry if before.endswith(("{", ",")) else f", {entry}", mapping)

    def add_lines(self, key: ScalarNode, value: Node, lines: list[str]) -> None:
        """Add lines below those of an entry."""
        position = self._next_line(self._end_of(key, value))
        opening = "" if self._text.endswith("\n", 0, position) else self._newline
        added = opening + "".join(line + self._newline for line in lines)
        self._replacements[position, position] = self._replacements.get((position, position), "") + added

    def apply(self) -> str:
        """The text with all changes; raises UsageError when two of them touch."""
        pieces: list[str] = []
        position = 0
        for (start, end), new in sorted(self._replacements.items()):
            if start < position:
                raise self._shared(f"{self._document.name}:{self._text.count(chr(10), 0, start) + 1}")
            pieces += [self._text[position:start], new]
            position = end
        return "".join([*pieces, self._text[position:]])

    def _replace(self, start: int, end: int, text: str, node: Node) -> None:
        if self._replacements.setdefault((start, end), text) != text:
            raise self._shared(self._document.where(node))

    @staticmethod
    def _shared(where: str) -> UsageError:
        return UsageError(
            f"{where}: this value is shared by places that need different values",
            hint="write it out in each place instead of sharing it by anchor",
        )

    def _end_of(self, key: ScalarNode, value: Node) -> int:
        """Where the text of an entry ends, without the blanks and comments after it.

        Tokens say it, not nodes: a block collection's node reaches to the next token, and the
        node of an alias stands where its anchor does.
        """
        end = key.end_mark.index
        colon, first = [*self._tokens_from(end)[:2], None, None][:2]
        if not isinstance(colon, yaml.ValueToken):
            return int(end)
        if isinstance(first, yaml.AliasToken) and first.start_mark.index != value.start_mark.index:
            return int(first.end_mark.index)
        end = colon.end_mark.index
        for token in self._tokens_from(end):
            if token.end_mark.index > value.end_mark.index:
                break
            end = token.end_mark.index
        return self._without_blanks(end)

    def _tokens_from(self, position: int) -> Sequence[yaml.Token]:
        return self._tokens[bisect.bisect_left(self._starts, position) :]

    def _without_blanks(self, end: int) -> int:
        return len(self._text[:end].rstrip(_BLANKS))

    def _next_line(self, position: int) -> int:
        newline = self._text.find("\n", position)
        return len(self._text) if newline < 0 else newline + 1
