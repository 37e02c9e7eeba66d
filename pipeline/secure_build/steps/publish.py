"""publish: the layout's bytes to registries or another layout, in an order that is safe to break.

Blobs, then manifests by digest, then signatures (`evidence.py`), each with a check of what was written
(`transfer.py`), and the tag last:
whoever pulls by tag never sees an image that is not whole, and an image that lacks platforms gets no
tag at all. What is there already is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from secure_build import record, stopping
from secure_build.errors import UsageError
from secure_build.layout import Layout
from secure_build.model import BuildRecord, Finding, Image
from secure_build.reference import Digest, Repository
from secure_build.registry import Registry
from secure_build.steps import transfer
from secure_build.steps.content_trust import check_destination
from secure_build.steps.evidence import put_evidence
from secure_build.steps.job import Job, layout_directory
from secure_build.steps.keys import keys
from secure_build.steps.mirror import mirror
from secure_build.steps.sign import require_signed
from secure_build.steps.transfer import Advance, Holders, Upload, nobody

# Checks that may have to wait for the images to be at their registries.
_AWAITING = ("delivery", "evidence", "image", "signature")


def publish(work: Job) -> BuildRecord:
    """Publish what the layout holds, to the registries or, with `to`, to another layout.

    Third-party images that have a mirror are copied there, unless images were chosen. With
    `by_digest` no tag is set. Raises UsageError for an image of which a part is to get a tag.
    """
    check_destination(work)
    current = work.current_record()
    chosen = work.chosen(current)
    by_digest = work.options.by_digest
    images = [image for image in current.images if image.name in chosen]
    for image in images:
        if image.missing and not by_digest:
            raise _is_part(image)
        if not by_digest:
            require_signed(work, image)
        if work.options.to and image.sparse and not work.layout.holds_image(image.descriptor):
            raise _is_elsewhere(image)
    destinations = destinations_of(work, [image.reference.repository for image in images])
    jobs, holders = work.options.requests, Holders()
    signed = any(image.signatures for image in images)
    verifiers = keys(work).verifiers if signed else ()

    def send(image: Image) -> Image:
        if image.name not in chosen:
            return image
        destination = destinations[image.reference.repository]
        published = image

        def evidence(before: Digest | None) -> None:
            nonlocal published
            published = put_evidence(work, image, destination, verifiers, before)

        total = work.layout.size(image.descriptor)
        with work.report.task(image.name, f"publishing to {destination}", total) as task:
            upload = send_image(
                work.layout,
                image,
                destination,
                jobs=max(1, jobs // len(chosen)),
                holders=holders,
                advance=task.advance,
                name_it=not by_digest,
                before_name=evidence,
            )
        if by_digest:
            work.report.step(f"{image.name}: put at {image.pinned}, without a tag ({upload})")
        elif upload.unchanged:
            work.report.step(f"{image.name}: unchanged, not uploaded ({image.reference} on {destination})")
        else:
            work.report.step(f"{image.name}: published {image.reference} on {destination} ({upload})")
            if upload.moved_from:
                work.report.step(f"{image.name}: the tag named {upload.moved_from} before")
        if work.options.with_evidence:
            # A capsule is a copy: who published the image where is as true as before.
            return published
        return replace(published, published=str(destination))

    sent = stopping.side_by_side(send, current.images, jobs=jobs)
    if work.mirrors:
        mirror(work)
    elif work.options.to and any(image.mirror for image in work.loaded.config.used.values()):
        work.report.step("no mirror is filled: `publish` without `--to` does that")
    result = replace(current, images=tuple(sent), findings=_still_so(work, current, chosen))
    if result != current:
        record.write(work.record_path, result)
    return result


def _still_so(work: Job, current: BuildRecord, chosen: Collection[str]) -> tuple[Finding, ...]:
    """What was found before, but for what had to wait until now: `verify` can tell it."""
    if work.options.to or work.options.by_digest or len(chosen) < len(current.images):
        return current.findings
    return tuple(one for one in current.findings if one.level != "deferred" or one.check not in _AWAITING)


def destinations_of(work: Job, repositories: list[Repository]) -> Mapping[Repository, Registry]:
    """Where each repository's images go: its registry, or with `to` one layout for all."""
    if work.options.to:
        # One object for all: it guards the index that they share.
        layout = Layout.create(layout_directory(work.options.to))
        return dict.fromkeys(repositories, layout)
    return {repository: work.writer(repository) for repository in repositories}


def _is_part(image: Image) -> UsageError:
    missing = ", ".join(map(str, image.missing))
    return UsageError(
        f"{image.name} was not built for {missing}, and `{image.reference}` is to name all of it",
        hint="join the records of all platforms (`--record A --record B`), or use `--by-digest`",
    )


def _is_elsewhere(image: Image) -> UsageError:
    return UsageError(
        f"the layers of {image.name} are in `{image.reference.repository}`, where its builder put them, "
        "and not on this machine",
        hint="`secure-build run --to oci:DIR` builds it into a layout; without `--to` it is published there",
    )


def send_image(
    layout: Layout,
    image: Image,
    destination: Registry,
    *,
    jobs: int,
    holders: Holders | None = None,
    advance: Advance = nobody,
    name_it: bool = True,
    before_name: Callable[[Digest | None], None] = lambda _: None,
) -> Upload:
    """Put an image where its reference says; the tag comes last, or not at all without `name_it`.

    Layers that a remote builder has pushed into the image's repository need not be in the layout.
    What another image of the run has brought to the same registry is mounted (`holders`), and so is
    what its base has there. `advance` is told how many bytes of the blobs have arrived, see
    `transfer.put`; `before_name` is called when the image is there, with what its tag named until then.
    Raises ServiceError for a blob that is nowhere and when what is read back differs.
    """
    before = destination.tagged(image.reference) if name_it else None
    if before == image.descriptor.digest:
        before_name(before)
        return Upload(unchanged=True)
    repository = image.reference.repository
    manifests = transfer.manifests_of(layout, layout.manifest(image.descriptor), jobs=jobs)
    bases = dict.fromkeys(
        material.reference.repository for material in image.materials or () if material.kind == "image"
    )
    upload = transfer.put(
        layout,
        manifests,
        destination,
        repository,
        jobs=jobs,
        mounts=[base for base in bases if base.registry == repository.registry and base != repository],
        holders=holders,
        advance=advance,
    )
    before_name(before)
    if name_it:
        transfer.name(image.reference, manifests[-1], destination)
    return replace(upload, moved_from=before)
