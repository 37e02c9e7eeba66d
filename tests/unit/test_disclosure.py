"""Disclosures: the auditor sees what the runtime sees, or is told that it was not shown."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from fakes.keys import rsa_key
from secure_build.contract.encryption import disclosure
from secure_build.contract.encryption.token import Opening, Token, encrypt, open_with, recreate
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.secret import Secret

RUNTIME, AUDITOR = rsa_key("runtime"), rsa_key("auditor")
PLAINTEXT = b"type: workload\n"
MADE = encrypt(PLAINTEXT, RUNTIME.public_key(), "contract-basic", os.urandom)
TOKEN = MADE.token
DOCUMENT = disclosure.seal("workload", TOKEN, MADE.opening, AUDITOR.public_key())


@pytest.mark.parametrize(("runtime", "auditor"), [(2048, 2048), (4096, 2048), (8192, 2048), (4096, 4096)])
def test_the_auditor_gets_the_plaintext_and_makes_the_token_again(runtime: int, auditor: int) -> None:
    # One of 8192 bits takes long to make, so the widest opening is written by hand.
    padding = b"\xff" * (runtime // 8 - 3 - 86)
    opening = Opening(Secret("x" * 86), b"\xff" * 8, padding)
    document = disclosure.seal("env", TOKEN, opening, rsa_key("auditor", auditor).public_key())
    assert disclosure.unseal(document, rsa_key("auditor", auditor), "it").opening == opening


def test_what_is_shown_is_proven() -> None:
    shown = disclosure.unseal(DOCUMENT, AUDITOR, "it")
    assert (shown.section, shown.token, shown.opening) == ("workload", TOKEN.digest, MADE.opening)
    assert shown.plaintext(TOKEN, RUNTIME.public_key()) == PLAINTEXT
    shown.recreate(PLAINTEXT, RUNTIME.public_key(), TOKEN)
    assert "opening" not in repr(shown)
    assert MADE.opening.password.reveal().encode() not in DOCUMENT


def test_another_plaintext_key_or_token_is_refused() -> None:
    shown = disclosure.unseal(DOCUMENT, AUDITOR, "it")
    other = encrypt(PLAINTEXT, RUNTIME.public_key(), "contract-basic", os.urandom).token
    for plaintext, key, token in (
        (PLAINTEXT + b"\n", RUNTIME, TOKEN),
        (PLAINTEXT, AUDITOR, TOKEN),
        (PLAINTEXT, rsa_key("size", 3072), TOKEN),
        (PLAINTEXT, RUNTIME, other),
        (PLAINTEXT, RUNTIME, Token("hyper-protect-basic", TOKEN.wrapped, TOKEN.sealed)),
    ):
        with pytest.raises(RefusedError):
            shown.recreate(plaintext, key.public_key(), token)


def test_a_password_that_opens_but_is_not_the_one_that_the_runtime_gets_proves_nothing() -> None:
    shown = Opening(Secret("x" * 44), bytes(8), b"\1" * 209)
    honest = recreate(PLAINTEXT, shown, RUNTIME.public_key(), "contract-basic")
    # RSA carries another password: the runtime fails, or reads something else.
    forged = Token(honest.prefix, RUNTIME.public_key().encrypt(b"y" * 44, PKCS1v15()), honest.sealed)
    assert open_with(forged, shown) == PLAINTEXT
    document = disclosure.seal("workload", forged, shown, AUDITOR.public_key())
    with pytest.raises(RefusedError, match="it makes another token"):
        disclosure.unseal(document, AUDITOR, "it").plaintext(forged, RUNTIME.public_key())


def test_a_disclosure_that_does_not_open_the_token_is_refused() -> None:
    wrong = Opening(Secret("x" * 44), MADE.opening.salt, MADE.opening.padding)
    document = disclosure.seal("workload", TOKEN, wrong, AUDITOR.public_key())
    with pytest.raises(RefusedError):
        disclosure.unseal(document, AUDITOR, "it").plaintext(TOKEN, RUNTIME.public_key())


def test_another_auditor_is_told_so() -> None:
    with pytest.raises(RefusedError, match="for another auditor's key: sha256:"):
        disclosure.unseal(DOCUMENT, RUNTIME, "it")


def changed(**changes: Any) -> bytes:
    return json.dumps(json.loads(DOCUMENT) | changes).encode()


BLOCKS = json.loads(DOCUMENT)["opening"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"[]",
        b"{}",
        changed(version=2),
        changed(section=1),
        changed(section="a\nb"),
        changed(token="sha256:0"),
        changed(token=None),
        changed(auditor=None),
        changed(extra=1),
        changed(opening="text"),
        changed(opening=[]),
        changed(opening=BLOCKS[:-1]),
        changed(opening=BLOCKS[::-1]),
        changed(opening=BLOCKS * 20),
        changed(opening=[1]),
        changed(opening=["!"]),
        changed(opening=["AAAA", *BLOCKS[1:]]),
    ],
)
def test_a_damaged_disclosure_is_refused(content: bytes) -> None:
    with pytest.raises(SecureBuildError) as caught:
        disclosure.unseal(content, AUDITOR, "file `it.json`")
    assert isinstance(caught.value, UsageError | RefusedError)
    assert "file `it.json`" in caught.value.message
