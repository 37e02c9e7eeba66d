"""Tokens: what is made, what is read, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import os
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from hypothesis import given
from hypothesis import strategies as st

from fakes.keys import rsa_key
from secure_build.contract.encryption.token import (
    DEFAULT_PREFIX,
    Opening,
    Token,
    decrypt,
    encrypt,
    looks_like_token,
    open_with,
    recreate,
)
from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest
from secure_build.secret import Secret, mask

KEY = rsa_key("runtime")
PREFIX = "contract-basic"
SALT = bytes(range(8))
PASSWORD = b"0123456789abcdefghijklmnopqrstuv"
PLAINTEXT = b"type: workload\n"
SEALED = base64.b64decode("U2FsdGVkX18AAQIDBAUGB5QC1ZpsQK7MFZmdXce9afk=")
# A password that gives valid AES padding for SEALED, one in 256, and no text.
WRONG_PASSWORD = f"{356:043d}"
MADE = encrypt(PLAINTEXT, KEY.public_key(), PREFIX, os.urandom)
TEXT = str(MADE.token)


def sealed(plaintext: bytes, password: bytes, salt: bytes = SALT) -> bytes:
    """What `openssl enc -aes-256-cbc -pbkdf2` writes, by other means than ours."""
    derived = hashlib.pbkdf2_hmac("sha256", password, salt, 10_000, 48)
    missing = 16 - len(plaintext) % 16
    encryptor = Cipher(AES(derived[:32]), CBC(derived[32:])).encryptor()
    return b"Salted__" + salt + encryptor.update(plaintext + bytes([missing]) * missing)


def carrying(password: bytes, sealed: bytes, prefix: str = PREFIX) -> Token:
    """A token whose RSA part carries exactly these bytes."""
    return Token(prefix, KEY.public_key().encrypt(password, PKCS1v15()), sealed)


def test_the_published_vector_opens() -> None:
    assert sealed(PLAINTEXT, PASSWORD) == SEALED
    assert decrypt(carrying(PASSWORD, SEALED), KEY) == PLAINTEXT


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\t\n\r")))
def test_text_comes_back_untrimmed(text: str) -> None:
    token = encrypt(text.encode(), KEY.public_key(), PREFIX, os.urandom).token
    assert decrypt(Token.parse(str(token), "it"), KEY) == text.encode()


@pytest.mark.parametrize("length", [*range(66), 5_000_000])
def test_47_every_length_around_aes_blocks_is_sealed_as_openssl_does(length: int) -> None:
    plaintext = random.Random(length).randbytes(length)
    made = encrypt(plaintext, KEY.public_key(), PREFIX, os.urandom)
    password = KEY.decrypt(made.token.wrapped, PKCS1v15())
    assert made.token.sealed == sealed(plaintext, password, made.token.salt)
    assert decrypt(made.token, KEY, is_plausible=lambda _: True) == plaintext


def test_45a_the_password_is_text_that_every_reader_takes_the_same() -> None:
    for seed in range(100):
        made = encrypt(b"", KEY.public_key(), PREFIX, random.Random(seed).randbytes)
        password = KEY.decrypt(made.token.wrapped, PKCS1v15()).decode("ascii")
        assert len(base64.b64decode(password, validate=True)) * 8 >= 256
        assert password.isprintable()
        assert made.opening.password == Secret(password)


def test_two_tokens_of_one_plaintext_have_nothing_in_common() -> None:
    other = encrypt(PLAINTEXT, KEY.public_key(), PREFIX, os.urandom)
    assert other.token.wrapped != MADE.token.wrapped
    assert other.token.salt != MADE.token.salt
    assert other.opening.password != MADE.opening.password


@pytest.mark.parametrize("bits", [2048, 2049, 3072, 4096])
def test_a_token_is_made_again_byte_for_byte(bits: int) -> None:
    key = rsa_key("size", bits)
    made = encrypt(PLAINTEXT, key.public_key(), PREFIX, os.urandom)
    assert recreate(PLAINTEXT, made.opening, key.public_key(), PREFIX) == made.token
    assert decrypt(made.token, key) == PLAINTEXT
    with pytest.raises(UsageError, match="not of a token for an RSA key"):
        recreate(PLAINTEXT, made.opening, rsa_key("short", 2304).public_key(), PREFIX)


def test_an_opening_shows_nothing() -> None:
    password = MADE.opening.password.reveal()
    assert repr(MADE.opening) == "Opening()"
    assert password not in repr(MADE)
    assert password not in mask(f"it is {password}")


@pytest.mark.parametrize(
    ("password", "salt", "padding"),
    [
        ("x" * 42, SALT, b"\1" * 8),
        ("x" * 43 + "\n", SALT, b"\1" * 8),
        ("x" * 87, SALT, b"\1" * 8),
        ("x" * 43, SALT[:7], b"\1" * 8),
        ("x" * 43, SALT, b"\1" * 7),
        ("x" * 43, SALT, b"\1" * 8 + b"\0"),
    ],
)
def test_an_opening_that_readers_could_take_differently_is_refused(
    password: str, salt: bytes, padding: bytes
) -> None:
    with pytest.raises(UsageError) as caught:
        Opening(Secret(password), salt, padding)
    assert password not in caught.value.message


@pytest.mark.parametrize("end", [b"\n", b"\0"], ids=["newline", "NUL"])
@pytest.mark.parametrize("cut", range(32))
def test_45a_a_token_opens_when_openssl_used_only_the_password_up_to(cut: int, end: bytes) -> None:
    carried = bytes(0x80 + position for position in range(cut)) + end + b"\xff" * (31 - cut)
    for used in (carried[:cut], carried):
        assert decrypt(carrying(carried, sealed(PLAINTEXT, used)), KEY) == PLAINTEXT


@pytest.mark.parametrize("tail", [b"\n", b"\0", b"\n\n", b"\0\n"])
def test_a_token_opens_when_a_shell_dropped_the_end_of_the_password(tail: bytes) -> None:
    used = b"with \n inside"
    assert decrypt(carrying(used + tail, sealed(PLAINTEXT, used)), KEY) == PLAINTEXT


@pytest.mark.parametrize("prefix", ["hyper-protect-basic", "contract-basic", "something-else"])
def test_the_prefix_does_not_matter_for_opening(prefix: str) -> None:
    token = carrying(PASSWORD, SEALED, prefix)
    assert decrypt(Token.parse(str(token), "it"), KEY) == PLAINTEXT
    assert token.is_known == (prefix != "something-else")


def test_each_target_has_a_known_prefix() -> None:
    assert DEFAULT_PREFIX == {
        "hpvs": "hyper-protect-basic",
        "ccrt": "contract-basic",
        "ccrv": "contract-basic",
        "ccco": "hyper-protect-basic",
    }


def refusal(token: Token, key_name: str = "runtime", bits: int = 2048) -> str:
    with pytest.raises(RefusedError, match="wrong key or damaged token") as caught:
        decrypt(token, rsa_key(key_name, bits))
    return caught.value.message


def test_a_wrong_key_is_refused_and_another_length_said() -> None:
    refusal(MADE.token, "another")
    assert "for an RSA key of 2048 bits, this one has 3072" in refusal(MADE.token, "size", 3072)


def test_a_password_with_valid_padding_that_gives_no_text_is_refused() -> None:
    opening = Opening(Secret(WRONG_PASSWORD), SALT, b"\1" * 8)
    token = carrying(WRONG_PASSWORD.encode(), SEALED)
    assert open_with(token, opening) is not None
    refusal(token)


def test_a_changed_part_is_refused() -> None:
    token = MADE.token
    for position in range(0, 256, 17):
        wrapped = bytearray(token.wrapped)
        wrapped[position] ^= 1
        refusal(Token(PREFIX, bytes(wrapped), token.sealed))
    for position in range(8, len(token.sealed)):
        changed = bytearray(token.sealed)
        changed[position] ^= 0x80
        refusal(Token(PREFIX, token.wrapped, bytes(changed)))


def test_the_text_is_read_as_it_stands() -> None:
    token = Token.parse(TEXT, "it")
    assert token == MADE.token
    assert str(token) == TEXT
    assert token.digest == Digest("sha256:" + hashlib.sha256(TEXT.encode()).hexdigest())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it has 1 parts"),
        (TEXT.rpartition(".")[0], "it has 2 parts"),
        (TEXT + ".", "it has 4 parts"),
        (TEXT + "\n", "white space or a newline around"),
        (" " + TEXT, "white space or a newline around"),
        (TEXT[:100] + "\n" + TEXT[100:], "newline inside"),
        (TEXT[:100] + "\r\n" + TEXT[100:], "newline inside"),
        (TEXT[:100] + " " + TEXT[100:], "second part is damaged base64"),
        (TEXT[:100] + "é" + TEXT[100:], "second part is damaged base64"),
        (TEXT[:100] + "-" + TEXT[101:], "second part is damaged base64"),
        (TEXT.replace("=.", "."), "second part is damaged base64"),
        (TEXT[:-1], "third part is damaged base64"),
        (TEXT[:-4], "not whole blocks of AES"),
        (f"{PREFIX}.{base64.b64encode(bytes(255)).decode()}.AAAA", "has 255 bytes"),
        (f"{PREFIX}.{base64.b64encode(bytes(1025)).decode()}.AAAA", "has 1025 bytes"),
        (f"{PREFIX}.{base64.b64encode(bytes(256)).decode()}.AAAA", "does not begin with `Salted__`"),
        (f"{PREFIX}.{base64.b64encode(bytes(256)).decode()}.U2FsdGVkX18AAQIDBAUGBw==", "not whole blocks"),
        (TEXT.replace("basic", "bäsic"), "its prefix has other characters"),
        (TEXT.replace(PREFIX, ""), "its prefix has other characters"),
    ],
)
def test_a_damaged_token_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        Token.parse(text, "`env` of contract.yaml")
    assert caught.value.message.startswith("`env` of contract.yaml is no token: ")
    assert why in caught.value.message


def test_bits_that_belong_to_no_byte_are_damage_too() -> None:
    # 32 bytes end with two characters that have 4 bits to spare; Python reads both texts as one.
    assert TEXT.endswith("=")
    position = len(TEXT.rstrip("=")) - 1
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = TEXT[:position] + alphabet[alphabet.index(TEXT[position]) | 1] + TEXT[position + 1 :]
    with pytest.raises(UsageError, match="third part is damaged base64"):
        Token.parse(other, "it")


@given(st.text(alphabet="ab-.=\nU2FsdGVkX1"))
def test_any_text_is_read_back_or_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Token.parse(text, "it")


@pytest.mark.parametrize(
    ("text", "is_token"),
    [
        (TEXT, True),
        (TEXT + "\n", True),
        (TEXT[:100], True),
        (TEXT.replace(PREFIX, "another-prefix"), True),
        ("contract-basic.", True),
        ("type: workload\n", False),
        ("", False),
        ("a.b.c", False),
        ("image: a.b.U2FsdGVkX1", False),
    ],
)
def test_a_token_is_told_from_plain_yaml(text: str, is_token: bool) -> None:
    assert looks_like_token(text) is is_token
