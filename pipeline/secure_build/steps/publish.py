"""publish: the layout's bytes to registries or another layout, in an order that is safe to break.

Blobs, then manifests by digest, then a check of what was written, and the tag last: whoever pulls
by tag never sees an image that is not whole, and an image that lacks platforms gets no tag at all.
What is there already is not sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from secure_build import record, stopping
from secure_build.errors import ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import BuildRecord, Descriptor, Image
from secure_build.reference import Digest
from secure_build.registry import Registry
from secure_build.registry.auth import docker_config_credential
from secure_build.registry.client import RemoteRegistry
from secure_build.report import size
from secure_build.steps.job import Job, layout_directory


def publish(work: Job) -> BuildRecord:
    """Publish what the layout holds, to the registries or, with `to`, to another layout.

    With `by_digest` no tag is set. Raises UsageError for an image of which a part is to get a tag.
    """
    current = work.current_record()
    chosen = work.chosen(current)
    by_digest = work.options.by_digest
    for image in current.images:
        if image.name in chosen and image.missing and not by_digest:
            raise _is_part(image)
    registries = {image.reference.repository.registry for image in current.images if image.name in chosen}
    if work.options.to:
        # One object for all: it guards the index that they share.
        layout = Layout.create(layout_directory(work.options.to))
        destinations: dict[str, Registry] = dict.fromkeys(registries, layout)
    else:
        destinations = {registry: destination_of(work, registry) for registry in registries}
    jobs = work.options.jobs

    def send(image: Image) -> Image:
        if image.name not in chosen:
            return image
        destination = destinations[image.reference.repository.registry]
        part = max(1, jobs // len(chosen))
        upload = send_image(work.layout, image, destination, jobs=part, name_it=not by_digest)
        if by_digest:
            work.report.step(f"{image.name}: put at {image.pinned}, without a tag ({upload})")
        elif upload.unchanged:
            work.report.step(f"{image.name}: unchanged, not uploaded ({image.reference} on {destination})")
        else:
            work.report.step(f"{image.name}: published {image.reference} on {destination} ({upload})")
            if upload.moved_from:
                work.report.step(f"{image.name}: the tag named {upload.moved_from} before")
        return replace(image, published=str(destination))

    sent = stopping.side_by_side(send, current.images, jobs=jobs)
    result = replace(current, images=tuple(sent))
    record.write(work.record_path, result)
    return result


def _is_part(image: Image) -> UsageError:
    missing = ", ".join(map(str, image.missing))
    return UsageError(
        f"{image.name} was not built for {missing}, and `{image.reference}` is to name all of it",
        hint="join the records of all platforms (`--record A --record B`), or use `--by-digest`",
    )


def destination_of(work: Job, registry: str) -> RemoteRegistry:
    """A registry to write to, with the login for pushing or the machine's own."""
    login = work.login(registry, "push") or docker_config_credential(registry)
    return RemoteRegistry(registry, login, work.transport, push=True)


@dataclass(frozen=True, slots=True)
class Upload:
    """What one publication sent. Nothing at all when the tag already named this image."""

    blobs: int = 0
    bytes: int = 0
    unchanged: bool = False
    moved_from: Digest | None = None

    def __str__(self) -> str:
        return f"{self.blobs} blobs, {size(self.bytes)}"


def send_image(
    layout: Layout, image: Image, destination: Registry, *, jobs: int, name_it: bool = True
) -> Upload:
    """Put an image where its reference says; raises ServiceError when what is read back differs."""
    before = destination.tagged(image.reference) if name_it else None
    if before == image.descriptor.digest:
        return Upload(unchanged=True)
    repository = image.reference.repository
    root = layout.manifest(image.descriptor)
    manifests = [*map(layout.manifest, root.members), root]

    def send(blob: Descriptor) -> int | None:
        if destination.has_blob(repository, blob):
            return None
        destination.put_blob(repository, blob, lambda: layout.chunks(blob))
        return blob.size

    blobs = dict.fromkeys(blob for manifest in manifests for blob in manifest.blobs)
    sent = [size for size in stopping.side_by_side(send, blobs, jobs=jobs) if size is not None]
    # Members before the index that names them.
    for manifest in manifests:
        destination.put_manifest(repository, manifest)
    for manifest in manifests:
        _read_back(destination, image, manifest)
    if not name_it:
        return Upload(len(sent), sum(sent))
    destination.tag(image.reference, root)
    if (named := destination.tagged(image.reference)) != image.descriptor.digest:
        raise ServiceError(
            f"`{image.reference}` names {named or 'nothing'} right after it was set to "
            f"{image.descriptor.digest}",
            hint="somebody else publishes under this tag; images pinned by digest are not affected",
        )
    return Upload(len(sent), sum(sent), moved_from=before)


def _read_back(destination: Registry, image: Image, manifest: Manifest) -> None:
    found = destination.get_manifest(image.reference.repository, manifest.descriptor)
    if found.content != manifest.content:
        raise ServiceError(f"{destination} gives other bytes for {manifest.descriptor.digest} than were sent")
