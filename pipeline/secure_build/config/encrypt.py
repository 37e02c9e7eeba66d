"""The models of `encrypt:`: for which image the contract is encrypted, who signs it, who may audit it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from secure_build.config.base import File, SecretName, Strict, no_literal
from secure_build.config.keys import KeyOrCommand

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Certificate(Strict):
    """The encryption certificate of the runtime's image, and why it is trusted."""

    file: str | None = Field(
        default=None, description="PEM file, as it came with the image; relative to this file."
    )
    version: Annotated[str, StringConstraints(pattern=r"^1\.0\.[0-9]{1,4}$")] | None = Field(
        default=None,
        description="`hpvs` only: version of the image, such as `1.0.29`; IBM publishes its certificate.",
    )
    sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the certificate (DER); takes the place of the chain's validation.",
    )
    chain: str | None = Field(
        default=None, description="PEM file with the certificates between it and the root."
    )

    @model_validator(mode="after")
    def _one(self) -> Certificate:
        if (self.file is None) == (self.version is None):
            raise PydanticCustomError("certificate", "must name either `file` or `version`")
        return self


class SigningKey(KeyOrCommand):
    """The RSA key that signs the contract: a named secret, a file, or a command that has the key.

    Signatures are of RSASSA-PKCS1-v1_5.
    """

    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None, description="Name of the secret with the private key, PEM."
    )
    file: str | None = Field(default=None, description="File with the private key, PEM.")
    passphrase: Annotated[SecretName | None, BeforeValidator(no_literal)] = Field(
        default=None, description="Of an encrypted key."
    )
    certificate: str | None = Field(
        default=None,
        description="PEM file with a certificate for this key; the contract then expires with it.",
    )

    @model_validator(mode="after")
    def _one(self) -> SigningKey:
        if sum(way is not None for way in (self.secret, self.file, self.command)) != 1:
            raise PydanticCustomError("signing_key", "must name one of `secret`, `file` and `command`")
        self.check_command(
            passphrase=self.passphrase,
            public=self.public_key or self.certificate,
            public_ways="`public-key` or `certificate`",
        )
        return self


class AuditorDisclosure(Strict):
    """Lets an auditor re-create the tokens, and so know what is in them."""

    key: str = Field(
        description="PEM file with the auditor's RSA public key. Whoever has its private key can read "
        "the sections, secrets included."
    )


class Encrypt(Strict):
    """How sections become tokens, and the contract signed."""

    certificate: Certificate | None = Field(
        default=None,
        description="Encrypt for the image with this certificate; without it sections stay plain.",
    )
    image_version: Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")] | None = Field(
        default=None,
        description="Version of the image that is installed; another image's certificate is refused.",
    )
    prefix: Literal["hyper-protect-basic", "contract-basic"] | None = Field(
        default=None,
        description="First part of the tokens. Default: `contract-basic` for `ccrt` and `ccrv`, "
        "`hyper-protect-basic` for `hpvs` and `ccco`; images before mid 2026 want the latter.",
    )
    signing_key: SigningKey | None = Field(
        default=None, description="Signs the two encrypted sections; its public key goes into `env`."
    )
    attestation_public_key: File | None = Field(
        default=None,
        description="RSA public key of an auditor, PEM: the guest encrypts its attestation record with it.",
    )
    auditor_disclosure: AuditorDisclosure | None = Field(default=None, description="Off by default.")
