"""Tokens, signatures and disclosures, between us and the openssl command line."""

from __future__ import annotations

import os
import random
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from fakes.keys import private_pem, rsa_key
from secure_build.contract.encryption import disclosure, signature
from secure_build.contract.encryption.key_material import spki_pem
from secure_build.contract.encryption.token import Token, decrypt, encrypt
from services.needed import need

RUNTIME, SIGNER, AUDITOR = rsa_key("runtime", 4096), rsa_key("signer"), rsa_key("auditor")
# The many are for a short key, which costs openssl less time.
SHORT = rsa_key("short")
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "encryption.md"
MANY = 1000
SECTION = "type: workload\nname: größer\n\n".encode()

OPENS = """
i=0; while [ $i -lt "$1" ]; do
  openssl pkeyutl -decrypt -inkey key -in $i.wrapped |
    openssl enc -d -aes-256-cbc -pbkdf2 -pass stdin -in $i.sealed -out $i.opened || exit 1
  i=$((i + 1))
done
"""
# IBM's published recipe. Where a NUL comes first openssl refuses the password: that token is not made.
MAKES = """
i=0; while [ $i -lt "$1" ]; do
  openssl rand -out password 32
  if openssl enc -aes-256-cbc -pbkdf2 -pass stdin -in $i.plain -out $i.sealed < password 2> refused; then
    openssl pkeyutl -encrypt -pubin -inkey public -in password -out $i.wrapped || exit 1
  else rm -f $i.sealed; fi
  i=$((i + 1))
done
"""


def shell(script: str, directory: Path, *arguments: str) -> str:
    need("openssl")
    command = ["sh", "-euc", script, "sh", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def prepare(directory: Path, key: RSAPrivateKey) -> None:
    (directory / "key").write_bytes(private_pem(key))
    (directory / "public").write_text(spki_pem(key.public_key()))


def documented(heading: str) -> str:
    """The commands that the documentation gives under a heading."""
    chapter = DOCUMENTATION.read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = re.search(r"```sh\n(.*?)```", chapter, re.DOTALL)
    assert found
    return found[1]


def test_45a_47_openssl_opens_every_token(tmp_path: Path) -> None:
    prepare(tmp_path, SHORT)
    plain = [random.Random(number).randbytes(number % 65) for number in range(MANY)] + [os.urandom(5_000_000)]
    for number, plaintext in enumerate(plain):
        token = encrypt(plaintext, SHORT.public_key(), "contract-basic", os.urandom).token
        (tmp_path / f"{number}.wrapped").write_bytes(token.wrapped)
        (tmp_path / f"{number}.sealed").write_bytes(token.sealed)
    shell(OPENS, tmp_path, str(len(plain)))
    for number, plaintext in enumerate(plain):
        assert (tmp_path / f"{number}.opened").read_bytes() == plaintext


def test_45a_47_every_token_that_openssl_makes_opens(tmp_path: Path) -> None:
    prepare(tmp_path, SHORT)
    plain = [(f"{number}: " + "x" * 65)[: number % 65].encode() for number in range(MANY)] + [
        b"x\n" * 2_500_000
    ]
    for number, plaintext in enumerate(plain):
        (tmp_path / f"{number}.plain").write_bytes(plaintext)
    shell(MAKES, tmp_path, str(len(plain)))
    made = 0
    for number, plaintext in enumerate(plain):
        if (tmp_path / f"{number}.sealed").exists():
            parts = [(tmp_path / f"{number}.{part}").read_bytes() for part in ("wrapped", "sealed")]
            assert decrypt(Token("hyper-protect-basic", *parts), SHORT) == plaintext
            made += 1
    assert made > MANY * 0.97


@pytest.fixture
def section(tmp_path: Path) -> Path:
    made = encrypt(SECTION, RUNTIME.public_key(), "contract-basic", os.urandom)
    (tmp_path / "section.token").write_text(str(made.token))
    (tmp_path / "private.pem").write_bytes(private_pem(RUNTIME))
    (tmp_path / "runtime.pem").write_text(spki_pem(RUNTIME.public_key()))
    (tmp_path / "auditor.pem").write_bytes(private_pem(AUDITOR))
    sealed = disclosure.seal("workload", made.token, made.opening, AUDITOR.public_key())
    (tmp_path / "disclosure.json").write_bytes(sealed)
    return tmp_path


def test_a_token_opens_as_documented(section: Path) -> None:
    token = Token.parse((section / "section.token").read_text(), "it")
    assert token.digest.hexadecimal in shell(documented("Token"), section)
    assert (section / "section.yaml").read_bytes() == SECTION


def test_a_disclosure_opens_and_is_proven_as_documented(section: Path) -> None:
    shell(documented("Disclosure"), section)
    assert (section / "section.yaml").read_bytes() == SECTION


def test_46_a_signature_verifies_as_documented(tmp_path: Path) -> None:
    workload, env = (
        encrypt(text, RUNTIME.public_key(), "contract-basic", os.urandom).token
        for text in (SECTION, b"type: env\n")
    )
    (tmp_path / "workload.token").write_text(str(workload))
    (tmp_path / "env.token").write_text(str(env))
    (tmp_path / "signature").write_text(signature.sign(workload, env, SIGNER))
    (tmp_path / "signer.pem").write_text(spki_pem(SIGNER.public_key()))
    assert shell(documented("Signature"), tmp_path) == "Verified OK\n"
    (tmp_path / "workload.token").write_text(f"{workload}\n")
    with pytest.raises(AssertionError):
        shell(documented("Signature"), tmp_path)
