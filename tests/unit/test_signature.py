"""The signature over workload and env, `signingKey`, and when a contract expires."""

from __future__ import annotations

import base64
import os
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.keys import certificate, rsa_key
from secure_build.contract.checks import keys
from secure_build.contract.encryption import signature
from secure_build.contract.encryption.key_material import spki_pem
from secure_build.contract.encryption.token import encrypt
from secure_build.errors import RefusedError

KEY = rsa_key("signer")
PUBLIC = KEY.public_key()
WORKLOAD, ENV = (
    encrypt(text, rsa_key("runtime").public_key(), "contract-basic", os.urandom).token
    for text in (b"type: workload\n", b"type: env\n")
)
SIGNED = signature.sign(WORKLOAD, ENV, KEY)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)


def verified(workload: str = str(WORKLOAD), env: str = str(ENV), signed: str = SIGNED) -> bool:
    return signature.verify(workload, env, signed, PUBLIC)


def test_46_the_signature_is_over_workload_and_env_and_nothing_else() -> None:
    content = (str(WORKLOAD) + str(ENV)).encode()
    assert base64.b64decode(SIGNED) == KEY.sign(content, PKCS1v15(), SHA256())
    assert "\n" not in SIGNED
    assert verified()


@pytest.mark.parametrize("end", ["\n", "\r\n", " "])
def test_46_a_newline_between_or_after_is_another_text(end: str) -> None:
    assert not verified(workload=f"{WORKLOAD}{end}")
    assert not verified(env=f"{ENV}{end}")
    assert not verified(workload=str(ENV), env=str(WORKLOAD))


def test_a_signature_with_any_bit_changed_is_refused() -> None:
    content = base64.b64decode(SIGNED)
    for position in range(len(content) * 8):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        assert not verified(signed=base64.b64encode(changed).decode())


def test_a_text_with_any_character_changed_is_refused() -> None:
    for position in range(0, len(str(ENV)), 7):
        text = str(ENV)
        changed = text[:position] + ("A" if text[position] != "A" else "B") + text[position + 1 :]
        assert not verified(env=changed)


def test_white_space_may_stand_between_groups_of_base64() -> None:
    assert verified(signed=f" {SIGNED[:64]}\r\n{SIGNED[64:128]}\n \t{SIGNED[128:]}\n")
    assert not verified(signed=f"{SIGNED[:63]}\n{SIGNED[63:]}")


@pytest.mark.parametrize("signed", ["", "====", "no base64!", "é", SIGNED[:-4], SIGNED + "AAAA"])
def test_what_is_no_signature_is_refused(signed: str) -> None:
    assert not verified(signed=signed)


def test_somebody_else_may_sign_the_digest() -> None:
    def service(digest: bytes) -> bytes:
        assert len(digest) == 32
        return KEY.sign(digest, PKCS1v15(), Prehashed(SHA256()))

    assert signature.sign_with(WORKLOAD, ENV, PUBLIC, service) == SIGNED


@pytest.mark.parametrize(
    "signer",
    [
        lambda digest: KEY.sign(digest, PKCS1v15(), SHA256()),
        lambda digest: rsa_key("another").sign(digest, PKCS1v15(), Prehashed(SHA256())),
        lambda _: b"",
    ],
    ids=["hashed twice", "another key", "nothing"],
)
def test_a_signature_that_does_not_verify_is_not_returned(signer: object) -> None:
    with pytest.raises(RefusedError, match="does not fit the public key"):
        signature.sign_with(WORKLOAD, ENV, PUBLIC, signer)  # type: ignore[arg-type]


CERTIFICATE = certificate(KEY, NOW - 100 * DAY, NOW + 100 * DAY)


def checked(signing_key: str) -> list[tuple[str, str | None]]:
    """What a contract's check says of the key: levels, and the runtime's codes."""
    return [(finding.level, finding.runtime_code) for finding in keys.signing_key(signing_key, NOW, "env:1")]


def test_a_signing_key_is_read_from_every_form() -> None:
    for signer, pem in (
        (CERTIFICATE, CERTIFICATE.public_bytes(Encoding.PEM).decode()),
        (PUBLIC, spki_pem(PUBLIC)),
    ):
        once = signature.signing_key_text(signer)
        assert base64.b64decode(once).decode() == pem
        for text in (pem, once):
            assert checked(text) == ([("pass", "HPL12005E")] if signer is CERTIFICATE else [])
        twice = base64.b64encode(once.encode()).decode()
        assert checked(twice) == [("warn", None)]
        assert checked(base64.b64encode(twice.encode()).decode()) == [("fail", "HPL12003E")]


@pytest.mark.parametrize(
    ("begin", "end", "expected"),
    [
        (-100 * DAY, 100 * DAY, [("pass", "HPL12005E")]),
        (-100 * DAY, 30 * DAY, [("pass", "HPL12005E")]),
        (-100 * DAY, 30 * DAY - MINUTE, [("warn", "HPL12006E")]),
        (-100 * DAY, MINUTE, [("warn", "HPL12006E")]),
        (-100 * DAY, -MINUTE, [("fail", "HPL12007E")]),
        (-100 * DAY, -DAY, [("fail", "HPL12007E")]),
        (DAY, 100 * DAY, [("fail", "HPL12001E")]),
        (6 * MINUTE, 100 * DAY, [("fail", "HPL12001E")]),
        (5 * MINUTE, 100 * DAY, [("pass", "HPL12005E")]),
    ],
)
def test_46_a_contract_expires_with_its_signing_certificate(
    begin: timedelta, end: timedelta, expected: list[tuple[str, str]]
) -> None:
    signer = certificate(KEY, NOW + begin, NOW + end)
    assert checked(signature.signing_key_text(signer)) == expected


def test_a_bare_key_never_expires() -> None:
    assert checked(spki_pem(PUBLIC)) == []
