"""What a plan says: images, what would be written for each, and what is wrong or missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_build.contract.enforcement import Worth
from secure_build.model import BuilderVersion, Finding, Material, Platform, SignatureKind, Source
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
