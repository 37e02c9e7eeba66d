"""Pods and ConfigMaps, as `play` takes them.

The fields and their kinds are those of the Kubernetes API reference (core/v1), in `data/pod-fields.json`,
without volumes that only clusters have: `text!` is required text, `[text]` a list, `{text}` a mapping,
`empty` what only clusters fill in. IBM's published schema has the same ones and refuses other kinds, but
does not look at those marked `+`, most of which are younger.
"""

from __future__ import annotations

import functools
import json
import types
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Strict,
    Tag,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    create_model,
)

from secure_build.contract.schema.base import Part, refused

# Pydantic puts them into the places of mistakes.
POD, CONFIG_MAP = "a pod", "a config map"


def _number_or_text(value: Any) -> Any:
    # What is `true` is a number to Python.
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise refused("form", "must be a number or text")
    return value


def _empty(value: Any) -> Any:
    if value != {}:
        raise refused("pod-fields", "is what a cluster writes; take it out")
    return value


def _quantity(value: Any) -> Any:
    return value if isinstance(value, float) else _number_or_text(value)


_SCALARS: dict[str, Any] = {
    "text": str,
    "number": int,
    "truth": bool,
    "empty": Annotated[Any, AfterValidator(_empty), WithJsonSchema({"type": "object", "maxProperties": 0})],
    "quantity": Annotated[Any, AfterValidator(_quantity), WithJsonSchema({"type": ["string", "number"]})],
    "number or text": Annotated[
        Any, AfterValidator(_number_or_text), WithJsonSchema({"type": ["string", "integer"]})
    ],
}

_TWO_KINDS = ("quantity", "number or text")


class _PodPart(Part):
    """A part of a descriptor; podman passes over keys that it does not know."""

    # Kubernetes has names such as `hostIP`, which no rule makes.
    model_config = ConfigDict(alias_generator=None, protected_namespaces=())
    open_in_guest: ClassVar[bool] = True


def descriptor_parts() -> set[str]:
    """The names of all models that descriptors are made of."""
    return set(_fields())


def is_pod_part(model: type[BaseModel]) -> bool:
    """Whether a model is of a descriptor and not of a container in it, whose name the schema wants too."""
    return issubclass(model, _PodPart) and model.__name__ != "Container"


def _kind(value: Any) -> Any:
    if value not in ("Pod", "ConfigMap"):
        raise refused("form", "must be `Pod` or `ConfigMap`: the runtime takes nothing else")
    return value


def _newer(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    try:
        return check(value)
    except ValidationError:
        raise refused("pod-fields", "must be what Kubernetes has there") from None


@functools.cache
def _fields() -> dict[str, dict[str, str]]:
    text = resources.files("secure_build").joinpath("data/pod-fields.json").read_text(encoding="utf-8")
    fields: dict[str, dict[str, str]] = json.loads(text)
    return fields


@functools.cache
def _model(name: str) -> Any:
    fields: dict[str, Any] = {}
    if name in ("Pod", "ConfigMap"):
        fields["apiVersion"] = (Literal["v1"], ...)
        fields["kind"] = (Annotated[Literal[name], BeforeValidator(_kind)], ...)
    for key, written in _fields()[name].items():
        bare = written.rstrip("!+")
        required = written.endswith("!")
        # The schema takes no value for none, but not where there are two kinds of values.
        kind = _entry(bare) if required else _type(bare) if bare in _TWO_KINDS else _type(bare) | None
        if written.endswith("+"):
            kind = Annotated[kind, WrapValidator(_newer)]
        # A key such as `continue` is no name in Python.
        fields[f"{key}_"] = (kind, Field(default=... if required else None, alias=key))
    return create_model(name, __base__=_PodPart, **fields)


def _type(written: str) -> Any:
    if written[0] == "[":
        return Annotated[types.GenericAlias(tuple, (_entry(written[1:-1]), ...)), Strict(False)]
    if written[0] == "{":
        return types.GenericAlias(dict, (str, _entry(written[1:-1])))
    return _SCALARS.get(written) or _model(written)


def _entry(written: str) -> Any:
    """What must be there: an entry of a list or mapping, or a required field."""
    return Annotated[_type(written), BeforeValidator(_present)]


def _present(value: Any) -> Any:
    if value is None:
        raise refused("pod-fields", "has no value")
    return value


def _has_kind(value: Any) -> Any:
    # Without it nobody knows which fields to expect.
    if isinstance(value, dict) and "kind" not in value:
        raise refused("pod-kind", "`kind` is missing: it must be `Pod` or `ConfigMap`")
    return value


def _which(value: Any) -> str:
    return CONFIG_MAP if isinstance(value, dict) and value.get("kind") == "ConfigMap" else POD


if TYPE_CHECKING:
    Descriptor: TypeAlias = Part
else:
    Descriptor = Annotated[
        Annotated[_model("Pod"), Tag(POD)] | Annotated[_model("ConfigMap"), Tag(CONFIG_MAP)],
        Discriminator(_which),
        BeforeValidator(_has_kind),
    ]
