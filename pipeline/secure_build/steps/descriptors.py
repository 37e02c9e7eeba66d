"""What the guest is to run, out of the commit: a compose file or pods, and the files beside them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from secure_build.config import Play, Workload
from secure_build.contract import archive, compose, compose_advice, pinning, play, play_advice
from secure_build.contract.archive import Member
from secure_build.contract.compose import ComposeFile
from secure_build.contract.places import Place, place_of
from secure_build.contract.play import PlayFile
from secure_build.contract.workload import Packed
from secure_build.errors import UsageError
from secure_build.model import Finding
from secure_build.source import Checkout
from secure_build.steps.confidential import PodsWorkload, read_pods
from secure_build.steps.job import LARGEST_FILE, Job

_IN_VARIABLES = "take the secret from the contract's variables: `environment: NAME` instead of `file:`"
Members = dict[PurePosixPath, Member]


@dataclass(frozen=True, slots=True)
class ComposeWorkload:
    """A compose file with the files that its services read."""

    file: ComposeFile
    members: Members
    findings: tuple[Finding, ...]

    @property
    def places(self) -> tuple[Place, ...]:
        return self.file.places

    def pack(self, texts: Mapping[Place, str]) -> Packed:
        """The section's part with these texts at the places."""
        pinned = Member(self.file.pinned(texts))
        packed = archive.build(self.members | {PurePosixPath(archive.COMPOSE_NAME): pinned})
        return Packed({"compose": {"archive": packed.base64()}}, packed)


@dataclass(frozen=True, slots=True)
class PlayWorkload:
    """Descriptors of pods, by where they go in the contract, with the archive's other files."""

    resources: tuple[PlayFile, ...] = ()
    templates: tuple[PlayFile, ...] = ()
    archived: Mapping[PurePosixPath, PlayFile] = field(default_factory=dict)
    members: Members = field(default_factory=dict)

    @property
    def files(self) -> tuple[PlayFile, ...]:
        return (*self.resources, *self.templates, *self.archived.values())

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(place for file in self.files for place in file.places)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(play_advice.findings(self.files, {*self.members, *self.archived}))

    def pack(self, texts: Mapping[Place, str]) -> Packed:
        """The section's part with these texts at the places."""
        body: dict[str, Any] = {}
        for key, files in (("resources", self.resources), ("templates", self.templates)):
            if objects := [document for file in files for document in file.objects(texts)]:
                body[key] = objects
        if not self.archived:
            return Packed({"play": body}, None)
        pinned = {path: Member(file.pinned(texts)) for path, file in self.archived.items()}
        packed = archive.build(self.members | pinned)
        return Packed({"play": body | {"archive": packed.base64()}}, packed)


AnyWorkload = ComposeWorkload | PlayWorkload | PodsWorkload


def read_workload(work: Job, checkout: Checkout) -> AnyWorkload:
    """The workload of the commit; raises UsageError for what cannot go into a contract."""
    wanted = work.loaded.config.workload
    if wanted is None:
        raise UsageError(
            f"`{work.loaded.path}` has no `workload`",
            hint="name the compose file: `workload: {compose: docker-compose.yml}`, or `play:` for pods",
        )
    if wanted.pods is not None:
        return read_pods(work, checkout, wanted.pods)
    variables = {*wanted.env, *(work.loaded.config.env.env if work.loaded.config.env else ())}
    if wanted.compose is not None:
        return _read_compose(checkout, wanted.compose, variables)
    return _read_play(checkout, wanted)


def read_pinnable(work: Job, checkout: Checkout) -> AnyWorkload:
    """The same, and it is tried whether digests can be put into it, before they are known."""
    found = read_workload(work, checkout)
    texts = pinning.placeholders(found.places)
    if isinstance(found, PodsWorkload):
        found.check(texts)
    else:
        found.pack(texts)
    return found


def _read_compose(checkout: Checkout, path: str, variables: Collection[str]) -> ComposeWorkload:
    place = checkout.locate(path, what="the compose file")
    file = ComposeFile.parse(_content(checkout, place, at_most=compose.LARGEST), str(place))
    members, missing = _mounted(checkout, file, place)
    findings = [*compose_advice.findings(file, variables), *missing]
    written = place.parent / ".env"
    if checkout.files(written):
        findings.append(
            Finding(
                check="compose",
                level="warn",
                what=f"`{written}` is not used",
                why="the runtime writes a file of this name from the contract's variables",
                hint="put its values under `env` of the contract's `workload` or `env` section",
            )
        )
    return ComposeWorkload(file, members, tuple(findings))


def _mounted(checkout: Checkout, file: ComposeFile, place: PurePosixPath) -> tuple[Members, list[Finding]]:
    """The files that the services read beside the compose file, and what is said of missing ones."""
    members: Members = {}
    findings = []
    for relative, written in file.local_files():
        where = place_of(file.document, written)
        target = compose.archive_path(place, relative, where)
        entries = checkout.files(place.parent / target)
        for entry in entries:
            # The pinned copy takes the place of the compose file.
            if entry.path != place:
                content = _content(checkout, entry.path, at_most=LARGEST_FILE, where=f"{where}: ")
                members[entry.path.relative_to(place.parent)] = Member(content, entry.executable)
        if not entries:
            findings.append(
                Finding(
                    check="archive",
                    level="warn",
                    what=f"`{relative}` is not in the commit",
                    why="so it is not in the archive, and the guest has nothing there",
                    where=where,
                    hint=_IN_VARIABLES if written[0] == "secrets" else "commit it, if the service reads it",
                )
            )
    for reserved in archive.RESERVED_NAMES:
        if PurePosixPath(reserved) in members:
            raise UsageError(
                f"`{place.parent / reserved}` must not be in the archive: its name means something there",
                hint="give it another name, or do not mount the folder that it is in",
            )
    return members, findings


def _read_play(checkout: Checkout, wanted: Workload) -> PlayWorkload:
    parts = wanted.play
    assert parts is not None
    if isinstance(parts, str):
        folder = checkout.is_directory(checkout.locate(parts, what="the folder of pods"))
        parts = Play(archive=parts) if folder else Play(resources=(parts,))
    archived: dict[PurePosixPath, PlayFile] = {}
    members: Members = {}
    if parts.archive is not None:
        archived, members = _archive(checkout, parts.archive)
    found = PlayWorkload(
        resources=_descriptors(checkout, parts.resources, templates=False),
        templates=_descriptors(checkout, parts.templates, templates=True),
        archived=archived,
        members=members,
    )
    play.check_together(found.files)
    return found


def _descriptors(checkout: Checkout, paths: tuple[str, ...], *, templates: bool) -> tuple[PlayFile, ...]:
    """The files, and for a folder all descriptors right in it."""
    found: dict[PurePosixPath, PlayFile] = {}
    for path in paths:
        place = checkout.locate(path, what="the descriptor")
        entries = [place]
        if checkout.is_directory(place):
            entries = [entry.path for entry in checkout.files(place)]
            _refuse_others(place, entries)
        for entry in entries:
            found[entry] = _parse(checkout, entry, templates=templates)
    return tuple(found.values())


def _refuse_others(folder: PurePosixPath, entries: list[PurePosixPath]) -> None:
    for entry in entries:
        if entry.parent != folder or entry.suffix not in play.ENDINGS:
            raise UsageError(
                f"`{entry}` is no descriptor, and only descriptors can go into the contract as objects",
                hint="name the descriptors one by one, or put the folder under `workload: play: archive:`",
            )


def _archive(checkout: Checkout, path: str) -> tuple[dict[PurePosixPath, PlayFile], Members]:
    """The descriptors right in a folder, and all its other files."""
    folder = checkout.locate(path, what="the folder of pods")
    if not checkout.is_directory(folder):
        raise UsageError(f"the commit has no folder `{folder}`", hint="add and commit it")
    archived: dict[PurePosixPath, PlayFile] = {}
    members: Members = {}
    for entry in checkout.files(folder):
        name = entry.path.relative_to(folder)
        if len(name.parts) == 1 and name.suffix in play.ENDINGS:
            archived[name] = _parse(checkout, entry.path, templates=False)
        else:
            content = _content(checkout, entry.path, at_most=LARGEST_FILE)
            members[name] = Member(content, entry.executable)
    if not archived:
        raise UsageError(
            f"`{folder}` of the commit has no descriptor right in it (`*.yaml` or `*.yml`)",
            hint="the runtime takes the files at the top of the archive, not those in folders",
        )
    return archived, members


def _parse(checkout: Checkout, path: PurePosixPath, *, templates: bool) -> PlayFile:
    return PlayFile.parse(_content(checkout, path, at_most=play.LARGEST), str(path), templates=templates)


def _content(checkout: Checkout, path: PurePosixPath, *, at_most: int, where: str = "") -> bytes:
    content = checkout.read(path, at_most=at_most)
    if content is not None:
        return content
    if checkout.files(path):
        raise UsageError(f"{where}`{path}` is no regular file, so it cannot go into the archive")
    raise UsageError(f"the commit has no file `{path}`", hint="add and commit it")
