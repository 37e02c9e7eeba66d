"""The contract out of its sections: text whose values are exactly the strings that are signed and hashed."""

from __future__ import annotations

from collections.abc import Mapping

from secure_build.contract import text
from secure_build.contract.encryption.token import looks_like_token
from secure_build.errors import UsageError

# `boot` stands behind what is signed (IBM's page "Create a boot section").
ORDER = ("workload", "env", "attestationPublicKey", "envWorkloadSignature", "boot")


def contract(values: Mapping[str, str]) -> str:
    """The contract with these values; tokens and signatures in one line each, text in literal blocks.

    Raises UsageError for text that a literal block cannot hold as it is.
    """
    return "".join(_entry(name, values[name]) for name in ORDER if name in values)


def _entry(name: str, value: str) -> str:
    if looks_like_token(value) or name == "envWorkloadSignature":
        return f"{name}: {value}\n"
    if not value.endswith("\n") or value.endswith("\n\n") or value[0] in " \n" or "\r" in value:
        raise UsageError(
            f"`{name}` begins or ends with empty lines or blanks, or has no newline at its end",
            hint="write it as one block of lines that ends with a newline",
        )
    return text.block(name, value)
