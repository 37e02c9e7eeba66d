"""Whether what was made may be written: findings are shown, and one that failed stops it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Literal

from secure_build.config import Loaded
from secure_build.contract import checks, document
from secure_build.contract.checks import keys, sections
from secure_build.contract.document import SectionText
from secure_build.contract.text import SecretText
from secure_build.errors import RefusedError
from secure_build.model import Finding
from secure_build.steps.config_lines import located
from secure_build.steps.job import Job

_LOGGING = """\
add to `env`:
logging:
  syslog:
    hostname: 192.0.2.10
    server: {file: authority.pem}
    cert: {file: guest.pem}
    key: {secret: SYSLOG_KEY}"""


def settled(work: Job, findings: Sequence[Finding], *, what: str) -> None:
    """Show the findings; raises RefusedError when one of them failed, before anything is written."""
    for finding in findings:
        work.report.finding(finding)
    failed = sum(finding.level == "fail" for finding in findings)
    if failed:
        raise RefusedError(
            f"the runtime would not take {what}, so it was not written "
            f"({failed} finding{'s' if failed > 1 else ''} failed)",
            hint="mend what the findings above name",
        )


def checked(work: Job, name: Literal["workload", "env"], section: SecretText) -> list[Finding]:
    """What the runtime would say of a section by itself."""
    read = document.read_section(section.plain.encode(), f"the {name} section", expected=name)
    found = checks.section_findings(read, work.loaded.config.target)
    signing = read.document.data.get("signingKey") if name == "env" and read.document else None
    if signing is not None:
        found += keys.signing_key(signing, datetime.now(UTC), read.name)
    return of_config(work.loaded, read, found)


def of_config(loaded: Loaded, section: SectionText, findings: Iterable[Finding]) -> list[Finding]:
    """Findings of a section that was made of the config, in the words and with the places of the config."""
    return [
        replace(one, hint=_LOGGING if one.hint == sections.LOGGING else one.hint)
        for one in located(loaded, section, findings)
    ]
