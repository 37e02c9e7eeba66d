"""contract assemble: the whole contract from its sections, encrypted or plain, without opening either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from secure_build import files, record
from secure_build.contract import archive, assembly, checks, document, schema
from secure_build.contract.confidential import initdata
from secure_build.contract.deployment import expected, needs
from secure_build.contract.deployment.expected import Expected
from secure_build.contract.deployment.needs import Deployment
from secure_build.contract.document import Contract, SectionName, SectionText
from secure_build.contract.encryption.token import Token
from secure_build.contract.text import SecretText
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding
from secure_build.steps.confidential import annotated_pods, write_annotated
from secure_build.steps.emission import (
    auditor_of,
    certificate_of,
    emit,
    emitted,
    fingerprint_of,
    plain_path,
    read_section,
)
from secure_build.steps.forms import write_form
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file
from secure_build.steps.show import data
from secure_build.steps.signing import signer
from secure_build.steps.verdict import settled

if TYPE_CHECKING:
    from secure_build.contract.certificates.certificate import EncryptionCertificate

# A Secure Execution header has some kilobytes; this is for the wrong file.
_LARGEST_BOOT = 1 << 20
ATTESTATION_KEY: Final = "attestationPublicKey"


@dataclass(frozen=True, slots=True)
class Assembled:
    """The contract in a file, its text with secrets as `***`, what its attestation record will show, and
    what a deployment needs to know; `files` were written for that."""

    path: Path
    masked: str
    unchanged: bool
    lines: tuple[Expected, ...]
    deployment: Deployment
    files: tuple[Path, ...] = ()


def contract_assemble(work: Job, *, draft: bool) -> tuple[BuildRecord, Assembled]:
    """Join the sections, sign them where the config names a key, and write the contract.

    Raises UsageError when a section is missing or a plain one should be signed, RefusedError when the
    runtime would not take the contract; then nothing is written.
    """
    config = work.loaded.config
    current = work.record_or_new()
    certificate, trust = certificate_of(work)
    sections = {name: _section(work, current, name, draft=draft) for name in document.SECTIONS}
    opened = {name: _readable(work, current, one, draft=draft) for name, one in sections.items()}
    values: dict[str, str] = {name: section.value for name, section in sections.items()}
    if key := _attestation_key(work):
        values[ATTESTATION_KEY] = key
    if signing := signer(work):
        values["envWorkloadSignature"] = signing.sign(*(_token(section) for section in sections.values()))
    _add_boot(work, values)
    contract = Contract.parse(assembly.contract(values).encode(), "the contract")
    # Findings name the files that the sections came from.
    contract = replace(contract, workload=sections["workload"], env=sections["env"])
    tokens = certificate_findings(current, sections.values(), certificate)
    findings = (*trust, *tokens, *_checked(contract, opened, config.target))
    settled(work, findings, what="the contract")
    known = dict(current.sections)
    if key and certificate:
        # Encrypted, it binds the record to the auditor.
        before = current.emitted.get(ATTESTATION_KEY)
        pem = SecretText(key, key)
        made = emit(work, ATTESTATION_KEY, pem, certificate, before=before, draft=draft)
        known[ATTESTATION_KEY], values[ATTESTATION_KEY] = made.known, str(made.value)
    content = assembly.contract(values)
    needed = needs.of(
        *(data(section) for section in opened.values()),
        user_data=content.encode(),
        read=archive.read,
    )
    # What the contract cannot go into is refused before the contract is written.
    pods = annotated_pods(work, content)
    formed = write_form(work.options.form, content.encode(), needed, work.options.workdir)
    path = plain_path(work.options.workdir, "contract", draft=draft)
    encrypted = all(section.is_token for section in sections.values())
    mode = files.PUBLIC if encrypted else files.PRIVATE
    unchanged = path.exists() and path.read_bytes() == content.encode()
    if not unchanged:
        files.write(path, content.encode(), mode=mode)
    work.report.step(
        f"contract: unchanged, not written ({path})" if unchanged else f"contract: written to {path}"
    )
    written = (*formed, *write_annotated(work, pods, draft=draft, mode=mode))
    lines = tuple(expected.of_sections(values))
    attested = {line.name: line.digest for line in lines if line.basis == "documented"}
    result = replace(current, sections=known, attested=attested, findings=findings)
    record.write(work.record_path, result)
    model = schema.models(config.target)
    masked = {name: section.masked(model.section(name)) for name, section in sections.items()}
    shown = assembly.contract(values | masked)
    return result, Assembled(path, shown, unchanged, lines, needed, written)


def check_files(work: Job) -> None:
    """Raise UsageError for a file that the contract needs besides its sections, and that cannot be used."""
    _attestation_key(work)
    _add_boot(work, {})
    auditor_of(work)


def _checked(
    contract: Contract, opened: Mapping[Literal["workload", "env"], SectionText | None], target: str
) -> list[Finding]:
    """What the contract shows, and what its sections show of each other where both can be read here.

    What is hidden in a token of somebody else is for the guest to find: `deferred`, not `unknown`,
    since nobody who assembles contracts could ever check it.
    """
    found = checks.opened_findings(contract, opened["workload"], opened["env"], target, now=datetime.now(UTC))
    return [replace(one, level="deferred") if one.level == "unknown" else one for one in found]


def _section(work: Job, current: BuildRecord, name: SectionName, *, draft: bool) -> SectionText:
    """The section to take: the file that the command line names, or what this work folder emitted."""
    named: Path | None = getattr(work.options, name)
    if named is not None:
        return read_section(named, name)
    known = current.sections.get(name)
    found = known and emitted(work, name, known, draft=draft)
    if not found:
        raise _no_section(current, name)
    return found


def _no_section(current: BuildRecord, name: str) -> UsageError:
    hint = f"make one with `secure-build contract {name}`, or name a file with `--{name} FILE`"
    if name in current.sections:
        return UsageError(f"the `{name}` section that was made here has been changed or removed", hint=hint)
    if name in current.earlier:
        return UsageError(
            f"the `{name}` section that was made here is of another config or commit",
            hint=f"for another image of the runtime, `secure-build contract re-encrypt --section {name}` "
            f"encrypts the same bytes; `secure-build contract {name}` makes the section anew",
        )
    return UsageError(f"there is no `{name}` section", hint=hint)


def certificate_findings(
    current: BuildRecord, sections: Iterable[SectionText], certificate: EncryptionCertificate | None
) -> Iterator[Finding]:
    """Whether the tokens are for the config's certificate: known of those that were made here."""
    made = {one.token: one for one in (*current.earlier.values(), *current.sections.values())}
    for section in sections:
        if certificate is None or not section.is_token:
            continue
        wanted, known = fingerprint_of(certificate), made.get(section.digest)
        what = f"the certificate that `{section.section}` is encrypted for"
        where = f"{section.name}:{section.line}"
        if known is None:
            why = "it was not made in this work folder, and a token does not tell"
            yield Finding("token", "deferred", what, why, where=where)
        elif known.certificate != wanted:
            yield Finding(
                "token",
                "fail",
                what,
                f"it has {known.certificate}, and the config names {wanted}: the runtime opens one of them",
                hint=f"`secure-build contract re-encrypt --section {section.section}`",
                where=where,
                runtime_code="HPL11001E",
            )


def _readable(work: Job, current: BuildRecord, section: SectionText, *, draft: bool) -> SectionText | None:
    """The section in plain text: of a token the one it was made of, when that was in this work folder."""
    if not section.is_token:
        return section
    known = current.sections.get(section.section)
    if known is None or known.token != section.digest:
        return None
    return emitted(work, section.section, replace(known, token=None), draft=draft)


def _token(section: SectionText) -> Token:
    if section.is_token:
        return Token.parse(section.value, section.name)
    raise UsageError(
        f"{section.name}: only encrypted sections can be signed, and this one is plain",
        hint="take the token of whoever made it, which is in a file `.encrypted`; of one's own, "
        "name the runtime's certificate under `encrypt: certificate:`",
    )


def _attestation_key(work: Job) -> str | None:
    """The auditor's public key, PEM."""
    wanted = work.loaded.config.encrypt.attestation_public_key
    if wanted is None:
        return None
    what = f"the attestation key `{wanted.file}`"
    from secure_build.contract.encryption import key_material

    return key_material.spki_pem(key_material.public_key(read_file(work, wanted.file), what))


def _add_boot(work: Job, values: dict[str, str]) -> None:
    boot = work.loaded.config.boot
    if boot is not None:
        values["boot"] = initdata.boot_section(read_file(work, boot.file, at_most=_LARGEST_BOOT))
