"""The sections that the config makes of a build record, before anybody has written them.

They are called as nobody would call a file; what is found out about them is said of the config.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from secure_build.config import Loaded
from secure_build.contract import assembly, checks, document
from secure_build.contract.decision.model import Container, Decision, Verified
from secure_build.contract.document import Contract, SectionText
from secure_build.model import BuildRecord, Finding
from secure_build.steps.config_lines import place
from secure_build.steps.contract import MadeWorkload, made_workload
from secure_build.steps.delivery import in_config_words
from secure_build.steps.env import made_env
from secure_build.steps.job import Job
from secure_build.steps.verdict import of_config


@dataclass(frozen=True, slots=True)
class Made:
    """The sections that the config makes, None where it has none of them."""

    workload: MadeWorkload | None
    env: SectionText | None

    @property
    def texts(self) -> dict[str, SectionText]:
        """Those that there are, as something to read; they are called as nobody would call a file."""
        found: dict[str, SectionText] = {}
        if self.workload is not None:
            found["workload"] = _section(self.workload.section.plain, "workload")
        if self.env is not None:
            found["env"] = self.env
        return found

    def findings(self, loaded: Loaded) -> list[Finding]:
        """What the sections show, and what they must agree on, in the words of the config."""
        found: list[Finding] = []
        texts, target = self.texts, loaded.config.target
        if len(texts) == len(document.SECTIONS):
            values: dict[str, str] = {name: texts[name].value for name in document.SECTIONS}
            contract = Contract.parse(assembly.contract(values).encode(), "the contract")
            contract = replace(contract, workload=texts["workload"], env=texts["env"])
            # Signed, and measured, is what is made of them later.
            found = [
                one
                for one in checks.contract_findings(contract, target, now=datetime.now(UTC))
                if one.check not in ("signature", "size")
            ]
        else:
            found = [one for section in texts.values() for one in checks.section_findings(section, target)]
        for section in texts.values():
            found = of_config(loaded, section, found)
        return found

    def with_places(self, loaded: Loaded, verified: Verified) -> Verified:
        """The same with places of the config and of the files that it names: those are mended."""
        texts = self.texts
        places = {one.what: one.where for one in self.workload.places} if self.workload else {}

        def moved(where: str) -> str:
            for section in texts.values():
                where = place(loaded, section, where)
            return where

        def at_source(container: Container) -> Container:
            where = places.get(container.what) or moved(container.where)
            return replace(container, where=where, inside=None)

        def worded(hint: str | None) -> str | None:
            return hint and in_config_words(hint)

        def with_source(decision: Decision) -> Decision:
            return replace(decision, container=at_source(decision.container), hint=worded(decision.hint))

        def of_source(finding: Finding) -> Finding:
            return replace(finding, where=finding.where and moved(finding.where), hint=worded(finding.hint))

        return replace(
            verified,
            decisions=tuple(map(with_source, verified.decisions)),
            findings=tuple(map(of_source, verified.findings)),
        )


def made(work: Job, current: BuildRecord) -> Made:
    """The sections that the config makes; raises UsageError for what is missing."""
    workload = made_workload(work, current) if work.loaded.config.workload is not None else None
    env = made_env(work)
    return Made(workload, _section(env.plain, "env") if env is not None else None)


def _section(plain: str, name: Literal["workload", "env"]) -> SectionText:
    return SectionText(f"the {name} section", name, plain, 1)
