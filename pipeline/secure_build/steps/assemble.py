"""contract assemble: the whole contract from its sections, encrypted or plain, without opening either."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from secure_build import files, record
from secure_build.contract import (
    archive,
    assembly,
    checks,
    deployment,
    document,
    expected,
    key_material,
    schema,
)
from secure_build.contract.certificate import EncryptionCertificate
from secure_build.contract.confidential import initdata
from secure_build.contract.deployment import Deployment
from secure_build.contract.document import Contract, SectionName, SectionText
from secure_build.contract.expected import Expected
from secure_build.contract.text import SecretText
from secure_build.contract.token import Token
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding, Section
from secure_build.steps.confidential import write_annotated
from secure_build.steps.emission import certificate_of, emit, encrypted_path, plain_path
from secure_build.steps.forms import write_form
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file, read_path
from secure_build.steps.show import data
from secure_build.steps.signing import signer
from secure_build.steps.verdict import settled

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
    certificate, found = certificate_of(work)
    findings = list(found)
    sections = {name: _section(work, current, name, draft=draft) for name in document.SECTIONS}
    values: dict[str, str] = {name: section.value for name, section in sections.items()}
    known = dict(current.sections)
    _add_attestation_key(work, values, known, certificate, draft=draft)
    signing = signer(work)
    if signing is not None:
        workload, env = (_token(section) for section in sections.values())
        values["envWorkloadSignature"] = signing.sign(workload, env)
        findings += _signer_of(current, env)
    _add_boot(work, values)
    content = assembly.contract(values).encode()
    contract = Contract.parse(content, "the contract")
    findings += checks.contract_findings(contract, config.target, now=datetime.now(UTC))
    path = plain_path(work.options.workdir, "contract", draft=draft)
    settled(work, findings, what="the contract")
    private = any(not section.is_token for section in sections.values())
    unchanged = path.exists() and path.read_bytes() == content
    if not unchanged:
        files.write(path, content, mode=files.PRIVATE if private else files.PUBLIC)
    pods = write_annotated(work, content.decode(), draft=draft) if config.target == "ccco" else ()
    work.report.step(f"contract: {'unchanged, not written' if unchanged else 'written to'} {path}")
    lines = tuple(expected.of_sections(values))
    result = replace(
        current,
        sections=known,
        attested={line.name: line.digest for line in lines if line.basis == "documented"},
        findings=tuple(findings),
    )
    record.write(work.record_path, result)
    model = schema.models(config.target)
    masked = {name: section.masked(model.section(name)) for name, section in sections.items()}
    needed = deployment.of(
        *(_readable(work, current, section, draft=draft) for section in sections.values()),
        user_data=content,
        read=archive.read,
    )
    written = write_form(work.options.form, content, needed, work.options.workdir)
    return result, Assembled(
        path, assembly.contract(values | masked), unchanged, lines, needed, (*written, *pods)
    )


def _section(work: Job, current: BuildRecord, name: SectionName, *, draft: bool) -> SectionText:
    """The section to take: the file that the command line names, or what this work folder emitted."""
    named: Path | None = getattr(work.options, name)
    path = named or _emitted(work, current, name, draft=draft)
    return document.read_section(read_path(path, at_most=document.LARGEST), str(path), expected=name)


def _emitted(work: Job, current: BuildRecord, name: str, *, draft: bool) -> Path:
    known = current.sections.get(name)
    if known is None:
        raise UsageError(
            f"there is no `{name}` section",
            hint=f"make one with `secure-build contract {name}`, or name a file with `--{name} FILE`",
        )
    place = plain_path if known.token is None else encrypted_path
    return place(work.options.workdir, name, draft=draft)


def _readable(
    work: Job, current: BuildRecord, section: SectionText, *, draft: bool
) -> Mapping[str, Any] | None:
    """What a section holds: of a token, the plain section, when it was made in this work folder."""
    if not section.is_token:
        return data(section)
    known = current.sections.get(section.section)
    path = plain_path(work.options.workdir, section.section, draft=draft)
    if known is None or known.token != section.digest or not path.exists():
        return None
    content = read_path(path, at_most=document.LARGEST)
    return data(document.read_section(content, str(path), expected=section.section))


def _token(section: SectionText) -> Token:
    if section.is_token:
        return Token.parse(section.value, section.name)
    raise UsageError(
        f"{section.name}: only encrypted sections can be signed",
        hint="name the runtime's certificate under `encrypt: certificate:`, or leave out `signing-key`",
    )


def _add_attestation_key(
    work: Job,
    values: dict[str, str],
    known: dict[str, Section],
    certificate: EncryptionCertificate | None,
    *,
    draft: bool,
) -> None:
    """The auditor's key, encrypted where there is a certificate: it binds the record to the auditor."""
    wanted = work.loaded.config.encrypt.attestation_public_key
    if wanted is None:
        return
    what = f"the attestation key `{wanted.file}`"
    pem = key_material.spki_pem(key_material.public_key(read_file(work, wanted.file), what))
    values[ATTESTATION_KEY] = pem
    if certificate is not None:
        emitted = emit(
            work,
            ATTESTATION_KEY,
            SecretText(pem, pem),
            certificate,
            before=known.get(ATTESTATION_KEY),
            draft=draft,
        )
        known[ATTESTATION_KEY] = emitted.known
        values[ATTESTATION_KEY] = str(emitted.value)


def _add_boot(work: Job, values: dict[str, str]) -> None:
    boot = work.loaded.config.boot
    if boot is not None:
        values["boot"] = initdata.boot_section(read_file(work, boot.file, at_most=_LARGEST_BOOT))


def _signer_of(current: BuildRecord, env: Token) -> list[Finding]:
    """Whether the env section names the key that signs: known of one that was made here."""
    made = current.sections.get("env")
    if made is not None and made.token == env.digest:
        return []
    return [
        Finding(
            check="signature",
            level="unknown",
            what="whether the env section names the key that signed",
            why="it is encrypted, and was not made in this work folder",
            hint="assemble where the env section is made; the runtime refuses another key",
            runtime_code="HPL12001E",
        )
    ]
