"""Keys of cosign: every form that is taken, and how the others are refused."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import sys
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import example, given
from hypothesis import strategies as st

from fakes.cosign import key
from secure_build.contract.confidential import section
from secure_build.errors import MachineError, RefusedError, UsageError
from secure_build.reference import Repository
from secure_build.secret import Secret
from secure_build.signers import cosign_key
from secure_build.signers.cosign_key import CommandKey

PRIVATE = key("own").private
PASSPHRASE = Secret("correct horse")
SIGNATURE = key("own").sign(b"content")


def pem(private: Any, passphrase: str = "", form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return bytes(private.private_bytes(Encoding.PEM, form, encryption))


@pytest.fixture(scope="module")
def file() -> bytes:
    return cosign_key.dump(PRIVATE, PASSPHRASE)


def changed(file: bytes, *path: str, value: Any) -> bytes:
    """The key file with another value somewhere in its document."""
    begin, *lines, end = file.splitlines()
    document = inner = json.loads(base64.b64decode(b"".join(lines)))
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return b"\n".join((begin, base64.b64encode(json.dumps(document).encode()), end))


def test_a_key_file_opens_with_its_passphrase(file: bytes) -> None:
    assert file.startswith(b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\n")
    assert cosign_key.load(file, PASSPHRASE, "the key").public == key("own").public
    old = file.replace(b"SIGSTORE", b"COSIGN")
    assert cosign_key.load(old, PASSPHRASE, "the key").public == key("own").public
    assert cosign_key.load(b"notes\n" + file.replace(b"\n", b"\r\n"), PASSPHRASE, "the key")
    assert cosign_key.dump(PRIVATE, PASSPHRASE) != file


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_pem_is_taken_too(form: PrivateFormat, passphrase: str) -> None:
    content = pem(PRIVATE, passphrase, form)
    assert cosign_key.load(content, PASSPHRASE, "the key").public == key("own").public


def test_an_empty_passphrase_needs_no_secret() -> None:
    assert cosign_key.load(cosign_key.dump(PRIVATE, Secret("")), None, "the key")


@pytest.mark.parametrize("form", ["cosign's", "PKCS#8"])
@pytest.mark.parametrize(
    ("passphrase", "message"),
    [
        ("wrong horse", "the passphrase of the key is wrong, or the key is damaged"),
        ("correct horse\n", "the passphrase of the key is wrong, or the key is damaged"),
        ("", "the passphrase of the key is wrong, or the key is damaged"),
        (None, "the key is encrypted, and there is no passphrase for it"),
    ],
)
def test_hardening_53_another_passphrase_is_refused(
    file: bytes, form: str, passphrase: str | None, message: str
) -> None:
    content = file if form == "cosign's" else pem(PRIVATE, "correct horse")
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        cosign_key.load(content, None if passphrase is None else Secret(passphrase), "the key")


@pytest.mark.parametrize(
    "private",
    [
        rsa.generate_private_key(65537, 2048),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-384", "Ed25519"],
)
def test_other_kinds_of_key_are_refused(private: Any) -> None:
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(UsageError, match="the key is not of ECDSA on the curve P-256"):
        cosign_key.public_key(public, "the key")
    for content in (pem(private), cosign_key.dump(private, PASSPHRASE)):
        with pytest.raises(UsageError, match="the key is not of ECDSA on the curve P-256"):
            cosign_key.load(content, PASSPHRASE, "the key")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kdf", "name"), "argon2"),
        (("kdf", "salt"), "?"),
        (("kdf", "params"), {}),
        (("kdf", "params", "N"), "65536"),
        (("kdf", "params", "p"), 0),
        (("cipher", "name"), "aes"),
        (("cipher", "nonce"), "AAAA"),
        (("ciphertext",), None),
    ],
)
def test_what_is_no_key_file_is_refused(file: bytes, path: tuple[str, ...], value: Any) -> None:
    with pytest.raises(UsageError, match="the key is damaged, or in a form that is not known"):
        cosign_key.load(changed(file, *path, value=value), PASSPHRASE, "the key")


@pytest.mark.parametrize(("name", "value"), [("N", 1 << 30), ("N", 65535), ("r", 1 << 20), ("p", 1 << 20)])
def test_a_key_file_cannot_ask_for_much_memory_or_time(file: bytes, name: str, value: int) -> None:
    with pytest.raises(UsageError, match="the key asks for more memory or time"):
        cosign_key.load(changed(file, "kdf", "params", name, value=value), PASSPHRASE, "the key")


@pytest.mark.parametrize("content", [b"", b"text", pem(PRIVATE)[:100], b"\xff" * 100])
def test_what_is_no_key_at_all_is_refused(content: bytes) -> None:
    with pytest.raises(UsageError, match="the key is damaged, or no private key in PEM"):
        cosign_key.load(content, PASSPHRASE, "the key")
    with pytest.raises(UsageError, match=r"the key is (no public key|a private key)"):
        cosign_key.public_key(content, "the key")


def test_a_cut_key_file_is_refused(file: bytes) -> None:
    for content in (file[:200], file[:-40], file.replace(b"ey", b"e!", 1)):
        with pytest.raises(UsageError, match="the key is damaged"):
            cosign_key.load(content, PASSPHRASE, "the key")


@pytest.mark.parametrize("module", ["nacl", "nacl.secret"])
def test_without_pynacl_its_package_is_named(
    file: bytes, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("nacl.secret", "nacl.exceptions", "nacl"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MachineError) as caught:
        cosign_key.load(file, PASSPHRASE, "the key")
    assert "python3-nacl" in (caught.value.hint or "")
    assert cosign_key.load(pem(PRIVATE), None, "the key")


@given(bit=st.integers(0))
@example(bit=209)
def test_hardening_51_a_bit_of_a_public_key(bit: int) -> None:
    """It is no key any more, or another one, or the same point in another spelling (SEC 1, hybrid form)."""
    der = bytearray(key("own").public.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    der[bit // 8 % len(der)] ^= 1 << bit % 8
    text = b"-----BEGIN PUBLIC KEY-----\n%b\n-----END PUBLIC KEY-----\n" % base64.b64encode(der)
    with contextlib.suppress(UsageError):
        found = cosign_key.public_key(text, "the key")
        assert found == key("own").public or not found.verifies(SIGNATURE, b"content")


def test_a_command_signs_digests_and_is_checked() -> None:
    def other(digest: bytes) -> bytes:
        return key("other").private.sign(digest, cosign_key._ES256)

    def own(digest: bytes) -> bytes:
        return PRIVATE.sign(digest, cosign_key._ES256)

    public = key("own").public
    assert public.verifies(CommandKey(public, own).sign(b"content"), b"content")
    for wrong in (other, lambda _digest: b"", lambda digest: digest):
        with pytest.raises(RefusedError, match="does not fit the public key"):
            CommandKey(public, wrong).sign(b"content")


def test_the_contract_has_the_public_key_as_cosign_writes_it() -> None:
    repository = Repository.parse("us.icr.io/acme/web")
    written = section.content("package p", {repository: key("own").public.pem})["config"]["cosign"]
    text = written["us.icr.io/acme/web"]["publicKey"]
    assert text == base64.b64encode(key("own").public.pem).decode()


def test_a_key_does_not_print_itself(file: bytes) -> None:
    loaded = cosign_key.load(file, PASSPHRASE, "the key")
    assert "private" not in repr(loaded).lower()
