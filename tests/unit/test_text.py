"""Contract text is read back as what was written, by every YAML reader."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from secure_build import strict_yaml
from secure_build.contract import text

# What any reader may take for something else than text: YAML 1.1, YAML 1.2, JSON, Go's resolver.
DOUBTFUL = [
    *("true True TRUE false null Null ~ yes no on off y n Y N NO none".split()),
    *("12:30 12:30:45 0777 0o17 0x1F 0b1 1_000 1e3 1.5 -1 +1 .5 .inf -.Inf .nan NaN inf Infinity".split()),
    *("2024-01-01 2024-01-01T00:00:00Z = << - ? : --- ... & * ! | > % @ ` { } [ ] , #".split()),
    "", " ", "  leading", "trailing ", "a: b", "a:", "a #b", "#a", "'quoted'", '"quoted"', "back\\slash",
    "%percent", "line\nbreak", "\nfirst", "last\n", "\t", "tab\tin", "\r\n", "\x07", "\x7f", "\x85",
    "\u2028", "\u2029", "\u00a0", "\ufeff", "é", "日本", "😀", "\\n", "{{ .Env.X }}", "${X}", "$$", "- a",
    "&a b", "*a", "!tag", "a,b", "key: |", "x" * 300, "word " * 60,
]  # fmt: skip

# Lone surrogates are no Unicode text and cannot come out of UTF-8 bytes.
strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
odd = st.one_of(strings, st.sampled_from(DOUBTFUL), st.text("'\"#%\\:, \n\t{}[]&*!|>-?@`a1"))


@pytest.mark.parametrize("value", DOUBTFUL)
def test_doubtful_text_is_quoted(value: str) -> None:
    written = text.scalar(value)
    assert written.startswith('"') or value == "x" * 300
    assert "\n" not in written
    assert written.isascii()
    assert yaml.safe_load(written) == value


@pytest.mark.parametrize(
    "value", ["us.icr.io", "us.icr.io/acme/web:1@sha256:0a", "iamapikey", "H4sIAAA+/==", "a:b"]
)
def test_plain_text_stays_plain(value: str) -> None:
    assert text.scalar(value) == value


@given(odd)
def test_any_text_is_read_back_as_it_was(value: str) -> None:
    assert yaml.safe_load(text.scalar(value)) == value
    assert strict_yaml.load(text.scalar(value).encode(), "x").data == value


@given(st.dictionaries(odd, st.one_of(odd, st.dictionaries(odd, odd), st.lists(odd)), min_size=1))
@example({"auths": {"us.icr.io": {"username": "iamapikey", "password": " '\"#: \\%\n"}}})
def test_a_section_in_its_block_is_read_back_byte_for_byte(data: dict[str, object]) -> None:
    section = text.dump(data)
    assert yaml.safe_load(section) == data
    contract = text.block("workload", section)
    assert yaml.safe_load(contract) == {"workload": section}
    assert strict_yaml.load(contract.encode(), "x").data == {"workload": section}


def test_order_and_block_style_are_kept_and_lines_are_not_folded() -> None:
    data = {
        "type": "workload",
        "compose": {"archive": "A" * 500},
        "env": {"B": "1", "A": "a b " * 100},
        "x": {},
    }
    assert text.dump(data) == (
        f"type: workload\ncompose:\n  archive: {'A' * 500}\n"
        f'env:\n  "B": "1"\n  "A": "{"a b " * 100}"\n"x": {{}}\n'
    )


def test_empty_lines_of_a_block_stay_empty() -> None:
    assert text.block("workload", "a: b\n\n# c\n") == "workload: |\n  a: b\n\n  # c\n"
