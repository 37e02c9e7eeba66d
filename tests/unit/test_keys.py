"""Which images the keys of `images` can express: every row of the table, and IBM's own patterns."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ibm_schema
from secure_build.contract import keys
from secure_build.contract.keys import Kind
from secure_build.errors import UsageError
from secure_build.reference import Reference

DIGEST = "sha256:" + "a" * 64
# Candidate, as a `dct` key, as an `rhs` key.
TABLE = [
    ("us.icr.io/mynamespace/my-haproxy", True, True),
    ("docker.io/library/nginx", True, True),
    ("docker.io/nginx", False, True),
    ("library/nginx", False, False),
    ("nginx", False, False),
    ("docker.io/redbookuser/s390x:", False, False),
    ("us.icr.io/mynamespace/my-haproxy:latest", False, True),
    ("us.icr.io/mynamespace/img:v1", False, False),
    ("us.icr.io/mynamespace/img:1", False, False),
    ("us.icr.io/mynamespace/img:v1.0", False, True),
    (f"us.icr.io/mynamespace/img@{DIGEST}", False, True),
    (f"us.icr.io/mynamespace/img:latest@{DIGEST}", False, True),
    ("us.icr.io/ns/img", False, True),
    ("us.icr.io/abc/sub/img", False, True),
    ("us.icr.io/abc/my.img", False, False),
    ("reg.example.com:5000/team/img", False, False),
    ("ghcr.io/Owner/img", False, False),
    ("localhost/team/img", True, False),
    ("us.icr.io/team/img\n", False, False),
    (f"us.icr.io/{'n' * 30}/img", True, True),
    (f"us.icr.io/{'n' * 31}/img", False, True),
    ("us.icr.io/team/i", False, True),
    (f"{'h' * 64}.example.com/team/img", True, False),
    ("-a.example.com/team/img", False, False),
]


@pytest.mark.parametrize(("text", "dct", "rhs"), TABLE)
def test_the_table_of_keys(text: str, dct: bool, rhs: bool) -> None:
    assert (keys.is_key("dct", text), keys.is_key("rhs", text)) == (dct, rhs)


@pytest.mark.parametrize(
    ("kind", "image", "reason"),
    [
        ("dct", "us.icr.io/mynamespace/my-haproxy", None),
        # A tag is not part of a dct key.
        ("dct", "us.icr.io/mynamespace/my-haproxy:v1", None),
        ("dct", "nginx", None),
        ("rhs", "nginx:1.27", None),
        ("rhs", f"us.icr.io/team/img:latest@{DIGEST}", None),
        ("rhs", "us.icr.io/ns/sub/img", None),
        ("rhs", "us.icr.io/team/img:v1", "the tag `v1` has fewer than 3 characters: use a longer tag, or a"),
        ("dct", "us.icr.io/ns/img", "the namespace `ns` must have 3 to 30 characters in `dct` keys"),
        ("dct", f"us.icr.io/{'n' * 31}/img", f"the namespace `{'n' * 31}` must have 3 to 30 characters"),
        ("dct", "us.icr.io/abc/sub/img", "`abc/sub/img` has 3 parts, and `dct` keys have a namespace and a"),
        ("dct", "us.icr.io/img", "`img` has 1 parts"),
        ("dct", "us.icr.io/abc/i", "the name `i` must have at least 2 characters in `dct` keys"),
        ("dct", "us.icr.io/abc/my.img", "`my.img` has a dot, which `dct` keys cannot have: rename it"),
        ("rhs", "us.icr.io/a.b/img", "`a.b` has a dot, which `rhs` keys cannot have: rename it"),
        ("dct", "reg.example.com:5000/team/img", "`reg.example.com:5000` has a port, which `dct` keys"),
        ("rhs", "reg.example.com:5000/team/img", "`reg.example.com:5000` has a port, which `rhs` keys"),
        ("rhs", "localhost/team/img", "`localhost` has no dot, which hosts of `rhs` keys must have"),
        ("dct", "localhost/team/img", None),
        ("rhs", f"{'h' * 64}.example.com/team/img", f"a part of `{'h' * 64}.example.com` has more than 63"),
        ("dct", "[::1]/team/img", "`[::1]` is an address, which `dct` keys cannot have"),
    ],
)  # fmt: skip
def test_why_a_key_cannot_express_an_image(kind: Kind, image: str, reason: str | None) -> None:
    found = keys.expressible(kind, Reference.parse(image))
    assert found is None if reason is None else found is not None and found.startswith(reason)


parts = st.from_regex(r"[a-z0-9]{1,4}([._-][a-z0-9]{1,32})?", fullmatch=True)
hosts = st.from_regex(r"[a-z0-9]{1,3}(-[a-z]{1,70})?(\.[a-z]{1,70}){0,2}(:5000)?", fullmatch=True)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,5}", fullmatch=True)


@given(st.sampled_from(["dct", "rhs"]), hosts, st.lists(parts, min_size=1, max_size=4), st.none() | tags)
def test_a_reason_is_given_exactly_when_the_grammar_refuses(
    kind: Kind, host: str, path: list[str], tag: str | None
) -> None:
    written = "/".join([host, *path]) + (f":{tag}" if tag else "")
    try:
        image = Reference.parse(written)
    except UsageError:
        return
    key = str(image.repository) if kind == "dct" else str(image)
    assert (keys.expressible(kind, image) is None) == keys.is_key(kind, key)


def check_schema(text: str) -> None:
    entry = {"dct": {"publicKey": "AAAA", "notary": "https://notary.test"}, "rhs": {"publicKey": "AAAA"}}
    base = {"type": "workload", "compose": {"archive": "AAAA"}}
    kinds: tuple[Kind, ...] = ("dct", "rhs")
    for kind in kinds:
        section = base | {"images": {kind: {text: entry[kind]}}}
        assert (ibm_schema.problems("hpvs", section) == []) == keys.is_key(kind, text), (kind, text)


@settings(max_examples=150)
@given(
    st.builds(
        "{}/{}{}{}".format,
        hosts,
        st.lists(parts, min_size=1, max_size=3).map("/".join),
        st.sampled_from(["", ":"]) | tags.map(":{}".format),
        st.sampled_from(["", f"@{DIGEST}", "@sha512:ab"]),
    )
)
def test_hardening_57_the_grammar_is_that_of_the_published_schema(text: str) -> None:
    check_schema(text)


@pytest.mark.parametrize("text", [text for text, _, _ in TABLE])
def test_the_published_schema_says_what_the_table_says(text: str) -> None:
    check_schema(text)
