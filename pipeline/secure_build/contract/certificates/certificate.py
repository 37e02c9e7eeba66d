"""The certificate that a contract is encrypted for, and everything that speaks for and against it.

Whoever has the key of a wrong certificate can read the contract with all its secrets. So nothing is
taken on trust: form, dates, who issued it, whether it was revoked, and of which image it is. Pure:
certificates, revocation lists and the time are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from secure_build.contract.certificates import roots, table
from secure_build.contract.certificates.chain import UntrustedError, signer_of, title, trusted_path
from secure_build.contract.certificates.pem import load
from secure_build.contract.certificates.revocation import revocation
from secure_build.contract.certificates.table import Image
from secure_build.errors import RefusedError
from secure_build.model import Basis, Finding, Level

_BITS = 4096
_SOON = timedelta(days=30)
# A certificate and its issuer.
Link = tuple[x509.Certificate, x509.Certificate]
_WHAT = "the encryption certificate"


@dataclass(frozen=True, slots=True)
class EncryptionCertificate:
    """A certificate that is well-formed, and nothing else: `findings` tells whether to use it."""

    certificate: x509.Certificate

    @classmethod
    def parse(cls, content: bytes, name: str) -> tuple[Self, tuple[x509.Certificate, ...]]:
        """The first certificate of a file, and the others; raises UsageError."""
        first, *others = load(content, name)
        return cls(first), tuple(others)

    @property
    def public_key(self) -> RSAPublicKey:
        """The key to encrypt with; raises RefusedError when it is not an RSA key."""
        key = self.certificate.public_key()
        if not isinstance(key, RSAPublicKey):
            raise RefusedError(f"{_WHAT} has no RSA key")
        return key

    @property
    def key(self) -> str:
        """Kind and size of the key, such as `RSA 4096`."""
        key = self.certificate.public_key()
        if isinstance(key, RSAPublicKey):
            return f"RSA {key.key_size}"
        return f"EC {key.curve.name}" if isinstance(key, EllipticCurvePublicKey) else "of another kind"

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate (DER), 64 hexadecimal digits."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    @property
    def subject(self) -> str:
        return self.certificate.subject.rfc4514_string()

    @property
    def issuer(self) -> str:
        return self.certificate.issuer.rfc4514_string()

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def not_before(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def images(self) -> list[Image]:
        """The images that are known to have it."""
        return table.images_of(self.fingerprint)


def findings(
    certificate: EncryptionCertificate,
    *,
    now: datetime,
    target: str | None = None,
    image_version: str | None = None,
    pin: str | None = None,
    chain: Sequence[x509.Certificate] = (),
    lists: Sequence[x509.CertificateRevocationList] = (),
    insecure: bool = False,
) -> list[Finding]:
    """Everything that was checked, what passed too.

    `pin` is the fingerprint that the user vouches for; it takes the place of the way to a root. What
    is revoked is asked where issuers are given: whoever pins a certificate alone has decided that too.
    `insecure` makes a warning of the one failure that neither is there.
    """
    issuers, trust = _trust(certificate, chain, pin, now, insecure=insecure)
    checked = [_key(certificate), _dates(certificate, now), trust]
    checked += [revocation(*link, lists, now) for link in _links(certificate, issuers)]
    if chain and not issuers and trust.level != "fail":
        checked.append(
            _finding(
                "revocation",
                "unknown",
                "could not check whether it was revoked: the certificate of its issuer is not at hand",
            )
        )
    return [*checked, _image(certificate, target, image_version, pinned=pin == certificate.fingerprint)]


def links(
    certificate: EncryptionCertificate,
    *,
    now: datetime,
    pin: str | None,
    chain: Sequence[x509.Certificate],
    insecure: bool,
) -> list[Link]:
    """The certificates that must not have been revoked, each with its issuer; as `findings` asks."""
    return _links(certificate, _trust(certificate, chain, pin, now, insecure=insecure)[0])


def describe(certificate: EncryptionCertificate) -> dict[str, Any]:
    """What identifies a certificate, as plain data; the serial number in hexadecimal."""
    return {
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serial": f"{certificate.serial:x}",
        "not-before": certificate.not_before.isoformat(),
        "not-after": certificate.not_after.isoformat(),
        "sha256": certificate.fingerprint,
        "key": certificate.key,
        "images": [{"target": image.target, "version": image.version} for image in certificate.images],
    }


def _links(certificate: EncryptionCertificate, issuers: Sequence[x509.Certificate]) -> list[Link]:
    return list(pairwise((certificate.certificate, *issuers)))


def _key(certificate: EncryptionCertificate) -> Finding:
    key = certificate.certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        return _finding("key", "fail", f"its key is {certificate.key}, and the runtime decrypts with RSA")
    if key.key_size < _BITS:
        return _finding(
            "key",
            "fail",
            f"its key is {certificate.key}, and the runtimes' have {_BITS} bits",
            basis="inferred",
        )
    return _finding("key", "pass", f"its key is {certificate.key}")


def _dates(certificate: EncryptionCertificate, now: datetime) -> Finding:
    """By the dates, with the codes of the guest's own warnings (IBM's page "About the contract")."""
    first, last = certificate.not_before, certificate.not_after
    if now < first:
        return _finding("dates", "fail", f"it is not valid before {first:%Y-%m-%d %H:%M} UTC")
    if now > last:
        return _finding(
            "dates",
            "fail",
            f"it has expired on {last:%Y-%m-%d}",
            hint="install a newer image and use its certificate",
            runtime_code="HPL12013W",
        )
    if last - now < _SOON:
        return _finding(
            "dates",
            "warn",
            f"it expires on {last:%Y-%m-%d}, in {(last - now).days} days",
            hint="plan for a newer image; its contract is encrypted anew",
            runtime_code="HPL12011W",
        )
    return _finding("dates", "pass", f"it is valid until {last:%Y-%m-%d}")


def _trust(
    certificate: EncryptionCertificate,
    chain: Sequence[x509.Certificate],
    pin: str | None,
    now: datetime,
    *,
    insecure: bool,
) -> tuple[tuple[x509.Certificate, ...], Finding]:
    """Why to believe that it is IBM's, and the issuers that this rests on, its own first."""
    if pin is not None:
        if pin != certificate.fingerprint:
            return (), _finding(
                "trust",
                "fail",
                f"its SHA-256 is {certificate.fingerprint}, and {pin} is wanted",
                hint="find out which is IBM's before you change the config",
            )
        return _known_issuer(certificate, chain), _finding(
            "trust", "pass", f"its SHA-256 is the wanted {pin}"
        )
    try:
        path = trusted_path(certificate.certificate, chain, roots.TRUSTED, now)
    except UntrustedError as error:
        issuers = _known_issuer(certificate, chain) if insecure else ()
        return issuers, _finding(
            "trust",
            "warn" if insecure else "fail",
            f"nothing shows that it is IBM's: {error}",
            hint="give the certificates between it and the root (`chain`), or compare its SHA-256 "
            f"{certificate.fingerprint} with IBM's and pin it (`sha256`)",
        )
    names = " and ".join(f"`{title(issuer.subject)}`" for issuer in path)
    return path, _finding("trust", "pass", f"it was issued by way of {names}")


def _known_issuer(
    certificate: EncryptionCertificate, chain: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    try:
        return (signer_of(certificate.certificate, chain),)
    except UntrustedError:
        return ()


def _image(
    certificate: EncryptionCertificate, target: str | None, version: str | None, *, pinned: bool
) -> Finding:
    """Whether it is that of the installed image, as far as the table of known ones tells.

    Of an image that the table does not have, the user's word counts: its version and a pin.
    """
    known = certificate.images
    listed = ", ".join(map(str, known))
    if target is None or version is None:
        if any(target in (None, image.target) for image in known):
            return _finding("image", "pass", f"it is that of {listed}")
        return _finding(
            "image",
            "unknown",
            f"it is known as that of {listed}, and of no `{target}`"
            if known
            else "it is of no image known here",
            hint="compare its SHA-256 with what came with the image, and name that: `image-version`",
        )
    image = Image(target, version)
    expected = table.FINGERPRINTS.get(image)
    if image in known:
        return _finding("image", "pass", f"it is that of {listed}")
    if known and expected:
        return _finding(
            "image",
            "fail",
            f"it is that of {listed}, and {image} cannot decrypt with it",
            hint=f"take the certificate with SHA-256 {expected}",
        )
    why = f"it is known as that of {listed}, and" if known else "it is of no image known here, and"
    of_image = f"{image} with another one" if expected else f"{image} not at all"
    return _finding(
        "image",
        "warn" if pinned else "unknown",
        f"{why} {of_image}",
        hint="compare its SHA-256 with what came with the image",
    )


def _finding(
    check: str,
    level: Level,
    why: str,
    *,
    basis: Basis = "documented",
    hint: str | None = None,
    runtime_code: str | None = None,
) -> Finding:
    return Finding(f"certificate-{check}", level, _WHAT, why, basis, hint, runtime_code=runtime_code)
