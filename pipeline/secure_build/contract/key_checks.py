"""Checks of the public keys that a contract carries in plain text.

Whether a signature is right is not checked here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from secure_build.contract.schema import encodings
from secure_build.contract.section_checks import finding
from secure_build.model import Finding

_PEM = encodings.PEM_START.encode()
# The runtime gives notice daily from here on (IBM's page "About the contract", expiry).
_SOON = timedelta(days=30)


def attestation_key(value: str, where: str) -> Iterator[Finding]:
    """Whether the attestation record can be encrypted for a key."""
    pem, layers = _unwrapped(value)
    if not isinstance(_loaded(pem), RSAPublicKey):
        yield finding(
            "attestation-key",
            "`attestationPublicKey`",
            "must be an RSA public key: PEM text (`PUBLIC KEY`), base64 of it, or a token",
            code="HPL11002E",
            where=where,
        )
    elif layers:
        why = "is base64 of PEM, which IBM documents and the published schema does not have"
        yield finding("attestation-key", "`attestationPublicKey`", why, level="pass", where=where)


def signing_key(value: str, now: datetime, where: str) -> Iterator[Finding]:
    """Whether `signingKey` can check a signature now."""
    pem, layers = _unwrapped(value)
    key = _loaded(pem)
    public = key.public_key() if isinstance(key, x509.Certificate) else key
    if not isinstance(public, RSAPublicKey):
        yield finding(
            "signing-key",
            "`signingKey`",
            "must hold an RSA public key: PEM text (`PUBLIC KEY` or `CERTIFICATE`), or base64 of it",
            basis="inferred",
            code="HPL12003E",
            where=where,
        )
        return
    if layers > 1:
        yield finding(
            "signing-key",
            "`signingKey`",
            "is in base64 twice, and whether the runtime takes that is not known",
            level="warn",
            basis="inferred",
            hint="encode the PEM text once",
            where=where,
        )
    if isinstance(key, x509.Certificate):
        yield from _dates(key, now, where)


def _dates(certificate: x509.Certificate, now: datetime, where: str) -> Iterator[Finding]:
    last = certificate.not_valid_after_utc
    if now > last:
        why = f"its certificate ended on {last:%Y-%m-%d}, so the guest does not start"
        hint = "sign the contract again, with a new certificate"
        yield finding("signing-key", "`signingKey`", why, code="HPL12007E", hint=hint, where=where)
    elif now < certificate.not_valid_before_utc:
        why = f"its certificate begins on {certificate.not_valid_before_utc:%Y-%m-%d}"
        yield finding("signing-key", "`signingKey`", why, basis="inferred", code="HPL12001E", where=where)
    elif now + _SOON > last:
        why = f"its certificate ends on {last:%Y-%m-%d}; after that the guest does not start"
        yield finding("signing-key", "`signingKey`", why, level="warn", code="HPL12006E", where=where)


def _unwrapped(value: str) -> tuple[bytes, int]:
    """The PEM text behind up to two layers of base64, and how many there were."""
    content, layers = value.encode(), 0
    while not content.lstrip().startswith(_PEM) and layers < 2:
        decoded = encodings.grouped(content.decode("ascii", "replace"))
        if decoded is None:
            break
        content, layers = decoded, layers + 1
    return content, layers


def _loaded(pem: bytes) -> object:
    """The key or certificate in PEM text; None for what is neither."""
    try:
        if pem.lstrip().startswith(_PEM + b"CERTIFICATE"):
            return x509.load_pem_x509_certificate(pem)
        return serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        return None
