"""publish: the layout's bytes to registries or another layout, in an order that is safe to break.

Blobs, then manifests by digest, then a check of what was written (`transfer.py`), and the tag last:
whoever pulls by tag never sees an image that is not whole. What is there already is not sent again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from secure_build import record, stopping
from secure_build.errors import UsageError
from secure_build.layout import Layout
from secure_build.model import BuildRecord, Credential, Image
from secure_build.reference import Repository
from secure_build.registry import Registry
from secure_build.registry.auth import machine_credential
from secure_build.registry.client import RemoteRegistry
from secure_build.report import size
from secure_build.steps import transfer
from secure_build.steps.job import Job, layout_directory
from secure_build.steps.transfer import Advance, Holders, Upload, nobody


def publish(work: Job) -> BuildRecord:
    """Publish what the layout holds, to the registries or, with `to`, to another layout."""
    current = work.current_record()
    chosen = set(work.options.images or (image.name for image in current.images))
    work.selected()
    absent = chosen - {image.name for image in current.images}
    if absent:
        raise UsageError(f"`{min(absent)}` has not been built", hint="run `secure-build build` first")
    images = [image for image in current.images if image.name in chosen]
    if work.options.to:
        # One object for all: it guards the index that they share.
        layout = Layout.create(layout_directory(work.options.to))
        destinations: Mapping[Repository, Registry] = {image.reference.repository: layout for image in images}
    else:
        destinations = remotes(work, images)
    jobs, holders = work.options.jobs, Holders()

    def send(image: Image) -> Image:
        if image.name not in chosen:
            return image
        destination = destinations[image.reference.repository]
        share = max(1, jobs // len(chosen))
        upload = send_image(work.layout, image, destination, jobs=share, holders=holders)
        if upload.unchanged:
            work.report.step(f"{image.name}: unchanged, not uploaded ({image.reference} on {destination})")
        else:
            sent = f"{upload.blobs} blobs, {size(upload.bytes)}"
            sent += f"; {upload.mounted} mounted" if upload.mounted else ""
            work.report.step(f"{image.name}: published {image.reference} on {destination} ({sent})")
            if upload.moved_from:
                work.report.step(f"{image.name}: the tag named {upload.moved_from} before")
        return replace(image, published=str(destination))

    sent = stopping.side_by_side(send, current.images, jobs=jobs)
    result = replace(current, images=tuple(sent))
    record.write(work.record_path, result)
    return result


def remotes(work: Job, images: Sequence[Image]) -> dict[Repository, RemoteRegistry]:
    """A client for each repository; those of one registry and login are one, and share its tokens."""
    made: dict[tuple[str, Credential | None], RemoteRegistry] = {}
    found: dict[Repository, RemoteRegistry] = {}
    for repository in {image.reference.repository for image in images}:
        login = work.login(repository.registry, "push") or machine_credential(repository)
        key = (repository.registry, login)
        if key not in made:
            made[key] = RemoteRegistry(repository.registry, login, work.transport, push=True)
        found[repository] = made[key]
    return found


def send_image(
    layout: Layout,
    image: Image,
    destination: Registry,
    *,
    jobs: int,
    holders: Holders | None = None,
    advance: Advance = nobody,
) -> Upload:
    """Put an image where its reference says; the tag comes last.

    Layers that a remote builder has pushed into the image's repository need not be in the layout.
    What another image of the run has brought to the same registry is mounted (`holders`), and so is
    what its base has there. `advance` is told how many bytes of the blobs have arrived, see
    `transfer.put`. Raises ServiceError for a blob that is nowhere and when what is read back differs.
    """
    before = destination.tagged(image.reference)
    if before == image.descriptor.digest:
        return Upload(unchanged=True)
    repository = image.reference.repository
    manifests = transfer.manifests_of(layout, layout.manifest(image.descriptor), jobs=jobs)
    bases = dict.fromkeys(material.reference.repository for material in image.materials or ())
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
    transfer.name(image.reference, manifests[-1], destination)
    return replace(upload, moved_from=before)
