"""secure-build.yaml: the one declaration of every key, from which loader and JSON schema come.

Loading is strict and every error names file, line and path. Secrets stand here by name only; they
are looked up when they are used. Relative paths are relative to the config file's folder.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationError,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from secure_build import strict_yaml
from secure_build.errors import UsageError
from secure_build.model import GUEST, Platform
from secure_build.reference import Digest, Reference, registry_name
from secure_build.strict_yaml import Document

_BUILT, _USED = "built image", "used image"


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class Strict(BaseModel):
    """Frozen, no unknown keys, no conversions between types, kebab-case outside."""

    model_config = ConfigDict(
        alias_generator=_kebab, extra="forbid", frozen=True, hide_input_in_errors=True, strict=True
    )


class SecretName(Strict):
    """The name of a secret, never its value."""

    secret: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="Looked up as an environment variable, then as a file in `$SECURE_BUILD_SECRETS`."
    )


def _no_literal(value: object) -> object:
    if isinstance(value, str | int | float):
        raise PydanticCustomError(
            "literal_secret", "a password must not stand in this file; name it: `{secret: NAME}`"
        )
    return value


class Login(Strict):
    """User name and the name of the secret with the password or token."""

    username: Annotated[str, StringConstraints(min_length=3)] = Field(
        description="For IBM Container Registry literally `iamapikey`."
    )
    password: Annotated[SecretName, BeforeValidator(_no_literal)] = Field(
        description="`{secret: NAME}`; a literal value is refused."
    )


class RegistryAccess(Strict):
    """The logins for one registry. What is not named here comes from Docker's own config file."""

    push: Login | None = Field(default=None, description="To publish images; never leaves this machine.")
    pull: Login | None = Field(
        default=None, description="To read private base images and third-party images while building."
    )
    runtime: Login | None = Field(
        default=None,
        description="Pull-only and long-lived: it goes into the contract's `auths`, "
        "and the guest uses it at every boot.",
    )
    allow_push_credential: bool = Field(
        default=False,
        description="Allow `runtime` to be the same credential as `push`. Weakens the contract.",
    )


def _platforms(platforms: tuple[Platform, ...]) -> tuple[Platform, ...]:
    if not platforms:
        raise PydanticCustomError("platforms", "must name at least one platform")
    if len(set(platforms)) != len(platforms):
        raise PydanticCustomError("platforms", "a platform stands twice in it")
    return platforms


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
    args: dict[str, str] = Field(
        default={},
        description="Build arguments; they can end up in the image, so no place for secrets.",
    )
    target: str | None = Field(default=None, description="Build stage to stop at; default the last.")


def _tagged(image: Reference) -> Reference:
    if image.digest is not None or image.tag is None:
        raise PydanticCustomError(
            "tagged", "must have a tag and no digest: the digest is what the build finds out"
        )
    return image


class BuiltImage(Strict):
    """An image that is built here and published under this name."""

    image: Annotated[Reference, AfterValidator(_tagged)] = Field(
        description="Registry, repository and tag to publish to."
    )
    build: Build = Field(
        default_factory=Build, description="Where the Dockerfile is and for which platforms."
    )
    enforce: Literal["digest"] = Field(
        default="digest",
        description="What makes the runtime run this image and no other. "
        "`digest`: the contract names its digest.",
    )


class UsedImage(Strict):
    """An image of somebody else: resolved, checked for the guest's platform, pinned and listed."""

    use: Reference = Field(description="Reference with a tag, a digest or both; the digest wins.")


def _image_kind(value: object) -> str:
    used = isinstance(value, UsedImage) or (isinstance(value, dict) and "use" in value)
    return _USED if used else _BUILT


AnyImage = Annotated[
    Annotated[BuiltImage, Tag(_BUILT)] | Annotated[UsedImage, Tag(_USED)], Discriminator(_image_kind)
]
ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,62}$")]


def _canonical(written: str) -> str:
    try:
        return registry_name(written)
    except UsageError as error:
        raise PydanticCustomError("registry", "{why}", {"why": f"{error.message}; {error.hint}"}) from None


def _one_name_each(value: object) -> object:
    """Two spellings of one registry would silently become one entry."""
    names: dict[str, str] = {}
    for written in value if isinstance(value, dict) else ():
        with contextlib.suppress(UsageError):
            first = names.setdefault(registry_name(written), written)
            if first != written:
                raise PydanticCustomError(
                    "registry",
                    "`{first}` and `{second}` are the same registry; the contract takes one login for each",
                    {"first": first, "second": written},
                )
    return value


Registries = Annotated[
    dict[Annotated[str, AfterValidator(_canonical)], RegistryAccess], BeforeValidator(_one_name_each)
]


class Workload(Strict):
    """What the guest runs."""

    compose: str = Field(description="The compose file of the workload, as it is in the commit.")


class Config(Strict):
    """secure-build.yaml"""

    version: Literal[1] = Field(description="Version of this format.")
    target: Literal["hpvs", "ccrt"] = Field(
        description="The runtime: `hpvs` (Hyper Protect Virtual Servers for VPC) or `ccrt` "
        "(IBM Confidential Computing Container Runtime)."
    )
    builder: Literal["buildx", "buildah"] | None = Field(
        default=None, description="Default: the first of buildx and buildah that works on the machine."
    )
    images: dict[ImageName, AnyImage] = Field(
        min_length=1,
        description="The workload's images; each key is the name used in messages.",
        # The pattern of the names alone would leave other names free.
        json_schema_extra={"additionalProperties": False},
    )
    registries: Registries = Field(default={}, description="Logins, by registry host.")
    workload: Workload | None = Field(default=None, description="The workload section of the contract.")

    @property
    def built(self) -> dict[str, BuiltImage]:
        return {name: image for name, image in self.images.items() if isinstance(image, BuiltImage)}

    @property
    def used(self) -> dict[str, UsedImage]:
        return {name: image for name, image in self.images.items() if isinstance(image, UsedImage)}

    @property
    def secret_names(self) -> set[str]:
        """The names of all secrets that this config needs."""
        accesses = self.registries.values()
        logins = (login for entry in accesses for login in (entry.push, entry.pull, entry.runtime))
        return {login.password.secret for login in logins if login}

    def access(self, registry: str) -> RegistryAccess:
        """The logins for a registry, named as `registry_name` has it."""
        return self.registries.get(registry, RegistryAccess())


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
            f"there is no config at `{path}`", hint="name it with `--config`, or go to the folder that has it"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the config `{path}`: {error.strerror}") from None
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
    path = tuple(part for part in detail["loc"] if part not in (_BUILT, _USED, "[key]"))
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
        return f"must have at least {context['min_length']} characters"
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
