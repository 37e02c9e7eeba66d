"""Pods for `podman kube play`: where a repository has them, and which images they run.

Kinds that the runtimes take are Pod and ConfigMap only. Source: IBM Cloud docs, "About the
contract", part on `play`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from secure_build import strict_yaml
from secure_build.errors import UsageError
from secure_build.reference import Reference
from secure_build.starter.draft import Note, shown
from secure_build.starter.folder import Folder
from secure_build.strict_yaml import Document

KINDS = ("Pod", "ConfigMap")
# Cheap enough for every YAML file of a repository; what follows is read strictly.
_DESCRIPTOR = re.compile(rb"(?m)^[\"']?kind[\"']?:\s*[\"']?([A-Za-z]+)")
_SUFFIXES = (".yaml", ".yml")
_MOST_FILES = 2000


@dataclass(frozen=True, slots=True)
class Descriptors:
    """A file of descriptors: the kinds in it and whether it is a template."""

    path: str
    kinds: frozenset[str]
    template: bool

    @property
    def playable(self) -> bool:
        return bool(self.kinds) and self.kinds <= set(KINDS)


@dataclass(frozen=True, slots=True)
class PodImage:
    """An image that a container of a pod runs."""

    container: str
    where: str
    image: Reference


def is_yaml(path: str) -> bool:
    return path.endswith(_SUFFIXES)


def find(folder: Folder, paths: Sequence[str], notes: list[Note]) -> list[Descriptors]:
    """The files among `paths` that hold Kubernetes descriptors; what cannot be read has a note."""
    candidates = [path for path in paths if is_yaml(path)]
    if len(candidates) > _MOST_FILES:
        notes.append(Note(f"of {len(candidates)} YAML files only {_MOST_FILES} were looked at for pods"))
    found = []
    for path in candidates[:_MOST_FILES]:
        try:
            content = folder.read(path) or b""
        except UsageError as error:
            notes.append(Note(f"not looked at: {shown(error.message)}", shown(path)))
            continue
        kinds = frozenset(kind.decode() for kind in _DESCRIPTOR.findall(content))
        if kinds and b"apiVersion" in content:
            found.append(Descriptors(path, kinds, b"{{" in content))
    return found


def images(folder: Folder, path: str, notes: list[Note]) -> list[PodImage]:
    """The images of all containers in a file; raises UsageError for a file that is not YAML."""
    result = []
    for document in _documents(folder.read(path) or b"", path):
        data = document.data
        if isinstance(data, dict) and data.get("kind") == "Pod":
            result += list(_of_pod(document, notes))
    return result


def relative_mounts(folder: Folder, path: str) -> bool:
    """Whether a pod mounts a file or folder that lies beside it."""
    return any(
        not str(host).startswith("/")
        for document in _documents(folder.read(path) or b"", path)
        for host in _host_paths(document.data)
    )


def _documents(content: bytes, name: str) -> list[Document]:
    """The documents of a file that hold something."""
    return [document for document in strict_yaml.load_all(content, name) if document.data is not None]


def _of_pod(document: Document, notes: list[Note]) -> Iterator[PodImage]:
    spec = document.data.get("spec")
    for group in ("initContainers", "containers"):
        containers = spec.get(group) if isinstance(spec, dict) else None
        for index, container in enumerate(containers if isinstance(containers, list) else []):
            where = f"{document.name}:{document.line(('spec', group, index, 'image'))}"
            image = container.get("image") if isinstance(container, dict) else None
            if not isinstance(image, str) or "{{" in image:
                notes.append(Note("this container has no `image`, or one that is not known here", where))
                continue
            try:
                reference = Reference.parse(image).tagged()
            except UsageError as error:
                notes.append(Note(shown(error.message), where, error.hint))
                continue
            yield PodImage(shown(str(container.get("name"))), where, reference)


def _host_paths(data: Any) -> Iterator[Any]:
    spec = data.get("spec") if isinstance(data, dict) else None
    volumes = spec.get("volumes") if isinstance(spec, dict) else None
    for volume in volumes if isinstance(volumes, list) else []:
        host = volume.get("hostPath") if isinstance(volume, dict) else None
        if isinstance(host, dict) and "path" in host:
            yield host["path"]


def workload(folder: Folder, chosen: Sequence[Descriptors], notes: list[Note]) -> Any:
    """`play:` of the config for these files: a file, a folder, or the parts."""
    paths = [file.path for file in chosen]
    (home,) = {posixpath.dirname(path) for path in paths}
    templates = [file.path for file in chosen if file.template]
    beside = [path for path in folder.paths() if posixpath.dirname(path) == home and is_yaml(path)]
    mounts = any(relative_mounts(folder, path) for path in paths)
    if home and not templates and set(beside) == set(paths) and (len(paths) > 1 or mounts):
        return home
    if mounts:
        notes.append(
            Note(
                "a pod mounts files beside it, and only a folder of its own takes them into the contract",
                paths[0],
                "move the pods and those files into a folder without other YAML files or templates",
            )
        )
    if len(paths) == 1 and not templates:
        return paths[0]
    resources = [path for path in paths if path not in templates]
    parts = {"resources": resources, "templates": templates}
    return {name: files for name, files in parts.items() if files}
