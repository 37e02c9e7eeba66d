"""contract: the plain workload section, or the part of it for people with a contract of their own.

Plain sections hold secrets: they go to files that only their owner may read, and are shown masked.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from secure_build import files, record
from secure_build.contract import text, workload
from secure_build.contract.archive import Archive
from secure_build.contract.text import SecretText
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding, Section
from secure_build.reference import Digest, Pinned
from secure_build.report import size
from secure_build.steps.build import previous
from secure_build.steps.delivery import runtime_logins
from secure_build.steps.descriptors import read_workload
from secure_build.steps.job import Job
from secure_build.steps.pins import check_places, pin_places, require_guest, resolve_all

# A contract is handed to the guest as user data; IBM Cloud takes 64 KB of it in base64.
_LARGE = 48 << 10
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ContractFile:
    """A plain contract file: where it is, its masked text, and whether it was already there."""

    path: Path
    masked: str
    unchanged: bool


def contract_workload(work: Job, *, draft: bool) -> tuple[BuildRecord, ContractFile]:
    """The plain `workload` section, in a file for its owner only."""
    current = work.current_record()
    checkout = work.checkout(commit=current.built_from.commit, allow_dirty=True)
    work.require_commit(current, checkout)
    described = read_workload(work, checkout)
    pins = pin_places(work, current, described.places)
    packed = described.pack(pins.texts)
    logins, delivery = runtime_logins(work, current, pins.pulled)
    section = workload.section(logins, packed.body)
    findings = [*described.findings, *pins.findings, *delivery]
    if len(section.plain) > _LARGE:
        findings.append(_large(len(section.plain)))
    path = work.options.workdir / ("workload.draft.yaml" if draft else "workload.yaml")
    known, unchanged = _write_section(path, section, packed.archive, current.sections.get("workload"))
    work.report.step(
        f"workload: unchanged, not written ({path})" if unchanged else f"workload: written to {path}"
    )
    result = replace(
        current,
        used=pins.used,
        sections={**current.sections, "workload": known},
        findings=tuple(findings),
    )
    record.write(work.record_path, result)
    for finding in result.findings:
        work.report.finding(finding)
    return result, ContractFile(path, text.block("workload", section.masked), unchanged)


@dataclass(frozen=True, slots=True)
class Fragment:
    """`images` and `auths` for people with a contract of their own."""

    file: ContractFile
    references: Mapping[str, Pinned]
    auths: Mapping[str, Mapping[str, str]]


def contract_images(work: Job) -> tuple[BuildRecord, Fragment]:
    """The `images` and `auths` fragment, in a file of its own or merged into the one of `into`."""
    current = work.current_record()
    used = resolve_all(work, [image.use for image in work.loaded.config.used.values()])
    references = {image.name: image.pinned for image in current.images} | {
        name: used[image.use].pinned for name, image in work.loaded.config.used.items()
    }
    for image in current.images:
        require_guest(image.platforms, f"{image.name} ({image.reference})")
    logins, findings = runtime_logins(work, current, set(references.values()))
    made = workload.fragment(logins, references)
    plain = made.plain
    path = work.options.workdir / "images.draft.yaml"
    if work.options.into is not None:
        # Behind a symbolic link is the file that is meant.
        path = work.options.into.resolve()
        plain = workload.merge(_read_file(path), str(work.options.into), logins)
    unchanged = path.exists() and path.read_bytes() == plain.encode()
    if not unchanged:
        files.write(path, plain.encode(), mode=files.PRIVATE)
    if work.options.into is not None:
        merged = ", ".join(login.registry for login in logins) or "no login, since none is needed"
        work.report.step(
            f"{work.options.into}: {'unchanged' if unchanged else 'merged'} ({merged}); "
            "its images are yours to name, by the references that are printed"
        )
    others = [finding for finding in current.findings if finding.check != "delivery"]
    result = replace(current, used=tuple(used.values()), findings=(*others, *findings))
    record.write(work.record_path, result)
    for finding in findings:
        work.report.finding(finding)
    masked = {
        key: {name: str(value) for name, value in login.items()}
        for key, login in workload.entries(logins).items()
    }
    return result, Fragment(ContractFile(path, made.masked, unchanged), references, masked)


def check_workload(work: Job, *, selected: Collection[str]) -> None:
    """Find before anything is built what would refuse the contract afterwards."""
    described = read_workload(work, work.checkout())
    check_places(work, described.places, there=built_or(work, selected))


def built_or(work: Job, selected: Collection[str]) -> set[str]:
    """The images that are there once the selected ones have been built."""
    last = previous(work, work.checkout().source)
    return {*selected, *(image.name for image in (last.images if last else ()))}


def _write_section(
    path: Path, section: SecretText, packed: Archive | None, known: Section | None
) -> tuple[Section, bool]:
    """Write a plain section and, beside it, the key of its keyed digest.

    Returns what the record keeps, and whether all of it was there already. Drafts share the key.
    """
    content = text.block("workload", section.plain).encode()
    key_path = path.parent / "workload.key"
    key = _read_key(key_path) or secrets.token_bytes(_KEY_BYTES)
    made = Section(
        plaintext_masked=Digest.of(section.masked.encode()),
        plaintext_keyed=hmac.new(key, section.plain.encode(), hashlib.sha256).hexdigest(),
        archive_tar=packed.tar_digest if packed else None,
        archive_gzip=packed.compressed_digest if packed else None,
    )
    if made == known and path.exists() and path.read_bytes() == content:
        return made, True
    files.write(key_path, key.hex().encode() + b"\n", mode=files.PRIVATE)
    files.write(path, content, mode=files.PRIVATE)
    return made, False


def _read_key(path: Path) -> bytes | None:
    try:
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None


def _large(length: int) -> Finding:
    return Finding(
        check="size",
        level="warn",
        basis="inferred",
        what=f"the workload section has {size(length)}",
        why="a whole contract should stay under 64 KB, the limit of user data on IBM Cloud",
    )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read `{path}`: {error.strerror}") from None
