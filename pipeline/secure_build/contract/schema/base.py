"""What all models of the contract have in common: strictness, what is secret, and which rules are ours."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


class Part(BaseModel):
    """Frozen, no unknown keys, no conversions between types, the contract's own spelling outside.

    `open_in_guest` tells that the runtime ignores keys it does not know there, instead of refusing
    them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        strict=True,
        defer_build=True,
    )
    open_in_guest: ClassVar[bool] = False


class Secrecy:
    """Marks a type whose values nobody but the guest may read."""


SECRET = Secrecy()
SecretText = Annotated[str, SECRET]


def refused(rule: str, message: str) -> PydanticCustomError:
    """A mistake whose kind is `rule`; the message is taken as it is."""
    return PydanticCustomError(rule, "{message}", {"message": message})


def _there(value: object) -> object:
    if value is None:
        raise refused("form", "has no value; give it one or take the key out")
    return value


_T = TypeVar("_T")
# A key that may be missing, and may not be empty when it is there.
Maybe = Annotated[_T | None, BeforeValidator(_there)]


def one_of(*keys: str) -> ConfigDict:
    """What the JSON schema says of a part that `exactly_one` checks."""
    return ConfigDict(json_schema_extra={"oneOf": [{"required": [key]} for key in keys]})


def exactly_one(data: Any, keys: tuple[str, ...], what: str, others: tuple[str, ...] = ()) -> Any:
    """The data, where it is a mapping with exactly one of these keys; another shape is found elsewhere.

    `others` are keys that stand there on other targets.
    """
    if isinstance(data, dict):
        there = [key for key in keys if key in data]
        if len(there) != 1:
            names = " or ".join(f"`{key}`" for key in keys)
            found = "has " + " and ".join(f"`{key}`" for key in there) if there else "has none"
            of_others = not there and [key for key in others if key in data]
            if of_others:
                raise refused(
                    "other-target", f"this runtime takes {names} here; `{of_others[0]}` is for others"
                )
            raise refused("form", f"{what} needs {'exactly one of ' if keys[1:] else ''}{names}, and {found}")
    return data
