"""The models of what goes into the contract's sections besides images: logging, volumes, variables.

They say the same as the contract does, in kebab-case, with secrets by name and certificates by file;
`serialization_alias` is the contract's own name of each key. Seeds, addresses and the like are checked
when they are known: as parts of the section, against the contract's own model.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AliasGenerator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from secure_build.config.base import (
    FILE_SECRET,
    NAMED_SECRET,
    NAMED_VALUE,
    PLAIN_VALUE,
    File,
    SecretFile,
    SecretName,
    Strict,
    kebab,
    no_literal,
)


class Part(Strict):
    """A part of the contract: kebab-case here, camelCase there."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(alias=kebab, validation_alias=kebab, serialization_alias=to_camel)
    )


def _secret_kind(value: object) -> str:
    is_file = isinstance(value, SecretFile) or (isinstance(value, dict) and "file" in value)
    return FILE_SECRET if is_file else NAMED_SECRET


def _value_kind(value: object) -> str:
    return NAMED_VALUE if isinstance(value, SecretName | dict) else PLAIN_VALUE


Named = Annotated[SecretName, BeforeValidator(no_literal)]
AnySecret = Annotated[
    Annotated[SecretName, Tag(NAMED_SECRET)] | Annotated[SecretFile, Tag(FILE_SECRET)],
    Discriminator(_secret_kind),
    BeforeValidator(no_literal),
]
VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Variables = dict[
    VariableName,
    Annotated[
        Annotated[str, Tag(PLAIN_VALUE)] | Annotated[SecretName, Tag(NAMED_VALUE)],
        Discriminator(_value_kind),
    ],
]
VolumeName = Annotated[str, StringConstraints(pattern=r"^[a-z_][a-z0-9_-]*$")]
Text = Annotated[str, StringConstraints(min_length=1)]
Port = Annotated[int, Field(gt=0, lt=65536)]
_SEED = (
    "At least 15 characters; one half of what the volume is encrypted with. "
    "The other half is in the other section."
)
_PREVIOUS = "The seed before, while it is being changed."


class WorkloadVolume(Part):
    """A data volume, as the workload sees it."""

    seed: Named = Field(description=_SEED)
    previous_seed: Named | None = Field(default=None, description=_PREVIOUS)
    mount: Text | None = Field(
        default=None, description="Where it appears in the guest; the runtime's default is `/mnt/data`."
    )
    filesystem: Literal["ext4", "xfs", "btrfs"] | None = Field(
        default=None, description="The runtime's default is `ext4`."
    )


class Kms(Part):
    """A key management service that keeps a third part of a volume's key."""

    api_key: Named = Field(description="IBM Cloud API key that may use the key.")
    crn: Text = Field(description="Cloud resource name of the root key, `crn:v1:…:key:…`.")
    type: Literal["public", "private"] | None = Field(
        default=None, description="Which of the service's addresses; the runtime's default is `public`."
    )


class Grep11Metadata(Part):
    """Key blobs of the hardware security module."""

    aes_key_blob: Named = Field(description="The wrapped AES key, base64.")
    previous_aes_key_blob: Named | None = Field(
        default=None, serialization_alias="previousaesKeyBlob", description="The one before, base64."
    )


class Grep11(Part):
    """A GREP11 server, a hardware security module that keeps a part of a volume's key."""

    address: Text = Field(description="`host:port`.")
    client_cert: File = Field(description="Client certificate, PEM.")
    client_key: AnySecret = Field(description="Its private key, PEM.")
    ca_cert: File = Field(description="Certificate of the server's authority, PEM.")
    metadata: Grep11Metadata = Field(description="The key blobs.")


class EnvVolume(Part):
    """A data volume, as the deployer sees it."""

    seed: Named | None = Field(default=None, description=_SEED)
    previous_seed: Named | None = Field(default=None, description=_PREVIOUS)
    uv_secret_id: Text | None = Field(
        default=None,
        serialization_alias="uv-secret-id",
        description="`index-1` to `index-8`: a secret that the ultravisor keeps, instead of `seed`.",
    )
    uv_previous_secret_id: Text | None = Field(
        default=None,
        serialization_alias="uv-previous-secret-id",
        description="The one before, while it is being changed.",
    )
    kms: tuple[Kms, ...] | None = Field(
        default=None, strict=False, description="Key management services, one to five."
    )
    grep11: Grep11 | None = Field(default=None, description="A hardware security module.")
    kms_timeout: int | None = Field(
        default=None, description="Minutes, 0 to 20, to wait for the key management service."
    )
    api_key: Named | None = Field(
        default=None, description="IBM Cloud API key that the volume is looked up with."
    )
    volume_name: Text | None = Field(default=None, description="Name of the volume in IBM Cloud.")
    volume_id: Text | None = Field(
        default=None, serialization_alias="volumeID", description="Identity of the volume in IBM Cloud."
    )

    @model_validator(mode="after")
    def _one_key(self) -> EnvVolume:
        if (self.seed is None) == (self.uv_secret_id is None):
            raise PydanticCustomError("volume", "must name either `seed` or `uv-secret-id`")
        return self


class LogRouter(Part):
    """IBM Cloud Logs."""

    hostname: Text = Field(description="Ingress endpoint of the instance, without `https://`.")
    iam_api_key: Named = Field(description="API key that may send.")
    port: Port = Field(default=443, description="Written out always.")
    tags: tuple[Text, ...] | None = Field(
        default=None, strict=False, description="Tags of each line; `ccco` only."
    )


class Syslog(Part):
    """A syslog server that is spoken to over TLS, both sides with certificates."""

    hostname: Text = Field(description="Name or address of the server.")
    port: Port = Field(default=6514, description="Written out always.")
    server: File = Field(description="Certificates of the server's authority, PEM.")
    cert: File = Field(description="Certificate of the guest, PEM.")
    key: AnySecret = Field(description="Its private key, PKCS#8 PEM.")


class Logging(Part):
    """Where the guest sends its log; it does not start without."""

    log_router: LogRouter | None = Field(default=None, description="IBM Cloud Logs.")
    syslog: Syslog | None = Field(default=None, description="A syslog server.")

    @model_validator(mode="after")
    def _one(self) -> Logging:
        if (self.log_router is None) == (self.syslog is None):
            raise PydanticCustomError("logging", "must name either `log-router` or `syslog`")
        return self


class EnvLogin(Part):
    """A login for a registry that the deployer chooses."""

    username: Annotated[str, StringConstraints(min_length=3)] = Field(
        description="For IBM Container Registry literally `iamapikey`."
    )
    password: Named = Field(description="`{secret: NAME}`; a literal value is refused.")


class HostAttestation(Part):
    """A host that the guest may run on (bare metal)."""

    description: str = Field(default="", description="For people.")
    host_key_doc: File = Field(
        serialization_alias="host-key-doc", description="The host key document, as it was given out."
    )


class SealedSecrets(Part):
    """Keys for the sealed secrets of OpenShift."""

    verification_key: File = Field(description="Public key that the secrets are signed with, PEM.")
    decryption_key: AnySecret = Field(description="Private key that opens them, PEM.")


class EnvConfidentialContainers(Part):
    """What the deployer adds for confidential containers (`ccco`)."""

    secret: SealedSecrets | None = Field(default=None, description="Keys for sealed secrets.")


class CosignKey(Part):
    """The key that an image's cosign signatures are checked with."""

    public_key: File = Field(description="`cosign.pub`, PEM.")


class ConfidentialContainers(Part):
    """What the workload adds for confidential containers (`ccco`)."""

    cosign: dict[Text, CosignKey] = Field(
        default={}, description="By image repository, without tag: keys that its signatures must verify with."
    )
    secret: SealedSecrets | None = Field(default=None, description="Keys for sealed secrets.")


CertificateName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]+$")]


class Env(Part):
    """The `env` section: what the deployer adds."""

    logging: Logging | None = Field(
        default=None, description="Where the guest sends its log; needed by all targets but `ccco`."
    )
    volumes: dict[VolumeName, EnvVolume] = Field(
        default={}, description="Data volumes, by the names that the workload gives them."
    )
    env: Variables = Field(default={}, description="Variables for the containers; those of the workload win.")
    auths: dict[Text, EnvLogin] = Field(
        default={}, description="Logins for registries that the deployer chooses; those of the workload win."
    )
    cacerts: dict[CertificateName, File] = Field(
        default={}, description="Certificates of authorities for registries, PEM, by a name of yours."
    )
    host_attestation: dict[HostName, HostAttestation] = Field(
        default={},
        serialization_alias="host-attestation",
        description="Hosts that the guest may run on, by a name of yours; `ccco` on bare metal only.",
    )
    confidential_containers: EnvConfidentialContainers | None = Field(
        default=None,
        serialization_alias="confidential-containers",
        description="For `ccco` only.",
    )
