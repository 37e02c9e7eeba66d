"""What each way to hold the runtime to an image is worth: contract page, image subsections."""

from __future__ import annotations

from typing import Literal

import pytest

from secure_build.contract.enforcement import worth
from secure_build.reference import Reference


@pytest.mark.parametrize(
    ("target", "workload", "image", "possible"),
    [
        ("hpvs", "compose", "us.icr.io/acme/web:1.4.0", {"digest", "dct"}),
        ("ccrt", "compose", "us.icr.io/acme/web:1.4.0", {"digest", "dct"}),
        ("ccrt", "play", "us.icr.io/acme/web:1.4.0", {"digest", "rhs"}),
        ("ccrv", "play", "us.icr.io/acme/web:1.4.0", {"digest", "rhs"}),
        # A port, a namespace of two letters, three parts, a dot.
        ("ccrt", "compose", "registry.example.com:5000/acme/web:1.4.0", {"digest"}),
        ("ccrt", "compose", "us.icr.io/ns/web:1.4.0", {"digest"}),
        ("ccrt", "compose", "us.icr.io/acme/shop/web:1.4.0", {"digest"}),
        ("ccrt", "play", "us.icr.io/acme/my.web:1.4.0", {"digest"}),
        # A tag of two characters is covered by a key for the repository.
        ("ccrt", "play", "us.icr.io/acme/web:v1", {"digest", "rhs"}),
    ],
)
def test_what_a_contract_could_express(
    target: str, workload: Literal["compose", "play"], image: str, possible: set[str]
) -> None:
    choices = worth(target, workload, Reference.parse(image))
    assert [one.choice for one in choices] == ["digest", "rhs", "dct", "cosign"]
    assert {one.choice for one in choices if one.possible} == possible
    assert all(one.why for one in choices)
