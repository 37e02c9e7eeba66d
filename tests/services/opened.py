"""Tokens and signatures of contracts, opened, made and checked by openssl alone."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from services import running

_OPEN = """
cut -d. -f2 token | base64 -d | openssl pkeyutl -decrypt -inkey key -out password
cut -d. -f3 token | base64 -d | openssl enc -d -aes-256-cbc -pbkdf2 -pass file:password
"""
_SEAL = r"""
openssl rand -base64 -out password 30
printf 'contract-basic.%s.%s\n' \
  "$(openssl pkeyutl -encrypt -pubin -inkey public -in password | base64 -w 0)" \
  "$(openssl enc -aes-256-cbc -pbkdf2 -pass file:password -in plain | base64 -w 0)"
"""
# A signing key is PEM or base64 of PEM, of a key or of a certificate.
_VERIFY = """
grep -q -- -----BEGIN signing-key || { base64 -d signing-key > pem; mv pem signing-key; }
if grep -q CERTIFICATE signing-key; then
  openssl x509 -in signing-key -pubkey -noout > pem
  mv pem signing-key
fi
base64 -d signature > signature.bin
cat workload env | openssl dgst -sha256 -verify signing-key -signature signature.bin || true
"""
# As in docs/encryption.md.
_DISCLOSE = r"""
grep '^    "' disclosure | tr -d ' ",' | while read -r block; do
  printf %s "$block" | base64 -d |
    openssl pkeyutl -decrypt -inkey key -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256
done > opening
sed 's/.*"password":"\([^"]*\)".*/\1/' opening | tr -d '\n' > password
cut -d. -f3 token | base64 -d | openssl enc -d -aes-256-cbc -pbkdf2 -pass file:password
"""


def plaintext(token: str, key: Path) -> bytes:
    """What a token holds; the private key has no passphrase."""
    return _shell(_OPEN, {"token": token.encode(), "key": key.read_bytes()})


def sealed(plain: bytes, public: bytes) -> str:
    """A token as others make it, with the newline that the shell ends it with."""
    return _shell(_SEAL, {"plain": plain, "public": public}).decode()


def verified(workload: str, env: str, signature: str, signing_key: str) -> str:
    """What openssl says of a contract's signature; `signing_key` as it stands in the env section."""
    parts = {"workload": workload, "env": env, "signature": signature, "signing-key": signing_key}
    return _shell(_VERIFY, {name: text.encode() for name, text in parts.items()}).decode()


def disclosed(disclosure: bytes, token: str, key: Path) -> bytes:
    """What a token holds, by what its disclosure says."""
    return _shell(_DISCLOSE, {"disclosure": disclosure, "token": token.encode(), "key": key.read_bytes()})


def _shell(script: str, files: Mapping[str, bytes]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="sb-openssl-") as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        done = subprocess.run(
            ["sh", "-euc", script],
            cwd=folder,
            env=running.environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
