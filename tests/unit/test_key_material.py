"""Keys and certificates: which forms are read, which are refused, and that no message shows one."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from fakes.keys import certificate, private_pem, rsa_key
from secure_build.contract.encryption.key_material import private_key, public_key, spki_digest, spki_pem
from secure_build.errors import UsageError
from secure_build.reference import Digest
from secure_build.secret import Secret

KEY = rsa_key("runtime")
PUBLIC = KEY.public_key()
SPKI = spki_pem(PUBLIC).encode()
CERTIFICATE = certificate(
    KEY, datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
).public_bytes(Encoding.PEM)
EC, EDWARDS = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
PASSPHRASE = "correct horse"


@pytest.mark.parametrize("content", [SPKI, CERTIFICATE], ids=["key", "certificate"])
def test_a_public_key_is_read_from_every_form(content: bytes) -> None:
    for form in (
        content,
        b"\n" + content.replace(b"\n", b"\r\n"),
        base64.b64encode(content),
        base64.encodebytes(content),
    ):
        assert public_key(form, "it") == PUBLIC


def test_a_key_has_one_digest() -> None:
    der = PUBLIC.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki_digest(PUBLIC) == Digest.of(der)
    assert public_key(SPKI, "it") == PUBLIC


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> tuple[bytes, bytes]:
    return (
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pem(EC)[0], "no RSA key"),
        (pem(EDWARDS)[0], "no RSA key"),
        (spki_pem(rsa_key("weak", 1024).public_key()).encode(), "has 1024 bits"),
        (private_pem(KEY), "is a private key"),
        (base64.b64encode(private_pem(KEY)), "is a private key"),
        (private_pem(KEY) + SPKI, "is a private key"),
        (CERTIFICATE + CERTIFICATE, "several PEM blocks"),
        (b"", "neither PEM nor base64"),
        (b"\xff\x00", "neither PEM nor base64"),
        (base64.b64encode(base64.b64encode(SPKI)), "neither PEM nor base64"),
        (SPKI.replace(b"MII", b"MIJ"), "is damaged"),
        (CERTIFICATE[:300], "is damaged"),
        (CERTIFICATE.replace(b"CERTIFICATE", b"X509 CRL"), "is damaged"),
    ],
)
def test_another_public_key_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        public_key(content, "file `key.pem`")
    assert caught.value.message.startswith("file `key.pem` ")
    assert why in caught.value.message
    assert "MII" not in caught.value.message


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_private_key_is_read_from_every_form(form: PrivateFormat) -> None:
    plain, encrypted = private_pem(KEY, form=form), private_pem(KEY, PASSPHRASE, form)
    for key in (
        private_key(plain, None, "it"),
        private_key(plain, Secret("not needed"), "it"),
        private_key(encrypted, Secret(PASSPHRASE), "it"),
    ):
        assert key.private_numbers() == KEY.private_numbers()
    with pytest.raises(UsageError, match="it is encrypted, and there is no passphrase"):
        private_key(encrypted, None, "it")
    with pytest.raises(UsageError, match="the passphrase of it is wrong") as caught:
        private_key(encrypted, Secret("battery staple"), "it")
    assert "battery" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (pem(EC)[1], "no RSA key"),
        (pem(EDWARDS)[1], "no RSA key"),
        (private_pem(rsa_key("weak", 1024)), "has 1024 bits"),
        (SPKI, "no PEM private key"),
        (private_pem(KEY)[:400], "no PEM private key"),
        (b"", "no PEM private key"),
    ],
)
def test_another_private_key_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        private_key(content, None, "the secret `KEY`")
    assert why in caught.value.message
    assert "MII" not in caught.value.message


@given(st.binary() | st.builds(lambda inside: b"-----BEGIN PUBLIC KEY-----\n" + inside, st.binary()))
def test_no_bytes_make_a_traceback(content: bytes) -> None:
    for read in (lambda: public_key(content, "it"), lambda: private_key(content, None, "it")):
        with pytest.raises(UsageError):
            read()
