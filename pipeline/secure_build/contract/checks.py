"""Checks (stub)."""

from __future__ import annotations

from datetime import datetime

from secure_build.contract.document import Contract, SectionText
from secure_build.model import Finding


def section_findings(section: SectionText, target: str) -> list[Finding]:
    return []


def contract_findings(contract: Contract, target: str, *, now: datetime) -> list[Finding]:
    return []
