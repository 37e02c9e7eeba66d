"""Whether a certificate has been revoked, as far as revocation lists that are at hand tell (RFC 5280, 6.3).

A list says something only when the issuer of the certificate signed it, when it covers the
certificate, and until its next update. What no list can tell is unknown: neither good nor bad.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import ExtensionOID

from secure_build.contract.certificates.chain import title
from secure_build.model import Finding, Level

_HASHES = frozenset({"sha256", "sha384", "sha512"})


def revocation(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    lists: Sequence[x509.CertificateRevocationList],
    now: datetime,
) -> Finding:
    """What the lists say of a certificate that `issuer` signed.

    A serial number that was ever revoked stays so: an outdated list still tells that.
    """
    own = [revoked for revoked in lists if _is_signed(revoked, issuer)]
    covering = [revoked for revoked in own if _covers(revoked, certificate)]
    for revoked in covering:
        entry = revoked.get_revoked_certificate_by_serial_number(certificate.serial_number)
        if entry is not None:
            return _finding(
                certificate, "fail", f"its issuer revoked it on {entry.revocation_date_utc:%Y-%m-%d}"
            )
    current = [revoked for revoked in covering if _is_current(revoked, now)]
    if current:
        return _finding(certificate, "pass", "its issuer has not revoked it")
    if covering:
        why = "the revocation list of its issuer is outdated"
    elif own:
        why = "the revocation list of its issuer does not cover it"
    elif any(revoked.issuer == certificate.issuer for revoked in lists):
        why = "the revocation list has no valid signature of its issuer"
    else:
        why = "the revocation list of its issuer is not at hand"
    return _finding(certificate, "unknown", f"could not check whether it was revoked: {why}")


def addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where its issuer publishes the revocation list."""
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return ()
    # A point with a relative name, for some reasons only or with another issuer is not all there is.
    names = [point.full_name or () for point in points if not point.reasons and not point.crl_issuer]
    return tuple(address for listed in names for address in _addresses(listed))


def next_update(revoked: x509.CertificateRevocationList) -> datetime | None:
    """Until when a list is current, None where it does not say."""
    return revoked.next_update_utc


def _is_current(revoked: x509.CertificateRevocationList, now: datetime) -> bool:
    until = next_update(revoked)
    return until is not None and revoked.last_update_utc <= now <= until


def _is_signed(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        algorithm = revoked.signature_hash_algorithm
        signed = revoked.issuer == issuer.subject and revoked.is_signature_valid(
            issuer.public_key()  # type: ignore[arg-type]  # others raise TypeError
        )
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False
    return signed and algorithm is not None and algorithm.name in _HASHES


def _covers(revoked: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    """Whether a list is complete, and is for this certificate (RFC 5280, 5.2.5)."""
    for extension in revoked.extensions:
        point = extension.value
        if isinstance(point, x509.IssuingDistributionPoint):
            if not _is_point_of(point, certificate):
                return False
        elif extension.critical or extension.oid == ExtensionOID.DELTA_CRL_INDICATOR:
            return False
    return True


def _is_point_of(point: x509.IssuingDistributionPoint, certificate: x509.Certificate) -> bool:
    if point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs:
        return False
    if point.only_contains_ca_certs if not _is_authority(certificate) else point.only_contains_user_certs:
        return False
    named = set(_addresses(point.full_name or ()))
    return point.relative_name is None and (not named or bool(named & set(addresses(certificate))))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _addresses(names: Iterable[x509.GeneralName]) -> list[str]:
    return [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]


def _finding(certificate: x509.Certificate, level: Level, why: str) -> Finding:
    return Finding("certificate-revocation", level, f"`{title(certificate.subject)}`", why)
