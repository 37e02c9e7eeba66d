"""`source`: where the source is, and which keys fit which kind of address."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from secure_build.address import Address
from secure_build.config.base import SecretName, Strict, kebab, no_literal
from secure_build.errors import UsageError


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return Address.parse(value)
    except UsageError as error:
        hint = f"; {error.hint}" if error.hint else ""
        raise PydanticCustomError("address", "{why}", {"why": f"{error.message}{hint}"}) from None


GitAddress = Annotated[
    Address, BeforeValidator(_address), PlainSerializer(str), WithJsonSchema({"type": "string"})
]


def _inside(directory: str) -> str:
    if directory.startswith("/") or ".." in directory.split("/") or not directory:
        raise PydanticCustomError("directory", "must be a folder of the repository, such as `app`")
    return directory


class Source(Strict):
    """Where the source is. Without `url` it is the repository that holds this file."""

    url: GitAddress | None = Field(
        default=None,
        description="Address of a git repository: `https://…`, `ssh://…` or `user@host:path`.",
    )
    ref: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="Branch, tag or full commit of `url`; default what its HEAD names. "
        "Where a branch and a tag have one name, write `refs/heads/…` or `refs/tags/…`.",
    )
    directory: Annotated[str, AfterValidator(_inside)] = Field(
        default=".", description="Folder of `url`'s repository that paths start from."
    )
    username: Annotated[str, StringConstraints(min_length=1)] = Field(
        default="x-access-token", description="User name that goes with `token`; most hosts take any."
    )
    token: Annotated[SecretName | None, BeforeValidator(no_literal)] = Field(
        default=None, description="For a private repository over HTTPS; sent to the server of `url` only."
    )
    ssh_key: Annotated[SecretName | None, BeforeValidator(no_literal)] = Field(
        default=None, description="Private key, without a passphrase, for a repository over SSH."
    )
    known_hosts: str | None = Field(
        default=None,
        description="File with the host's public keys (OpenSSH format), relative to this file; "
        "needed with `ssh-key`.",
    )
    submodules: bool = Field(
        default=False,
        description="Take the content of submodules too. Without `url` they must be checked out.",
    )

    @model_validator(mode="after")
    def _fitting(self) -> Source:
        """Which keys fit which kind of address."""
        scheme = self.url.scheme if self.url else None
        for name, schemes, needed in (
            ("ref", ("https", "http", "ssh"), "`url`"),
            ("directory", ("https", "http", "ssh"), "`url`"),
            ("username", ("https", "http"), "an `https://` address"),
            ("token", ("https", "http"), "an `https://` address"),
            ("ssh_key", ("ssh",), "an SSH address"),
            ("known_hosts", ("ssh",), "an SSH address"),
        ):
            if name in self.model_fields_set and scheme not in schemes:
                raise PydanticCustomError(
                    "source", "`{name}` goes with {needed}", {"name": kebab(name), "needed": needed}
                )
        if scheme == "ssh" and (self.ssh_key is None or self.known_hosts is None):
            raise PydanticCustomError("source", "an SSH address needs `ssh-key` and `known-hosts`")
        if "username" in self.model_fields_set and self.token is None:
            raise PydanticCustomError("source", "`username` goes with `token`")
        return self
