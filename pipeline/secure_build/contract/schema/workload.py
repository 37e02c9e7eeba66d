"""The `workload` section, field by field, for each target."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from secure_build.contract.schema import values
from secure_build.contract.schema.base import Maybe, Part, SecretText, exactly_one, one_of, refused
from secure_build.contract.schema.pods import Descriptor

Variables = dict[values.VariableName, SecretText]


class Login(Part):
    """The login that the guest uses to pull images from one registry."""

    username: Annotated[str, Field(min_length=3)] = Field(
        description="For IBM Container Registry `iamapikey`."
    )
    password: Annotated[SecretText, Field(min_length=3)] = Field(description="Password, token or API key.")


Logins = dict[values.RegistryKey, Login]


class NotaryKey(Part):
    """Docker Content Trust: where the signatures of a repository are, and who may make them."""

    notary: values.NotaryAddress = Field(description="Address of the Notary server.")
    public_key: values.Base64 = Field(description="Base64 of the root certificate (PEM).")


class SigningKey(Part):
    """Red Hat simple signing: who may sign an image or all images of a repository."""

    public_key: values.Base64 = Field(description="Base64 of the armored OpenPGP public key.")


class Images(Part):
    """Whose signatures make an image without a digest run."""

    dct: Maybe[dict[values.DctKey, NotaryKey]] = Field(
        default=None, description="Docker Content Trust, for compose: by `host/namespace/name`."
    )
    rhs: Maybe[dict[values.RhsKey, SigningKey]] = Field(
        default=None,
        description="Simple signing, for pods: by `host/path`, with tag or digest for one image.",
    )


class WorkloadVolume(Part):
    """A data disk, the workload's half of it."""

    seed: values.Seed = Field(description="Half of the passphrase; at least 15 characters.")
    previous_seed: Maybe[values.Seed] = Field(default=None, description="The seed before, to change it.")
    mount: values.Mount = Field(default="/mnt/data", description="Where the guest mounts it.")
    filesystem: Literal["ext4", "xfs", "btrfs"] = Field(default="ext4", description="File system to make.")


Volumes = dict[values.VolumeName, WorkloadVolume]


class Compose(Part):
    """A compose file with the files that it reads."""

    archive: values.Archive = Field(
        description="Base64 of a gzip-compressed tar with `docker-compose.yaml` or `docker-compose.yml`."
    )


class Play(Part):
    """Pods and ConfigMaps for podman."""

    resources: Maybe[tuple[Descriptor, ...]] = Field(
        default=None, strict=False, description="Descriptors as they are."
    )
    templates: Maybe[tuple[Descriptor, ...]] = Field(
        default=None, strict=False, description="Descriptors with Go template text such as `{{ .Env.NAME }}`."
    )
    archive: Maybe[values.Archive] = Field(
        default=None, description="Base64 of a gzip-compressed tar; its top-level YAML files are descriptors."
    )

    @model_validator(mode="after")
    def _something(self) -> Play:
        if not (self.resources or self.templates or self.archive):
            raise refused("nothing-to-run", "must have `resources`, `templates` or `archive`")
        return self


class CosignKey(Part):
    """Who may sign an image."""

    open_in_guest: ClassVar[bool] = True
    public_key: values.NotEmpty = Field(description="Base64 of the cosign public key.")


class CosignConfig(Part):
    """Keys of image signatures."""

    open_in_guest: ClassVar[bool] = True
    cosign: Maybe[dict[values.ImageName, CosignKey]] = Field(
        default=None, description="Cosign keys, by the image's name in the pod."
    )


class AllowedImages(Part):
    """Names or patterns of images."""

    open_in_guest: ClassVar[bool] = True
    image_names: Maybe[tuple[str, ...]] = Field(default=None, strict=False, description="Names of images.")
    image_patterns: Maybe[tuple[str, ...]] = Field(
        default=None, strict=False, description="Patterns of names."
    )

    @model_validator(mode="after")
    def _something(self) -> AllowedImages:
        if self.image_names is None and self.image_patterns is None:
            raise refused("form", "must have `imageNames` or `imagePatterns`")
        return self


class AllowedContainer(Part):
    """The images of one container."""

    open_in_guest: ClassVar[bool] = True
    allowed_images: AllowedImages = Field(description="What it may run.")


class RegoValidator(Part):
    """The policy that the guest's agent asks about every request."""

    open_in_guest: ClassVar[bool] = True
    policy: values.Base64 = Field(description="Base64 of the Rego policy.")


class SealedSecretKeys(Part):
    """The keys of sealed secrets."""

    open_in_guest: ClassVar[bool] = True
    verification_key: values.NotEmpty = Field(description="Public key of who seals.")
    decryption_key: Annotated[SecretText, Field()] = Field(description="Private key that opens.")


class ConfidentialContainers(Part):
    """What the guest of a confidential pod admits."""

    open_in_guest: ClassVar[bool] = True
    rego_validator: RegoValidator = Field(description="The policy.")
    config: Maybe[CosignConfig] = Field(default=None, description="Image signatures.")
    allowed_containers: Maybe[dict[values.SimpleName, AllowedContainer]] = Field(
        default=None, description="Images by container."
    )
    secret: Maybe[SealedSecretKeys] = Field(default=None, description="Keys of sealed secrets.")


class _Workload(Part):
    open_in_guest: ClassVar[bool] = True
    type: Literal["workload"] = Field(description="Which section this is.")
    env: Maybe[Variables] = Field(default=None, description="Variables; they win over those of `env`.")
    auths: Maybe[Logins] = Field(
        default=None, description="Logins by registry; they win over those of `env`."
    )
    images: Maybe[Images] = Field(default=None, description="Keys of image signatures.")
    volumes: Maybe[Volumes] = Field(default=None, description="Data disks, by name.")


class Workload(_Workload):
    """The workload section of `hpvs` and `ccrt`."""

    model_config = one_of("compose", "play")
    compose: Maybe[Compose] = Field(default=None, description="A compose file. This or `play`.")
    play: Maybe[Play] = Field(default=None, description="Pods. This or `compose`.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(data, ("compose", "play"), "a workload", ("confidential-containers",))


class PodWorkload(_Workload):
    """The workload section of `ccrv`."""

    play: Play = Field(description="Pods.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        if isinstance(data, dict) and "compose" in data and "play" not in data:
            raise refused("form", "this runtime takes pods only: use `play` instead of `compose`")
        return exactly_one(data, ("play",), "a workload", ("confidential-containers",))


class ConfidentialWorkload(_Workload):
    """The workload section of `ccco`."""

    confidential_containers: ConfidentialContainers = Field(
        alias="confidential-containers", description="What the guest admits."
    )

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(data, ("confidential-containers",), "a workload", ("compose", "play"))
