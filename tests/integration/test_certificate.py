"""Certificates as openssl sees them, which is not ours; IBM's own steps to validate one use it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fakes.authority import UNTRUSTED, Hierarchy, hierarchy
from secure_build.contract.certificates import roots
from secure_build.contract.certificates.certificate import EncryptionCertificate, describe
from secure_build.contract.certificates.chain import UntrustedError, signer_of, trusted_path
from secure_build.contract.certificates.revocation import revocation
from services import running
from services.needed import need

# What is wrong there is of no concern to a general validation: whose certificate the signer is, what
# for (openssl 3.2 and later could say), and how it signed.
ONLY_OURS = {
    *("owner", "no owner", "signer without purpose", "signer for servers", "signer not for signing"),
    *("leaf critical", "leaf with SHA-256", "signer with a curve", "signer with a short hash"),
    *("authority without usage", "authority for servers"),
}


@pytest.fixture(autouse=True)
def openssl_is_there() -> None:
    need("openssl")


def openssl(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    command = [running.tool("openssl"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60)


def pem(one: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return one.public_bytes(Encoding.PEM)


def write(folder: Path, made: Hierarchy) -> None:
    for name in ("root", "authority", "signer", "leaf"):
        (folder / f"{name}.pem").write_bytes(getattr(made, name).pem)


def verify(folder: Path, made: Hierarchy, *options: str | Path) -> int:
    """Whether openssl believes in the certificate that signed the encryption certificate."""
    time = ("-attime", str(int(made.now.timestamp())))
    trust = ("-CAfile", folder / "root.pem", "-untrusted", folder / "authority.pem")
    return openssl("verify", *time, *trust, *options, folder / "signer.pem").returncode


@pytest.mark.parametrize("name", ["usual", *UNTRUSTED])
def test_openssl_agrees_on_the_way_to_the_root(tmp_path: Path, name: str) -> None:
    made = hierarchy(**UNTRUSTED[name][0]) if name in UNTRUSTED else hierarchy()
    write(tmp_path, made)
    try:
        trusted_path(made.leaf.certificate, made.chain, (made.root.certificate,), made.now)
        ours = True
    except UntrustedError:
        ours = False
    theirs = verify(tmp_path, made) == 0
    assert (ours, theirs) == (name == "usual", name == "usual" or name in ONLY_OURS)


def test_openssl_agrees_on_the_signature_of_the_encryption_certificate(tmp_path: Path) -> None:
    """IBM's step: the signature over the part to be signed, with the issuer's public key."""
    made = hierarchy()
    write(tmp_path, made)
    (tmp_path / "signature").write_bytes(made.leaf.certificate.signature)
    signed, key = tmp_path / "signed", tmp_path / "key.pem"
    taken = openssl("asn1parse", "-in", tmp_path / "leaf.pem", "-strparse", "4", "-noout", "-out", signed)
    assert taken.returncode == 0
    for certificate, good in (("signer.pem", True), ("authority.pem", False)):
        key.write_bytes(openssl("x509", "-in", tmp_path / certificate, "-noout", "-pubkey").stdout)
        checked = openssl("dgst", "-sha512", "-verify", key, "-signature", tmp_path / "signature", signed)
        assert (checked.returncode == 0) is good
    assert signer_of(made.leaf.certificate, made.chain) == made.signer.certificate


def test_openssl_names_the_same_things(tmp_path: Path) -> None:
    made = hierarchy()
    write(tmp_path, made)
    described = describe(EncryptionCertificate(made.leaf.certificate))
    asked = ("-fingerprint", "-sha256", "-serial", "-subject", "-nameopt", "RFC2253", "-enddate")
    told = openssl("x509", "-in", tmp_path / "leaf.pem", "-noout", *asked).stdout.decode()
    values = dict(line.split("=", 1) for line in told.splitlines())
    assert values["sha256 Fingerprint"].replace(":", "").lower() == described["sha256"]
    assert int(values["serial"], 16) == int(described["serial"], 16)
    assert values["subject"] == described["subject"]
    assert values["notAfter"] == f"{made.leaf.certificate.not_valid_after_utc:%b %e %H:%M:%S %Y} GMT"


@pytest.mark.parametrize("revoked", [False, True])
def test_openssl_agrees_on_revocation(tmp_path: Path, revoked: bool) -> None:
    made = hierarchy()
    write(tmp_path, made)
    signer = made.signer.certificate
    made_list = made.authority.revoke(*([signer.serial_number] if revoked else [7]), now=made.now)
    root_list = made.root.revoke(now=made.now)
    (tmp_path / "lists.pem").write_bytes(b"".join(pem(one) for one in (made_list, root_list)))
    assert (verify(tmp_path, made, "-crl_check_all", "-CRLfile", tmp_path / "lists.pem") == 0) is not revoked
    level = revocation(signer, made.authority.certificate, [made_list], made.now).level
    assert level == ("fail" if revoked else "pass")


def test_openssl_knows_the_root_by_the_same_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "root.pem"
    path.write_bytes(pem(roots.TRUSTED[0]))
    told = openssl("x509", "-in", path, "-noout", "-fingerprint", "-sha256").stdout.decode()
    # As DigiCert publishes it.
    published = (
        "55:2F:7B:DC:F1:A7:AF:9E:6C:E6:72:01:7F:4F:12:AB:F7:72:40:C7:8E:76:1A:C2:03:D1:D9:D2:0A:C8:99:88"
    )
    assert told.strip().endswith(published)
