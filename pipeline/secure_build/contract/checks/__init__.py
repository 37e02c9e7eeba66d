"""What the runtime would say of a contract, found without its keys and without asking anybody."""

from secure_build.contract.checks.contract import contract_findings, opened_findings
from secure_build.contract.checks.sections import section_findings

__all__ = ["contract_findings", "opened_findings", "section_findings"]
