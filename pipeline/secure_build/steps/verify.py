"""verify: would the runtime accept this contract and run its images? Nothing is written or pushed.

What is decided about comes from a contract in a file, or from the config and the build record, whose
sections are made here as `contract` makes them. A token is opened by nobody: where the keyed digest
shows that the config and its secrets make the very text in it, that text is decided about.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from secure_build import files
from secure_build.config import Loaded
from secure_build.contract import assembly, checks, document, play
from secure_build.contract.advice import mapping
from secure_build.contract.checks.keys import signature_finding
from secure_build.contract.confidential.pods import ConfidentialFile
from secure_build.contract.decision import containers, decide, questions
from secure_build.contract.decision.model import Container, Decision, Verified
from secure_build.contract.document import Contract, SectionText
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding
from secure_build.registry.http import Transport
from secure_build.report import Report
from secure_build.steps import show
from secure_build.steps.assemble import certificate_findings
from secure_build.steps.certificates import configured_certificate
from secure_build.steps.config_lines import place
from secure_build.steps.contract import MadeWorkload, made_workload
from secure_build.steps.delivery import unpublished
from secure_build.steps.emission import keyed_digest, plain_path, read_key
from secure_build.steps.env import made_env
from secure_build.steps.gathering import Means, gather, key_findings
from secure_build.steps.job import Job
from secure_build.steps.keys import keys
from secure_build.steps.sections import read_file
from secure_build.steps.verdict import of_config
from secure_build.steps.verified_evidence import evidence

CONFIG = Path("secure-build.yaml")


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What the command line says."""

    contract: Path | None = None
    config: Path = CONFIG
    workdir: Path = Path(".secure-build")
    records: tuple[str, ...] = ()
    jobs: int = 4
    offline: bool = False
    target: str | None = None
    image_version: str | None = None
    pods: Path | None = None

    @property
    def is_alone(self) -> bool:
        """Whether a contract is to be looked at where there is no config."""
        return self.contract is not None and self.config == CONFIG and not self.config.exists()


@dataclass(frozen=True, slots=True)
class Subject:
    """What is decided about, as far as it is known in plain text; `findings` are about it already."""

    name: str
    target: str
    workload: SectionText | None
    env: SectionText | None
    pods: tuple[ConfidentialFile, ...] = ()
    findings: tuple[Finding, ...] = ()


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


def verify_alone(options: VerifyOptions, report: Report) -> Verified:
    """Verify a contract without a config: with what stands in it, and no keys but those."""
    assert options.contract is not None
    if options.image_version is not None or options.records:
        flag = "--image-version" if options.image_version is not None else "--record"
        raise UsageError(f"`{flag}` says nothing without a config", hint="name it: `--config FILE`")
    sections, contract = _read(options.contract)
    workload = sections.get("workload")
    target = options.target or _target(workload)
    pods = _pods(options.pods) if options.pods else ()
    about = _about(contract, sections, {}, target)
    subject = Subject(
        str(options.contract), target, _plain(workload), _plain(sections.get("env")), pods, tuple(about)
    )
    with Transport() as transport, tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
        means = Means(transport=transport, folder=Path(folder), jobs=options.jobs, offline=options.offline)
        return _judged(subject, means, report)


def verify_job(work: Job, options: VerifyOptions) -> Verified:
    """Verify a contract with what the config knows, or the one that the config and the record make."""
    config = work.loaded.config
    if options.target not in (None, config.target):
        raise UsageError(
            f"`{work.loaded.path}` is for `{config.target}`, and not for `{options.target}`",
            hint="leave `--target` out",
        )
    if options.contract is None:
        current = work.current_record()
        return _of_config(work, current, made(work, current), options)
    sections, contract = _read(options.contract)
    current = work.record_or_new()
    opened, about = _opened(work, current, sections)
    about += _about(contract, sections, opened, config.target)
    pods = _pods(options.pods) if options.pods else ()
    subject = Subject(
        str(options.contract), config.target, opened.get("workload"), opened.get("env"), pods, tuple(about)
    )
    verified = _judged(subject, _means(work, current), work.report, _unique(current))
    return replace(verified, evidence=evidence(work, current)) if current.images else verified


def made(work: Job, current: BuildRecord) -> Made:
    """The sections that the config makes; raises UsageError for what is missing."""
    workload = made_workload(work, current) if work.loaded.config.workload is not None else None
    env = made_env(work)
    return Made(workload, _section(env.plain, "env") if env is not None else None)


def verify_made(work: Job, current: BuildRecord, sections: Made) -> Verified:
    """Decide about the sections that the config makes, before they are written."""
    config, loaded = work.loaded.config, work.loaded
    about: list[Finding] = list(sections.workload.findings) if sections.workload else []
    texts = sections.texts
    about += _of_texts(loaded, texts, config.target)
    if config.encrypt.certificate is not None:
        about += configured_certificate(work).findings
    pods: tuple[ConfidentialFile, ...] = ()
    if sections.workload is not None:
        packed = sections.workload.packed.pods
        pods = tuple(ConfidentialFile.parse(content, str(path)) for path, content in packed.items())
    subject = Subject(
        str(loaded.path), config.target, texts.get("workload"), texts.get("env"), pods, tuple(about)
    )
    verified = _judged(subject, _means(work, current), work.report, _unique(current))
    return _with_places(loaded, sections, texts, verified)


def _of_config(work: Job, current: BuildRecord, sections: Made, options: VerifyOptions) -> Verified:
    verified = verify_made(work, current, sections)
    if options.pods is not None:
        raise UsageError("`--pods` goes with a contract in a file", hint="the config names its own pods")
    return replace(verified, evidence=evidence(work, current))


def _judged(subject: Subject, means: Means, report: Report, unique: frozenset[str] = frozenset()) -> Verified:
    found, unread = containers.containers(subject.workload, subject.env)
    runs = containers.pods(subject.pods)
    found += runs
    asked, idle = questions.questions(found, subject.workload, subject.env)
    wanted = {question for question in asked.values() if question is not None}
    report.step(f"verify: {len(found)} containers, {len(wanted)} images to ask for")
    entries = questions.entries(subject.workload)
    answers = gather(wanted, means)
    decisions, around = decide.decide(
        found,
        asked,
        answers,
        target=subject.target,
        workload=subject.workload,
        commands=runs,
        unique=unique,
    )
    findings = (*subject.findings, *unread, *idle, *key_findings(entries, means), *around)
    return Verified(subject.name, subject.target, tuple(decisions), tuple(dict.fromkeys(findings)))


def _read(path: Path) -> tuple[Mapping[str, SectionText], Contract | None]:
    """The sections of a file by name, and the whole contract where it is one."""
    content = files.read(path, at_most=document.LARGEST)
    parts, values = show.parts_of(content, str(path))
    whole = values.keys() >= set(document.SECTIONS)
    return {part.section: part for part in parts}, Contract.parse(content, str(path)) if whole else None


def _target(workload: SectionText | None) -> str:
    data = mapping(show.data(_plain(workload)))
    if "confidential-containers" in data:
        return "ccco"
    raise UsageError(
        "which runtime the contract is for is not known",
        hint="say so: `--target ccrt` (hpvs, ccrt, ccrv or ccco), or `--config FILE`",
    )


def _plain(section: SectionText | None) -> SectionText | None:
    return None if section is None or section.is_token else section


def _pods(path: Path) -> tuple[ConfidentialFile, ...]:
    paths = sorted(path.rglob("*")) if path.is_dir() else [path]
    wanted = [one for one in paths if one.suffix in play.ENDINGS and one.is_file()]
    return tuple(ConfidentialFile.parse(files.read(one, at_most=play.LARGEST), str(one)) for one in wanted)


def _about(
    contract: Contract | None,
    sections: Mapping[str, SectionText],
    opened: Mapping[str, SectionText],
    target: str,
) -> list[Finding]:
    """What the contract, or the one section, shows by itself, and what is known behind its tokens."""
    now = datetime.now(UTC)
    behind = [
        finding
        for name, section in opened.items()
        if sections[name].is_token
        for finding in checks.section_findings(section, target)
    ]
    if contract is None:
        found = [
            finding for section in sections.values() for finding in checks.section_findings(section, target)
        ]
        return found + behind
    workload, env = (opened.get(name) or _plain(sections[name]) for name in document.SECTIONS)
    found = checks.opened_findings(contract, workload, env, target, now=now)
    return found + behind + list(signature_finding(contract, env))


def _opened(
    work: Job, current: BuildRecord, sections: Mapping[str, SectionText]
) -> tuple[dict[str, SectionText], list[Finding]]:
    """The sections in plain text, those of tokens only where they are proven; and what stays closed."""
    tokens = [
        section for section in sections.values() if section.is_token and section.section in document.SECTIONS
    ]
    opened = {name: section for name, section in sections.items() if not section.is_token}
    if not tokens:
        return opened, []
    findings: list[Finding] = []
    here = made(work, current) if current.images or work.loaded.config.workload is None else None
    for section in tokens:
        text, reason, hint = _behind(work, current, section, here)
        if text is not None:
            opened[section.section] = text
            continue
        what = f"what is encrypted in `{section.section}`"
        where = f"{section.name}:{section.line}"
        findings.append(Finding("token", "unknown", what, reason, hint=hint, where=where))
    certificate = None
    if work.loaded.config.encrypt.certificate is not None:
        checked = configured_certificate(work)
        certificate = checked.certificate
        findings += checked.findings
    known = [
        finding
        for finding in certificate_findings(current, tokens, certificate)
        if finding.level != "deferred"
    ]
    return opened, findings + known


def _behind(
    work: Job, current: BuildRecord, section: SectionText, here: Made | None
) -> tuple[SectionText | None, str, str]:
    """The text in a token where the keyed digest proves it; else why it does not, and what would help."""
    name = section.section
    of_token = [
        one
        for one in (current.sections.get(name), current.earlier.get(name))
        if one is not None and one.token == section.digest
    ]
    if not of_token:
        return None, "the build record does not know this token", "name the record of it: `--record FILE`"
    key = read_key(plain_path(work.options.workdir, name, draft=False))
    if key is None:
        why = "the key of its keyed digest is not here"
        return None, why, f"take `{name}.key` from the work folder that made it into `{work.options.workdir}`"
    text = here.texts.get(name) if here is not None else None
    if text is None:
        return None, f"the config makes no `{name}`", "name the config that made it: `--config FILE`"
    if keyed_digest(key, text.value.encode()) != of_token[0].plaintext_keyed:
        return (
            None,
            "the config and its secrets make another text than was encrypted",
            "give the secrets, and check out the commit, that it was made with",
        )
    return text, "", ""


def _section(plain: str, name: Literal["workload", "env"]) -> SectionText:
    return SectionText(f"the {name} section", name, plain, 1)


def _of_texts(loaded: Loaded, texts: Mapping[str, SectionText], target: str) -> list[Finding]:
    """What the sections show, and what they must agree on, in the words of the config."""
    found: list[Finding] = []
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


def _with_places(
    loaded: Loaded, sections: Made, texts: Mapping[str, SectionText], verified: Verified
) -> Verified:
    """The same with places of the config and of the files that it names: those are mended."""
    places = {one.what: one.where for one in sections.workload.places} if sections.workload else {}

    def moved(where: str) -> str:
        for section in texts.values():
            where = place(loaded, section, where)
        return where

    def at_source(container: Container) -> Container:
        where = places.get(container.what) or moved(container.where)
        return replace(container, where=where, inside=None)

    def with_source(decision: Decision) -> Decision:
        return replace(decision, container=at_source(decision.container))

    def of_source(finding: Finding) -> Finding:
        return replace(finding, where=finding.where and moved(finding.where))

    return replace(
        verified,
        decisions=tuple(map(with_source, verified.decisions)),
        findings=tuple(map(of_source, verified.findings)),
    )


def _means(work: Job, current: BuildRecord) -> Means:
    signing = work.loaded.config.signing
    here = unpublished(work, current)
    local = {image.reference for image in current.images if image.pinned in here}
    return Means(
        transport=work.transport,
        folder=work.options.workdir,
        jobs=work.options.jobs,
        offline=work.options.offline,
        notary_ca=read_file(work, signing.dct.ca.file) if signing.dct and signing.dct.ca else None,
        log=keys(work).log if signing.cosign else None,
        layout=work.layout,
        local=frozenset(local | set(here)),
    )


def _unique(current: BuildRecord) -> frozenset[str]:
    return frozenset(str(image.reference) for image in current.images)
