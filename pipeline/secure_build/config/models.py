"""The models of secure-build.yaml: the one declaration of every key, its meaning and its default.

Secrets stand here by name only; they are looked up when they are used. Relative paths are relative
to the config file's folder, or with a remote `source` to the folder of the repository it names.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from secure_build.config.audit import Audit
from secure_build.config.base import (
    FILE_SECRET,
    NAMED_SECRET,
    NAMED_VALUE,
    PLAIN_VALUE,
    File,
    Login,
    Strict,
)
from secure_build.config.build import Build
from secure_build.config.encrypt import Encrypt
from secure_build.config.sections import ConfidentialContainers, Env, Variables, VolumeName, WorkloadVolume
from secure_build.config.signing import Attestations, SignatureKind, Signing
from secure_build.config.source import Source
from secure_build.contract import keys
from secure_build.errors import UsageError
from secure_build.model import BuilderName, Platform
from secure_build.reference import Reference, registry_name

# The tags of the unions, which stand in pydantic's places of mistakes.
BUILT, USED = "built image", "used image"
PLAY_PATH, PLAY_PARTS = "play path", "play parts"
ONE_BUILDER, BUILDERS = "one builder", "builders"
UNION_TAGS = frozenset(
    {BUILT, USED, PLAY_PATH, PLAY_PARTS, ONE_BUILDER, BUILDERS}
    | {NAMED_SECRET, FILE_SECRET, PLAIN_VALUE, NAMED_VALUE}
)


# How much of the commit is in a tag that is unique to it.
_COMMIT_DIGITS = 12
_LONGEST_TAG = 128


class RegistryAccess(Strict):
    """The logins for one registry. What is not named here comes from Docker's own config file."""

    push: Login | None = Field(default=None, description="To publish images; never leaves this machine.")
    pull: Login | None = Field(
        default=None, description="To read private base images and third-party images while building."
    )
    runtime: Login | None = Field(
        default=None,
        description="Pull-only and long-lived: it goes into the contract's `auths`, "
        "and the guest uses it at every boot.",
    )
    allow_push_credential: bool = Field(
        default=False,
        description="Allow `runtime` to be the same credential as `push`. Weakens the contract.",
    )


def _tagged(image: Reference) -> Reference:
    if image.digest is not None or image.tag is None:
        raise PydanticCustomError(
            "tagged", "must have a tag and no digest: the digest is what the build finds out"
        )
    return image


class BuiltImage(Strict):
    """An image that is built here and published under this name."""

    image: Annotated[Reference, AfterValidator(_tagged)] = Field(
        description="Registry, repository and tag to publish to."
    )
    build: Build = Field(
        default_factory=Build, description="Where the Dockerfile is and for which platforms."
    )
    enforce: Literal["digest", "rhs", "dct", "cosign"] = Field(
        default="digest",
        description="What makes the runtime run this image and no other. `digest`: the contract names its "
        "digest. `rhs` (pods) and `dct` (compose): the runtime checks who signed the tag. "
        "`cosign` (`ccco`): who signed, beside the digest.",
    )
    sign: tuple[SignatureKind, ...] = Field(
        default=(),
        strict=False,
        description="Signatures for people and admission controllers; no runtime checks them.",
    )
    reuse_tag: bool = Field(
        default=False,
        description="With `rhs` and `dct`: keep the tag as it is written, so that a new build runs without "
        "a new contract. By default the tag is `TAG-COMMIT`, with 12 digits of the commit.",
    )

    @property
    def signatures(self) -> tuple[SignatureKind, ...]:
        """All kinds of signature that this image gets."""
        enforced: tuple[SignatureKind, ...] = () if self.enforce == "digest" else (self.enforce,)
        return tuple(dict.fromkeys((*enforced, *self.sign)))

    @property
    def by_tag(self) -> bool:
        """Whether the contract names a tag, and the runtime checks a signature of it."""
        return self.enforce in ("rhs", "dct")

    @property
    def unique_tag(self) -> bool:
        """Whether the published tag is one that no other commit gets."""
        return self.by_tag and not self.reuse_tag

    def published(self, commit: str) -> Reference:
        """The reference that is published: the tag as written, or one that no other commit gets."""
        if not self.unique_tag:
            return self.image
        return replace(self.image, tag=f"{self.image.tag}-{commit[:_COMMIT_DIGITS]}")

    @model_validator(mode="after")
    def _once(self) -> BuiltImage:
        if len(set(self.sign)) != len(self.sign):
            raise PydanticCustomError("sign", "a kind of signature stands twice in `sign`")
        if self.reuse_tag and not self.by_tag:
            raise PydanticCustomError("reuse_tag", "`reuse-tag` goes with `enforce: rhs` and `enforce: dct`")
        if len(self.published("0" * _COMMIT_DIGITS).tag or "") > _LONGEST_TAG:
            raise PydanticCustomError("tag", "the tag is too long for 12 digits of the commit behind it")
        return self


class UsedImage(Strict):
    """An image of somebody else: resolved, checked for the guest's platform, pinned and listed."""

    use: Reference = Field(description="Reference with a tag, a digest or both; the digest wins.")
    mirror: Annotated[Reference, AfterValidator(_tagged)] | None = Field(
        default=None,
        description="Copy it, unchanged, to this name; the contract then names the copy by digest.",
    )


def _image_kind(value: object) -> str:
    used = isinstance(value, UsedImage) or (isinstance(value, dict) and "use" in value)
    return USED if used else BUILT


AnyImage = Annotated[
    Annotated[BuiltImage, Tag(BUILT)] | Annotated[UsedImage, Tag(USED)], Discriminator(_image_kind)
]
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


def _canonical(written: str) -> str:
    try:
        return registry_name(written)
    except UsageError as error:
        raise PydanticCustomError("registry", "{why}", {"why": f"{error.message}; {error.hint}"}) from None


def _one_name_each(value: object) -> object:
    """Two spellings of one registry would silently become one entry."""
    names: dict[str, str] = {}
    for written in value if isinstance(value, dict) else ():
        with contextlib.suppress(UsageError):
            first = names.setdefault(registry_name(written), written)
            if first != written:
                raise PydanticCustomError(
                    "registry",
                    "`{first}` and `{second}` are the same registry; the contract takes one login for each",
                    {"first": first, "second": written},
                )
    return value


Registries = Annotated[
    dict[Annotated[str, AfterValidator(_canonical)], RegistryAccess], BeforeValidator(_one_name_each)
]


PathText = Annotated[str, StringConstraints(min_length=1)]


class Play(Strict):
    """Pods and ConfigMaps for `podman kube play`; each path is a file or a folder of the commit."""

    resources: tuple[PathText, ...] = Field(
        default=(), strict=False, description="Descriptors, put into the contract as they are."
    )
    templates: tuple[PathText, ...] = Field(
        default=(),
        strict=False,
        description="Descriptors with Go template text such as `{{ .Env.NAME }}`.",
    )
    archive: PathText | None = Field(
        default=None,
        description="A folder: its top-level YAML files are descriptors, all other files lie beside them.",
    )

    @model_validator(mode="after")
    def _something(self) -> Play:
        if not (self.resources or self.templates or self.archive):
            raise PydanticCustomError("play", "must name `resources`, `templates` or `archive`")
        return self


def _play_kind(value: object) -> str:
    return PLAY_PATH if isinstance(value, str) else PLAY_PARTS


class Workload(Strict):
    """The `workload` section: what the guest runs, and what it needs for that."""

    compose: PathText | None = Field(
        default=None, description="The compose file of the workload, as it is in the commit."
    )
    play: (
        Annotated[
            Annotated[PathText, Tag(PLAY_PATH)] | Annotated[Play, Tag(PLAY_PARTS)], Discriminator(_play_kind)
        ]
        | None
    ) = Field(
        default=None,
        description="Pods: a file of descriptors (its content becomes `resources`), a folder "
        "(becomes `archive`), or the parts one by one.",
    )
    pods: PathText | None = Field(
        default=None,
        description="`ccco` only: a file or folder of Kubernetes descriptors; "
        "the policy of what may run is made from them.",
    )
    env: Variables = Field(default={}, description="Variables for the containers: text, or `{secret: NAME}`.")
    volumes: dict[VolumeName, WorkloadVolume] = Field(
        default={}, description="Data volumes, by name; the deployer's section needs the same names."
    )
    confidential_containers: ConfidentialContainers = Field(
        default_factory=ConfidentialContainers, description="`ccco` only."
    )

    @model_validator(mode="after")
    def _one(self) -> Workload:
        if sum(way is not None for way in (self.compose, self.play, self.pods)) != 1:
            raise PydanticCustomError("workload", "must name one of `compose`, `play` and `pods`")
        return self

    @property
    def way(self) -> Literal["compose", "play", "pods"]:
        return "compose" if self.compose else "play" if self.play else "pods"


BUILDER_PATTERN = r"^(buildx(:[A-Za-z0-9][A-Za-z0-9_.-]*)?|buildah|engine)$"
AnyBuilder = Annotated[BuilderName, WithJsonSchema({"type": "string", "pattern": BUILDER_PATTERN})]


def _builder_kind(value: object) -> str:
    return BUILDERS if isinstance(value, dict) else ONE_BUILDER


class Config(Strict):
    """secure-build.yaml"""

    version: Literal[1] = Field(description="Version of this format.")
    target: Literal["hpvs", "ccrt", "ccrv", "ccco"] = Field(
        description="The runtime: `hpvs` (Hyper Protect Virtual Servers for VPC), `ccrt` "
        "(IBM Confidential Computing Container Runtime), `ccrv` (the same for Red Hat "
        "Virtualization; pods only) or `ccco` (IBM Confidential Computing Containers for "
        "Red Hat OpenShift)."
    )
    source: Source = Field(default_factory=Source, description="Where the source is; default here.")
    builder: (
        Annotated[
            Annotated[AnyBuilder, Tag(ONE_BUILDER)] | Annotated[dict[Platform, AnyBuilder], Tag(BUILDERS)],
            Discriminator(_builder_kind),
        ]
        | None
    ) = Field(
        default=None,
        description="`buildx`, `buildx:NAME` for a builder of `docker buildx ls`, `buildah` or `engine`; "
        "or one for each platform. Default: the first of buildx, buildah and engine that works here.",
    )
    images: dict[ImageName, AnyImage] = Field(
        default={},
        description="The workload's images; each key is the name used in messages. "
        "Who adds `env` only needs none.",
        # The pattern of the names alone would leave other names free.
        json_schema_extra={"additionalProperties": False},
    )
    registries: Registries = Field(default={}, description="Logins, by registry host.")
    signing: Signing = Field(default_factory=Signing, description="Keys and identities to sign images with.")
    attestations: Attestations = Field(
        default_factory=Attestations,
        description="Provenance and SBOM of every image, when they can be signed.",
    )
    workload: Workload | None = Field(default=None, description="The workload section of the contract.")
    env: Env | None = Field(
        default=None, description="The env section of the contract; for whoever plays the deployer."
    )
    encrypt: Encrypt = Field(
        default_factory=Encrypt, description="How sections are encrypted, and the contract signed."
    )
    boot: File | None = Field(
        default=None,
        description="`ccco` on bare metal only: the Secure Execution header (`se-hdr.bin`).",
    )
    audit: Audit | None = Field(
        default=None, description="What `secure-build audit --config` requires of what was deployed."
    )

    @model_validator(mode="after")
    def _one_copy(self) -> Config:
        """The contract names one copy of an image, so it can have one mirror only."""
        mirrors: dict[Reference, Reference | None] = {}
        for image in self.used.values():
            if mirrors.setdefault(image.use, image.mirror) != image.mirror:
                raise PydanticCustomError(
                    "mirror", "`{use}` stands twice, with different mirrors", {"use": str(image.use)}
                )
        return self

    @model_validator(mode="after")
    def _something(self) -> Config:
        if not self.images and self.env is None and self.audit is None:
            raise PydanticCustomError(
                "config",
                "must have `images`, or `env` for whoever adds that section only, or `audit` for an auditor",
            )
        if not self.images and self.workload is not None:
            raise PydanticCustomError("config", "must have `images` for the workload")
        return self

    @model_validator(mode="after")
    def _fitting(self) -> Config:
        """What each runtime takes."""
        for of_target, there, message in (
            (self.target == "ccrv", self._has("compose"), "takes pods only: use `workload: play:`"),
            (self.target == "ccco", self._has("compose") or self._has("play"), "takes `workload: pods:`"),
            (self.target != "ccco", self._has("pods"), "has no `workload: pods:`; use `play:`"),
            (self.target != "ccco", self.boot is not None, "has no `boot`"),
            (
                self.target != "hpvs",
                self._certificate_by_version,
                "has no published certificates: name a `file`",
            ),
        ):
            if of_target and there:
                raise PydanticCustomError(
                    "target", "the runtime `{target}` {message}", {"target": self.target, "message": message}
                )
        return self

    @model_validator(mode="after")
    def _enforceable(self) -> Config:
        """What is signed has a key, and what is enforced is looked at by the runtime."""
        for name, image in self.built.items():
            for kind in image.signatures:
                if getattr(self.signing, kind) is None:
                    raise PydanticCustomError(
                        "signing",
                        "image `{name}` is to be signed with `{kind}`, and `signing: {kind}:` is missing",
                        {"name": name, "kind": kind},
                    )
            if why := self._unenforced(image):
                raise PydanticCustomError(
                    "enforce",
                    "image `{name}`: `enforce: {kind}` {why}",
                    {"name": name, "kind": image.enforce, "why": why},
                )
        return self

    def _unenforced(self, image: BuiltImage) -> str | None:
        """Why the runtime would not look at what the image is to be enforced by; None when it would."""
        if image.enforce == "cosign":
            return None if self.target == "ccco" else f"is for `ccco`; `{self.target}` knows no cosign keys"
        if not image.by_tag:
            return None
        wanted = "play" if image.enforce == "rhs" else "compose"
        if self.target == "ccco" or (self.target == "ccrv" and wanted == "compose"):
            return f"is not for `{self.target}`, which looks at no such signatures"
        if self.workload is not None and self.workload.way != wanted:
            return (
                f"is for `workload: {wanted}:`; with `{self.workload.way}` the runtime looks at no such keys"
            )
        reason = keys.expressible("rhs" if image.enforce == "rhs" else "dct", image.image.repository)
        return f"cannot be expressed: {reason}" if reason else None

    def _has(self, way: str) -> bool:
        return self.workload is not None and getattr(self.workload, way) is not None

    @property
    def _certificate_by_version(self) -> bool:
        return self.encrypt.certificate is not None and self.encrypt.certificate.version is not None

    @property
    def built(self) -> dict[str, BuiltImage]:
        return {name: image for name, image in self.images.items() if isinstance(image, BuiltImage)}

    @property
    def used(self) -> dict[str, UsedImage]:
        return {name: image for name, image in self.images.items() if isinstance(image, UsedImage)}

    @property
    def secret_names(self) -> set[str]:
        """The names of all secrets that this config needs."""
        return set(_secret_names(self))

    def access(self, registry: str) -> RegistryAccess:
        """The logins for a registry, named as `registry_name` has it."""
        return self.registries.get(registry, RegistryAccess())


def _secret_names(part: object) -> Iterator[str]:
    # Some models name a secret as one of several ways to a key.
    if isinstance(part, BaseModel) and isinstance(name := getattr(part, "secret", None), str):
        yield name
    if isinstance(part, BaseModel):
        for _, value in part:
            yield from _secret_names(value)
    elif isinstance(part, dict):
        for value in part.values():
            yield from _secret_names(value)
    elif isinstance(part, tuple):
        for value in part:
            yield from _secret_names(value)
