"""Keys that never leave their owner: a command signs with them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints
from pydantic_core import PydanticCustomError

from secure_build.config.base import Strict
from secure_build.config.sections import VariableName


class KeyOrCommand(Strict):
    """A private key that is stored somewhere, or a command that signs with one in a KMS or HSM."""

    command: tuple[Annotated[str, StringConstraints(min_length=1)], ...] | None = Field(
        default=None,
        strict=False,
        description="Program and arguments that read a SHA-256 digest (32 bytes) and write its signature "
        "(bytes), run in this file's folder; for keys in a KMS or HSM.",
    )
    variables: tuple[VariableName, ...] = Field(
        default=(), strict=False, description="Environment variables that the command needs."
    )
    public_key: str | None = Field(default=None, description="PEM file with the command's public key.")

    def check_command(
        self, *, passphrase: object, public: object, public_ways: str, public_beside_key: bool = False
    ) -> None:
        """Raise for what goes with a command only, or with a stored key only.

        `public` is what says which key the command signs with; with `public_beside_key` a stored key may
        have its public half named too.
        """
        if self.command is not None:
            if not self.command:
                raise PydanticCustomError("key", "`command` must name a program")
            if passphrase is not None:
                raise PydanticCustomError("key", "`passphrase` goes with a key that is stored")
            if public is None:
                raise PydanticCustomError("key", "`command` needs {ways}", {"ways": public_ways})
        elif self.variables or (self.public_key is not None and not public_beside_key):
            named = "`variables` go" if public_beside_key else "`public-key` and `variables` go"
            raise PydanticCustomError("key", "{named} with `command`", {"named": named})
