"""The encryption certificate: from where it is to what speaks for it.

Fetches what is not at hand: the published certificate of a version, the issuers that certificates
name, and revocation lists. All of it is judged by `contract/certificates/`, and a list that cannot
be had leaves an `unknown`, no failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from secure_build import files, stopping
from secure_build.contract.certificates import certificate as checks
from secure_build.contract.certificates import roots
from secure_build.contract.certificates.certificate import EncryptionCertificate, Link
from secure_build.contract.certificates.chain import is_signed, open_end
from secure_build.contract.certificates.pem import issuer_addresses, load, load_list
from secure_build.contract.certificates.revocation import addresses, revocation
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.model import Finding
from secure_build.report import Report
from secure_build.steps.downloads import AbsentError, Downloads
from secure_build.steps.job import Job, prepare

_PUBLISHED = (
    "https://hpvsvpcubuntu.s3.us.cloud-object-storage.appdomain.cloud/s390x-{build}/"
    "ibm-hyper-protect-container-runtime-1-0-s390x-{build}-{kind}.crt"
)
_FOLDER = "certificates"
# From the encryption certificate up; the root is at hand.
_MOST_ISSUERS = 4
_LISTS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """Which certificate, what for, and what speaks for it: a `file`, or the `version` of an hpvs image.

    `lists` are files with revocation lists, beside those that are fetched.
    """

    file: Path | None = None
    version: str | None = None
    chain: Path | None = None
    lists: tuple[Path, ...] = ()
    sha256: str | None = None
    target: str | None = None
    image_version: str | None = None
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class CheckedCertificate:
    """A certificate and what is to be said of it."""

    certificate: EncryptionCertificate
    findings: tuple[Finding, ...]


def encryption_certificate(work: Job) -> tuple[EncryptionCertificate, tuple[Finding, ...]]:
    """The config's certificate, for encrypting; raises RefusedError when a check of it failed.

    Its findings are not shown yet.
    """
    checked = configured_certificate(work)
    for finding in checked.findings:
        if finding.level == "fail":
            raise RefusedError(f"nothing is encrypted: {finding.what}: {finding.why}", hint=finding.hint)
    return checked.certificate, checked.findings


def configured_certificate(work: Job) -> CheckedCertificate:
    """The config's certificate and all that was checked; raises UsageError when it names none."""
    if not work.certificates:
        work.certificates.append(_configured(work))
    return work.certificates[0]


def _configured(work: Job) -> CheckedCertificate:
    encrypt = work.loaded.config.encrypt
    if encrypt.certificate is None:
        raise UsageError(
            f"`{work.loaded.path}` names no encryption certificate", hint="add `encrypt: certificate:`"
        )
    named, folder = encrypt.certificate, work.loaded.directory
    asked = Asked(
        file=folder / named.file if named.file else None,
        version=named.version,
        chain=folder / named.chain if named.chain else None,
        sha256=named.sha256,
        target=work.loaded.config.target,
        image_version=work.options.image_version or encrypt.image_version or named.version,
        insecure=work.options.insecure_unverified_certificate,
    )
    return _checked(asked, Downloads(work.options.workdir / _FOLDER, work.options.offline), work.report)


def single_certificate(asked: Asked, workdir: Path, report: Report, *, offline: bool) -> CheckedCertificate:
    """A certificate that no config names; what is fetched for it is kept in the work folder."""
    prepare(workdir)
    return _checked(asked, Downloads(workdir / _FOLDER, offline), report)


def _checked(asked: Asked, downloads: Downloads, report: Report) -> CheckedCertificate:
    now = datetime.now(UTC)
    search = _Search(downloads, report, now)
    certificate, chain = search.certificate(asked)
    if asked.chain is not None:
        chain += load(files.read(asked.chain), str(asked.chain))
    # What is pinned needs no way to a root, only its issuer, who says what was revoked.
    chain = search.complete(certificate, chain, only_own=asked.sha256 is not None)
    links = checks.links(certificate, now=now, pin=asked.sha256, chain=chain, insecure=asked.insecure)
    found = checks.findings(
        certificate,
        now=now,
        target=asked.target,
        image_version=asked.image_version,
        pin=asked.sha256,
        chain=chain,
        lists=[*(load_list(files.read(path), str(path)) for path in asked.lists), *search.lists(links)],
        insecure=asked.insecure,
    )
    return CheckedCertificate(certificate, tuple(found))


@dataclass(frozen=True, slots=True)
class _Search:
    """Everything that is fetched for one certificate."""

    downloads: Downloads
    report: Report
    now: datetime

    def certificate(self, asked: Asked) -> tuple[EncryptionCertificate, tuple[x509.Certificate, ...]]:
        """The certificate, and others that came with it."""
        if asked.file is not None:
            return EncryptionCertificate.parse(files.read(asked.file), str(asked.file))
        assert asked.version is not None
        build = asked.version.rpartition(".")[2]
        try:
            first, *others = self.downloads.get(
                _PUBLISHED.format(build=build, kind="encrypt"), load, self._is_valid
            )
        except AbsentError as error:
            raise UsageError(
                f"there is no published certificate of the image {asked.version}: {error.message}",
                hint="correct the version, or name the file that came with the image: `file`",
            ) from None
        issuers = self._optional(_PUBLISHED.format(build=build, kind="intermediate"), first, plain=False)
        return EncryptionCertificate(first), (*others, *issuers)

    def complete(
        self, certificate: EncryptionCertificate, chain: tuple[x509.Certificate, ...], *, only_own: bool
    ) -> tuple[x509.Certificate, ...]:
        """The chain with the issuers that its certificates name, as far as they can be had.

        `only_own`: no other than that of the certificate itself.
        """
        for _ in range(_MOST_ISSUERS):
            end = open_end(certificate.certificate, chain, roots.TRUSTED)
            if end is None or (only_own and end != certificate.certificate):
                break
            urls = issuer_addresses(end)
            found = next(filter(None, (self._optional(url, end, plain=True) for url in urls)), ())
            if not found:
                break
            chain += found
        return chain

    def lists(self, links: list[Link]) -> list[x509.CertificateRevocationList]:
        """The revocation lists that the certificates name, as far as they can be had."""
        wanted = [(*link, url) for link in links for url in addresses(link[0])]
        found = stopping.side_by_side(lambda one: self._list(*one), wanted, jobs=_LISTS_AT_ONCE)
        return [revoked for revoked in found if revoked is not None]

    def _list(
        self, certificate: x509.Certificate, issuer: x509.Certificate, url: str
    ) -> x509.CertificateRevocationList | None:
        def tells(revoked: x509.CertificateRevocationList) -> bool:
            return revocation(certificate, issuer, [revoked], self.now).level != "unknown"

        try:
            return self.downloads.get(url, load_list, tells, plain=True)
        except SecureBuildError as error:
            self.report.step(f"no revocation list: {error.message}")
            return None

    def _optional(self, url: str, below: x509.Certificate, *, plain: bool) -> tuple[x509.Certificate, ...]:
        """The certificates at an address, where the issuer of `below` should be."""

        def has_issuer(found: tuple[x509.Certificate, ...]) -> bool:
            return any(is_signed(below, one) for one in found)

        try:
            found = self.downloads.get(url, load, has_issuer, plain=plain)
        except SecureBuildError as error:
            self.report.step(f"no issuer's certificate: {error.message}")
            return ()
        return found if has_issuer(found) else ()

    def _is_valid(self, found: tuple[x509.Certificate, ...]) -> bool:
        return found[0].not_valid_after_utc >= self.now
