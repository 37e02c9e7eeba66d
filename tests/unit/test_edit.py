"""Changes to YAML text: only what was named changes, to the byte."""

from __future__ import annotations

import pytest
from yaml.nodes import MappingNode, ScalarNode

from secure_build import strict_yaml
from secure_build.contract.edit import Edits
from secure_build.errors import UsageError
from secure_build.strict_yaml import Found


class Text:
    """A document and its edits, with entries found by key."""

    def __init__(self, text: str) -> None:
        self.document = strict_yaml.load(text.encode(), "x.yaml")
        self.edits = Edits(self.document)

    def entry(self, *keys: str) -> Found:
        node = self.document.root
        for key in keys:
            found = strict_yaml.find(node, key)
            assert found
            node = found.value
        return found

    def scalar(self, *keys: str) -> ScalarNode:
        node = self.entry(*keys).value
        assert isinstance(node, ScalarNode)
        return node

    def remove(self, *keys: str) -> str:
        found = self.entry(*keys)
        self.edits.remove_entry(found.mapping, found.key, found.value)
        return self.edits.apply()

    def replace(self, text: str, *keys: str) -> str:
        found = self.entry(*keys)
        self.edits.replace_value(found.key, found.value, text)
        return self.edits.apply()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a: 1\nb: 2\nc: 3\n", "a: 1\nc: 3\n"),
        ("b: 2\nc: 3\n", "c: 3\n"),
        ("a: 1\nb: 2", "a: 1\n"),
        ("a: 1\nb: 2 # c\n# d\n", "a: 1\n# d\n"),
        ("a: 1\n\n# c\n\nb:\n- x\n- y\n\n# d\nc: 3\n", "a: 1\n\n# c\n\n\n# d\nc: 3\n"),
        ("a: 1\nb: |\n  x\n\n  y\n\nc: 3\n", "a: 1\n\nc: 3\n"),
        ("a: 1\nb: 'x\n\n  y' # z\nc: 3\n", "a: 1\nc: 3\n"),
        ("a: 1\nb: plain\n  text\nc: 3\n", "a: 1\nc: 3\n"),
        ("a: 1\nb: {x: [y,\n z]}\nc: 3\n", "a: 1\nc: 3\n"),
        ("a: 1\nb:\nc: 3\n", "a: 1\nc: 3\n"),
        ("a: 1\nb: &x\nc: 3\n", "a: 1\nc: 3\n"),
        ("a: &x [1]\nb: *x # c\nc: 3\n", "a: &x [1]\nc: 3\n"),
        ("a: 1\r\nb:\r\n  x: y\r\nc: 3\r\n", "a: 1\r\nc: 3\r\n"),
        ("b: 2\n", "{}\n"),
        ("{a: 1, b: 2, c: 3}\n", "{a: 1, c: 3}\n"),
        ("{b: 2, c: 3}\n", "{c: 3}\n"),
        ("{a: 1, b: 2}\n", "{a: 1}\n"),
        ("{a: 1,b: 2,}\n", "{a: 1,}\n"),
        ("{b: 2}\n", "{}\n"),
        ("{ b: 2 }\n", "{  }\n"),
        ("{a: 1, b: {x: [y]} , c: 3}\n", "{a: 1, c: 3}\n"),
        ("{\n  a: 1,\n  b: 2,\n  c: 3\n}\n", "{\n  a: 1,\n  c: 3\n}\n"),
        ("{\n  a: 1,\n  b: 2\n}\n", "{\n  a: 1\n}\n"),
        ('{"a":1,"b":"2"}', '{"a":1}'),
    ],
)
def test_an_entry_is_removed_and_nothing_else(before: str, after: str) -> None:
    assert Text(before).remove("b") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("b: 2\n", "b: NEW\n"),
        ("b: '2'  # c\n", "b: NEW  # c\n"),
        ("b: &x 2\na: *x\n", "b: &x NEW\na: *x\n"),
        ("a: &x 2\nb: *x\n", "a: &x 2\nb: NEW\n"),
        ("b:\n  # c\n  text\n", "b:\n  # c\n  NEW\n"),
        ("b: |-\n  2\na: 1\n", "b: NEW\na: 1\n"),
        ("b:\na: 1\n", "b: NEW\na: 1\n"),
        ("b:   # c\na: 1\n", "b: NEW   # c\na: 1\n"),
        ("{b: [1, 2], a: 1}\n", "{b: NEW, a: 1}\n"),
        ('{"b":2}\n', '{"b":NEW}\n'),
        ("? b\n: 2\n", "? b\n: NEW\n"),
    ],
)
def test_a_value_is_replaced_and_nothing_else(before: str, after: str) -> None:
    assert Text(before).replace("NEW", "b") == after


def test_a_scalar_is_replaced_where_its_anchor_stands() -> None:
    text = Text("a: &x 'old'\nb: *x\n")
    text.edits.replace_scalar(text.scalar("b"), "NEW")
    assert text.edits.apply() == "a: &x NEW\nb: *x\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("m:\n    x: 1\nn: 2\n", "m:\n    x: 1\n    y:\n      z\nn: 2\n"),
        ("m:\n    x: 1 # c\n    # d\n\nn: 2\n", "m:\n    x: 1 # c\n    y:\n      z\n    # d\n\nn: 2\n"),
        ("m:\n  x: 1", "m:\n  x: 1\n  y:\n    z\n"),
        ("m:\r\n  x: 1", "m:\r\n  x: 1\r\n  y:\r\n    z\r\n"),
    ],
)
def test_an_entry_is_added_below_the_last_one(before: str, after: str) -> None:
    text = Text(before)
    mapping = text.entry("m").value
    assert isinstance(mapping, MappingNode)
    text.edits.add_entry(mapping, ["y:", "  z"])
    assert text.edits.apply() == after


def test_without_changes_the_text_is_what_it_was() -> None:
    assert Text("a:   1 # c\r\n").edits.apply() == "a:   1 # c\r\n"


def test_one_place_cannot_get_two_texts_nor_be_changed_inside_a_change() -> None:
    text = Text("a: 1\nb: {c: 2}\n")
    assert text.replace("x", "a") == text.replace("x", "a")
    with pytest.raises(
        UsageError, match=r"x\.yaml:1: this value is shared by places that need different values"
    ):
        text.replace("y", "a")
    text.remove("b")
    with pytest.raises(UsageError, match=r"x\.yaml:2: this value is shared"):
        text.replace("y", "b", "c")
