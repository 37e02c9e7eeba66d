"""Where the secrets of a section stand, found from the declarations of the models.

What the models do not know counts as secret: a mistyped key must not show a password.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, Discriminator, Tag

from secure_build.contract.schema.base import SECRET
from secure_build.strict_yaml import Path


def secret_paths(model: type[BaseModel], data: Any) -> list[Path]:
    """The paths of all scalars that are secret, or that stand where the model has nothing."""
    return list(_walk(model, data, ()))


def _walk(kind: Any, data: Any, path: Path) -> Iterator[Path]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        yield from _annotated(arguments[0], arguments[1:], data, path)
    elif origin in (typing.Union, types.UnionType):
        members = [member for member in arguments if member is not types.NoneType]
        fitting = [member for member in members if _fits(member, data)]
        yield from _walk(fitting[0], data, path) if fitting else _leaves(data, path)
    elif not _fits(kind, data):
        yield from _leaves(data, path)
    elif isinstance(data, dict) and origin is dict:
        for key, value in data.items():
            yield from _walk(arguments[1], value, (*path, key))
    elif isinstance(data, dict):
        yield from _fields(kind, data, path)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _walk(arguments[0], value, (*path, index))


def _fields(model: type[BaseModel], data: dict[str, Any], path: Path) -> Iterator[Path]:
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, value in data.items():
        if key in fields:
            yield from _annotated(fields[key].annotation, fields[key].metadata, value, (*path, key))
        else:
            yield from _leaves(value, (*path, key))


def _annotated(kind: Any, metadata: typing.Iterable[Any], data: Any, path: Path) -> Iterator[Path]:
    """A kind with what is said about it: that it is secret, or how a member of a union is chosen."""
    for said in metadata:
        if said is SECRET:
            yield from _leaves(data, path)
            return
        if isinstance(said, Discriminator) and callable(said.discriminator):
            tag = Tag(str(said.discriminator(data)))
            kind = next(member for member in typing.get_args(kind) if tag in typing.get_args(member))
    yield from _walk(kind, data, path)


def _fits(kind: Any, data: Any) -> bool:
    """Whether the data has the shape of the kind: mapping, list or scalar."""
    kind = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(member, data) for member in typing.get_args(kind))
    if origin is dict or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return isinstance(data, dict)
    return isinstance(data, list) if origin is tuple else not isinstance(data, dict | list)


def _leaves(data: Any, path: Path) -> Iterator[Path]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _leaves(value, (*path, index))
    elif data is not None:
        yield path
