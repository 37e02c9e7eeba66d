"""What the examples need beside what is in them: certificates, keys, and secrets by name.

Made by openssl, once for all tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services import certificates

# Characters that base64 and addresses write differently.
_SECRETS = {
    name: f"{name.lower().replace('_', '-')}?Canary&0f>"
    for name in (
        *("REGISTRY_PUSH", "REGISTRY_PULL", "SEED_WORKLOAD", "SEED_ENV"),
        *("LOGS_API_KEY", "GREETING", "SIGNING_PASSPHRASE"),
    )
}


@dataclass(frozen=True, slots=True)
class Belongings:
    """`files` by the path that the examples name them by, `secrets` by name.

    `runtime` and `next_runtime` are certificates with their keys, for two images of the runtime;
    `auditor` is the auditor's private key.
    """

    files: Mapping[str, bytes]
    secrets: Mapping[str, str]
    runtime: tuple[Path, Path]
    next_runtime: tuple[Path, Path]
    auditor: Path


def make(folder: Path) -> Belongings:
    """All that the examples need."""
    authority = certificates.authority(folder)
    runtime, next_runtime = (certificates.self_signed(folder, name, "rsa:4096") for name in ("one", "two"))
    guest = certificates.signed(folder, authority, "guest.example.com")
    host = certificates.self_signed(folder, "host")
    passphrase = _SECRETS["SIGNING_PASSPHRASE"]
    signing = certificates.private_key(folder, "signing")
    locked = certificates.private_key(folder, "locked", passphrase=passphrase)
    auditor = certificates.private_key(folder, "auditor")
    cosign = certificates.private_key(folder, "cosign", "ec:prime256v1")
    return Belongings(
        files={
            "runtime.crt": runtime[0].read_bytes(),
            "syslog/authority.pem": authority[0].read_bytes(),
            "syslog/guest.pem": guest[0].read_bytes(),
            "hsm/signing.pem": signing.read_bytes(),
            "hsm/signing.pub": certificates.public_key(signing),
            "expiry.pem": certificates.certificate_of(locked, "contract", authority, passphrase=passphrase),
            "auditor.pem": certificates.public_key(auditor),
            "cosign.pub": certificates.public_key(cosign),
            "HKD-8562-0001.crt": host[0].read_bytes(),
            # A header of Secure Execution is opaque but for how it begins.
            "se-hdr.bin": b"IBMSecEx" + bytes(range(256)),
        },
        secrets={
            **_SECRETS,
            "SYSLOG_KEY": guest[1].read_text(),
            "SIGNING_KEY": signing.read_text(),
            "LOCKED_SIGNING_KEY": locked.read_text(),
        },
        runtime=runtime,
        next_runtime=next_runtime,
        auditor=auditor,
    )


def fingerprint(certificate: Path) -> str:
    """SHA-256 of a certificate, as the config pins it."""
    printed = certificates.openssl("x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256")
    return printed.decode().partition("=")[2].strip().replace(":", "").lower()
