"""What a certificate of sigstore's authority says: who signs, and who has confirmed that."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509

# The issuer of the OIDC token: a DER string in the newer extension, the bare text in the older.
_ISSUER, _OLD_ISSUER = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}") for number in (8, 1))


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a certificate names, and who confirmed that; both exactly as they stand there."""

    name: str
    issuer: str

    def __str__(self) -> str:
        return f"{self.name} (confirmed by {self.issuer})"


def identity_of(certificate: x509.Certificate) -> Identity:
    """Whom the certificate names.

    Raises ValueError when that is not one mail address or URI, or could disguise itself on a screen, and
    KeyError or ExtensionNotFound when something is missing.
    """
    # Not for everybody: releases of `cryptography` that have no sigstore beside them may lack it.
    from cryptography.hazmat import asn1

    extensions = certificate.extensions
    names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    if len(names) != 1 or not isinstance(names[0], x509.RFC822Name | x509.UniformResourceIdentifier):
        raise ValueError("the certificate does not name one mail address or URI")
    values = {one.oid: getattr(one.value, "value", b"") for one in extensions}
    issuer = asn1.decode_der(str, values[_ISSUER]) if _ISSUER in values else values[_OLD_ISSUER].decode()
    if not (names[0].value.isprintable() and issuer.isprintable()):
        raise ValueError("the certificate has control characters in its names")
    return Identity(names[0].value, issuer)
