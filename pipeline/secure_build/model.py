"""The frozen data types that the parts hand each other. A value that exists is valid.

Reading them from bytes is the business of the module that owns the format: `manifest.py` for OCI
documents, `record.py` for the build record, `config.py` for what the user writes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from secure_build.errors import UsageError
from secure_build.reference import Digest, Pinned, Reference, Text
from secure_build.secret import Secret

_PLATFORM = re.compile(r"[a-z0-9]+/[a-z0-9_]+(?:/[A-Za-z0-9._-]+)?")
_INSTANCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MATERIAL_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha1:[0-9a-f]{40}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, order=True)
class Platform(Text):
    """`os/architecture[/variant]` as in the OCI image index specification."""

    os: str
    architecture: str
    variant: str | None = None

    def __post_init__(self) -> None:
        parts = (self.os, self.architecture, self.variant)
        _check_platform("/".join(part for part in parts if part is not None))

    @classmethod
    def parse(cls, text: str) -> Platform:
        _check_platform(text)
        return cls(*text.split("/"))

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def _check_platform(text: str) -> None:
    if not _PLATFORM.fullmatch(text):
        raise UsageError(
            f"`{text[:80]}` is no platform", hint="write `os/architecture`, for example `linux/s390x`"
        )


# The guests of all four targets are LinuxONE machines.
GUEST = Platform("linux", "s390x")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What an OCI document says of another piece of content: type, digest, size in bytes."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Submodule:
    """A submodule whose content was built too: its path in the source, its commit, and its address."""

    path: str
    commit: str
    url: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A git commit. `url` has no credentials; `clean` is false when the tree had other content.

    `submodules` are those whose content was taken too, sorted by path.
    """

    url: str | None
    commit: str
    ref: str | None
    clean: bool
    committed_at: datetime
    subdir: str
    submodules: tuple[Submodule, ...] = ()

    def __post_init__(self) -> None:
        if not _COMMIT.fullmatch(self.commit):
            raise UsageError(f"`{self.commit[:80]}` is no full commit id")


@dataclass(frozen=True, slots=True)
class Credential:
    """A login for one registry."""

    registry: str
    username: str
    password: Secret


Level = Literal["pass", "warn", "fail", "unknown", "deferred"]
Basis = Literal["documented", "schema", "inferred"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One checked statement. `unknown` could not be checked; `deferred` waits for publishing."""

    check: str
    level: Level
    what: str
    why: str
    basis: Basis = "documented"
    hint: str | None = None
    where: str | None = None
    runtime_code: str | None = None


BUILDER_KINDS = ("buildx", "buildah", "engine")


@dataclass(frozen=True, slots=True, order=True)
class BuilderName(Text):
    """Which builder to use: `buildx`, `buildah` or `engine`, or `buildx:NAME` for one of buildx's own."""

    kind: str
    instance: str | None = None

    def __post_init__(self) -> None:
        named = self.instance is None or (self.kind == "buildx" and _INSTANCE.fullmatch(self.instance))
        if self.kind not in BUILDER_KINDS or not named:
            raise UsageError(
                f"`{self}` is no builder", hint="write `buildx`, `buildx:NAME`, `buildah` or `engine`"
            )

    @classmethod
    def parse(cls, text: str) -> BuilderName:
        kind, colon, instance = text[:200].partition(":")
        return cls(kind, instance if colon else None)

    def __str__(self) -> str:
        return self.kind if self.instance is None else f"{self.kind}:{self.instance}"


@dataclass(frozen=True, slots=True)
class BuilderVersion:
    """Which builder made an image; digests are comparable only between equal ones."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True, order=True)
class Material:
    """An external input of a build, by the builder's own account.

    `name` is what the Dockerfile says, written out: an image reference, or the address of a file or
    a git repository. `digest` is `sha256:` and 64 hexadecimal digits, for git `sha1:` and 40.
    `platform` is the platform that was built for, set only where the digest differs between them.
    """

    kind: Literal["image", "http", "git"]
    name: str
    digest: str
    platform: Platform | None = None

    def __post_init__(self) -> None:
        if not _MATERIAL_DIGEST.fullmatch(self.digest):
            raise UsageError(f"`{self.digest[:80]}` is no digest of an input")
        if self.kind == "image":
            Reference.parse(self.name)

    @property
    def reference(self) -> Reference:
        """The image; only for the kind `image`."""
        return Reference.parse(self.name)

    @property
    def is_fixed(self) -> bool:
        """Whether the name itself says which content is meant, so that no lock needs to."""
        return self.kind == "image" and self.reference.digest is not None


SignatureKind = Literal["rhs", "dct", "cosign", "keyless"]


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature of one manifest, or of a statement about it.

    `signer` says who, publicly: the fingerprint of the key, or identity and issuer. `predicate` is the
    type of the statement, empty for a signature that is of none. `kept` is where the bytes are: a
    path below the work folder, or the digest of a manifest in the layout. `name` is what was signed
    beside the digest, where a signature has that.
    """

    kind: SignatureKind
    image: Pinned
    signer: str
    kept: str
    predicate: str = ""
    name: Reference | None = None


@dataclass(frozen=True, slots=True)
class Enforced:
    """What the contract says of an image besides, or instead of, its digest.

    `public_key` is the text of `publicKey` as the contract has it; `notary` the server's address,
    for `dct` only.
    """

    by: Literal["rhs", "dct", "cosign"]
    public_key: str
    notary: str | None = None


@dataclass(frozen=True, slots=True)
class Invocation:
    """One build of an image: when, and on whose machinery by that one's own account.

    `host` is a URI, see docs/attestations.md; `identity` tells the run from all others, None where
    nothing does.
    """

    host: str
    identity: str | None
    started: datetime
    finished: datetime


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: manifest or index in the layout, and where it has been published.

    `materials` is None when the builder did not say what it pulled; such an image is never taken
    for unchanged. `sparse`: its layers are not in the layout, since the builder pushed them, by
    digest, to the image's repository. `reproducible`: the same builder would make the same digest.
    `missing` are platforms that the config wants and this record lacks: as long as there are some,
    the image is a part, which no tag may name. `reference` has the tag that is published.
    `invocation` is None in records of before it was kept.
    """

    name: str
    reference: Reference
    descriptor: Descriptor
    platforms: tuple[Platform, ...]
    builder: BuilderVersion
    materials: tuple[Material, ...] | None
    published: str | None = None
    sparse: bool = False
    reproducible: bool = True
    missing: tuple[Platform, ...] = ()
    signatures: tuple[Signature, ...] = ()
    enforced: Enforced | None = None
    invocation: Invocation | None = None

    @property
    def pinned(self) -> Pinned:
        return self.reference.pin(self.descriptor.digest)


@dataclass(frozen=True, slots=True)
class UsedImage:
    """An image of somebody else: the reference as written, the digest it had, and its copy if any."""

    reference: Reference
    digest: Digest
    platforms: tuple[Platform, ...]
    mirror: Reference | None = None

    @property
    def pinned(self) -> Pinned:
        """What the contract names: the copy, where there is one."""
        return (self.mirror or self.reference).pin(self.digest)


@dataclass(frozen=True, slots=True)
class Section:
    """What may be known of a contract section without knowing its secrets.

    `plaintext_masked` is the SHA-256 of the text with secret values as `***`; `plaintext_keyed` is
    HMAC-SHA256 of the text under a random key that stays with the text, since a bare hash would
    let short secrets be guessed. Of an encrypted section, `token` is the SHA-256 that the attestation
    record will show, `certificate` the fingerprint of the certificate it was encrypted with, and
    `token_keyed` the HMAC of the token's digest and the text, under the same key: that this token is of
    this text is said by whoever had the key, not by whoever can write a record.
    """

    plaintext_masked: Digest
    plaintext_keyed: str
    archive_tar: Digest | None = None
    archive_gzip: Digest | None = None
    token: Digest | None = None
    prefix: str | None = None
    certificate: Digest | None = None
    token_keyed: str | None = None


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """What one run did; see docs/build-record.md.

    There is no `source` when no image is built, as with a deployer who adds the env section only.
    `attested` are the lines that the attestation record will show of the assembled contract, by name.
    `earlier` are sections of another commit or config that were made in the same work folder: no part
    of this contract, but what has the same content now keeps its token.
    """

    tool: str
    config: Digest
    source: Source | None = None
    images: tuple[Image, ...] = ()
    used: tuple[UsedImage, ...] = ()
    sections: dict[str, Section] = field(default_factory=dict)
    attested: dict[str, Digest] = field(default_factory=dict)
    earlier: dict[str, Section] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    version: Literal[1] = 1

    @property
    def emitted(self) -> dict[str, Section]:
        """What was emitted last under each name, for this commit and config or others."""
        return {**self.earlier, **self.sections}

    @property
    def built_from(self) -> Source:
        """The source of the images; raises UsageError when the record has none."""
        if self.source is None:
            raise UsageError(
                "this build record holds no images",
                hint="run `secure-build build` with a config that has some",
            )
        return self.source
