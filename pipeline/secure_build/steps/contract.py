"""contract: the plain workload section, or the part of it for people with a contract of their own.

Plain sections hold secrets: they go to files that only their owner may read, and are shown masked.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from secure_build import files, record
from secure_build.contract import archive, compose, text, workload
from secure_build.contract.compose import ComposeFile
from secure_build.contract.workload import SecretText
from secure_build.errors import UsageError
from secure_build.model import BuildRecord, Finding, Section
from secure_build.reference import Digest, Pinned
from secure_build.report import size
from secure_build.source import Checkout
from secure_build.steps.build import platforms_of
from secure_build.steps.delivery import runtime_logins
from secure_build.steps.job import LARGEST_FILE, Job
from secure_build.steps.pins import own_image, pin_services, require_guest, resolve_all

# A contract is handed to the guest as user data; IBM Cloud takes 64 KB of it in base64.
_LARGE_ARCHIVE = 48 << 10
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ContractFile:
    """A plain contract file: where it is, its masked text, and whether it was already there."""

    path: Path
    masked: str
    unchanged: bool


def read_compose(work: Job, checkout: Checkout) -> tuple[PurePosixPath, ComposeFile]:
    """The compose file of the commit, with its place in the repository."""
    wanted = work.loaded.config.workload
    if wanted is None:
        raise UsageError(
            f"`{work.loaded.path}` has no `workload`",
            hint="name the compose file: `workload: {compose: docker-compose.yml}`",
        )
    assert wanted.compose is not None
    place = checkout.locate(wanted.compose, what="the compose file")
    content = checkout.read(place, at_most=compose.LARGEST)
    if content is None:
        raise UsageError(f"the commit has no file `{place}`", hint="add and commit it")
    return place, ComposeFile.parse(content, str(place))


def contract_workload(work: Job, *, draft: bool) -> tuple[BuildRecord, ContractFile]:
    """The plain `workload` section of a compose workload, in a file for its owner only."""
    current = work.current_record()
    with Checkout.open(work.loaded.directory, allow_dirty=True) as checkout:
        work.require_commit(current, checkout)
        place, file = read_compose(work, checkout)
        pins, used = pin_services(work, current, file)
        members, findings = _members(checkout, file, place, file.pinned(pins))
    packed = archive.build(members)
    if len(packed.base64()) > _LARGE_ARCHIVE:
        findings.append(_large(packed))
    logins, delivery = runtime_logins(work, current, set(pins.values()))
    section = workload.section(logins, packed)
    path = work.options.workdir / ("workload.draft.yaml" if draft else "workload.yaml")
    known, unchanged = _write_section(path, section, packed, current.sections.get("workload"))
    work.report.step(
        f"workload: unchanged, not written ({path})" if unchanged else f"workload: written to {path}"
    )
    result = replace(
        current,
        used=tuple(used),
        sections={**current.sections, "workload": known},
        findings=(*findings, *delivery),
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
    others = [finding for finding in current.findings if finding.check != "delivery"]
    result = replace(current, used=tuple(used.values()), findings=(*others, *findings))
    record.write(work.record_path, result)
    for finding in findings:
        work.report.finding(finding)
    masked = workload.entries(logins, masked=True)
    return result, Fragment(ContractFile(path, made.masked, unchanged), references, masked)


def check_workload(work: Job, *, selected: Collection[str]) -> None:
    """Find before anything is built what would refuse the contract afterwards."""
    with Checkout.open(work.loaded.directory, allow_dirty=work.options.allow_dirty) as checkout:
        place, file = read_compose(work, checkout)
        file.check()
        _members(checkout, file, place, b"")
    last = work.last_record()
    there = {*selected, *(image.name for image in (last.images if last else ()))}
    foreign = [image.use for image in work.loaded.config.used.values()]
    for service in file.services:
        name = own_image(work.loaded, service)
        if name is None:
            foreign += [service.image] if service.image else []
        else:
            if name not in there:
                raise UsageError(
                    f"{service.where}: image `{name}` has not been built, and is not to be built now",
                    hint=f"name it as well, or run `secure-build build {name}` first",
                )
            platforms = platforms_of(work, work.loaded.config.built[name], name)
            require_guest(platforms, f"{service.where}: {name} ({work.loaded.config.built[name].image})")
    resolve_all(work, foreign)


def _members(
    checkout: Checkout, file: ComposeFile, place: PurePosixPath, pinned: bytes
) -> tuple[dict[PurePosixPath, archive.Member], list[Finding]]:
    """The archive's files: the pinned compose file, and what its services read beside it."""
    members = {}
    findings = []
    for relative, where in file.local_files():
        target = compose.archive_path(place, relative, where)
        entries = checkout.files(place.parent / target)
        for entry in entries:
            if entry.path == place:
                # The pinned copy takes its place.
                continue
            content = checkout.read(entry.path, at_most=LARGEST_FILE)
            if content is None:
                raise UsageError(
                    f"{where}: `{entry.path}` is no regular file, so it cannot go into the archive"
                )
            members[entry.path.relative_to(place.parent)] = archive.Member(content, entry.executable)
        if not entries:
            findings.append(
                Finding(
                    check="archive",
                    level="warn",
                    basis="inferred",
                    what=f"`{relative}` is not in the commit",
                    why="the guest will find nothing there, or make an empty folder",
                    where=where,
                    hint="commit it, if the service reads it",
                )
            )
    for reserved in archive.RESERVED_NAMES:
        if PurePosixPath(reserved) in members:
            raise UsageError(
                f"`{place.parent / reserved}` must not be in the archive: its name means something there",
                hint="give it another name, or do not mount the folder that it is in",
            )
    members[PurePosixPath(archive.COMPOSE_NAME)] = archive.Member(pinned)
    return members, findings


def _write_section(
    path: Path, section: SecretText, packed: archive.Archive, known: Section | None
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
        archive_tar=packed.tar_digest,
        archive_gzip=packed.compressed_digest,
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


def _large(packed: archive.Archive) -> Finding:
    return Finding(
        check="size",
        level="warn",
        basis="inferred",
        what=f"the archive has {size(len(packed.base64()))} in base64",
        why="a whole contract should stay under 64 KB, the limit of user data on IBM Cloud",
    )


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read `{path}`: {error.strerror}") from None
