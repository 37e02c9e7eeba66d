"""Keys and certificates for tests, made by openssl, which is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from services import running


def self_signed(directory: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    _openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"),
        *("-keyout", str(key), "-out", str(certificate)),
    )
    return certificate, key


def authority(directory: Path) -> tuple[Path, Path]:
    """The certificate and the key of an authority of our own."""
    return self_signed(directory, "authority")


def signed(
    directory: Path,
    issuer: tuple[Path, Path],
    name: str,
    addresses: tuple[str, ...] = (),
    others: tuple[str, ...] = (),
) -> tuple[Path, Path]:
    """A server's certificate for these names, signed by the authority, and its key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    request, extensions = directory / f"{name}.csr", directory / f"{name}.ext"
    names = ",".join(
        [*(f"DNS:{one}" for one in (name, *others)), *(f"IP:{address}" for address in addresses)]
    )
    extensions.write_text(f"subjectAltName={names}\nbasicConstraints=CA:FALSE\n")
    _openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
        *("-keyout", str(key), "-out", str(request)),
    )
    _openssl(
        *("x509", "-req", "-in", str(request), "-days", "2", "-extfile", str(extensions)),
        *("-CA", str(issuer[0]), "-CAkey", str(issuer[1]), "-CAcreateserial", "-out", str(certificate)),
    )
    return certificate, key


def sign(content: bytes, key: Path) -> bytes:
    """An RSA signature with SHA-256 (RFC 8017, PKCS #1 v1.5)."""
    return _openssl("dgst", "-sha256", "-sign", str(key), input=content)


def _openssl(*arguments: str, input: bytes = b"") -> bytes:  # noqa: A002
    return subprocess.run(
        [running.tool("openssl"), *arguments], input=input, capture_output=True, check=True, timeout=60
    ).stdout
