"""Handing a record on through a registry, by digest: `--by-digest`, `--hand-on`, `--record …@sha256:…`.

The record is an OCI artifact (image-spec v1.1, manifest.md, "Guidelines for Artifact Usage") in the
repository of its first image, with its signatures. No tag names it, so nothing is found that was not
handed on.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from secure_build import manifest, record
from secure_build.attestations.artifact import BUNDLE
from secure_build.errors import RefusedError, UsageError
from secure_build.model import BuildRecord, Descriptor
from secure_build.reference import Digest, Pinned, Reference
from secure_build.signers import StatementSigner
from secure_build.steps import record_signature
from secure_build.steps.job import Job
from secure_build.steps.publish import publish

ARTIFACT_TYPE = "application/vnd.secure-build.record.v1"
MEDIA_TYPE = "application/vnd.secure-build.record.v1+json"


def hand_on(work: Job, signers: Sequence[StatementSigner] = ()) -> tuple[BuildRecord, Pinned]:
    """Publish images by digest only, and then the record of them, signed; returns where that is."""
    if work.options.to:
        raise UsageError(
            "`--by-digest` publishes to registries, and `--to` names a layout",
            hint="a layout is handed on as a folder: name the record beside it with `--record`",
        )
    result = publish(work)
    return result, put_record(work, result, signers)


def put_record(work: Job, result: BuildRecord, signers: Sequence[StatementSigner]) -> Pinned:
    """Put the record of the chosen images, signed, into the repository of the first; returns where it is."""
    images = tuple(image for image in result.images if image.name in work.chosen(result))
    if not images:
        raise UsageError("there is no image to hand on")
    repository = images[0].reference.repository
    handed_on = BuildRecord(result.tool, result.config, result.source, images)
    content = record.dump(handed_on)
    place = work.options.workdir / "handed-on.json"
    bundles = record_signature.keep_signed(place, content, signers, work.report)
    artifact = manifest.artifact_of(
        ARTIFACT_TYPE,
        MEDIA_TYPE,
        content,
        further=[Descriptor(BUNDLE, Digest.of(bundle), len(bundle)) for bundle in bundles],
    )
    destination = work.writer(repository)
    contents = dict(zip(artifact.blobs, (manifest.EMPTY, content, *bundles), strict=True))
    for blob, data in contents.items():
        if not destination.has_blob(repository, blob):
            destination.put_blob(repository, blob, functools.partial(_once, data))
    destination.put_manifest(repository, artifact)
    if destination.get_manifest(repository, artifact.descriptor).content != artifact.content:
        raise RefusedError(f"{destination} gives another record back than was sent")
    pinned = Pinned(repository, artifact.descriptor.digest)
    work.report.step(f"the record is at {pinned}")
    return pinned


def is_remote(name: str) -> bool:
    """Whether a record is named by its place in a registry, not as a file."""
    return "@sha256:" in name


def fetch(work: Job, name: str) -> tuple[BuildRecord, bytes, tuple[bytes, ...]]:
    """The record that was handed on, its bytes and the bundles that sign them.

    Raises UsageError when there is something else.
    """
    pinned = Pinned.parse(name)
    registry = work.own_reader(pinned.repository)
    artifact = registry.resolve(Reference(pinned.repository, digest=pinned.digest))
    kind = manifest.artifact_type(artifact)
    types = [layer.media_type for layer in artifact.layers]
    if kind != ARTIFACT_TYPE or types != [MEDIA_TYPE, *[BUNDLE] * (len(types) - 1)]:
        raise UsageError(
            f"`{name}` is no build record", hint="name what `secure-build publish --by-digest` printed"
        )
    layer, *signatures = artifact.layers
    if layer.size > record.LARGEST or any(one.size > record_signature.LARGEST for one in signatures):
        raise UsageError(f"the build record `{name}`, or a signature of it, is larger than any can be")
    content, *bundles = (b"".join(registry.blob(pinned.repository, one)) for one in artifact.layers)
    try:
        return record.parse(content), content, tuple(bundles)
    except ValueError as error:
        raise UsageError(f"`{name}` is no build record of this version: {error}") from None


def _once(content: bytes) -> Iterator[bytes]:
    yield content
