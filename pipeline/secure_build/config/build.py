"""The models of `build:` under an image: context, arguments, secrets, further contexts and cache."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

from secure_build.config.base import Strict
from secure_build.config.sections import AnySecret
from secure_build.config.tokens import token_reason
from secure_build.errors import UsageError
from secure_build.model import GUEST, Platform
from secure_build.reference import Reference

IMAGE_CONTEXT = "docker-image://"


def _platforms(platforms: tuple[Platform, ...]) -> tuple[Platform, ...]:
    if not platforms:
        raise PydanticCustomError("platforms", "must name at least one platform")
    if len(set(platforms)) != len(platforms):
        raise PydanticCustomError("platforms", "a platform stands twice in it")
    return platforms


BuildSecretId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]


def _undigested(cache: Reference) -> Reference:
    if cache.digest is not None:
        raise PydanticCustomError("cache", "must have no digest: a cache is written anew by every build")
    return cache


CacheImage = Annotated[Reference, AfterValidator(_undigested)]


class Cache(Strict):
    """Build cache in a registry, read and written with that registry's `pull` and `push` logins."""

    from_: tuple[CacheImage, ...] = Field(
        default=(),
        alias="from",
        strict=False,
        description="Images that hold the cache of earlier builds; buildah takes their repositories.",
    )
    to: CacheImage | None = Field(default=None, description="Where to keep the cache of this build.")

    @model_validator(mode="after")
    def _something(self) -> Cache:
        if not (self.from_ or self.to):
            raise PydanticCustomError("cache", "must name `from`, `to` or both")
        return self


def _context(where: str) -> str:
    if where.startswith(IMAGE_CONTEXT):
        try:
            image = Reference.parse(where.removeprefix(IMAGE_CONTEXT))
        except UsageError as error:
            raise PydanticCustomError("context", "{why}", {"why": error.message}) from None
        if image.digest is None:
            raise PydanticCustomError(
                "context", "must name the image with its digest: what a tag names can change between builds"
            )
    elif "://" in where or where.startswith("git@"):
        raise PydanticCustomError(
            "context",
            "must be a folder of the commit, or `docker-image://` and an image with its digest: "
            "what an address gives can change between builds",
        )
    return where


ArgumentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
ContextName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]*$")]


class Build(Strict):
    """How an image is built from the commit."""

    context: str = Field(default=".", description="Folder of the commit that the build sees.")
    dockerfile: str = Field(default="Dockerfile", description="Relative to the context.")
    platforms: Annotated[tuple[Platform, ...], AfterValidator(_platforms)] = Field(
        default=(GUEST,),
        strict=False,  # YAML has lists only
        description="One gives a plain manifest, several an index.",
        json_schema_extra={"default": [str(GUEST)], "minItems": 1, "uniqueItems": True},
    )
    args: dict[ArgumentName, str] = Field(
        default={},
        description="Build arguments; they can end up in the image, so one that looks like a token "
        "or password is refused.",
    )
    allow_token_args: tuple[str, ...] = Field(
        default=(),
        strict=False,
        description="Names of build arguments that look like a token or password and are none. "
        "Weakens a check.",
    )
    target: str | None = Field(default=None, description="Build stage to stop at; default the last.")
    secrets: dict[BuildSecretId, AnySecret] = Field(
        default={},
        description="For `RUN --mount=type=secret,id=…`: by id, a named secret or a file. "
        "They reach neither layers nor logs.",
    )
    contexts: dict[ContextName, Annotated[str, AfterValidator(_context)]] = Field(
        default={},
        description="Further build contexts, by name: a folder of the commit, "
        "or `docker-image://` and an image with its digest.",
    )
    cache: Cache | None = Field(
        default=None,
        description="Reuse steps of earlier builds. The digest then depends on the cache, so such "
        "an image is recorded as not reproducible.",
    )

    @model_validator(mode="after")
    def _no_tokens(self) -> Build:
        for name, value in self.args.items():
            reason = token_reason(name, value)
            if reason and name not in self.allow_token_args:
                raise PydanticCustomError(
                    "token",
                    "the build argument `{name}` looks like a token or password ({reason}), and build "
                    "arguments end up in the image; put it under `secrets`, or under `allow-token-args` "
                    "if it is none",
                    {"name": name, "reason": reason},
                )
        for name in self.allow_token_args:
            if name not in self.args:
                raise PydanticCustomError(
                    "token", "`allow-token-args` names `{name}`, which is not under `args`", {"name": name}
                )
        return self
