"""mirror: third-party images to a registry of one's own, whole and unchanged, with what is said of them.

All members of an index come along, since the digest is the index's; so do cosign's signatures and
attestations and whatever names the image or a member as its subject. All of that is there before
the tag names the image.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain

from secure_build import stopping
from secure_build.errors import ServiceError
from secure_build.manifest import Manifest
from secure_build.model import UsedImage
from secure_build.reference import Digest, Pinned, Reference, Repository
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.referrers import COSIGN_SUFFIXES, fallback_tag
from secure_build.steps import transfer
from secure_build.steps.job import Job
from secure_build.steps.pins import resolve_all
from secure_build.steps.transfer import Advance, Holders, RemoteSource, Upload, nobody

# The most that may be said of one image, of what is said of it, and so on.
_MOST_EVIDENCE = 1000


@dataclass(frozen=True, slots=True)
class Copied:
    """What one copy sent, and the digests of the evidence that is beside the image.

    `kept` are tags of cosign at the destination that hold something else, such as signatures that
    were made there; they are left as they are.
    """

    image: Upload
    evidence: tuple[Digest, ...] = ()
    kept: tuple[str, ...] = ()


def mirror(work: Job) -> None:
    """Copy the third-party images that have a `mirror:` to where it says, unless they are there."""
    wanted = [image for image in work.loaded.config.used.values() if image.mirror]
    found = resolve_all(work, [image.use for image in wanted])
    jobs = max(1, work.options.requests // max(1, len(wanted)))

    def copy(image: UsedImage) -> None:
        assert image.mirror is not None
        source, target = image.reference.repository, image.mirror.repository
        with work.report.task(str(image.mirror), f"copying {image.reference}") as task:
            copied = copy_image(
                work.reader(source),
                image.reference.pin(image.digest),
                work.writer(target),
                image.mirror,
                jobs=jobs,
                advance=task.advance,
            )
        how = "unchanged, not copied" if copied.image.unchanged else f"copied ({copied.image})"
        said = f", with {len(copied.evidence)} signatures and statements" if copied.evidence else ""
        work.report.step(f"{image.mirror}: {how}{said}")
        for tag in copied.kept:
            work.report.step(f"{target}:{tag}: left as it is, since it holds something else")

    stopping.side_by_side(copy, [found[image.use] for image in wanted], jobs=work.options.requests)


def copy_image(
    source: RemoteRegistry,
    pinned: Pinned,
    destination: RemoteRegistry,
    reference: Reference,
    *,
    jobs: int = 4,
    advance: Advance = nobody,
) -> Copied:
    """Copy an image, with its evidence, to where the reference says; the digest stays the same.

    On one registry blobs are mounted. `advance` is told how many bytes of the image's blobs have
    arrived. Raises ServiceError when something of it cannot be read, is damaged, or does not arrive.
    """
    repository = reference.repository
    before = destination.tagged(reference)
    origin = RemoteSource(source, pinned.repository)
    root = source.resolve(Reference(pinned.repository, digest=pinned.digest))
    manifests = transfer.manifests_of(origin, root, jobs=jobs)
    same = pinned.repository.registry == repository.registry
    way = _Way(origin, destination, repository, [pinned.repository] if same else [], jobs)
    if before == pinned.digest:
        upload = Upload(unchanged=True)
    else:
        upload = replace(way.put(manifests, advance), moved_from=before)
    evidence, kept = _copy_evidence(way, [one.descriptor.digest for one in manifests])
    if not upload.unchanged:
        transfer.name(reference, root, destination)
    return Copied(upload, evidence, kept)


@dataclass(frozen=True, slots=True)
class _Way:
    """From one repository to another."""

    origin: RemoteSource
    destination: RemoteRegistry
    repository: Repository
    mounts: list[Repository]
    jobs: int
    holders: Holders = field(default_factory=Holders)

    def put(self, manifests: list[Manifest], advance: Advance = nobody) -> Upload:
        return transfer.put(
            self.origin,
            manifests,
            self.destination,
            self.repository,
            jobs=self.jobs,
            mounts=self.mounts,
            holders=self.holders,
            advance=advance,
        )


def _copy_evidence(way: _Way, subjects: list[Digest]) -> tuple[tuple[Digest, ...], tuple[str, ...]]:
    """Copy what is said of these manifests, of what is said of them, and so on.

    Returns the digests of it, and the tags that were left alone.
    """
    copied: dict[Digest, None] = {}
    kept: list[str] = []
    waiting = list(subjects)
    while waiting:
        tags = [f"{fallback_tag(subject)}.{suffix}" for subject in waiting for suffix in COSIGN_SUFFIXES]
        tagged = stopping.side_by_side(partial(_copy_tagged, way), tags, jobs=way.jobs)
        for tag, (found, left) in zip(tags, tagged, strict=True):
            copied |= dict.fromkeys(found)
            kept += [tag] if left else []
        referring = stopping.side_by_side(partial(_copy_referrers, way), waiting, jobs=way.jobs)
        listed = dict.fromkeys(chain.from_iterable(referring))
        waiting = [digest for digest in listed if digest not in copied]
        copied |= dict.fromkeys(waiting)
        if len(copied) > _MOST_EVIDENCE:
            raise ServiceError(f"more than {_MOST_EVIDENCE} manifests refer to `{way.origin.repository}`")
    return tuple(copied), tuple(kept)


def _copy_tagged(way: _Way, tag: str) -> tuple[list[Digest], bool]:
    """Copy what cosign keeps under a tag; returns its digest, and whether something else was left."""
    found = way.origin.registry.tagged(Reference(way.origin.repository, tag))
    if found is None:
        return [], False
    reference = Reference(way.repository, tag)
    if (here := way.destination.tagged(reference)) is not None:
        return ([found], False) if here == found else ([], True)
    root = way.origin.registry.resolve(Reference(way.origin.repository, digest=found))
    way.put(transfer.manifests_of(way.origin, root, jobs=way.jobs))
    transfer.name(reference, root, way.destination)
    return [found], False


def _copy_referrers(way: _Way, subject: Digest) -> list[Digest]:
    """Copy the manifests that name this one as their subject; returns their digests."""
    there = [one.descriptor for one in way.origin.registry.referrers(way.origin.repository, subject)]
    if not there:
        return []
    known = {one.descriptor.digest for one in way.destination.referrers(way.repository, subject)}
    for descriptor in there:
        if descriptor.digest not in known:
            content = way.origin.manifest(descriptor)
            way.put(transfer.manifests_of(way.origin, content, jobs=way.jobs))
    return [descriptor.digest for descriptor in there]
