"""What an image's name means in the guest, with the contract's variables filled in.

Rules: IBM's page "About the contract" (variables of both sections, the workload's win; Go templates with
`.Env`) and that on overriding registries. Podman's short names are in containers-registries.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secure_build.contract import interpolation
from secure_build.contract.places import Grammar
from secure_build.errors import UsageError
from secure_build.reference import Digest, Reference

_EXPRESSION = re.compile(r"\{\{-?\s*\.Env\.([A-Za-z_][A-Za-z0-9_]*)\s*-?\}\}")
_FIRST = re.compile(r"(?:\$\{?|\{\{-?\s*\.Env\.)([A-Za-z_][A-Za-z0-9_]*)")
# Stands for a registry that only the deployer knows.
_SOME_REGISTRY = "registry.test"
_DIGEST_HINT = "write the image's name out, by digest; only the registry may stay a variable"
TAG_AND_DIGEST = "it has a tag and a digest, and what the runtime makes of both is not documented"


@dataclass(frozen=True, slots=True)
class Variables:
    """The contract's variables: those of the workload, and those of the env, None when it is not known."""

    workload: Mapping[str, str]
    env: Mapping[str, str] | None

    @property
    def values(self) -> Mapping[str, str]:
        return {**(self.env or {}), **self.workload}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name means; see `Container` for the fields."""

    reference: Reference | None
    doubt: str | None = None
    hint: str | None = None
    is_broken: bool = False
    chooser: str | None = None
    digest: Digest | None = None


def meaning(written: str, grammar: Grammar, variables: Variables, *, short_names: bool) -> Meaning:
    """What the guest takes a name for; `short_names` tells that Docker's defaults are sure to apply."""
    try:
        asked = _asked(written, grammar)
        foreign = sorted(asked - variables.workload.keys())
        value = _value(written, grammar, variables.values)
    except UsageError as error:
        return Meaning(None, error.message, error.hint, is_broken=True)
    if not foreign:
        return _literal(value or "", short_names=short_names)
    behind = _behind_registry(written, grammar, variables.workload, foreign)
    digest = behind.digest if behind is not None and behind.tag is None else None
    if digest is None and variables.env is None:
        if behind is not None:
            hint = f"drop the tag: `{written.replace(f':{behind.tag}@', '@')}`"
            return Meaning(None, TAG_AND_DIGEST, hint, chooser=foreign[0])
        named = ", ".join(f"`{name}`" for name in foreign)
        return Meaning(None, f"the deployer decides it, by {named}", _DIGEST_HINT, chooser=foreign[0])
    if digest is not None and variables.env is None:
        default = None if value is None else _literal(value, short_names=short_names).reference
        why = f"the deployer may set another registry by `{foreign[0]}`" if default else None
        return Meaning(default, why, chooser=foreign[0], digest=digest)
    found = None
    if value is None and grammar == "compose":
        # Compose puts nothing in place of a variable that is not set.
        value = interpolation.with_values(written, variables.values, blank=True)
        found = _literal(value, short_names=short_names) if value else None
    elif value is not None:
        found = _literal(value, short_names=short_names)
    unset = [name for name in foreign if name not in variables.values]
    if found is None or (unset and found.is_broken):
        missing = ", ".join(f"`{name}`" for name in unset or foreign)
        why = f"the contract gives {missing} no value, so this is no image"
        return Meaning(None, why, f"set {missing} under `env` of a section", is_broken=True)
    return Meaning(
        found.reference, found.doubt, found.hint, found.is_broken, chooser=foreign[0], digest=digest
    )


def _behind_registry(
    written: str, grammar: Grammar, fixed: Mapping[str, str], foreign: Sequence[str]
) -> Reference | None:
    """The image by digest that a name means in whatever registry one variable at its beginning says."""
    first = _FIRST.match(written)
    if first is None or [first[1]] != list(foreign):
        return None
    value = _value(written, grammar, {**fixed, first[1]: _SOME_REGISTRY}) or ""
    if not value.startswith(_SOME_REGISTRY) or "/" not in value:
        return None
    try:
        reference = Reference.parse(value)
    except UsageError:
        return None
    return reference if reference.digest is not None else None


def _asked(written: str, grammar: Grammar) -> set[str]:
    if grammar == "compose":
        return interpolation.names(written)
    return set(_EXPRESSION.findall(written)) if grammar == "template" else set()


def _value(written: str, grammar: Grammar, values: Mapping[str, str]) -> str | None:
    """The name with its variables filled in, None when one has no value; raises UsageError."""
    if grammar == "compose":
        return interpolation.with_values(written, values)
    if grammar == "template" and "{{" in written:
        if set(_EXPRESSION.findall(written)) - values.keys():
            return None
        return _EXPRESSION.sub(lambda found: values[found[1]], written)
    return written


def _literal(value: str, *, short_names: bool) -> Meaning:
    if "{{" in value:
        why = "it has an expression that nothing here evaluates"
        return Meaning(None, why, "write the image's name out, or `{{ .Env.NAME }}` for its registry")
    try:
        reference = Reference.parse(value)
    except UsageError as error:
        return Meaning(None, error.message, error.hint, is_broken=True)
    first, slash, _ = value.partition("/")
    has_registry = bool(slash) and ("." in first or ":" in first or first == "localhost")
    if has_registry and first != first.lower():
        # Docker and podman keep the case of a host, and look for logins and keys letter by letter.
        why = f"`{first}` is in upper case, and its login and key may not be"
        return Meaning(None, why, f"write `{reference}`")
    if not short_names and not has_registry:
        return Meaning(None, "which registry podman takes it from is not documented", f"write `{reference}`")
    return Meaning(reference)
