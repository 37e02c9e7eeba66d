"""Claims of OpenPGP signatures: their form by containers-signature(5), their worth by its policy."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Pinned, Reference
from secure_build.signers import lookaside, rhs
from secure_build.signers.gpg import GpgVerifier, Signed

IMAGE = Pinned.parse("us.icr.io/acme/web@sha256:" + "7" * 64)
NAME = Reference.parse("us.icr.io/acme/web:1.4.0-0123456789ab")


class Said:
    """A verifier for whom every signature is good, and holds what it is."""

    def verify(self, message: bytes) -> Signed:
        return Signed(message, "F" * 40)


SAID = cast(GpgVerifier, Said())


def document(**changes: Any) -> bytes:
    content = json.loads(rhs.payload(IMAGE, NAME))
    content["critical"] |= changes
    return json.dumps(content).encode()


def test_what_is_signed() -> None:
    content = json.loads(rhs.payload(IMAGE, NAME))
    assert content["critical"] == {
        "type": "atomic container signature",
        "image": {"docker-manifest-digest": str(IMAGE.digest)},
        "identity": {"docker-reference": str(NAME)},
    }
    assert rhs.payload(IMAGE, NAME) == rhs.payload(IMAGE, NAME)
    rhs.check(SAID, rhs.payload(IMAGE, NAME), IMAGE, NAME)
    rhs.check(SAID, rhs.payload(IMAGE, NAME), IMAGE, None)


@pytest.mark.parametrize("name", ["us.icr.io/acme/api:1.4.0", "us.icr.io/acme/web", f"{IMAGE}"])
def test_a_name_must_be_a_tag_of_the_image(name: str) -> None:
    with pytest.raises(UsageError, match="is no tag of"):
        rhs.payload(IMAGE, Reference.parse(name))


def test_hardening_52_the_name_decides() -> None:
    signed = rhs.payload(IMAGE, NAME)
    other = Reference.parse("us.icr.io/acme/web:1.4.1")
    with pytest.raises(RefusedError, match=f"is for `{NAME}`, not for `{other}`"):
        rhs.check(SAID, signed, IMAGE, other)
    elsewhere = Reference.parse("us.icr.io/acme/api:1.4.0").pin(IMAGE.digest)
    with pytest.raises(RefusedError, match=r"not for `us\.icr\.io/acme/api`"):
        rhs.check(SAID, signed, elsewhere, None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"critical": null}',
        b'{"critical": {}, "critical": {}}',
        document(type="cosign container image signature"),
        document(image={"docker-manifest-digest": "sha1:00"}),
        document(image={"docker-manifest-digest": str(IMAGE.digest), "more": 1}),
        document(identity={"docker-reference": "UPPER/case"}),
        document(identity={"docker-reference": 5}),
        document(more="x"),
        b"[" * 100_000,
    ],
)
def test_what_is_no_claim_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError, match="no claim about an image"):
        rhs.claim(SAID, content)


@given(st.binary(max_size=200))
def test_whatever_is_signed_raises_nothing_else(content: bytes) -> None:
    with pytest.raises(RefusedError):
        rhs.claim(SAID, content)


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN PGP PRIVATE KEY BLOCK-----", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n" * 2]
)
def test_only_one_public_key_goes_into_a_contract(content: bytes) -> None:
    with pytest.raises(UsageError, match="not one armored OpenPGP public key"):
        rhs.public_key_text(content)


def test_where_signatures_are() -> None:
    assert lookaside.path_of(IMAGE) == f"acme/web@sha256={'7' * 64}"
