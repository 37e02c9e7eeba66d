"""Handing a record on through a registry, by digest: `publish --by-digest` and `--record …@sha256:…`.

The record is an OCI artifact (image-spec v1.1, manifest.md, "Guidelines for Artifact Usage") in the
repository of its first image. No tag names it, so nothing is found that was not handed on.
"""

from __future__ import annotations

from secure_build import manifest, record
from secure_build.errors import RefusedError, UsageError
from secure_build.model import BuildRecord
from secure_build.reference import Pinned, Reference
from secure_build.registry import Registry
from secure_build.steps.job import Job
from secure_build.steps.publish import destination_of, publish

ARTIFACT_TYPE = "application/vnd.secure-build.record.v1"
MEDIA_TYPE = "application/vnd.secure-build.record.v1+json"


def hand_on(work: Job) -> tuple[BuildRecord, Pinned]:
    """Publish images by digest only, and then the record of them; returns where that is."""
    if work.options.to:
        raise UsageError(
            "`--by-digest` publishes to registries, and `--to` names a layout",
            hint="a layout is handed on as a folder: name the record beside it with `--record`",
        )
    result = publish(work)
    images = tuple(image for image in result.images if image.name in work.chosen(result))
    if not images:
        raise UsageError("there is no image to hand on")
    repository = images[0].reference.repository
    handed_on = BuildRecord(result.tool, result.config, result.source, images)
    content = record.dump(handed_on)
    artifact = manifest.artifact_of(ARTIFACT_TYPE, MEDIA_TYPE, content)
    destination: Registry = destination_of(work, repository.registry)
    for blob, data in zip(artifact.blobs, (manifest.EMPTY, content), strict=True):
        if not destination.has_blob(repository, blob):
            destination.put_blob(repository, blob, lambda data=data: iter((data,)))  # type: ignore[misc]
    destination.put_manifest(repository, artifact)
    if destination.get_manifest(repository, artifact.descriptor).content != artifact.content:
        raise RefusedError(f"{destination} gives another record back than was sent")
    pinned = Pinned(repository, artifact.descriptor.digest)
    work.report.step(f"the record is at {pinned}")
    return result, pinned


def is_remote(name: str) -> bool:
    """Whether a record is named by its place in a registry, not as a file."""
    return "@sha256:" in name


def fetch(work: Job, name: str) -> BuildRecord:
    """The record that was handed on; raises UsageError when there is something else."""
    pinned = Pinned.parse(name)
    registry = work.own_reader(pinned.repository.registry)
    artifact = registry.resolve(Reference(pinned.repository, digest=pinned.digest))
    kind = manifest.load_object(artifact.content).get("artifactType")
    if kind != ARTIFACT_TYPE or [layer.media_type for layer in artifact.layers] != [MEDIA_TYPE]:
        raise UsageError(
            f"`{name}` is no build record", hint="name what `secure-build publish --by-digest` printed"
        )
    (layer,) = artifact.layers
    if layer.size > record.LARGEST:
        raise UsageError(f"the build record `{name}` is larger than {record.LARGEST} bytes")
    try:
        return record.parse(b"".join(registry.blob(pinned.repository, layer)))
    except ValueError as error:
        raise UsageError(f"`{name}` is no build record of this version: {error}") from None
