"""contract: the workload section, or the part of it for people with a contract of their own.

Plain sections hold secrets: they go to files that only their owner may read, and are shown masked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from secure_build import files, record, strict_yaml
from secure_build.contract import images, merging, workload
from secure_build.contract.images import Images
from secure_build.contract.places import Place
from secure_build.contract.text import SecretText
from secure_build.contract.workload import Packed
from secure_build.model import BuildRecord, Credential, Finding, Image, UsedImage
from secure_build.reference import Pinned, Reference
from secure_build.steps.build import previous
from secure_build.steps.confidential import PodsWorkload, confidential_parts, write_pods
from secure_build.steps.delivery import check_logins, try_pulls
from secure_build.steps.descriptors import read_pinnable, read_workload
from secure_build.steps.emission import Emitted, certificate_of, emit
from secure_build.steps.job import Job
from secure_build.steps.pins import (
    Pins,
    check_places,
    is_for_guest,
    named,
    pin_places,
    require_guest,
    resolve_all,
)
from secure_build.steps.sections import workload_parts
from secure_build.steps.verdict import checked, settled


@dataclass(frozen=True, slots=True)
class MadeWorkload:
    """The `workload` section that the config makes of a record, which nobody has written yet.

    `findings` are those of its parts; those of the section itself are for whoever takes it.
    """

    section: SecretText
    packed: Packed
    places: tuple[Place, ...]
    pins: Pins
    findings: tuple[Finding, ...]


def made_workload(work: Job, current: BuildRecord) -> MadeWorkload:
    """The section for the images of the record; raises UsageError for what cannot go into one."""
    config = work.loaded.config.workload
    checkout = work.checkout(commit=current.built_from.commit, allow_dirty=True)
    work.require_commit(current, checkout)
    described = read_workload(work, checkout)
    assert config is not None
    pins = pin_places(work, current, described.places)
    if isinstance(described, PodsWorkload):
        packed = confidential_parts(work, current, described, pins)
    else:
        packed = described.pack(pins.texts)
    logins = check_logins(work, (image.repository.registry for image in pins.pulled))
    keys = images.entries((image.reference, image.enforced) for image in pins.own if image.enforced)
    body = {**workload_parts(work, config), **packed.body}
    section = workload.section(filter(None, logins.values()), keys, body)
    findings = (*described.findings, *pins.findings, *packed.findings)
    return MadeWorkload(section, packed, described.places, pins, findings)


def contract_workload(work: Job) -> tuple[BuildRecord, Emitted]:
    """A draft of the `workload` section, see `write_workload`; whether the guest can pull is tried.

    Raises RefusedError when the runtime would not take the section; then nothing is written.
    """
    current = work.current_record()
    made = made_workload(work, current)
    return write_workload(work, current, made, try_pulls(work, current, made.pins.pulled), draft=True)


def write_workload(
    work: Job, current: BuildRecord, made: MadeWorkload, delivery: Iterable[Finding], *, draft: bool
) -> tuple[BuildRecord, Emitted]:
    """The section in a file for its owner only, and as a token where there is a certificate."""
    certificate, trust = certificate_of(work)
    findings = [*made.findings, *delivery, *trust, *checked(work, "workload", made.section)]
    settled(work, findings, what="the workload section")
    emitted = emit(
        work,
        "workload",
        made.section,
        certificate,
        before=current.emitted.get("workload"),
        draft=draft,
        packed=made.packed.archive,
    )
    if made.packed.pods:
        write_pods(work, made.packed.pods)
    work.report.step(f"workload: {emitted.told}")
    result = replace(
        current,
        used=made.pins.used,
        sections={**current.sections, "workload": emitted.known},
        findings=tuple(findings),
    )
    record.write(work.record_path, result)
    return result, emitted


@dataclass(frozen=True, slots=True)
class FragmentFile:
    """The fragment in a file: where it is, its masked text, and whether it was already there."""

    path: Path
    masked: str
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Fragment:
    """`images` and `auths` for people with a contract of their own."""

    file: FragmentFile
    images: Images
    references: Mapping[str, Pinned | Reference]
    auths: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class MadeFragment:
    """The fragment that nobody has written yet; `pulled` is what the guest would pull by it."""

    section: SecretText
    logins: tuple[Credential, ...]
    keys: Images
    references: Mapping[str, Pinned | Reference]
    pulled: frozenset[Pinned]
    used: tuple[UsedImage, ...]

    def at(self, path: Path, content: str) -> Fragment:
        """The same once it is in this file, where only its owner may read it."""
        unchanged = path.exists() and path.read_bytes() == content.encode()
        if not unchanged:
            files.write(path, content.encode(), mode=files.PRIVATE)
        auths = {
            key: {name: str(value) for name, value in login.items()}
            for key, login in workload.entries(self.logins).items()
        }
        return Fragment(FragmentFile(path, self.section.masked, unchanged), self.keys, self.references, auths)


def contract_images(work: Job) -> tuple[BuildRecord, Fragment]:
    """The `images` and `auths` fragment, in a file of its own or merged into the one of `into`."""
    current = work.current_record()
    for image in current.images:
        require_guest(image.platforms, f"{image.name} ({image.reference})")
    made = _made_fragment(work, current.images)
    findings = try_pulls(work, current, made.pulled)
    path, plain = work.options.workdir / "images.draft.yaml", made.section.plain
    if work.options.into is not None:
        # Behind a symbolic link is the file that is meant.
        path = work.options.into.resolve()
        content = files.read(path, at_most=strict_yaml.LARGEST)
        plain = merging.merge(content, str(work.options.into), made.logins, made.keys)
    fragment = made.at(path, plain)
    if work.options.into is not None:
        merged = ", ".join(login.registry for login in made.logins) or "no login, since none is needed"
        work.report.step(
            f"{work.options.into}: {'unchanged' if fragment.file.unchanged else 'merged'} ({merged}); "
            "its images are yours to name, by the references that are printed"
        )
    others = [finding for finding in current.findings if finding.check != "delivery"]
    result = replace(current, used=made.used, findings=(*others, *findings))
    record.write(work.record_path, result)
    for finding in findings:
        work.report.finding(finding)
    return result, fragment


def write_fragment(
    work: Job, current: BuildRecord, *, is_tried: bool = False
) -> tuple[BuildRecord, Fragment | None]:
    """The fragment for those images that the guest can run, None where it can run none of them.

    Raises RefusedError, with nothing written, when the guest could not pull; `is_tried` says that it can.
    """
    runnable = tuple(image for image in current.images if is_for_guest(image.platforms))
    if not runnable:
        return current, None
    made = _made_fragment(work, runnable)
    if not is_tried and not work.options.to:
        findings = try_pulls(work, current, made.pulled)
        settled(work, findings, what="the fragment for a contract")
        current = replace(current, findings=tuple(dict.fromkeys([*current.findings, *findings])))
        record.write(work.record_path, current)
    return current, made.at(work.options.workdir / "images.yaml", made.section.plain)


def _made_fragment(work: Job, built: Sequence[Image]) -> MadeFragment:
    used = resolve_all(work, [image.use for image in work.loaded.config.used.values()])
    pinned = {image.name: image.pinned for image in built} | {
        name: used[image.use].pinned for name, image in work.loaded.config.used.items()
    }
    references = pinned | {image.name: named(work, image, image.name) for image in built}
    pulled = frozenset(pinned.values())
    checked_logins = check_logins(work, (image.repository.registry for image in pulled))
    logins = tuple(login for login in checked_logins.values() if login)
    keys = images.entries((image.reference, image.enforced) for image in built if image.enforced)
    section = workload.fragment(logins, keys, references)
    return MadeFragment(section, logins, keys, references, pulled, tuple(used.values()))


def check_workload(work: Job, *, selected: Collection[str]) -> None:
    """Find before anything is built what would refuse the contract afterwards."""
    described = read_pinnable(work, work.checkout())
    check_places(work, described.places, there=built_or(work, selected))


def built_or(work: Job, selected: Collection[str]) -> set[str]:
    """The images that are there once the selected ones have been built."""
    last = previous(work, work.checkout().source)
    return {*selected, *(image.name for image in (last.images if last else ()))}
