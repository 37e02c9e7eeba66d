"""What a test binds to a Task, and the ways a cluster says no."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

# A Task, or a part of one, as YAML gives it.
Plain = dict[str, Any]
# What a parameter may be.
Value = str | list[str] | dict[str, str]


class Unsupported(Exception):
    """The Task uses something that this harness does not imitate."""


class Invalid(Exception):
    """A cluster would refuse the run, or it would never start."""


@dataclass(frozen=True)
class Folder:
    """A folder of this machine, in place of a PersistentVolumeClaim."""

    path: Path


@dataclass(frozen=True)
class EmptyDir:
    """A folder that each TaskRun has for itself."""


@dataclass(frozen=True)
class KeyValues:
    """A Secret or a ConfigMap, mounted as Kubernetes does: read-only, through links."""

    data: Mapping[str, str]


Binding = Folder | EmptyDir | KeyValues


@dataclass
class Step:
    """How a step ended; `message` is what its container leaves for the controller, in bytes."""

    name: str
    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""
    argv: list[str] = field(default_factory=list)
    message: int = 0
    skipped: bool = False


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a moment in time stays text."""


_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_all(path: Path) -> list[Plain]:
    return [document for document in yaml.load_all(path.read_text(), Loader=_Loader) if document]


def load(path: Path) -> Plain:
    (document,) = load_all(path)
    return document
