"""What `verify` found, as plain data for other programs: the form is declared here, and promised.

Keys may be added; what is here keeps its name and meaning as long as `version` is 1.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from secure_build import model_schema
from secure_build.contract.decision.model import Decision, Verdict, Verified
from secure_build.model import Basis, Finding, Level
from secure_build.secret import mask


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=lambda name: name.replace("_", "-"),
        defer_build=True,
        extra="forbid",
        populate_by_name=True,
    )


class ContainerPart(_Part):
    """One place of the workload that names an image, and what the runtime would do with it."""

    name: str = Field(description="What people call it.")
    where: str = Field(description="File and line that names the image.")
    inside: str | None = Field(default=None, description="File and line in the contract's archive.")
    image: str = Field(description="The image as it is written there.")
    reference: str | None = Field(default=None, description="What that means; absent where nobody can tell.")
    verdict: Verdict = Field(description="What the runtime would do.")
    why: str = Field(description="By which rule, or what is not known.")
    basis: Basis = Field(description="What the rule rests on.")
    runtime_code: str | None = Field(default=None, description="What the console would show.")
    hint: str | None = Field(default=None, description="The smallest change that cures it.")
    proves: str | None = Field(default=None, description="What it is worth that the image is accepted.")
    digest: str | None = Field(default=None, description="What would run, where that is known.")


class FindingPart(_Part):
    """One checked statement."""

    check: str = Field(description="Which check; a stable name.")
    level: Level = Field(description="`unknown` could not be checked, `deferred` waits for publishing.")
    what: str = Field(description="What it is about.")
    why: str = Field(description="What is so.")
    basis: Basis = Field(description="What the rule rests on.")
    hint: str | None = Field(default=None, description="What to do next.")
    where: str | None = Field(default=None, description="File, mostly with a line.")
    runtime_code: str | None = Field(default=None, description="What the console would show.")


class Counts(_Part):
    """How many of each."""

    accepted: int = Field(description="Containers that the runtime would run.")
    refused: int = Field(description="Containers that it would refuse.")
    unknown: int = Field(description="Containers of which that is not known.")
    failed: int = Field(description="Findings that failed, evidence among them.")
    unchecked: int = Field(description="Findings that could not be checked.")
    warnings: int = Field(description="Findings that warn.")
    deferred: int = Field(description="Findings that wait for publishing, or for the network.")


class VerifyDocument(_Part):
    """The result of `secure-build verify --output json`."""

    version: Literal[1] = Field(description="Of this form.")
    name: str = Field(description="The contract, or the config that it would be made of.")
    target: str = Field(description="The runtime.")
    verdict: Verdict = Field(description="What the runtime would do with the contract.")
    containers: tuple[ContainerPart, ...] = Field(description="Every place that names an image.")
    findings: tuple[FindingPart, ...] = Field(description="About the contract and its images.")
    evidence: tuple[FindingPart, ...] = Field(description="What people check, and no runtime does.")
    counts: Counts
    summary: str = Field(description="The verdict in one line.")


def counts(verified: Verified) -> Counts:
    verdicts = [one.verdict for one in verified.decisions]
    levels = [one.level for one in (*verified.findings, *verified.evidence)]
    return Counts(
        accepted=verdicts.count("accepted"),
        refused=verdicts.count("refused"),
        unknown=verdicts.count("unknown"),
        failed=levels.count("fail"),
        unchecked=levels.count("unknown"),
        warnings=levels.count("warn"),
        deferred=levels.count("deferred"),
    )


def summary(verified: Verified) -> str:
    """The verdict in one line."""
    number = counts(verified)
    said = [_of_containers(verified, number)]
    for count, one, several in (
        (number.failed, "finding failed", "findings failed"),
        (number.unchecked, "could not be checked", "could not be checked"),
        (number.warnings, "warning", "warnings"),
        (number.deferred, "deferred", "deferred"),
    ):
        if count:
            said.append(f"{count} {one if count == 1 else several}")
    return f"{verified.verdict}: {', '.join(said)}"


def _of_containers(verified: Verified, number: Counts) -> str:
    total = len(verified.decisions)
    if verified.verdict == "accepted" or not total:
        return f"{total} container{'' if total == 1 else 's'}"
    count = number.refused if verified.verdict == "refused" else number.unknown
    return f"{count} of {total} containers"


def document(verified: Verified) -> dict[str, Any]:
    """The result as plain data, masked; what is not known is left out."""
    made = VerifyDocument(
        version=1,
        name=verified.name,
        target=verified.target,
        verdict=verified.verdict,
        containers=tuple(map(_container, verified.decisions)),
        findings=tuple(map(_finding, verified.findings)),
        evidence=tuple(map(_finding, verified.evidence)),
        counts=counts(verified),
        summary=summary(verified),
    )
    data: dict[str, Any] = _masked(made.model_dump(mode="json", by_alias=True, exclude_none=True))
    return data


def schema() -> str:
    """The JSON schema (2020-12) of the document; ends with a newline."""
    return model_schema.text(VerifyDocument)


def _container(decision: Decision) -> ContainerPart:
    one = decision.container
    return ContainerPart(
        name=one.what,
        where=one.where,
        inside=one.inside,
        image=one.written,
        reference=str(one.reference) if one.reference else None,
        verdict=decision.verdict,
        why=decision.why,
        basis=decision.basis,
        runtime_code=decision.runtime_code,
        hint=decision.hint,
        proves=decision.proves,
        digest=str(decision.digest) if decision.digest else None,
    )


def _finding(finding: Finding) -> FindingPart:
    return FindingPart(
        check=finding.check,
        level=finding.level,
        what=finding.what,
        why=finding.why,
        basis=finding.basis,
        hint=finding.hint,
        where=finding.where,
        runtime_code=finding.runtime_code,
    )


def _masked(data: Any) -> Any:
    if isinstance(data, str):
        return mask(data)
    if isinstance(data, dict):
        return {key: _masked(value) for key, value in data.items()}
    return [_masked(value) for value in data] if isinstance(data, list) else data
