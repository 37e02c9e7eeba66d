"""Keys and certificates for tests, made by openssl, which is not ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

from services import running


def private_key(directory: Path, name: str, kind: str = "rsa:2048", *, passphrase: str = "") -> Path:
    """A private key (PKCS #8, PEM) of a kind such as `rsa:4096` or `ec:prime256v1`."""
    path = directory / f"{name}.key"
    algorithm, _, size = kind.partition(":")
    option = "rsa_keygen_bits" if algorithm == "rsa" else "ec_paramgen_curve"
    locked = ("-aes-256-cbc", "-pass", "stdin") if passphrase else ()
    made = ("genpkey", "-algorithm", algorithm, "-pkeyopt", f"{option}:{size}", *locked)
    openssl(*made, "-out", str(path), input=f"{passphrase}\n".encode())
    return path


def public_key(key: Path) -> bytes:
    """The public half of a private key, PEM."""
    return openssl("pkey", "-in", str(key), "-pubout")


def certificate_of(key: Path, name: str, issuer: tuple[Path, Path], passphrase: str) -> bytes:
    """A certificate of this key for 90 days, by an authority, PEM."""
    request = openssl(
        *("req", "-new", "-key", str(key), "-subj", f"/CN={name}", "-passin", "stdin"),
        input=f"{passphrase}\n".encode(),
    )
    authority = ("-CA", str(issuer[0]), "-CAkey", str(issuer[1]), "-CAcreateserial")
    return openssl("x509", "-req", "-days", "90", *authority, input=request)


def self_signed(directory: Path, name: str, kind: str = "rsa:2048", *, days: int = 2) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    openssl(
        *("req", "-x509", "-newkey", kind, "-nodes", "-days", str(days), "-subj", f"/CN={name}"),
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
    openssl(
        *("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}"),
        *("-keyout", str(key), "-out", str(request)),
    )
    openssl(
        *("x509", "-req", "-in", str(request), "-days", "2", "-extfile", str(extensions)),
        *("-CA", str(issuer[0]), "-CAkey", str(issuer[1]), "-CAcreateserial", "-out", str(certificate)),
    )
    return certificate, key


def sign(content: bytes, key: Path) -> bytes:
    """An RSA signature with SHA-256 (RFC 8017, PKCS #1 v1.5)."""
    return openssl("dgst", "-sha256", "-sign", str(key), input=content)


def openssl(*arguments: str, input: bytes = b"") -> bytes:  # noqa: A002
    """What the command wrote to standard output."""
    return subprocess.run(
        [running.tool("openssl"), *arguments], input=input, capture_output=True, check=True, timeout=60
    ).stdout
