"""Where a document names images, and what each name means when it has a variable in it.

Compose files and pods share this: a document has *places*, each place has a name, and pinning puts
a digest there. A variable may stand for the registry only (IBM's page on overriding registries);
anywhere else it is replaced by its default, or refused: it would let somebody else choose the image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from yaml.nodes import ScalarNode

from secure_build import strict_yaml
from secure_build.contract import interpolation
from secure_build.errors import UsageError
from secure_build.model import Finding
from secure_build.reference import Pinned, Reference
from secure_build.strict_yaml import Document, Path

# The name that stands for a registry which only the deployer knows; it never leaves this module.
_SOME_REGISTRY = "registry.test"
_COMPOSE_REGISTRY = re.compile(
    r"(\$(?:[A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][A-Za-z0-9_]*(?::?[-?][^${}]*)?\}))/(.+)"
)
_TEMPLATE_REGISTRY = re.compile(r"(\{\{[^{}\n]*\}\})/([^{}]+)")
Grammar = Literal["plain", "compose", "template"]


@dataclass(frozen=True, slots=True)
class Name:
    """An image as a document names it.

    `reference` is what it means with every variable at its default, None when one has none.
    `registry` is the text in place of a registry that stays for the deployer to fill in, and `rest`
    what follows it. `varied` tells that the text had variables.
    """

    written: str
    reference: Reference | None
    registry: str | None = None
    rest: Reference | None = None
    varied: bool = False

    @classmethod
    def parse(cls, written: str, grammar: Grammar) -> Name:
        """Raises UsageError for what is no image, and for a variable that would choose one."""
        if grammar == "compose" and "$" in written:
            return cls._interpolated(written)
        if grammar == "template" and "{{" in written:
            return cls._templated(written)
        return cls(written, Reference.parse(written))

    @classmethod
    def _interpolated(cls, written: str) -> Name:
        if "$" in written.partition("@")[2]:
            raise UsageError(
                f"`{written[:200]}` has a variable in its digest, so what runs would not be decided here",
                hint="write the digest out, or leave it out: it is put there",
            )
        value = interpolation.with_defaults(written)
        found = _COMPOSE_REGISTRY.fullmatch(written)
        if found and (rest := interpolation.with_defaults(found[2])) is not None:
            default = _reference_or_none(value) if value is not None else None
            return cls(written, default, found[1], _rest(rest), varied=True)
        if value is None:
            raise UsageError(
                f"`{written[:200]}` has a variable without a default, so what runs would not be decided here",
                hint="write the image's name out, or give a default: `${NAME:-default}`; "
                "only the registry may stay a variable: `${REGISTRY}/name:tag`",
            )
        return cls(written, Reference.parse(value), varied=True)

    @classmethod
    def _templated(cls, written: str) -> Name:
        found = _TEMPLATE_REGISTRY.fullmatch(written)
        if not found:
            raise UsageError(
                f"`{written[:200]}` is an expression, so what runs would not be decided here",
                hint="write the image's name out; "
                "only the registry may be an expression: `{{ .Env.REGISTRY }}/name:tag`",
            )
        return cls(written, None, found[1], _rest(found[2]), varied=True)

    def pinned(self, image: Pinned | None) -> str:
        """The text to write: the registry's variable kept, everything else decided.

        Without an image the name must have a digest of its own.
        """
        if self.registry is None or self.rest is None:
            assert image is not None
            return str(image)
        digest = image.digest if image else self.rest.digest
        assert digest is not None
        return f"{self.registry}/{self.rest.repository.path}@{digest}"

    def is_of(self, image: Reference) -> bool:
        """Whether this name, in some registry and folder of it, has the path of `image`."""
        if self.rest is None or self.rest.digest is not None:
            return False
        return f"/{image.repository.path}".endswith(f"/{self.rest.repository.path}")

    def has_tag_of(self, image: Reference) -> bool:
        return self.rest is not None and self.rest.tag in (None, image.tag)


@dataclass(frozen=True, slots=True)
class Place:
    """One place that names an image: `key` in the mapping at `path`. Without a name it is only built.

    `what` says it to people (``service `web` ``), `alias` is the name that a built image may have in
    the config, `builds` tells that `build` stands beside it.
    """

    what: str
    where: str
    path: Path
    key: str
    name: Name | None
    alias: str | None = None
    builds: bool = False
    document: int = 0

    def findings(self) -> list[Finding]:
        """What a variable in the name means to the deployer."""
        if self.name is None or not self.name.varied:
            return []
        if self.name.registry is not None:
            return [
                Finding(
                    check="image",
                    level="warn",
                    what=f"{self.what}: `{self.name.written}`",
                    why="the deployer chooses the registry; the digest is decided here",
                    hint="the contract's `env` section must have the variable, "
                    "and a login where the registry needs one",
                    where=self.where,
                )
            ]
        return [
            Finding(
                check="image",
                level="warn",
                what=f"{self.what}: `{self.name.written}`",
                why=f"pinned to its default `{self.name.reference}`: the deployer can no longer choose it",
                basis="inferred",
                where=self.where,
            )
        ]


def name_at(document: Document, path: Path, grammar: Grammar, what: str) -> Name:
    """The name that stands at a path; raises UsageError with the place."""
    where = place_of(document, path)
    node = strict_yaml.at(document.root, path)
    if not isinstance(node, ScalarNode) or not strict_yaml.is_text(node):
        raise UsageError(f"{where}: the image of {what} must be text")
    if node.style in ("|", ">"):
        raise UsageError(f"{where}: the image of {what} is a block", hint="write it on one line")
    try:
        return Name.parse(node.value, grammar)
    except UsageError as error:
        raise UsageError(f"{where}: the image of {what}: {error.message}", hint=error.hint) from None


def place_of(document: Document, path: Path) -> str:
    """File and line, for messages."""
    return f"{document.name}:{document.line(path)}"


def _rest(text: str) -> Reference:
    try:
        return Reference.parse(f"{_SOME_REGISTRY}/{text}")
    except UsageError as error:
        message = error.message.replace(f"{_SOME_REGISTRY}/", "")
        raise UsageError(message, hint=error.hint) from None


def _reference_or_none(text: str) -> Reference | None:
    try:
        return Reference.parse(text)
    except UsageError:
        return None
