"""Reading secure-build.yaml: every mistake named with file, line and path, and the schema for editors."""

from __future__ import annotations

import difflib
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Tag, ValidationError
from pydantic_core import ErrorDetails

from secure_build import strict_yaml
from secure_build.config.models import UNION_TAGS, Config
from secure_build.errors import UsageError
from secure_build.reference import Digest
from secure_build.strict_yaml import Document

# What pydantic puts into the place of a mistake although no file has it.
_NOT_WRITTEN = UNION_TAGS | {"[key]"}


class Loaded(typing.NamedTuple):
    """A config with the file it came from and the digest of its bytes."""

    config: Config
    path: Path
    digest: Digest

    @property
    def directory(self) -> Path:
        return self.path.parent


def load(path: Path) -> Loaded:
    """Read a config; raises UsageError with one line for every mistake in it."""
    try:
        with path.open("rb") as file:
            content = file.read(strict_yaml.LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(
            f"there is no config at `{path}`",
            hint="`secure-build init` writes one; another is named with `--config`",
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the config `{path}`: {error.strerror}") from None
    return parse(content, path)


def parse(content: bytes, path: Path) -> Loaded:
    """A config from its bytes; `path` is for messages and for what is relative to it."""
    document = strict_yaml.load(content, str(path))
    try:
        config = Config.model_validate(document.data)
    except ValidationError as error:
        problems = [_problem(document, detail) for detail in error.errors(include_url=False)]
        raise UsageError("\n".join(text for _, text in sorted(problems))) from None
    return Loaded(config, path, Digest.of(content))


def schema() -> str:
    """The JSON schema (2020-12) of secure-build.yaml, for editors; ends with a newline."""
    document = _tidy(Config.model_json_schema())
    document["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _tidy(part: Any) -> Any:
    """The schema without what editors would show for no gain: derived titles and `null`."""
    if isinstance(part, list):
        return [_tidy(item) for item in part]
    if not isinstance(part, dict):
        return part
    choices = [choice for choice in part.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        part = {**part, **choices[0]}
        del part["anyOf"]
    return {
        key: _tidy(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
    }


def _problem(document: Document, detail: ErrorDetails) -> tuple[int, str]:
    """Line and text of one mistake. The value itself is never shown: it may be a secret."""
    path = tuple(part for part in detail["loc"] if part not in _NOT_WRITTEN)
    place = ".".join(str(part) for part in path)
    line = document.line(path)
    return line, f"{document.name}:{line}: {place + ': ' if place else ''}{_message(detail, path)}"


def _message(detail: ErrorDetails, path: tuple[str | int, ...]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = sorted(set(_keys_at(Config, detail["loc"][:-1])))
        close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        return "unknown key" + (f"; did you mean `{close[0]}`?" if close else f"; known are {_listed(known)}")
    if kind == "literal_error":
        return f"must be {context['expected']}".replace("'", "`")
    if kind == "string_too_short":
        least = context["min_length"]
        return f"must have at least {least} characters" if least > 1 else _MESSAGES["too_short"]
    if kind == "string_pattern_mismatch" and path[-1:] == ("secret",):
        return "the name of a secret has letters, digits and `_` only"
    if kind == "string_pattern_mismatch":
        return f"does not have the form `{context['pattern']}`"
    return _MESSAGES.get(kind, detail["msg"])


_MESSAGES = {
    "missing": "this key is missing",
    "string_type": "must be text; put it in quotes",
    "bool_type": "must be `true` or `false`",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping with keys",
    "model_type": "must be a mapping with keys",
    "model_attributes_type": "must be a mapping with keys",
    "too_short": "must not be empty",
}


def _keys_at(model: Any, loc: tuple[str | int, ...]) -> Iterator[str]:
    """The keys that the model allows at a place, found by walking its annotations."""
    if isinstance(model, type) and issubclass(model, BaseModel):
        for name, field in model.model_fields.items():
            if not loc:
                yield field.alias or name
            elif loc[0] == (field.alias or name):
                yield from _keys_at(field.annotation, loc[1:])
        return
    arguments = typing.get_args(model)
    if typing.get_origin(model) is dict:
        yield from _keys_at(arguments[1], loc[1:])
        return
    tags = [part.tag for part in arguments if isinstance(part, Tag)]
    if tags and loc[:1] != (tags[0],):
        return
    for argument in arguments:
        yield from _keys_at(argument, loc[1:] if tags else loc)


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
