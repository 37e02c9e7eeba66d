"""YAML is read strictly: nothing is lost, guessed or blown up, and every error has a place."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_build import strict_yaml
from secure_build.errors import UsageError


def data(text: str) -> object:
    return strict_yaml.load(text.encode(), "x.yaml").data


def refusal(content: bytes | str) -> str:
    with pytest.raises(UsageError) as caught:
        strict_yaml.load(content.encode() if isinstance(content, str) else content, "x.yaml")
    return caught.value.message


def test_hardening_42_words_and_numbers_mean_what_they_do_in_yaml_1_2() -> None:
    text = """
    country: NO
    switch: on
    answer: y
    time: 12:30:45
    port: 22:22
    separated: 1_000
    octal: 0777
    new-octal: 0o17
    hexadecimal: 0x1F
    exponent: 1e3
    day: 2024-01-01
    equals: =
    version: "1.10"
    int: -12
    float: 1.5
    true: is text only when quoted
    """.replace("    true:", '    "true":')
    assert data(text) == {
        "country": "NO",
        "switch": "on",
        "answer": "y",
        "time": "12:30:45",
        "port": "22:22",
        "separated": "1_000",
        "octal": "0777",
        "new-octal": "0o17",
        "hexadecimal": "0x1F",
        "exponent": "1e3",
        "day": "2024-01-01",
        "equals": "=",
        "version": "1.10",
        "int": -12,
        "float": 1.5,
        "true": "is text only when quoted",
    }
    assert data("[true, False, TRUE, null, ~, '', 0, -1.25, +7]") == [
        True, False, True, None, None, "", 0, -1.25, 7
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.yaml is empty"),
        ("# only a comment\n", "x.yaml is empty"),
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: the key `a` stands twice"),
        ("a: 1\n'a': 3\n", "x.yaml:2: the key `a` stands twice"),
        ("b:\n  - {a: 1, a: 1}\n", "x.yaml:2: the key `a` stands twice"),
        ("<<: {a: 1}\n<<: {b: 1}\n", "x.yaml:2: the key `<<` stands twice"),
        ("a: 1\n1: b\n", "x.yaml:2: the key `1` is not text"),
        ("true: b\n", "x.yaml:1: the key `true` is not text"),
        ("null: b\n", "x.yaml:1: the key `null` is not text"),
        ("? [a, b]\n: c\n", "x.yaml:1: a key must be text"),
        ("{a: 1}: c\n", "x.yaml:1: a key must be text"),
        ("a: 1\n---\nb: 1\n", "x.yaml:2: a second document begins here; one is allowed"),
        ("a: 1\n...\n---\n", "x.yaml:3: a second document begins here; one is allowed"),
        ("a: !!python/object/apply:os.system [x]\n", "x.yaml:1: tags (`!`) are not allowed"),
        ("a: !!int 12:30\n", "x.yaml:1: tags (`!`) are not allowed"),
        ("a: ! b\n", "x.yaml:1: tags (`!`) are not allowed"),
        ("a: !!binary aGk=\n", "x.yaml:1: tags (`!`) are not allowed"),
        ("!!merge a: {b: c}\n", "x.yaml:1: tags (`!`) are not allowed"),
        ("a:\n\tb: 1\n", "x.yaml:2: this is not YAML: found character '\\t' that cannot start any token"),
        ("a: b\n c: d\n", "x.yaml:2: this is not YAML: mapping values are not allowed here"),
        ("a: *b\n", "x.yaml:1: this is not YAML: found undefined alias"),
        ("a: !b!c d\n", "x.yaml:1: this is not YAML: found undefined tag handle"),
        ("a: [b\n", "x.yaml:2: this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\nb: \x07\n", "x.yaml:2: the character U+0007 is not allowed"),
        ("a: 1\nb: \0\n", "x.yaml:2: the character U+0000 is not allowed"),
        ("\ufeffa: 1\n", "x.yaml:1: the character U+FEFF is not allowed"),
        ("a: 1 # \u2028b: 2\n", "x.yaml:1: the character U+2028 is not allowed"),
        ("a: 1 # \x85b: 2\n", "x.yaml:1: the character U+0085 is not allowed"),
        ("a: 1\r\nb: 2 # \rc: 3\r\n", "x.yaml:2: the character U+000D is not allowed"),
        ("<<: text\n", "x.yaml:1: `<<` merges mappings only"),
        ("<<:\n", "x.yaml:1: `<<` merges mappings only"),
        ("<<: [{a: 1}, text]\n", "x.yaml:1: `<<` merges mappings only"),
        ("a: &a [*a]\n", "x.yaml:1: its aliases make this document too large"),
        ("a: &a {<<: *a}\n", "x.yaml:1: its aliases make this document too large"),
    ],
)
def test_hardening_42_what_surprises_is_refused_with_its_line(text: str, message: str) -> None:
    assert refusal(text) == message


def test_hardening_42_bytes_that_are_no_text_are_refused() -> None:
    assert refusal(b"a: \xff\n") == "x.yaml is not UTF-8 text (byte 3)"
    assert refusal("a: 1\n".encode("utf-16")) == "x.yaml is not UTF-8 text (byte 0)"


BOMBS = {
    "aliases": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "merges": "a: &a {k: {l: m}}\n"
    + "".join(
        f"k{i}: &k{i} {{x: *{'a' if not i else f'k{i - 1}'}, y: *{'a' if not i else f'k{i - 1}'}}}\n"
        for i in range(40)
    ),
    "flow depth": "[" * 10_000,
    "block depth": "- " * 10_000,
    "mapping depth": "{a: " * 10_000,
    "indented depth": "".join(f"{' ' * i}a:\n" for i in range(1_000)),
    "values": "[" + "x," * 60_000 + "]",
    "size": "a: " + "x" * strict_yaml.LARGEST,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=list(BOMBS))
def test_hardening_42_a_small_file_cannot_become_a_large_one(text: str) -> None:
    start = time.monotonic()
    message = refusal(text)
    assert time.monotonic() - start < 10
    assert "too large" in message or "more than" in message or "the limit is" in message


def test_hardening_42_many_documents_cannot_become_a_large_one() -> None:
    text = "".join(f"--- [&a [{'x, ' * 50}], {'*a, ' * 50}]\n" for _ in range(1000))
    with pytest.raises(UsageError, match=r"its aliases make this document too large|more than 64 levels"):
        strict_yaml.load_all(text.encode(), "x.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\nb: 1\nb: 2\n", "x.yaml:4: the key `b` stands twice"),
        ("a: 1\n---\n!x b\n", "x.yaml:3: tags (`!`) are not allowed"),
        ("a: &a 1\n---\nb: *a\n", "x.yaml:3: this is not YAML: found undefined alias"),
    ],
)
def test_hardening_42_each_of_several_documents_is_read_strictly(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        strict_yaml.load_all(text.encode(), "x.yaml")
    assert caught.value.message == message


def test_several_documents_share_text_and_lines() -> None:
    documents = strict_yaml.load_all(b"# c\na: 1\n---\n---\nb: 2\n", "x.yaml")
    assert [document.data for document in documents] == [{"a": 1}, None, {"b": 2}]
    assert documents[2].line(("b",)) == 5
    assert strict_yaml.load_all(b"# nothing\n", "x.yaml") == []


def test_what_is_just_below_the_limits_is_read() -> None:
    assert data("[" * 64 + "]" * 64)
    assert data("a: " + "x" * (strict_yaml.LARGEST - 3))


def test_merge_keys_follow_the_merge_key_specification() -> None:
    text = """
    one: &one {a: 1, b: 1}
    two: &two {b: 2, c: 2}
    own: {b: 0, <<: *one}
    first-wins: {<<: [*one, *two]}
    chained: {<<: {<<: *two, d: 3}, c: 4}
    quoted: {"<<": text}
    """
    read = data(text)
    assert isinstance(read, dict)
    assert read["own"] == {"a": 1, "b": 0}
    assert read["first-wins"] == {"a": 1, "b": 1, "c": 2}
    assert read["chained"] == {"b": 2, "c": 4, "d": 3}
    assert read["quoted"] == {"<<": "text"}


def test_an_entry_is_found_where_it_is_written() -> None:
    document = strict_yaml.load(
        b"base: &b {image: x}\nweb:\n  <<: *b\nown:\n  <<: *b\n  image: y\n", "x.yaml"
    )
    for service, line in (("web", 1), ("own", 6)):
        body = strict_yaml.find(document.root, service)
        assert body
        image = strict_yaml.find(body.value, "image")
        assert image
        assert image.key.start_mark.line + 1 == line
        assert document.line((service, "image")) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 1),
        (("b",), 2),
        (("b", 1), 4),
        (("b", 1, "c"), 5),
        (("b", 9, "c"), 2),
        (("z",), 1),
        (("a", "z"), 1),
    ],
)
def test_a_line_is_that_of_the_value_or_of_what_is_nearest_above(path: strict_yaml.Path, line: int) -> None:
    assert strict_yaml.load(b"a: 1\nb:\n  - x\n  - d: 1\n    c: 2\n", "x.yaml").line(path) == line


@given(
    st.one_of(
        st.text(), st.text("&*<>{}[]:-?!|'\"#%@,~ \n\tab1"), st.binary().map(lambda b: b.decode("latin-1"))
    )
)
def test_hardening_58_any_text_is_a_document_or_a_usage_error(text: str) -> None:
    message = "x.yaml"
    try:
        strict_yaml.load(text.encode(errors="surrogatepass"), "x.yaml")
    except UsageError as error:
        message = error.message
    assert message.startswith("x.yaml")


@pytest.mark.parametrize("text", ["a: b\t# why\n", "a:\n\tb: c\n"])
def test_hardening_42_a_tab_is_refused_with_what_to_do(text: str) -> None:
    with pytest.raises(UsageError, match=r"x.yaml:\d: this is not YAML: found character '.t'") as refused:
        strict_yaml.load(text.encode(), "x.yaml")
    assert refused.value.hint == "write spaces instead of the tab"
