"""Reading secure-build.yaml: every mistake named with file, line and path, and the schema for editors."""

from __future__ import annotations

import typing
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from secure_build import model_schema, strict_yaml
from secure_build.config.models import UNION_TAGS, Config
from secure_build.errors import UsageError
from secure_build.mistakes import mistakes
from secure_build.reference import Digest


class Loaded(typing.NamedTuple):
    """A config with the file it came from, the digest of its bytes, and its text with places."""

    config: Config
    path: Path
    digest: Digest
    document: strict_yaml.Document

    @property
    def directory(self) -> Path:
        return self.path.parent

    def where(self, *path: str) -> str:
        """File and line of what stands at this path, or of the nearest above it, for messages."""
        return f"{self.path}:{self.document.line(path)}"


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
        found = mistakes(document, Config, error, tags=UNION_TAGS, own=_own)
        raise UsageError("\n".join(mistake.text(document) for mistake in found)) from None
    return Loaded(config, path, Digest.of(content), document)


def schema() -> str:
    """The JSON schema (2020-12) of secure-build.yaml, for editors; ends with a newline."""
    return model_schema.text(Config)


def _own(detail: ErrorDetails, path: strict_yaml.Path) -> str | None:
    if detail["type"] == "string_pattern_mismatch" and path[-1:] == ("secret",):
        return "the name of a secret has letters, digits and `_` only"
    return None
