"""Builders: source and recipe in, an image for one platform in a layout out.

`open_builder` finds the one that works on this machine. Each builder makes one platform at a time;
joining platforms to an index is done elsewhere, so that every builder's index is made alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from secure_build.errors import MachineError, RefusedError, UsageError
from secure_build.layout import Layout
from secure_build.model import BuilderName, BuilderVersion, Credential, Descriptor, Material, Platform
from secure_build.reference import Reference, Repository

NAMES = ("buildx", "buildah", "engine")


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


def _no_login(_repository: Repository) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a builder gets besides recipes: a folder it may keep things in, and logins.

    `logins` are to pull with. `push_login` gives the one for a repository, and is called only where
    a recipe makes the builder write there, layers or a cache.
    """

    folder: Path
    logins: Sequence[Credential]
    push_login: Callable[[Repository], Credential | None] = _no_login


def open_builder(name: BuilderName | None, surroundings: Surroundings) -> AbstractContextManager[Builder]:
    """The builder of this name, or the first that works; raises MachineError when none does."""
    from secure_build.builders import buildah, buildx, engine

    modules = {"buildx": buildx.open_buildx, "buildah": buildah.open_buildah, "engine": engine.open_engine}
    if name is not None and name.instance is not None:
        return buildx.open_buildx(surroundings, name.instance)
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


@contextlib.contextmanager
def open_builders(
    wanted: BuilderName | Mapping[Platform, BuilderName] | None,
    platforms: Iterable[Platform],
    surroundings: Surroundings,
) -> Iterator[Mapping[Platform, Builder]]:
    """The builder for each of the platforms, every one opened once.

    Raises UsageError when `wanted` names builders by platform and leaves one out.
    """
    names: dict[Platform, BuilderName | None] = {}
    for platform in platforms:
        if isinstance(wanted, Mapping) and platform not in wanted:
            raise UsageError(
                f"`builder:` names no builder for {platform}",
                hint=f"add `{platform}: NAME` to it, or use one builder for all",
            )
        names[platform] = wanted[platform] if isinstance(wanted, Mapping) else wanted
    with contextlib.ExitStack() as stack:
        opened = {
            name: stack.enter_context(open_builder(name, surroundings))
            for name in dict.fromkeys(names.values())
        }
        yield {platform: opened[name] for platform, name in names.items()}


def joint_version(versions: Mapping[Platform, BuilderVersion]) -> BuilderVersion:
    """What made an image of these platforms: one builder's version, or every builder with its platform."""
    different = set(versions.values())
    if len(different) == 1:
        return different.pop()
    return BuilderVersion(
        "+".join(sorted({version.name for version in different})),
        "; ".join(f"{platform}: {version}" for platform, version in sorted(versions.items())),
    )


# What builders say of a machine or a registry, and what helps.
_HINTS = {
    "exec format error": "this machine cannot run programs of that platform: install `qemu-user-static`",
    "cgroup": "in a container or a restricted machine, set `BUILDAH_ISOLATION=chroot`",
    "no match for platform in manifest": "a base image does not exist for that platform: use another one, "
    "or leave the platform out",
    "no image found in image index": "a base image does not exist for that platform: use another one, "
    "or leave the platform out",
    "digest mismatch": "what an address gives has changed: look at it, and lock it anew",
    "--mount option requires buildkit": "`RUN --mount` needs the builder `buildx` or `buildah`",
    "secret required but no secret": "name it under the image's `build: secrets:` in the config",
    "failed to solve: secret ": "name it under the image's `build: secrets:` in the config",
    "failed to push ": "it may not write there: `push:` under `registries:` in the config",
    "authentication required": "a private base needs a login: `pull:` under `registries:` in the config",
    "unauthorized": "a private base needs a login: `pull:` under `registries:` in the config",
    "falling back to single mapping": "buildah has one user ID here, which is too few for most bases and for "
    "`RUN`: in a container `allowPrivilegeEscalation` must not be false; elsewhere `/etc/subuid` gives more",
}


def build_failed(builder: str, tail: str) -> RefusedError:
    """The error for a build that ended badly, with a hint where the reason is a known one."""
    hint = next((hint for sign, hint in _HINTS.items() if sign in tail.lower()), None)
    return RefusedError(f"{builder} could not build the image:\n{tail}", hint=hint)
