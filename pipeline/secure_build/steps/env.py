"""contract env: the env section out of the config, for whoever plays the deployer. Needs no images."""

from __future__ import annotations

from dataclasses import replace

from secure_build import record
from secure_build.config import Env
from secure_build.contract import text
from secure_build.contract.text import SecretText
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding
from secure_build.steps.emission import Emitted, certificate_of, emit
from secure_build.steps.job import Job
from secure_build.steps.sections import env_section
from secure_build.steps.signing import signer
from secure_build.steps.verdict import checked, settled


def contract_env(work: Job, *, draft: bool) -> tuple[BuildRecord, Emitted]:
    """The env section in a file for its owner only, and as a token where the config has a certificate.

    Raises UsageError for a secret, file or key that is missing, RefusedError when the runtime would not
    take the section; then nothing is written.
    """
    section = made_env(work)
    if section is None:
        raise UsageError(
            f"`{work.loaded.path}` has no `env`",
            hint="say where the guest logs to: `env: {logging: {syslog: …}}` or `{log-router: …}`",
        )
    current = work.record_or_new()
    certificate, trust = certificate_of(work)
    findings = (*trust, *checked(work, "env", section))
    settled(work, findings, what="the env section")
    emitted = emit(work, "env", section, certificate, before=current.emitted.get("env"), draft=draft)
    work.report.step(f"env: {emitted.told}")
    result = replace(
        current,
        sections={**current.sections, "env": emitted.known},
        findings=findings,
    )
    record.write(work.record_path, result)
    return result, emitted


def made_env(work: Job) -> SecretText | None:
    """The env section that the config makes, None without one.

    Raises UsageError for a secret, file or key that is missing.
    """
    config = work.loaded.config.env
    return None if config is None else _section(work, config)


def check_env(work: Job) -> list[Finding]:
    """What the runtime would say of the env section that the config makes; nothing without one.

    Raises as `made_env` does.
    """
    section = made_env(work)
    return [] if section is None else checked(work, "env", section)


def _section(work: Job, config: Env) -> SecretText:
    signing = signer(work)
    if signing is not None and work.loaded.config.encrypt.certificate is None:
        raise UsageError(
            "only encrypted sections can be signed",
            hint="name the runtime's certificate under `encrypt: certificate:`, or leave out `signing-key`",
        )
    return text.dump_secret(env_section(work, config, signing_key=signing.text if signing else None))
