"""What a strict model has against a document, said to people: file, line, path and a did-you-mean.

The models are pydantic's. No value is ever shown: it may be a secret.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from secure_build.strict_yaml import Document, Path

# What pydantic puts into the place of a mistake although no file has it.
_KEY = "[key]"
_MESSAGES = {
    "missing": "this key is missing",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be `true` or `false`",
    "int_type": "must be a number, without quotes",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping with keys",
    "model_type": "must be a mapping with keys",
    "model_attributes_type": "must be a mapping with keys",
    "too_short": "must not be empty",
}

_BOUNDS = {
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than_equal": ("must be at most {}", "le"),
    "too_long": ("must have at most {} entries", "max_length"),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: where it stands, what is wrong there, and pydantic's name for its kind.

    `holder` is the model that the last key of the path stands in.
    """

    line: int
    path: Path
    message: str
    kind: str
    holder: type[BaseModel] | None

    def text(self, document: Document) -> str:
        """One line with file, line and path."""
        place = ".".join(str(part) for part in self.path)
        return f"{document.name}:{self.line}: {place + ': ' if place else ''}{self.message}"


def mistakes(
    document: Document,
    model: Any,
    error: ValidationError,
    *,
    tags: frozenset[str] = frozenset(),
    own: Callable[[ErrorDetails, Path], str | None] = lambda _detail, _path: None,
) -> list[Mistake]:
    """Every mistake of the document, from its first line to its last.

    `tags` are those of the model's unions; `own` may word a mistake before the words here are used.
    """
    found = []
    for detail in error.errors(include_url=False):
        path = tuple(part for part in detail["loc"] if part not in tags and part != _KEY)
        holders = list(_models_at(model, detail["loc"][:-1]))
        message = own(detail, path) or _message(detail, path, holders)
        holder = holders[0] if holders else None
        found.append(Mistake(document.line(path), path, message, detail["type"], holder))
    return sorted(found, key=lambda mistake: (mistake.line, mistake.text(document)))


def _message(detail: ErrorDetails, path: Path, holders: list[type[BaseModel]]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = {field.alias or name for holder in holders for name, field in holder.model_fields.items()}
        return unknown_key(str(path[-1]), sorted(known))
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", "`")
    if kind == "string_too_short":
        least = context["min_length"]
        return f"must have at least {least} characters" if least > 1 else _MESSAGES["too_short"]
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return words.format(context[bound])
    if kind == "string_pattern_mismatch":
        return f"does not have the form `{context['pattern']}`"
    return _MESSAGES.get(kind, detail["msg"])


def unknown_key(key: str, known: list[str]) -> str:
    """What to say of a key that is none of the known ones."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"unknown key; did you mean `{close[0]}`?"
    return "unknown key; known are " + ", ".join(f"`{name}`" for name in known)


def _models_at(model: Any, loc: tuple[str | int, ...]) -> Iterator[type[BaseModel]]:
    """The models that stand at a place, found by walking the annotations."""
    arguments = typing.get_args(model)
    if isinstance(model, type) and issubclass(model, BaseModel):
        if not loc:
            yield model
        for name, field in model.model_fields.items():
            if loc[:1] == (field.alias or name,):
                yield from _models_at(field.annotation, loc[1:])
    elif typing.get_origin(model) in (dict, tuple):
        yield from _models_at(arguments[typing.get_origin(model) is dict], loc[1:])
    else:
        tags = [part.tag for part in arguments if isinstance(part, Tag)]
        if not tags or loc[:1] == (tags[0],):
            for argument in arguments:
                yield from _models_at(argument, loc[1:] if tags else loc)
