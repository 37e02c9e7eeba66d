"""The `images` section: keys for images that are named by a tag, and how they get into a section."""

from __future__ import annotations

import pytest

from ibm_schema import problems
from secure_build.contract import images, merging
from secure_build.errors import UsageError
from secure_build.model import Enforced
from secure_build.reference import Reference

RHS = Enforced("rhs", "QUJD")
DCT = Enforced("dct", "REVG", "https://notary.us.icr.io")


def entries(*named: tuple[str, Enforced]) -> images.Images:
    return images.entries([(Reference.parse(name), enforced) for name, enforced in named])


def test_the_narrowest_name_that_the_schema_takes() -> None:
    made = entries(
        ("us.icr.io/acme/pod:1.4.0-0123456789ab", RHS),
        ("us.icr.io/acme/short:v1", RHS),
        ("us.icr.io/acme/web:1.4.0", DCT),
        ("us.icr.io/acme/keyed:1", Enforced("cosign", "SElK")),
    )
    assert made == {
        "dct": {"us.icr.io/acme/web": {"notary": "https://notary.us.icr.io", "publicKey": "REVG"}},
        "rhs": {
            "us.icr.io/acme/pod:1.4.0-0123456789ab": {"publicKey": "QUJD"},
            "us.icr.io/acme/short": {"publicKey": "QUJD"},
        },
    }


def test_the_published_schema_takes_the_entries() -> None:
    made = entries(("us.icr.io/acme/pod:1.4.0-0123456789ab", RHS), ("us.icr.io/acme/web:1.4.0", DCT))
    assert not problems("ccrt", {"type": "workload", "images": made, "compose": {"archive": "QUJD"}})


@pytest.mark.parametrize(
    ("name", "enforced", "reason"),
    [
        ("localhost:5000/acme/web:1.0", RHS, "has a port"),
        ("us.icr.io/acme/my.web:1.0", RHS, "has a dot"),
        ("us.icr.io/acme/a/b:1.0", DCT, "has 3 parts"),
        ("us.icr.io/ab/web:1.0", DCT, "must have 3 to 30 characters"),
    ],
)
def test_what_no_key_can_name_is_refused(name: str, enforced: Enforced, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        entries((name, enforced))


def test_one_name_has_one_key() -> None:
    with pytest.raises(UsageError, match="two keys"):
        entries(
            ("us.icr.io/acme/web:1.0", DCT), ("us.icr.io/acme/web:2.0", Enforced("dct", "eHl6", DCT.notary))
        )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "images:\n  rhs:\n    us.icr.io/a/b:1.0:\n      publicKey: QUJD\n"),
        ("images: {} # none\n", "images: # none\n  rhs:\n    us.icr.io/a/b:1.0:\n      publicKey: QUJD\n"),
        (
            "images:\n  dct: {}  # kept\n  rhs:\n    x.y/z: {publicKey: abc}\n",
            (
                "images:\n  dct: {}  # kept\n  rhs:\n    x.y/z: {publicKey: abc}\n"
                "    us.icr.io/a/b:1.0:\n      publicKey: QUJD\n"
            ),
        ),
        (
            "images:\n  rhs:\n    us.icr.io/a/b:1.0:\n      publicKey: b2xk # mine\n",
            "images:\n  rhs:\n    us.icr.io/a/b:1.0:\n      publicKey: QUJD # mine\n",
        ),
    ],
)
def test_keys_are_merged_and_all_else_stays(before: str, after: str) -> None:
    made = entries(("us.icr.io/a/b:1.0", RHS))
    head = "type: workload # here\ncompose:\n  archive: abc\n"
    assert merging.merge((head + before).encode(), "x", [], made) == head + after


def test_keys_that_cannot_be_merged_are_refused() -> None:
    made = entries(("us.icr.io/a/b:1.0", RHS))
    with pytest.raises(UsageError, match="block style"):
        merging.merge(b"type: workload\nimages: {rhs: {x.y/z: {publicKey: abc}}}\n", "x", [], made)
