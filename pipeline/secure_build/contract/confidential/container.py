"""What a container of a pod runs: an image by digest, and the arguments of its process.

Kubernetes' own rules decide them: `command` replaces the image's entry point and its default
arguments, `args` the default arguments only ("Define a Command and Arguments for a Container"), and
the kubelet expands `$(NAME)` in both. What only the cluster knows is refused, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_build.contract.advice import listed, mapping
from secure_build.errors import UsageError
from secure_build.reference import Pinned

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
# Variables that a cluster sets for each of its services ("Service", "Environment variables").
_OF_SERVICES = re.compile(r"[A-Z0-9_]+_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[A-Z0-9_]+)?)")
# Keys of ConfigMaps and Secrets, which `envFrom` makes variables.
_KEY = re.compile(r"[-._A-Za-z0-9]+")


@dataclass(frozen=True, slots=True)
class ImageCommand:
    """`Entrypoint` and `Cmd` of an image's config (OCI image specification, "config")."""

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConfidentialContainer:
    """A container as the cluster will ask for it; an empty `command` or `args` counts as none.

    `where` is file and line. `image_command` is for the caller to add, where it is known.
    """

    name: str
    image: Pinned
    command: tuple[str, ...] | None
    args: tuple[str, ...] | None
    where: str | None = None
    image_command: ImageCommand | None = None

    @property
    def arguments(self) -> tuple[str, ...] | None:
        """The arguments of its process, the program first; None when only the image says them."""
        if self.command:
            return self.command + (self.args or ())
        if self.image_command is None:
            return None
        return self.image_command.entrypoint + (self.args or self.image_command.cmd)


class Variables:
    """The variables of a container, as far as its descriptor decides them."""

    def __init__(self, container: Mapping[str, Any]) -> None:
        self._open_ended = bool(listed(container.get("envFrom")))
        # None stands for a value that only the cluster knows.
        self._values: dict[str, str | None] = {}
        for variable in map(mapping, listed(container.get("env"))):
            name = str(variable.get("name"))
            try:
                value = None if "valueFrom" in variable else self.expand(variable.get("value") or "")
            except UsageError:
                value = None
            self._values[name] = value

    def expand(self, text: str) -> str:
        """The text as the kubelet hands it on; raises UsageError for a value that is not known here.

        `$(NAME)` becomes the variable's value and stays as it is when there is none; `$$` becomes `$`.
        """
        return _REFERENCE.sub(self._value, text)

    def _value(self, found: re.Match[str]) -> str:
        name = found[1]
        if name is None:
            return "$"
        value = self._values.get(name)
        foreign = _OF_SERVICES.fullmatch(name) or (self._open_ended and _KEY.fullmatch(name))
        if value is None and (name in self._values or foreign):
            raise UsageError(
                f"`{found[0]}` stands for a value that only the cluster knows, "
                "so what runs would not be decided here",
                hint="give the variable its `value` under `env` of the container, "
                f"or write `${found[0]}` when a shell is to read it",
            )
        return found[0] if value is None else value
