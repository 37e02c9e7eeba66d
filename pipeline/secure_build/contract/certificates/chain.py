"""The way from an encryption certificate to a trusted root, as IBM's page on validating certificates has it.

encryption certificate <- IBM's signing certificate <- DigiCert's code signing authority <- root.

IBM's signing certificate is no authority, it is one for signing code; so what it signed is checked
here, and by no general path validation. Every holder of such a certificate could sign like this:
what counts is that DigiCert gave this one to IBM. Revocation is the business of `revocation.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, SignatureAlgorithmOID

OWNER = "International Business Machines Corporation"
_HASHES = frozenset({"sha256", "sha384", "sha512"})
# Extensions whose meaning is taken into account; any other that is critical ends the way (RFC 5280, 4.2).
_UNDERSTOOD = frozenset(
    {ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE, ExtensionOID.EXTENDED_KEY_USAGE}
)
_MOST_AUTHORITIES = 4
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_BAD_SIGNATURE = (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError)


class UntrustedError(Exception):
    """Why there is no way to a root; the text is a sentence without its full stop."""


def trusted_path(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[x509.Certificate, ...]:
    """The issuers from IBM's signing certificate to the root; raises UntrustedError.

    `others` may be in any order, and more than are needed. The dates of `certificate` itself are
    not looked at.
    """
    _check_extensions(certificate)
    signer = signer_of(certificate, others)
    _check_signer(signer, now)
    return (signer, *_authorities(signer, others, roots, now, below=0))


def signer_of(certificate: x509.Certificate, others: Sequence[x509.Certificate]) -> x509.Certificate:
    """The certificate whose key signed this one with RSA and SHA-512; raises UntrustedError."""
    issuers = [other for other in others if other.subject == certificate.issuer]
    if not issuers and certificate.issuer == certificate.subject:
        raise UntrustedError("it is signed by itself, and not by IBM")
    if not issuers:
        raise UntrustedError(f"the certificate of its issuer, `{title(certificate.issuer)}`, is not at hand")
    if certificate.signature_algorithm_oid != SignatureAlgorithmOID.RSA_WITH_SHA512:
        raise UntrustedError("it is not signed with RSA and SHA-512")
    for issuer in issuers:
        if is_signed(certificate, issuer):
            return issuer
    raise UntrustedError(f"it has no valid signature of `{title(certificate.issuer)}`")


def open_end(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
) -> x509.Certificate | None:
    """The certificate whose issuer is not at hand, on the way up; None when a root is reached."""
    for _ in range(_MOST_AUTHORITIES + 1):
        if any(is_signed(certificate, root) for root in roots):
            return None
        issuer = next((other for other in others if is_signed(certificate, other)), None)
        if issuer is None:
            return certificate
        certificate = issuer
    return None


def is_signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the issuer's name and key are those that the certificate was signed with."""
    try:
        algorithm = certificate.signature_hash_algorithm
        certificate.verify_directly_issued_by(issuer)
    except _BAD_SIGNATURE:
        return False
    return algorithm is not None and algorithm.name in _HASHES


def title(name: x509.Name) -> str:
    """What people call the holder of a name: its unit, where there is one, and its common name."""
    parts = [
        str(attribute.value)
        for oid in (NameOID.COMMON_NAME, NameOID.ORGANIZATIONAL_UNIT_NAME)
        for attribute in name.get_attributes_for_oid(oid)
    ]
    return ", ".join(parts) or name.rfc4514_string()


def _authorities(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
    *,
    below: int,
) -> tuple[x509.Certificate, ...]:
    """The issuers of a certificate up to a root; `below` authorities are between it and the signer."""
    issuer_name = title(certificate.issuer)
    if below == _MOST_AUTHORITIES:
        raise UntrustedError("its chain is too long")
    why = f"the certificate of `{issuer_name}` is not at hand"
    for issuer in (*roots, *others):
        if issuer.subject != certificate.issuer or issuer == certificate:
            continue
        try:
            if not is_signed(certificate, issuer):
                raise UntrustedError(
                    f"`{title(certificate.subject)}` has no valid signature of `{issuer_name}`"
                )
            _check_authority(issuer, now, below)
            if issuer in roots:
                return (issuer,)
            return (issuer, *_authorities(issuer, others, roots, now, below=below + 1))
        except UntrustedError as error:
            why = str(error)
    raise UntrustedError(why)


def _check_signer(signer: x509.Certificate, now: datetime) -> None:
    """IBM's signing certificate: given to IBM by an authority, for signing code."""
    name = title(signer.subject)
    owners = [
        attribute.value for attribute in signer.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    ]
    if owners != [OWNER]:
        raise UntrustedError(f"`{name}`, which signed it, is not a certificate of {OWNER}")
    _check_extensions(signer)
    _check_dates(signer, now)
    if not _may_sign_code(signer, when_silent=False):
        raise UntrustedError(f"`{name}` is not for signing code")
    usage = _extension(signer, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        raise UntrustedError(f"`{name}` is not for signing")


def _check_authority(authority: x509.Certificate, now: datetime, below: int) -> None:
    name = title(authority.subject)
    _check_extensions(authority)
    _check_dates(authority, now)
    constraints = _extension(authority, x509.BasicConstraints)
    usage = _extension(authority, x509.KeyUsage)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        raise UntrustedError(f"`{name}` is not an authority")
    if constraints.path_length is not None and constraints.path_length < below:
        raise UntrustedError(f"`{name}` does not allow as many authorities below it")
    if not _may_sign_code(authority, when_silent=True):
        raise UntrustedError(f"`{name}` is not an authority for signing code")


def _may_sign_code(certificate: x509.Certificate, *, when_silent: bool) -> bool:
    uses = _extension(certificate, x509.ExtendedKeyUsage)
    return when_silent if uses is None else ExtendedKeyUsageOID.CODE_SIGNING in uses


def _check_extensions(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise UntrustedError(
                f"`{title(certificate.subject)}` has the critical extension {extension.oid.dotted_string}, "
                "whose meaning is not known here"
            )


def _check_dates(certificate: x509.Certificate, now: datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise UntrustedError(
            f"`{title(certificate.subject)}` is valid from {certificate.not_valid_before_utc:%Y-%m-%d} only"
        )
    if now > certificate.not_valid_after_utc:
        raise UntrustedError(
            f"`{title(certificate.subject)}` has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
        )


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
