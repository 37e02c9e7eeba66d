"""The models of `signing:` and `attestations:`: with which keys and identities images are signed."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from secure_build.address import is_loopback
from secure_build.config.base import File, Login, SecretFile, SecretName, Strict, no_literal
from secure_build.config.keys import KeyOrCommand
from secure_build.config.sections import AnySecret

SignatureKind = Literal["rhs", "dct", "cosign", "keyless"]
Passphrase = Annotated[SecretName | None, BeforeValidator(no_literal)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^([0-9A-F]{40}|[0-9A-F]{64})$")]


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query:
        raise PydanticCustomError("url", "must be `https://HOST`, with a path if needed, and no login in it")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise PydanticCustomError("url", "`http://` is taken for this machine only: use `https://`")
    return text.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]


class GpgKey(Strict):
    """The OpenPGP key: in a named secret, in a file, or kept by this machine's agent or a smartcard."""

    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = Field(
        default=None, description="Name of the secret with the private key, armored."
    )
    file: str | None = Field(default=None, description="File with the private key.")
    fingerprint: Fingerprint | None = Field(
        default=None,
        description="Of a key that `gpg` of this machine can sign with: its agent or a smartcard has it.",
    )

    @property
    def stored(self) -> SecretName | SecretFile:
        """Where the key is kept; not for one that only has a fingerprint."""
        if self.secret is not None:
            return SecretName(secret=self.secret)
        assert self.file is not None
        return SecretFile(file=self.file)

    @model_validator(mode="after")
    def _one(self) -> GpgKey:
        if sum(way is not None for way in (self.secret, self.file, self.fingerprint)) != 1:
            raise PydanticCustomError("key", "must name one of `secret`, `file` and `fingerprint`")
        return self


class Lookaside(Strict):
    """Where signatures go when the registry has no place for them (containers-registries.d(5))."""

    directory: str | None = Field(
        default=None, description="Folder of this machine that a web server serves."
    )
    upload: Url | None = Field(default=None, description="Address to put them below, with HTTP PUT.")
    login: Login | None = Field(default=None, description="For that address.")

    @model_validator(mode="after")
    def _one(self) -> Lookaside:
        if (self.directory is None) == (self.upload is None):
            raise PydanticCustomError("lookaside", "must name either `directory` or `upload`")
        if self.login is not None and self.upload is None:
            raise PydanticCustomError("lookaside", "`login` goes with `upload`")
        return self


class RhsSigning(Strict):
    """Red Hat simple signing: an OpenPGP signature of the digest and the name."""

    key: GpgKey = Field(
        description="The key. It signs itself where it can, else by a subkey, which older readers refuse."
    )
    passphrase: Passphrase = Field(default=None, description="Of the key.")
    public_key: str | None = Field(
        default=None,
        description="File with the public key, armored, to check with where the private one is not here.",
    )
    lookaside: Lookaside | None = Field(
        default=None, description="Default: the registry's own extension for signatures."
    )


class NotaryKey(Strict):
    """A key of Notary, PEM as `notary` exports it, or PKCS#8."""

    key: AnySecret = Field(description="A named secret or a file.")
    passphrase: Passphrase = Field(default=None, description="Of an encrypted key.")


class DctSigning(Strict):
    """Docker Content Trust: Notary v1."""

    server: Url = Field(description="The Notary server; the contract names it too.")
    ca: File | None = Field(default=None, description="Certificates that the server's own must rest on, PEM.")
    root_certificate: File | None = Field(
        default=None,
        description="What trust data must rest on: certificates of root keys (PEM, each for the repository "
        "that is its common name), or a kept `root.json`. Default: the root key that is here.",
    )
    root: NotaryKey | None = Field(
        default=None, description="The root key; needed to begin, and to let in other keys."
    )
    targets: NotaryKey | None = Field(
        default=None,
        description="The targets key. Default: one is made each time, which the root key lets in.",
    )
    delegation: NotaryKey | None = Field(
        default=None, description="The key of the delegation `targets/releases`, to sign with instead."
    )

    @model_validator(mode="after")
    def _anchored(self) -> DctSigning:
        if self.root is None and self.root_certificate is None:
            raise PydanticCustomError(
                "dct", "must name `root` or `root-certificate`: the server is not trusted with the root key"
            )
        if self.root is None and self.targets is None and self.delegation is None:
            raise PydanticCustomError(
                "dct", "must name a key to sign with: `root`, `targets` or `delegation`"
            )
        return self


class Rekor(Strict):
    """A transparency log that key signatures are entered in."""

    url: Url = Field(description="Of the log, for example `https://rekor.sigstore.dev`.")
    public_key: str = Field(description="PEM file with the log's public key.")


class CosignSigning(KeyOrCommand):
    """cosign with a key: a named secret, a file, or a command that signs with a key kept elsewhere.

    Signatures are of ECDSA on the curve P-256, DER.
    """

    key: AnySecret | None = Field(
        default=None, description="Private key: encrypted as cosign writes it, or PKCS#8 PEM."
    )
    passphrase: Passphrase = Field(default=None, description="Of an encrypted key.")
    public_key: str | None = Field(
        default=None,
        description="PEM file with the public key: that of the command, or to check with where the private "
        "one is not here.",
    )
    rekor: Rekor | None = Field(default=None, description="Default: no transparency log.")

    @model_validator(mode="after")
    def _one(self) -> CosignSigning:
        if (self.key is None) == (self.command is None):
            raise PydanticCustomError("key", "must name either `key` or `command`")
        self.check_command(
            passphrase=self.passphrase,
            public=self.public_key,
            public_ways="`public-key`",
            public_beside_key=True,
        )
        return self


class KeylessSigning(Strict):
    """sigstore without a key: an identity that its certificate authority confirms.

    The identity comes from the CI system, or from the token that is named here.
    """

    instance: Literal["production", "staging"] | File = Field(
        default="production",
        description="Of sigstore, or a file with the trust config of a private one "
        "(`application/vnd.dev.sigstore.clienttrustconfig.v0.1+json`).",
    )
    token: AnySecret | None = Field(
        default=None,
        description="OIDC token with the audience `sigstore`. Default: what the CI system offers.",
    )
    identity: str | None = Field(
        default=None,
        description="Whom the certificate must name, exactly. Default: whomever the token names; "
        "keyless signatures of records are then not checked.",
    )
    issuer: str | None = Field(default=None, description="Who must have confirmed the identity, exactly.")

    @model_validator(mode="after")
    def _both(self) -> KeylessSigning:
        if (self.identity is None) != (self.issuer is None):
            raise PydanticCustomError("keyless", "`identity` and `issuer` go together")
        return self


class Signing(Strict):
    """The keys and identities to sign with, by kind of signature."""

    rhs: RhsSigning | None = Field(default=None, description="Red Hat simple signing.")
    dct: DctSigning | None = Field(default=None, description="Docker Content Trust.")
    cosign: CosignSigning | None = Field(default=None, description="cosign with a key.")
    keyless: KeylessSigning | None = Field(default=None, description="sigstore without a key.")

    @property
    def attests(self) -> bool:
        """Whether there is something to sign statements with."""
        return self.cosign is not None or self.keyless is not None


SbomFormat = Literal["spdx", "cyclonedx"]


class Attestations(Strict):
    """What is said of every image, signed by `signing: cosign` and `keyless`; without them nothing is."""

    provenance: bool = Field(
        default=True, description="From which commit, by which builder and from which inputs (SLSA v1)."
    )
    sbom: tuple[SbomFormat, ...] = Field(
        default=("spdx", "cyclonedx"),
        strict=False,
        description="Lists of what is in the image, one for each platform.",
    )
