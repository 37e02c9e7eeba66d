"""The `env` section, field by field, for each target."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from secure_build.contract.schema import values
from secure_build.contract.schema.base import Maybe, Part, exactly_one, one_of, refused
from secure_build.contract.schema.workload import Logins, SealedSecretKeys, Variables


class LogRouter(Part):
    """IBM Cloud Logs."""

    hostname: values.HostName = Field(description="Ingress endpoint of the instance.")
    iam_api_key: Annotated[values.NotEmpty, values.SECRET] = Field(description="API key that may write logs.")
    port: values.Port = Field(default=443, description="Port of the endpoint.")


class TaggedLogRouter(LogRouter):
    """IBM Cloud Logs, with tags."""

    tags: Maybe[tuple[str, ...]] = Field(default=None, strict=False, description="Tags of every log line.")


class Syslog(Part):
    """A syslog server, over TLS with certificates on both sides."""

    hostname: values.HostName = Field(description="Host name or address.")
    port: Maybe[values.Port] = Field(
        default=None, description="Always write it: IBM's page and schema name different defaults."
    )
    server: values.Chain = Field(description="Certificate chain of the server: PEM, or base64 of it.")
    cert: Maybe[values.Certificate] = Field(default=None, description="Certificate of the guest.")
    key: Maybe[values.PrivateKey] = Field(default=None, description="Its private key, PKCS#8.")


class Logging(Part):
    """Where logs go; the guest does not start without."""

    model_config = one_of("logRouter", "syslog")
    open_in_guest: ClassVar[bool] = True
    log_router: Maybe[LogRouter] = Field(default=None, description="This or `syslog`.")
    syslog: Maybe[Syslog] = Field(default=None, description="This or `logRouter`.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        return exactly_one(data, ("logRouter", "syslog"), "logging")


class ConfidentialLogging(Logging):
    """Where logs go."""

    log_router: Maybe[TaggedLogRouter] = Field(default=None, description="This or `syslog`.")


class KeyServer(Part):
    """A root key of IBM Cloud key management that wraps the disk's key."""

    api_key: values.CloudKey = Field(description="API key that may use the root key.")
    crn: values.KeyName = Field(description="CRN of the root key.")
    type: Literal["public", "private"] = Field(default="public", description="Which endpoint to use.")


KeyServers = Annotated[tuple[KeyServer, ...], Field(min_length=1, max_length=5, strict=False)]
Minutes = Annotated[int, Field(ge=0, le=20)]


class Grep11Blobs(Part):
    """The disk's keys as the module has wrapped them."""

    aes_key_blob: values.KeyBlob = Field(alias="aesKeyBlob", description="The key, wrapped.")
    previous_aes_key_blob: Maybe[values.KeyBlob] = Field(
        default=None, alias="previousaesKeyBlob", description="The key before, to change it."
    )


class Grep11(Part):
    """A GREP11 server (hardware security module) that wraps the disk's key."""

    address: values.Grep11Address = Field(description="`host:port`.")
    client_cert: values.Material = Field(description="Base64 of the guest's certificate.")
    client_key: Annotated[values.Material, values.SECRET] = Field(description="Base64 of its private key.")
    ca_cert: values.Material = Field(description="Base64 of the certificate that signed the server's.")
    metadata: Grep11Blobs = Field(description="The wrapped keys.")


class _Volume(Part):
    previous_seed: Maybe[values.Seed] = Field(default=None, description="The seed before, to change it.")
    kms: Maybe[KeyServers] = Field(default=None, description="Key servers, 1 to 5.")
    kms_timeout: Maybe[Minutes] = Field(default=None, description="Minutes to wait for them, 0 to 20.")
    api_key: Maybe[values.CloudKey] = Field(default=None, description="API key to look the volume up with.")
    volume_name: Maybe[values.NotEmpty] = Field(default=None, description="The volume's name in the cloud.")
    volume_id: Maybe[values.VolumeId] = Field(
        default=None, alias="volumeID", description="The volume's id in the cloud."
    )


class EnvVolume(_Volume):
    """A data disk, the deployer's half of it."""

    model_config = one_of("seed", "uv-secret-id")
    seed: Maybe[values.Seed] = Field(
        default=None, description="Half of the passphrase; this or `uv-secret-id`."
    )
    uv_secret_id: Maybe[values.UltravisorSecret] = Field(
        default=None, alias="uv-secret-id", description="A secret of the ultravisor instead of a seed."
    )
    uv_previous_secret_id: Maybe[values.UltravisorSecret] = Field(
        default=None, alias="uv-previous-secret-id", description="The one before, to change it."
    )
    grep11: Maybe[Grep11] = Field(default=None, description="Hardware security module.")

    @model_validator(mode="before")
    @classmethod
    def _one(cls, data: Any) -> Any:
        exactly_one(data, ("seed", "uv-secret-id"), "a volume")
        if isinstance(data, dict) and "uv-previous-secret-id" in data and "uv-secret-id" not in data:
            raise refused("form", "`uv-previous-secret-id` needs `uv-secret-id`")
        return data


class ConfidentialEnvVolume(_Volume):
    """A data disk, the deployer's half of it."""

    seed: values.Seed = Field(description="Half of the passphrase.")

    @model_validator(mode="after")
    def _timeout(self) -> ConfidentialEnvVolume:
        if self.kms_timeout is not None and self.kms is None:
            raise refused("form", "`kmsTimeout` needs `kms`")
        return self


class HostKey(Part):
    """A machine that the pod may run on."""

    open_in_guest: ClassVar[bool] = True
    description: values.Words = Field(description="What people call it.")
    host_key_doc: values.NotEmpty = Field(
        alias="host-key-doc", description="Base64 of the host key document."
    )


class EnvConfidentialContainers(Part):
    """Keys of the deployer's sealed secrets."""

    open_in_guest: ClassVar[bool] = True
    secret: Maybe[SealedSecretKeys] = Field(default=None, description="Keys of sealed secrets.")


Certificates = Annotated[tuple[dict[str, values.Archive], ...], Field(max_length=1, strict=False)]


class _Env(Part):
    open_in_guest: ClassVar[bool] = True
    type: Literal["env"] = Field(description="Which section this is.")
    env: Maybe[Variables] = Field(default=None, description="Variables; those of `workload` win.")
    auths: Maybe[Logins] = Field(default=None, description="Logins by registry; those of `workload` win.")
    cacerts: Maybe[Certificates] = Field(
        default=None,
        description="Certificates of registries' own authorities: one entry, each key a name of your choice.",
    )
    signing_key: Maybe[values.SigningKey] = Field(
        default=None, description="What `envWorkloadSignature` is checked with: PEM, or base64 of it."
    )


class Env(_Env):
    """The env section of `hpvs`, `ccrt` and `ccrv`."""

    logging: Logging = Field(description="Where logs go.")
    volumes: Maybe[dict[values.VolumeName, EnvVolume]] = Field(
        default=None, description="Data disks, by name."
    )


class ConfidentialEnv(_Env):
    """The env section of `ccco`."""

    logging: Maybe[ConfidentialLogging] = Field(default=None, description="Where logs go.")
    volumes: Maybe[dict[values.VolumeName, ConfidentialEnvVolume]] = Field(
        default=None, description="Data disks, by name."
    )
    host_attestation: Maybe[dict[values.SimpleName, HostKey]] = Field(
        default=None, alias="host-attestation", description="Machines to run on (bare metal)."
    )
    confidential_containers: Maybe[EnvConfidentialContainers] = Field(
        default=None, alias="confidential-containers", description="Keys of sealed secrets."
    )
