"""What an image's name means when it has a variable in it, and what is written instead."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_build.contract.places import Grammar, Name
from secure_build.errors import UsageError
from secure_build.reference import Digest, Reference

DIGEST = Digest("sha256:" + "a" * 64)
SOMEWHERE = Reference.parse("registry.example.com/acme/web")


def parsed(written: str, grammar: Grammar) -> Name | None:
    try:
        return Name.parse(written, grammar)
    except UsageError:
        return None


pieces = st.sampled_from(
    [
        *("$ { } ${ A REGISTRY :- - :? / web : 1.0 @ docker.io localhost:5000 {{ }} $$ $REGISTRY").split(),
        *("${REGISTRY}", "${R:-docker.io}", "{{ .Env.R }}", " ", "\n", str(DIGEST)),
    ]
)


@given(st.lists(pieces, max_size=8).map("".join), st.sampled_from(["plain", "compose", "template"]))
def test_hardening_20_a_name_is_refused_or_gets_a_digest_that_nobody_can_change(
    written: str, grammar: Grammar
) -> None:
    name = parsed(written, grammar)
    if name is None:
        return
    image = SOMEWHERE.pin(DIGEST)
    pinned = name.pinned(image)
    # Whatever the deployer puts into the variable, the digest is ours or it is no image at all.
    filled = re.sub(r"^(\$\{[^}]*\}|\$[A-Za-z_]\w*|\{\{.*?\}\})", "elsewhere.example.com/team", pinned)
    assert Reference.parse(filled).digest == DIGEST
    assert Reference.parse(filled).tag is None
    assert (filled == pinned) == (name.registry is None)
    again = parsed(pinned, grammar)
    assert again is not None
    assert again.pinned(image) == pinned


@pytest.mark.parametrize(
    ("written", "grammar", "registry", "rest", "reference"),
    [
        ("nginx:1", "compose", None, None, "docker.io/library/nginx:1"),
        ("${A:-nginx:1}", "compose", None, None, "docker.io/library/nginx:1"),
        ("${R}/a/b:1", "compose", "${R}", "a/b:1", None),
        ("$R/b", "compose", "$R", "b", None),
        ("${R:-quay.io/x}/b:1", "compose", "${R:-quay.io/x}", "b:1", "quay.io/x/b:1"),
        # A default that makes no image is no default.
        ("${R:-}/b:1", "compose", "${R:-}", "b:1", None),
        ("${R:-quay.io}/${N:-b}:1", "compose", "${R:-quay.io}", "b:1", "quay.io/b:1"),
        ("${R}/a/b:${T:-1}", "compose", "${R}", "a/b:1", None),
        ("{{ .Env.R }}/b:1", "template", "{{ .Env.R }}", "b:1", None),
    ],
)
def test_the_parts_of_a_name(
    written: str, grammar: Grammar, registry: str | None, rest: str | None, reference: str | None
) -> None:
    name = Name.parse(written, grammar)
    assert (name.registry, name.reference and str(name.reference)) == (registry, reference)
    assert (name.rest is None) == (rest is None)
    assert rest is None or str(name.rest).endswith(f"/{rest}")


@pytest.mark.parametrize(
    ("written", "image", "same"),
    [
        ("${R}/web:1", "us.icr.io/acme/web:1", True),
        ("${R}/acme/web:1", "us.icr.io/acme/web:1", True),
        ("${R}/web", "us.icr.io/acme/web:1", True),
        ("${R}/web:2", "us.icr.io/acme/web:1", False),
        ("${R}/eb:1", "us.icr.io/acme/web:1", False),
        ("${R}/icr.io/acme/web:1", "us.icr.io/acme/web:1", False),
        (f"${{R}}/web@{DIGEST}", "us.icr.io/acme/web:1", False),
        ("us.icr.io/acme/web:1", "us.icr.io/acme/web:1", False),
    ],
)
def test_a_name_in_the_deployers_registry_is_one_of_ours_by_path_and_tag(
    written: str, image: str, same: bool
) -> None:
    name = Name.parse(written, "compose")
    assert (name.is_of(Reference.parse(image)) and name.has_tag_of(Reference.parse(image))) == same
