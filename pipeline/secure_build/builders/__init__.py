"""Builders: source and recipe in, an image for one platform in a layout out.

`open_builder` finds the one that works on this machine. Each builder makes one platform at a time;
joining platforms to an index is done elsewhere, so that every builder's index is made alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from secure_build.errors import MachineError, RefusedError
from secure_build.layout import Layout
from secure_build.model import BuilderName, BuilderVersion, Credential, Descriptor, Material, Platform
from secure_build.reference import Reference, Repository

NAMES = ("buildx", "buildah")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build: folders of a clean export, and `epoch`, the commit's time in seconds.

    `secrets` are files for their owner only, by id; `contexts` further folders or `docker-image://`
    references. `pins` says which digest an image or address must have, whatever its tag names now.
    With `push`, a builder that can puts the layers, by digest and without a tag, into that
    repository instead of the layout.
    """

    context: Path
    dockerfile: Path
    platform: Platform
    epoch: int
    arguments: Mapping[str, str] = field(default_factory=dict)
    target: str | None = None
    secrets: Mapping[str, Path] = field(default_factory=dict)
    contexts: Mapping[str, Path | str] = field(default_factory=dict)
    cache_from: tuple[Reference, ...] = ()
    cache_to: Reference | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    push: Repository | None = None


@dataclass(frozen=True, slots=True)
class Built:
    """The manifest that was made, and what the builder says it pulled; None when it does not say.

    `sparse`: its layers are in the repository of the recipe's `push`, not in the layout.
    """

    descriptor: Descriptor
    materials: tuple[Material, ...] | None
    sparse: bool = False
    reproducible: bool = True


class Builder(Protocol):
    """A builder that works here."""

    version: BuilderVersion

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        """Build into the staging layout; raises RefusedError with the builder's last lines."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a builder gets besides recipes: a folder it may keep things in, and logins to pull with."""

    folder: Path
    logins: Sequence[Credential]


def open_builder(name: BuilderName | None, surroundings: Surroundings) -> AbstractContextManager[Builder]:
    """The builder of this name, or the first that works; raises MachineError when none does."""
    from secure_build.builders import buildah, buildx

    modules = {"buildx": buildx.open_buildx, "buildah": buildah.open_buildah}
    if name is not None:
        return modules[name.kind](surroundings)
    reasons = []
    for candidate in NAMES:
        try:
            return modules[candidate](surroundings)
        except MachineError as error:
            reasons.append(f"  {candidate}: {error.message}")
    raise MachineError(
        "no builder works on this machine:\n" + "\n".join(reasons),
        hint="install the package `buildah`, or start a Docker engine that has buildx",
    )


# What builders say of a machine or a registry, and what helps.
_HINTS = {
    "exec format error": "this machine cannot run programs of that platform: install `qemu-user-static`",
    "cgroup": "in a container or a restricted machine, set `BUILDAH_ISOLATION=chroot`",
    "authentication required": "a private base needs a login: `pull:` under `registries:` in the config",
    "unauthorized": "a private base needs a login: `pull:` under `registries:` in the config",
}


def build_failed(builder: str, tail: str) -> RefusedError:
    """The error for a build that ended badly, with a hint where the reason is a known one."""
    hint = next((hint for sign, hint in _HINTS.items() if sign in tail.lower()), None)
    return RefusedError(f"{builder} could not build the image:\n{tail}", hint=hint)
