"""audit: from a machine's attestation record to what it was given to run, link by link.

Each link is computed from bytes that are at hand, and rests on the links before it: what was to come after
a broken one is unknown, not bad, so that the one that fails is the one to look at. What was not given is
unknown too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from secure_build import files, secret
from secure_build.audited import Audited, Link
from secure_build.contract import attestation, document
from secure_build.contract.attestation import AttestationRecord
from secure_build.contract.deployment import expected
from secure_build.contract.encryption import disclosure, key_material, token
from secure_build.contract.encryption.token import Token, looks_like_token
from secure_build.errors import RefusedError, UsageError
from secure_build.model import Finding, Level
from secure_build.report import Report
from secure_build.steps.certificates import Asked, CheckedCertificate, single_certificate
from secure_build.steps.show import parts_of

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the command line says. `passphrase` is the name of a secret."""

    attested: Path
    signature: Path | None = None
    certificate: Path | None = None
    chain: Path | None = None
    sha256: str | None = None
    crls: tuple[Path, ...] = ()
    known: Path | None = None
    contract: Path | None = None
    expect: Path | None = None
    disclosures: tuple[Path, ...] = ()
    encryption_certificate: Path | None = None
    key: Path | None = None
    passphrase: str | None = None
    workdir: Path = Path(".secure-build")
    offline: bool = False


def audit(options: AuditOptions, report: Report) -> Audited:
    """The chain; raises UsageError for files that are none of what they should be."""
    work = _Audit(options, report)
    content = work.opened_record()
    record = attestation.parse(content, str(options.attested))
    work.link("certificate", "The attestation certificate is IBM's", work.certificate)
    work.link(
        "record", "The record is signed with the attestation certificate", lambda: work.signature(content)
    )
    work.link("image", "The image is a published one", lambda: work.image(record), needs=("record",))
    work.link(
        "sections", "The machine was given this contract", lambda: work.sections(record), needs=("record",)
    )
    if options.expect is not None:
        work.link("expected", "It shows what was expected", lambda: work.expected(record), needs=("record",))
    if options.disclosures:
        work.link("tokens", "The tokens hold what was disclosed", work.tokens, needs=("sections",))
    return Audited(str(options.attested), record.version, tuple(work.links))


@dataclass(slots=True)
class _Audit:
    """One audit; `links` are those that were looked at so far."""

    options: AuditOptions
    report: Report
    links: list[Link] = field(default_factory=list)
    checked: CheckedCertificate | None = None

    def link(
        self, name: str, title: str, look: Callable[[], Iterable[Finding]], *, needs: tuple[str, ...] = ()
    ) -> None:
        broken = [one for one in self.links if one.name in needs and one.level in ("fail", "deferred")]
        if broken:
            findings = [_finding(name, "deferred", title, f"not looked at: `{broken[0].name}` does not hold")]
        else:
            findings = list(look())
        self.links.append(Link(name, title, tuple(findings)))

    def opened_record(self) -> bytes:
        """The bytes of the record as they were signed, decrypted where it is encrypted."""
        path = self.options.attested
        content = files.read(path, at_most=attestation.LARGEST, what="the attestation record")
        text = content.decode("ascii", errors="replace").strip()
        if not looks_like_token(text):
            return content
        if self.options.key is None:
            raise UsageError(f"`{path}` is encrypted", hint="name the key that opens it: `--key FILE`")
        try:
            return token.decrypt(Token.parse(text, str(path)), self._key())
        except RefusedError as error:
            raise RefusedError(f"`{path}`: {error.message}", hint=error.hint) from None

    def certificate(self) -> Iterable[Finding]:
        if self.options.certificate is None:
            yield _absent("certificate", "the attestation certificate", "--certificate")
            return
        asked = Asked(
            file=self.options.certificate,
            chain=self.options.chain,
            sha256=self.options.sha256,
            lists=self.options.crls,
        )
        self.checked = single_certificate(
            asked, self.options.workdir, self.report, offline=self.options.offline
        )
        for one in self.checked.findings:
            # Which images have which attestation certificate is not known here; the record names its image.
            if one.check != "certificate-image":
                what = one.what.replace("the encryption certificate", "the attestation certificate")
                yield replace(one, what=what)

    def signature(self, content: bytes) -> Iterable[Finding]:
        what = "the attestation record"
        if self.options.signature is None:
            yield _absent("record", "its signature", "--signature")
        elif self.checked is None:
            yield _absent("record", "the attestation certificate", "--certificate")
        elif attestation.is_signed(
            content, files.read(self.options.signature, at_most=1 << 16), self.checked.certificate.public_key
        ):
            yield _finding(
                "record", "pass", what, "its signature is by the key of the attestation certificate"
            )
        else:
            why = "its signature is not by the key of the attestation certificate, or it was changed"
            hint = "the certificate must be that of the image's version; take both files anew, as they are"
            yield _finding("record", "fail", what, why, hint, where=str(self.options.attested))

    def image(self, record: AttestationRecord) -> Iterable[Finding]:
        if self.options.known is None:
            yield _absent("image", "the published hashes of images", "--known")
            return
        path = self.options.known
        known = attestation.known_values(files.read(path, at_most=attestation.LARGEST), str(path))
        values = known.get(record.version or "")
        what = f"the image {record.version or 'without a version'}"
        if values is None:
            yield _finding(
                "image", "unknown", what, f"`{path}` has no hashes of it", "add those that IBM publishes"
            )
            return
        for name, digest in values.items():
            shown = record.digests(name)
            if shown == (digest,):
                yield _finding(
                    "image", "pass", f"{what}: {name}", f"it is the published {digest.hexadecimal}"
                )
            else:
                seen = ", ".join(one.hexadecimal for one in shown) or "nothing"
                why = f"the record shows {seen}, and published is {digest.hexadecimal}"
                yield _finding("image", "fail", f"{what}: {name}", why, where=str(self.options.attested))

    def sections(self, record: AttestationRecord) -> Iterable[Finding]:
        if self.options.contract is None:
            yield _absent("sections", "the contract as it was delivered", "--contract")
            return
        values = self._values()
        for line in expected.of_sections(values):
            yield self._compared(
                "sections", record, line.name, line.digest.hexadecimal, str(self.options.contract)
            )
        named = {f"contract:{name}" for name in values}
        for shown in record.lines:
            if shown.name.startswith("contract:") and shown.name not in named:
                why = "the machine was given it, and this contract does not have it"
                yield _finding("sections", "fail", shown.name, why, where=str(self.options.contract))

    def expected(self, record: AttestationRecord) -> Iterable[Finding]:
        path = self.options.expect
        assert path is not None
        wanted = attestation.parse(files.read(path, at_most=attestation.LARGEST), str(path))
        for line in wanted.lines:
            yield self._compared("expected", record, line.name, line.digest.hexadecimal, str(path))

    def tokens(self) -> Iterable[Finding]:
        values = self._values() if self.options.contract is not None else {}
        if not values:
            yield _absent("tokens", "the contract as it was delivered", "--contract")
            return
        if self.options.encryption_certificate is None:
            yield _absent("tokens", "the certificate that it was encrypted for", "--encryption-certificate")
            return
        key = key_material.public_key(
            files.read(self.options.encryption_certificate), f"`{self.options.encryption_certificate}`"
        )
        for path in self.options.disclosures:
            claimed = disclosure.unseal(files.read(path, at_most=1 << 20), self._key(), f"`{path}`")
            value = values.get(claimed.section, "")
            what = f"contract:{claimed.section}"
            if not looks_like_token(value):
                yield _finding("tokens", "fail", what, "the contract has no token of it", where=str(path))
                continue
            try:
                text = claimed.plaintext(Token.parse(value, what), key)
            except RefusedError as error:
                yield _finding("tokens", "fail", what, error.message, error.hint, where=str(path))
                continue
            why = f"made again from what was disclosed, byte for byte: {len(text)} bytes of plain text"
            yield _finding("tokens", "pass", what, why)

    def _compared(self, check: str, record: AttestationRecord, name: str, wanted: str, where: str) -> Finding:
        shown = [one.hexadecimal for one in record.digests(name)]
        if shown == [wanted]:
            return _finding(check, "pass", name, f"the record shows it: {wanted}")
        seen = f"the record shows {', '.join(shown)}" if shown else "the record does not show it"
        return _finding(check, "fail", name, f"{seen}, and its hash is {wanted}", where=where)

    def _values(self) -> dict[str, str]:
        path = self.options.contract
        assert path is not None
        return parts_of(files.read(path, at_most=document.LARGEST), str(path))[1]

    def _key(self) -> RSAPrivateKey:
        if self.options.key is None:
            raise UsageError("a disclosure opens with the auditor's key", hint="name it: `--key FILE`")
        passphrase = secret.look_up(self.options.passphrase) if self.options.passphrase else None
        return key_material.private_key(files.read(self.options.key), passphrase, f"`{self.options.key}`")


def _finding(
    check: str, level: Level, what: str, why: str, hint: str | None = None, *, where: str | None = None
) -> Finding:
    return Finding(f"audit-{check}", level, what, why, hint=hint, where=where)


def _absent(check: str, what: str, flag: str) -> Finding:
    return _finding(check, "unknown", what, "it was not given", f"name it: `{flag} FILE`")
