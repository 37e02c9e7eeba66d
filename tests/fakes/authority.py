"""Certificates and revocation lists for tests, issued by authorities of our own like IBM's by DigiCert's."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

IBM = "International Business Machines Corporation"
DAY = timedelta(days=1)

_USES = (
    "digital_signature content_commitment key_encipherment data_encipherment key_agreement "
    "key_cert_sign crl_sign encipher_only decipher_only"
).split()


def usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _USES})


def extended(*uses: x509.ObjectIdentifier) -> x509.ExtendedKeyUsage:
    return x509.ExtendedKeyUsage(uses)


def unknown() -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")


def lists_at(*urls: str) -> x509.CRLDistributionPoints:
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.CRLDistributionPoints([x509.DistributionPoint(names, None, None, None)])


def issuer_at(url: str) -> x509.AuthorityInformationAccess:
    place = x509.UniformResourceIdentifier(url)
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, place)]
    )


@functools.cache
def rsa_key(who: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Always the same key for the same name: making one takes a while."""
    return rsa.generate_private_key(65537, bits)


def curve_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def name_of(common: str, organization: str | None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


@dataclass(frozen=True)
class Plan:
    """How a certificate is made; `extensions` by their class, critical where `critical` names it."""

    common: str
    extensions: tuple[x509.ExtensionType, ...] = ()
    critical: tuple[type[x509.ExtensionType], ...] = ()
    organization: str | None = None
    algorithm: hashes.HashAlgorithm = field(default_factory=hashes.SHA384)
    starts: timedelta = -30 * DAY
    ends: timedelta = 300 * DAY
    bits: int = 2048
    key: Any = None
    serial: int | None = None


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def revoke(
        self,
        *serials: int,
        now: datetime,
        starts: timedelta = -DAY,
        ends: timedelta = 6 * DAY,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (),
        name: x509.Name | None = None,
        key: Any = None,
        algorithm: hashes.HashAlgorithm | None = None,
    ) -> x509.CertificateRevocationList:
        """A revocation list with these serial numbers."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(name or self.certificate.subject)
            .last_update(now + starts)
            .next_update(now + ends)
        )
        for serial in serials:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(key or self.key, algorithm or hashes.SHA512())


def issue(plan: Plan, issuer: Issued | None, now: datetime) -> Issued:
    """A certificate by `issuer`, or one that signs itself."""
    key = plan.key or rsa_key(plan.common, plan.bits)
    subject = name_of(plan.common, plan.organization)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(plan.serial or x509.random_serial_number())
        .not_valid_before(now + plan.starts)
        .not_valid_after(now + plan.ends)
    )
    for extension in plan.extensions:
        builder = builder.add_extension(extension, type(extension) in plan.critical)
    return Issued(builder.sign(issuer.key if issuer else key, plan.algorithm), key)


_AUTHORITY = (usage("key_cert_sign", "crl_sign"),)
PLANS: Mapping[str, Plan] = {
    "root": Plan(
        "Test Root",
        (x509.BasicConstraints(ca=True, path_length=None), *_AUTHORITY),
        (x509.BasicConstraints, x509.KeyUsage),
    ),
    "authority": Plan(
        "Test Code Signing CA",
        (
            x509.BasicConstraints(ca=True, path_length=0),
            *_AUTHORITY,
            extended(ExtendedKeyUsageOID.CODE_SIGNING),
        ),
        (x509.BasicConstraints, x509.KeyUsage),
    ),
    "signer": Plan(
        IBM,
        (
            x509.BasicConstraints(ca=False, path_length=None),
            usage("digital_signature"),
            extended(ExtendedKeyUsageOID.CODE_SIGNING),
        ),
        (x509.KeyUsage,),
        organization=IBM,
    ),
    "leaf": Plan("Test Contract Encryption", organization="IBM", bits=4096, algorithm=hashes.SHA512()),
}


@dataclass(frozen=True)
class Hierarchy:
    """An encryption certificate and its issuers; `now` is the time it was made for."""

    root: Issued
    authority: Issued
    signer: Issued
    leaf: Issued
    now: datetime

    @property
    def chain(self) -> tuple[x509.Certificate, ...]:
        return self.signer.certificate, self.authority.certificate


def hierarchy(now: datetime = datetime(2026, 6, 1, tzinfo=UTC), **plans: Plan) -> Hierarchy:
    """The usual four certificates, some of them made by other plans."""
    made: dict[str, Issued] = {}
    issuer: Issued | None = None
    for name, usual in PLANS.items():
        issuer = made[name] = issue(plans.get(name, usual), issuer, now)
    return Hierarchy(**made, now=now)


def changed(kind: str, *extensions: x509.ExtensionType, critical: bool = False) -> dict[str, Plan]:
    """The plan of one certificate with these extensions in the place of its own of these kinds."""
    plan = PLANS[kind]
    replaced = {type(extension) for extension in extensions}
    kept = [extension for extension in plan.extensions if type(extension) not in replaced]
    return {
        kind: replace(
            plan,
            extensions=(*kept, *extensions),
            critical=(*plan.critical, *replaced) if critical else plan.critical,
        )
    }


def lacking(kind: str, extension: type[x509.ExtensionType]) -> dict[str, Plan]:
    plan = PLANS[kind]
    return {kind: replace(plan, extensions=tuple(e for e in plan.extensions if not isinstance(e, extension)))}


def dated(kind: str, starts: timedelta, ends: timedelta) -> dict[str, Plan]:
    return {kind: replace(PLANS[kind], starts=starts, ends=ends)}


# Ways to the root that must not be believed, and why.
UNTRUSTED: Mapping[str, tuple[dict[str, Plan], str]] = {
    "owner": (
        {"signer": replace(PLANS["signer"], organization="Mallory")},
        "is not a certificate of Internat",
    ),
    "no owner": (
        {"signer": replace(PLANS["signer"], organization=None)},
        "is not a certificate of International",
    ),
    "signer without purpose": (lacking("signer", x509.ExtendedKeyUsage), "is not for signing code"),
    "signer for servers": (
        changed("signer", extended(ExtendedKeyUsageOID.SERVER_AUTH)),
        "is not for signing code",
    ),
    "signer not for signing": (changed("signer", usage("key_encipherment")), "is not for signing"),
    "signer critical": (
        changed("signer", unknown(), critical=True),
        "critical extension 1.3.6.1.4.1.99999.1",
    ),
    "authority critical": (
        changed("authority", unknown(), critical=True),
        "critical extension 1.3.6.1.4.1.99999.1",
    ),
    "leaf critical": (changed("leaf", unknown(), critical=True), "critical extension 1.3.6.1.4.1.99999.1"),
    "signer expired": (dated("signer", -9 * DAY, -DAY), "has expired on 2026-05-31"),
    "signer not yet": (dated("signer", DAY, 9 * DAY), "is valid from 2026-06-02 only"),
    "authority expired": (
        dated("authority", -9 * DAY, -DAY),
        "`Test Code Signing CA` has expired on 2026-05-31",
    ),
    "root expired": (dated("root", -9 * DAY, -DAY), "`Test Root` has expired on 2026-05-31"),
    "no authority": (
        changed("authority", x509.BasicConstraints(ca=False, path_length=None)),
        "is not an authority",
    ),
    "authority without constraints": (lacking("authority", x509.BasicConstraints), "is not an authority"),
    "authority without usage": (lacking("authority", x509.KeyUsage), "is not an authority"),
    "authority not for certificates": (changed("authority", usage("crl_sign")), "is not an authority"),
    "authority for servers": (
        changed("authority", extended(ExtendedKeyUsageOID.SERVER_AUTH)),
        "not an authority for signing code",
    ),
    "path length": (
        changed("root", x509.BasicConstraints(ca=True, path_length=0)),
        "does not allow as many authorities",
    ),
    "leaf with SHA-256": (
        {"leaf": replace(PLANS["leaf"], algorithm=hashes.SHA256())},
        "it is not signed with RSA and SHA-512",
    ),
    "signer with a short hash": (
        {"signer": replace(PLANS["signer"], algorithm=hashes.SHA224())},
        "has no valid signature of `Test Code Signing CA`",
    ),
    "signer with a curve": (
        {"signer": replace(PLANS["signer"], key=curve_key())},
        "it is not signed with RSA and SHA-512",
    ),
}
