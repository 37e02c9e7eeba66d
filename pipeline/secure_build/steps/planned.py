"""What a plan says: images, what would be written for each, and what is wrong or missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from secure_build.contract.enforcement import Worth
from secure_build.manifest import Manifest
from secure_build.model import BuilderVersion, Descriptor, Finding, Material, Platform, SignatureKind, Source
from secure_build.reference import Pinned, Reference


@dataclass(frozen=True, slots=True)
class Write:
    """Something that `run` would put into a registry; `size` is in bytes.

    `name` is the digest of a blob or manifest, or the tag. A blob that is `mounted` was brought to
    another repository of the registry just before, and is sent again only where it does not mount.
    """

    kind: Literal["blob", "manifest", "tag"]
    repository: str
    name: str
    size: int
    mounted: bool = False

    @property
    def requests(self) -> int:
        """A blob is announced and sent; to mount it, one is enough."""
        return 2 if self.kind == "blob" and not self.mounted else 1


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image. `materials` and `writes` are None when only the build, or nobody now, can tell them."""

    name: str
    reference: Reference
    platforms: tuple[Platform, ...]
    doing: Literal["build", "keep", "use", "mirror"]
    builders: tuple[BuilderVersion, ...] = ()
    pinned: Pinned | None = None
    materials: tuple[Material, ...] | None = None
    reproducible: bool = True
    # What the config chooses comes first.
    worth: tuple[Worth, ...] = ()
    signatures: tuple[SignatureKind, ...] = ()
    # What is said of it in signed statements: `provenance` and the formats of SBOMs.
    statements: tuple[str, ...] = ()
    writes: tuple[Write, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `run` would do. `locked` is what builds would have to take."""

    source: Source | None
    images: tuple[PlannedImage, ...]
    locked: tuple[Material, ...]
    contract: str | None
    logins: tuple[str, ...]
    findings: tuple[Finding, ...]
    # Secret fields that an auditor will be able to read.
    disclosed: tuple[str, ...] = ()


def shared(images: Sequence[PlannedImage], *, everywhere: bool) -> list[PlannedImage]:
    """The same images, where a blob that several have is sent for the first of them only.

    `everywhere`: all repositories are one place, as in a layout.
    """
    brought: set[tuple[str, str]] = set()

    def once(write: Write) -> Write | None:
        if write.kind != "blob":
            return write
        registry = write.repository.partition("/")[0]
        here, anywhere = (write.repository, write.name), (registry, write.name)
        mounted = anywhere in brought
        if here in brought or (everywhere and ("", write.name) in brought):
            return None
        brought.update((here, anywhere, ("", write.name)))
        return replace(write, mounted=mounted)

    return [
        image if image.writes is None else replace(image, writes=tuple(filter(None, map(once, image.writes))))
        for image in images
    ]


def writes_of(
    reference: Reference, manifests: Sequence[Manifest], blobs: Sequence[Descriptor]
) -> tuple[Write, ...]:
    """Blobs, then manifests, then the tag, which is the last manifest once more."""
    where = str(reference.repository)
    return (
        *(Write("blob", where, str(blob.digest), blob.size) for blob in blobs),
        *(Write("manifest", where, str(one.descriptor.digest), len(one.content)) for one in manifests),
        Write("tag", where, reference.tag or "latest", len(manifests[-1].content)),
    )
