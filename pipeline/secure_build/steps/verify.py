"""verify: would the runtime accept this contract and run its images? Nothing is written or pushed.

What is decided about comes from a contract in a file, or from the config and the build record, whose
sections are made here as `contract` makes them. A token is opened by nobody: where the keyed digest
shows that the config and its secrets make the very text in it, that text is decided about.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from secure_build import files
from secure_build.config import Workload
from secure_build.contract import checks, document, play
from secure_build.contract.advice import mapping
from secure_build.contract.checks.keys import signature_finding
from secure_build.contract.confidential.pods import ConfidentialFile
from secure_build.contract.decision import containers, decide, questions
from secure_build.contract.decision.model import Verified
from secure_build.contract.document import Contract, SectionText
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding
from secure_build.reference import Reference, Repository
from secure_build.registry.http import Transport, at_once
from secure_build.report import Report
from secure_build.steps import delivery, show
from secure_build.steps.gathering import Means, gather
from secure_build.steps.invocation import job
from secure_build.steps.job import Job, Options
from secure_build.steps.made import Made, made
from secure_build.steps.proven import closed, opened
from secure_build.steps.sections import read_file
from secure_build.steps.simple_signing import SIGNATURES, lookaside_of
from secure_build.steps.verified_evidence import evidence

CONFIG = Path("secure-build.yaml")
_NO_PODS = Finding(
    "pods",
    "unknown",
    "the containers",
    "the pods of the cluster are not in the contract, so what it would let run is not known",
    hint="name them: `--pods PATH`",
)


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
    """What is decided about, as far as it is known in plain text; `findings` are about it already.

    `is_part` tells that there will be an env section which is not known.
    """

    name: str
    target: str
    workload: SectionText | None
    env: SectionText | None
    pods: tuple[ConfidentialFile, ...] = ()
    findings: tuple[Finding, ...] = ()
    is_part: bool = False


def verify(options: VerifyOptions, report: Report) -> Verified:
    """Whether the runtime would accept a contract and its images."""
    if options.is_alone:
        return verify_alone(options, report)
    given = Options(
        config=options.config,
        workdir=options.workdir,
        records=options.records,
        jobs=options.jobs,
        offline=options.offline,
        image_version=options.image_version,
    )
    with job(given, report) as work:
        return verify_job(work, options)


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
    about += [
        closed(section, "only the runtime opens it", "name the config that it was made from: `--config FILE`")
        for section in sections.values()
        if section.is_token and section.section in document.SECTIONS
    ]
    subject = Subject(
        str(options.contract), target, _plain(workload), _plain(sections.get("env")), pods, tuple(about)
    )
    subject = replace(subject, is_part=subject.env is None)
    with Transport() as transport, tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
        means = Means(
            transport=transport, folder=Path(folder), jobs=at_once(options.jobs), offline=options.offline
        )
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
    plain, about = opened(work, current, sections)
    about += _about(contract, sections, plain, config.target)
    pods = _pods(options.pods) if options.pods else ()
    subject = Subject(
        str(options.contract), config.target, plain.get("workload"), plain.get("env"), pods, tuple(about)
    )
    subject = replace(subject, is_part=subject.env is None)
    verified = _judged(subject, _means(work, current), work.report, _unique(work, current))
    named = {decision.container.reference for decision in verified.decisions}
    own = {name for image in current.images for name in delivery.names(image)}
    # A contract of somebody else has nothing to do with what was built here.
    return replace(verified, evidence=evidence(work, current)) if own & named else verified


def verify_made(work: Job, current: BuildRecord, sections: Made, *, just_published: bool = False) -> Verified:
    """Decide about the sections that the config makes, before they are written.

    What was `just_published` nobody else can have signed.
    """
    config, loaded = work.loaded.config, work.loaded
    about: list[Finding] = list(sections.workload.findings) if sections.workload else []
    texts = sections.texts
    about += sections.findings(loaded)
    if config.encrypt.certificate is not None:
        from secure_build.steps.certificates import configured_certificate

        about += configured_certificate(work).findings
    pods: tuple[ConfidentialFile, ...] = ()
    if sections.workload is not None:
        packed = sections.workload.packed.pods
        pods = tuple(ConfidentialFile.parse(content, str(path)) for path, content in packed.items())
    subject = Subject(
        str(loaded.path), config.target, texts.get("workload"), texts.get("env"), pods, tuple(about)
    )
    means = _means(work, current)
    if just_published and config.workload is not None:
        means = replace(means, unsigned=frozenset(_signed_by_others(config.workload)))
    verified = _judged(subject, means, work.report, _unique(work, current))
    return sections.with_places(loaded, verified)


def _of_config(work: Job, current: BuildRecord, sections: Made, options: VerifyOptions) -> Verified:
    verified = verify_made(work, current, sections)
    if options.pods is not None:
        raise UsageError("`--pods` goes with a contract in a file", hint="the config names its own pods")
    return replace(verified, evidence=evidence(work, current))


def _judged(subject: Subject, means: Means, report: Report, unique: frozenset[str] = frozenset()) -> Verified:
    if subject.pods and subject.target != "ccco":
        raise UsageError(f"pods of the cluster are for `ccco`, and this is for `{subject.target}`")
    found, unread = containers.containers(subject.workload, subject.env)
    runs = containers.pods(subject.pods)
    found += runs
    are_all = all(one.level != "unknown" for one in unread)
    asked, idle = questions.questions(
        found, subject.workload, subject.env, are_all=are_all, logins_may_follow=subject.is_part
    )
    wanted = {question for question in asked.values() if question is not None}
    report.step(f"verify: {len(found)} containers, {len(wanted)} images to ask for")
    answers, about = gather(wanted, questions.entries(subject.workload), means)
    decisions, around = decide.decide(
        found,
        asked,
        answers,
        target=subject.target,
        workload=subject.workload,
        commands=runs,
        unique=unique,
    )
    if subject.target == "ccco" and subject.workload is not None and not runs:
        unread.append(_NO_PODS)
    findings = (*subject.findings, *unread, *idle, *about, *around)
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


def _means(work: Job, current: BuildRecord) -> Means:
    signing = work.loaded.config.signing
    return replace(
        delivery.means(work, current),
        notary_ca=read_file(work, signing.dct.ca.file) if signing.dct and signing.dct.ca else None,
        lookaside=lookaside_of(work, reading=True),
        signatures=work.options.workdir / SIGNATURES,
    )


def _unique(work: Job, current: BuildRecord) -> frozenset[str]:
    """The tags that no other build has, by the config's own word."""
    built = work.loaded.config.built
    found = {image.reference for image in current.images if not built[image.name].reuse_tag}
    return frozenset(map(str, found))


def _signed_by_others(config: Workload) -> Iterator[Repository]:
    """The repositories whose cosign key the config only names."""
    for name in config.confidential_containers.cosign:
        yield Reference.parse(name).repository
