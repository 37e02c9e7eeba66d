"""contract env: the env section out of the config, for whoever plays the deployer. Needs no images."""

from __future__ import annotations

from dataclasses import replace

from secure_build import record
from secure_build.contract import checks, document, text
from secure_build.errors import UsageError
from secure_build.model import BuildRecord
from secure_build.steps.certificates import encryption_certificate
from secure_build.steps.emission import Emitted, emit
from secure_build.steps.job import Job
from secure_build.steps.sections import env_section
from secure_build.steps.signing import signer
from secure_build.steps.verdict import settled


def contract_env(work: Job, *, draft: bool) -> tuple[BuildRecord, Emitted]:
    """The env section in a file for its owner only, and as a token where the config has a certificate.

    Raises UsageError for a secret, file or key that is missing, RefusedError when the runtime would not
    take the section; then nothing is written.
    """
    config = work.loaded.config
    if config.env is None:
        raise UsageError(
            f"`{work.loaded.path}` has no `env`",
            hint="say where the guest logs to: `env: {logging: {syslog: …}}` or `{log-router: …}`",
        )
    current = work.record_or_new()
    certificate, findings = encryption_certificate(work)
    signing = signer(work)
    if signing is not None and certificate is None:
        raise UsageError(
            "only encrypted sections can be signed",
            hint="name the runtime's certificate under `encrypt: certificate:`, or leave out `signing-key`",
        )
    section = text.dump_secret(env_section(work, config.env, signing_key=signing.text if signing else None))
    read = document.read_section(section.plain.encode(), "env", expected="env")
    findings = (*findings, *checks.section_findings(read, config.target))
    settled(work, findings, what="the env section")
    emitted = emit(work, "env", section, certificate, before=current.sections.get("env"), draft=draft)
    work.report.step(f"env: {emitted.told}")
    result = replace(
        current,
        sections={**current.sections, "env": emitted.known},
        findings=findings,
    )
    record.write(work.record_path, result)
    return result, emitted
