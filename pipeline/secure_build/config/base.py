"""What all models of secure-build.yaml have in common, and how they name secrets."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

# The tags of the unions, which stand in pydantic's places of mistakes.
NAMED_SECRET, FILE_SECRET = "named secret", "file secret"
PLAIN_VALUE, NAMED_VALUE = "plain value", "named value"


def kebab(name: str) -> str:
    return name.replace("_", "-")


class Strict(BaseModel):
    """Frozen, no unknown keys, no conversions between types, kebab-case outside."""

    model_config = ConfigDict(
        alias_generator=kebab,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
        defer_build=True,
    )


class SecretName(Strict):
    """The name of a secret, never its value."""

    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Looked up as an environment variable, then as a file in `$SECURE_BUILD_SECRETS`."
    )


def no_literal(value: object) -> object:
    if isinstance(value, str | int | float):
        raise PydanticCustomError(
            "literal_secret", "a password must not stand in this file; name it: `{secret: NAME}`"
        )
    return value


class Login(Strict):
    """User name and the name of the secret with the password or token."""

    username: Annotated[str, StringConstraints(min_length=3)] = Field(
        description="For IBM Container Registry literally `iamapikey`."
    )
    password: Annotated[SecretName, BeforeValidator(no_literal)] = Field(
        description="`{secret: NAME}`; a literal value is refused."
    )


class SecretFile(Strict):
    """A file on this machine whose content is a secret."""

    file: str = Field(description="Read when it is used; it need not be part of the source.")


class File(Strict):
    """A file on this machine whose content may be known to everybody, such as a certificate."""

    file: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="Relative to this config's folder; it need not be part of the source."
    )
