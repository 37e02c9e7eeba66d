"""Image references, digests and pinned images: parsing, printing and Docker Hub's naming rules.

The grammar is the one of github.com/distribution/reference, but that upper case in the first part
never makes it a registry. What IBM's contract adds to it (the spelling of a registry in `auths`)
lives in `contract/auths.py`. Nothing here asks a registry.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from secure_build.errors import UsageError

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?")
_PATH = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}")
_LONGEST_PATH = 255


class Text:
    """A value that is written as one string: `parse` reads it, `str` prints it.

    The hook lets pydantic read and write such a value wherever a model names its type, so that
    config and build record share the one parser.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        raise NotImplementedError

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> CoreSchema:
        from pydantic_core import PydanticCustomError, core_schema

        def read(value: Any) -> Text:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str):
                raise PydanticCustomError("text", "must be text")
            try:
                return cls.parse(value)
            except UsageError as error:
                why = f"{error.message}; {error.hint}" if error.hint else error.message
                raise PydanticCustomError("text", "{why}", {"why": why}) from None

        return core_schema.no_info_plain_validator_function(
            read,
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.to_string_ser_schema(),
        )


@dataclass(frozen=True, slots=True, order=True)
class Digest(Text):
    """A SHA-256 digest; made only by parsing text or by hashing bytes."""

    text: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.text):
            raise UsageError(
                f"`{self.text[:80]}` is no digest",
                hint="a digest is `sha256:` and 64 lower-case hexadecimal digits",
            )

    @classmethod
    def parse(cls, text: str) -> Digest:
        return cls(text)

    @classmethod
    def of(cls, content: bytes) -> Digest:
        return cls("sha256:" + hashlib.sha256(content).hexdigest())

    @property
    def hexadecimal(self) -> str:
        return self.text.removeprefix("sha256:")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class Repository(Text):
    """A registry and a path in it. `docker.io` and `library/` are written out."""

    registry: str
    path: str

    def __post_init__(self) -> None:
        if registry_name(self.registry) != self.registry:
            raise UsageError(f"`{self.registry}` is not the canonical name of a registry")
        if not _PATH.fullmatch(self.path) or len(self.path) > _LONGEST_PATH:
            lower = self.path.lower()
            upper = lower != self.path and _PATH.fullmatch(lower)
            why = "it has upper-case letters" if upper else f"`{self.path[:80]}` is no repository path"
            raise UsageError(why)

    @classmethod
    def parse(cls, text: str) -> Repository:
        reference = Reference.parse(text)
        if reference.tag or reference.digest:
            raise UsageError(f"`{text}` must name a repository, without tag or digest")
        return reference.repository

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


@dataclass(frozen=True, slots=True, order=True)
class Pinned(Text):
    """Registry, repository and digest, nothing else: the only thing the runtime runs unsigned."""

    repository: Repository
    digest: Digest

    @classmethod
    def parse(cls, text: str) -> Pinned:
        reference = Reference.parse(text)
        if reference.digest is None or reference.tag is not None:
            raise UsageError(f"`{text}` is not pinned: it must be `repository@sha256:…`, without a tag")
        return cls(reference.repository, reference.digest)

    def __str__(self) -> str:
        return f"{self.repository}@{self.digest}"


@dataclass(frozen=True, slots=True)
class Reference(Text):
    """An image name as people write it, with Docker Hub's defaults written out."""

    repository: Repository
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        if self.tag is not None and not _TAG.fullmatch(self.tag):
            raise UsageError(f"`{self.tag[:80]}` is no tag")

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read `[registry/]path[:tag][@digest]`; raises UsageError that names the faulty part."""
        name, at, digest = text.partition("@")
        head, slash, last = name.rpartition("/")
        last, colon, tag = last.partition(":")
        try:
            return cls(
                _repository(head + slash + last), tag if colon else None, Digest(digest) if at else None
            )
        except UsageError as error:
            raise UsageError(
                f"`{text[:200]}` is no image reference: {error.message}", hint=error.hint
            ) from None

    def pin(self, digest: Digest) -> Pinned:
        return Pinned(self.repository, digest)

    def tagged(self) -> Reference:
        """The same reference with Docker's default tag where it names neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def registry_name(text: str) -> str:
    """The canonical name of a registry host: Docker Hub's several names become `docker.io`.

    Raises UsageError when the text is no `host[:port]`.
    """
    if text.lower() in _DOCKER_HUB_NAMES:
        return DOCKER_HUB
    if not _REGISTRY.fullmatch(text):
        raise UsageError(
            f"`{text[:200]}` is no registry",
            hint="write the host and, if needed, `:port`; no scheme, no path",
        )
    return text.lower()


def _repository(name: str) -> Repository:
    if name != name.strip() or not name:
        raise UsageError("it is empty or has spaces around it")
    if _IMAGE_ID.fullmatch(name):
        raise UsageError("Docker takes 64 hexadecimal digits for the id of a local image")
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        registry, path = registry_name(first), rest
    else:
        registry, path = DOCKER_HUB, name
    if registry == DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return Repository(registry, path)
