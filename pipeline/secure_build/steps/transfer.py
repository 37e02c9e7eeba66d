"""One way to put an image somewhere, wherever it comes from: a layout or a registry.

Blobs, then manifests by digest, then a check of what was written; whoever calls names the tag last.
What is there already is not sent again, and what another repository of the registry has is mounted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from secure_build import stopping
from secure_build.errors import ServiceError
from secure_build.manifest import Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry import Registry
from secure_build.registry.client import MissingBlobsError, RemoteRegistry
from secure_build.registry.session import AccessError
from secure_build.report import size

# How long a blob that is there may not be seen, in seconds.
_UNSETTLED_PAUSES = (0.2, 0.5, 1.0)

Advance = Callable[[int], None]
Outcome = Literal["there", "mounted", "sent"]
_IMAGE_CONFIGS = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)


def nobody(_count: int) -> None:
    """Nobody follows."""


class Source(Protocol):
    """Where an image comes from; its bytes are checked when they are read. A layout is one."""

    def has(self, descriptor: Descriptor) -> bool: ...

    def manifest(self, descriptor: Descriptor) -> Manifest: ...

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class RemoteSource:
    """A repository of a registry as a source."""

    registry: RemoteRegistry
    repository: Repository

    def has(self, _descriptor: Descriptor) -> bool:
        """What a manifest there names should be there; else reading it says so."""
        return True

    def manifest(self, descriptor: Descriptor) -> Manifest:
        return self.registry.get_manifest(self.repository, descriptor)

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        return self.registry.blob(self.repository, descriptor)


@dataclass(frozen=True, slots=True)
class Upload:
    """What one publication sent. Nothing at all when the tag already named this image."""

    blobs: int = 0
    bytes: int = 0
    mounted: int = 0
    unchanged: bool = False
    moved_from: Digest | None = None

    def __str__(self) -> str:
        taken = f"; {self.mounted} mounted" if self.mounted else ""
        return f"{self.blobs} blobs, {size(self.bytes)}{taken}"


class Holders:
    """Which repository has got a blob in this run, so that the next one mounts it from there.

    One for all images of a run. Two that need the same blob at the same time take turns: it is sent
    once, however large it is.
    """

    def __init__(self) -> None:
        self._repositories: dict[tuple[str, Digest], Repository] = {}
        self._turns: dict[tuple[str, Digest], threading.Lock] = {}
        self._lock = threading.Lock()

    def note(self, repository: Repository, blob: Descriptor) -> None:
        """Remember that the repository has the blob."""
        self._repositories.setdefault((repository.registry, blob.digest), repository)

    @contextmanager
    def turn(self, repository: Repository, blob: Descriptor) -> Iterator[Repository | None]:
        """Have a blob to ourselves in one registry; gives the repository there that has it already."""
        key = (repository.registry, blob.digest)
        with self._lock:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            stopping.check()
            yield self._repositories.get(key)
            self._repositories[key] = repository


def put(
    source: Source,
    manifests: Sequence[Manifest],
    destination: Registry,
    repository: Repository,
    *,
    jobs: int,
    mounts: Sequence[Repository] = (),
    holders: Holders | None = None,
    advance: Advance = nobody,
) -> Upload:
    """Put manifests, members before the index that names them, with their blobs; no tag.

    `mounts` are repositories of the same registry that may have some of the blobs. `advance` is told,
    by several threads, how many bytes of the blobs have arrived, also of those that were there; when
    an upload begins anew it is told a negative number. Raises ServiceError for a blob that is neither
    in the source nor at the destination, and when what is read back differs.
    """
    transfer = _Transfer(source, destination, repository, tuple(mounts), holders or Holders(), advance)
    configs = dict.fromkeys(one.config for one in manifests if one.config)
    layers = dict.fromkeys(layer for one in manifests for layer in one.layers if layer not in configs)
    stopping.side_by_side(transfer.send, layers, jobs=jobs)
    # An image's config is put after its layers: where one of those was missing so is the config, and
    # it is not asked for.
    fresh = {one.config for one in manifests if any(transfer.outcomes.get(b) != "there" for b in one.layers)}

    def send_config(config: Descriptor) -> None:
        absent = config in fresh and config.media_type in _IMAGE_CONFIGS and source.has(config)
        transfer.send(config, absent=absent)

    stopping.side_by_side(send_config, configs, jobs=jobs)
    for one in manifests:
        transfer.put_manifest(one)
    stopping.side_by_side(transfer.read_back, manifests, jobs=jobs)
    sent = [blob.size for blob, outcome in transfer.outcomes.items() if outcome == "sent"]
    mounted = sum(outcome == "mounted" for outcome in transfer.outcomes.values())
    return Upload(len(sent), sum(sent), mounted)


def missing(
    source: Source, manifests: Sequence[Manifest], destination: Registry, repository: Repository
) -> list[Descriptor]:
    """The blobs that `put` would have to bring: those that the repository has not got.

    Raises ServiceError for one that the source has not got either.
    """
    blobs = dict.fromkeys(blob for one in manifests for blob in one.blobs)
    found = [blob for blob in blobs if not destination.has_blob(repository, blob)]
    for blob in found:
        _require(source, blob, repository)
    return found


def name(reference: Reference, root: Manifest, destination: Registry) -> None:
    """Let the tag name the image; raises ServiceError when it names another one right after."""
    _settled(lambda: destination.tag(reference, root))
    wanted = root.descriptor.digest
    if (named := destination.tagged(reference)) != wanted:
        raise ServiceError(
            f"`{reference}` names {named or 'nothing'} right after it was set to {wanted}",
            hint="somebody else publishes under this tag; images pinned by digest are not affected",
        )


def _settled(put: Callable[[], None]) -> None:
    """Put a manifest whose blobs are there, and again a moment later when the registry does not see them.

    Where another run stores the same blob right then, a registry that keeps files writes them in place.
    """
    for pause in _UNSETTLED_PAUSES:
        try:
            return put()
        except MissingBlobsError:
            stopping.pause(pause)
    return put()


def manifests_of(source: Source, root: Manifest, *, jobs: int | None = None) -> list[Manifest]:
    """The manifests of an image, members before the index that names them.

    Without `jobs` they are read one after the other, and a failure stops nothing but this. Raises
    ServiceError for an index within an index: no builder makes one, and they could nest without end.
    """
    members = list({member.digest: member for member in root.members}.values())
    if jobs is None:
        found = [source.manifest(member) for member in members]
    else:
        found = stopping.side_by_side(source.manifest, members, jobs=jobs)
    for one in found:
        if one.members:
            raise ServiceError(f"index {root.descriptor.digest} lists another index, {one.descriptor.digest}")
    return [*found, root]


def _require(source: Source, blob: Descriptor, repository: Repository) -> None:
    if not source.has(blob):
        raise ServiceError(
            f"blob {blob.digest} is neither in the layout nor in `{repository}`",
            hint="build the image again; a remote builder pushes its layers there",
        )


@dataclass(frozen=True, slots=True)
class _Transfer:
    """The parts of one `put`, and what became of each blob."""

    source: Source
    destination: Registry
    repository: Repository
    mounts: tuple[Repository, ...]
    holders: Holders
    advance: Advance
    outcomes: dict[Descriptor, Outcome] = field(default_factory=dict)

    def send(self, blob: Descriptor, *, absent: bool = False) -> None:
        """Bring a blob to its repository, unless it is there; `absent` when that is known already."""
        there = not absent and self.destination.has_blob(self.repository, blob)
        if there:
            self.advance(blob.size)
            self.holders.note(self.repository, blob)
            self.outcomes[blob] = "there"
            return
        with self.holders.turn(self.repository, blob) as holder:
            if holder == self.repository:
                # Another image of this repository has just brought it.
                self.advance(blob.size)
                self.outcomes[blob] = "there"
                return
            sent = self._upload(blob, holder or self._candidate(blob))
            self.outcomes[blob] = "sent" if sent else "mounted"

    def put_manifest(self, content: Manifest) -> None:
        """Put a manifest; blobs that were there, by the registry's word, and are not are sent once."""
        try:
            self.destination.put_manifest(self.repository, content)
        except MissingBlobsError:
            claimed = [blob for blob in content.blobs if self.outcomes[blob] != "sent"]
            for blob in dict.fromkeys(claimed):
                self.advance(-blob.size)
                self._upload(blob, None)
                self.outcomes[blob] = "sent"
            _settled(lambda: self.destination.put_manifest(self.repository, content))

    def read_back(self, content: Manifest) -> None:
        found = self.destination.get_manifest(self.repository, content.descriptor)
        if found != content:
            raise ServiceError(
                f"{self.destination} gives {content.descriptor.digest} as `{found.media_type}`, "
                f"but `{content.media_type}` was sent"
            )

    def _upload(self, blob: Descriptor, mount_from: Repository | None) -> bool:
        arrived = 0

        def chunks() -> Iterator[bytes]:
            nonlocal arrived
            self.advance(-arrived)
            arrived = 0
            for chunk in self.source.chunks(blob):
                yield chunk
                arrived += len(chunk)
                self.advance(len(chunk))

        _require(self.source, blob, self.repository)
        sent = self.destination.put_blob(self.repository, blob, chunks, mount_from=mount_from)
        self.advance(blob.size - arrived)
        return sent

    def _candidate(self, blob: Descriptor) -> Repository | None:
        """The repository to try to mount from; a mount that fails costs nothing, so one is not asked."""
        if len(self.mounts) <= 1:
            return next(iter(self.mounts), None)
        return next((repository for repository in self.mounts if self._has(repository, blob)), None)

    def _has(self, repository: Repository, blob: Descriptor) -> bool:
        try:
            return self.destination.has_blob(repository, blob)
        except AccessError:
            return False
