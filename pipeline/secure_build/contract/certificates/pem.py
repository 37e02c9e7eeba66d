"""Certificates and revocation lists as files and servers have them: PEM, or one alone as DER.

Reads, and finds out where there is more to read; whom to believe is the business of `chain.py`.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID

from secure_build.errors import UsageError

_PEM = b"-----BEGIN CERTIFICATE-----"
_PEM_LIST = b"-----BEGIN X509 CRL-----"
# A chain has three; each more is one more way to try.
_MOST = 10
# What reading the parts of a certificate may raise.
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


def load(content: bytes, name: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a file, PEM or one as DER; raises UsageError."""
    try:
        found = (
            x509.load_pem_x509_certificates(content)
            if _PEM in content
            else [x509.load_der_x509_certificate(content)]
        )
        for certificate in found:
            # Parts are parsed when they are asked for: here, where an error can name the file.
            _ = (certificate.subject, certificate.issuer, certificate.extensions, certificate.public_key())
            _ = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except MALFORMED:
        raise UsageError(
            f"`{name}` is no certificate that can be read",
            hint="it must be PEM: `-----BEGIN CERTIFICATE-----`",
        ) from None
    if len(found) > _MOST:
        raise UsageError(f"`{name}` has more than {_MOST} certificates")
    return tuple(found)


def load_list(content: bytes, name: str) -> x509.CertificateRevocationList:
    """A revocation list, PEM or DER; raises UsageError."""
    try:
        found = x509.load_pem_x509_crl(content) if _PEM_LIST in content else x509.load_der_x509_crl(content)
        _ = (found.issuer, found.last_update_utc, found.next_update_utc, list(found.extensions))
    except MALFORMED:
        raise UsageError(f"`{name}` is no revocation list that can be read") from None
    return found


def issuer_addresses(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where the certificate of its issuer is published (RFC 5280, 4.2.2.1)."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.CA_ISSUERS
        and isinstance(description.access_location, x509.UniformResourceIdentifier)
    )
