"""What of pods and ConfigMaps the runtime ignores, or what cannot work there, although it can be pinned.

Each finding says what it rests on: IBM's documentation, or what is certain from there being only
Pods, ConfigMaps and the contract's variables.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build import strict_yaml
from secure_build.contract.places import place_of
from secure_build.contract.play import GENERATED_CONFIG_MAP, PlayFile, containers
from secure_build.model import Basis, Finding
from secure_build.strict_yaml import Document, Path

# Plain scalars that YAML 1.1 takes for something else than YAML 1.2 does.
_YAML_1_1 = re.compile(r"(?i:y|n|yes|no|on|off)|0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+|[0-9]+_[0-9_]*")
_MODES = ("defaultMode", "mode")


def findings(files: Sequence[PlayFile], archived: Collection[PurePosixPath]) -> list[Finding]:
    """All of it, in the order of the files and their parts; `archived` is what the archive holds."""
    descriptors = [document for file in files for document in file.descriptors]
    maps = {document.data["metadata"]["name"] for document in descriptors if document.data["kind"] != "Pod"}
    found = []
    for file in files:
        found += [finding for place in file.places for finding in place.findings()]
        for document in file.descriptors:
            found += _scalars(document, document.root, templates=file.templates)
            if document.data["kind"] == "Pod":
                found += _pod(document, maps | {GENERATED_CONFIG_MAP})
                found += _paths(document, {folder for path in archived for folder in (path, *path.parents)})
    return found


def _finding(
    document: Document, path: Path, what: str, why: str, *, hint: str | None = None, basis: Basis = "inferred"
) -> Finding:
    where = place_of(document, path)
    return Finding(check="play", level="warn", what=what, why=why, basis=basis, hint=hint, where=where)


def _pod(document: Document, maps: Collection[str]) -> Iterator[Finding]:
    pod = document.data["metadata"]["name"]
    spec = document.data["spec"]
    for what, path, container in containers(document):
        yield from _ports(document, path, f"{what} of pod `{pod}`", container)
        yield from _variables(document, path, f"{what} of pod `{pod}`", container, maps)
    for index, volume in enumerate(spec.get("volumes") or []):
        yield from _volume(document, ("spec", "volumes", index), pod, _mapping(volume), maps)
    if "imagePullSecrets" in spec:
        yield _finding(
            document,
            ("spec", "imagePullSecrets"),
            f"`imagePullSecrets` of pod `{pod}`",
            "the guest has no Secrets; it pulls with the logins of the contract's `auths`",
            hint="name the login under `registries: …: runtime:`",
        )


def _ports(document: Document, path: Path, what: str, container: dict[str, Any]) -> Iterator[Finding]:
    for index, port in enumerate(_list(container.get("ports"))):
        missing = [key for key in ("hostPort", "containerPort") if key not in _mapping(port)]
        if missing:
            yield _finding(
                document,
                (*path, "ports", index),
                f"a port of {what} has no `{missing[0]}`",
                "nothing is bound without both `hostPort` and `containerPort`",
                basis="documented",
            )


def _variables(
    document: Document, path: Path, what: str, container: dict[str, Any], maps: Collection[str]
) -> Iterator[Finding]:
    sources = [
        ((*path, "envFrom", index), _mapping(source), "configMapRef", "secretRef")
        for index, source in enumerate(_list(container.get("envFrom")))
    ] + [
        ((*path, "env", index), _mapping(_mapping(entry).get("valueFrom")), "configMapKeyRef", "secretKeyRef")
        for index, entry in enumerate(_list(container.get("env")))
    ]
    for place, source, of_map, of_secret in sources:
        if of_secret in source:
            yield _finding(
                document,
                place,
                f"{what} takes a variable from a Secret",
                "the guest has no Secrets",
                hint=f"put the value under `env` of the contract, and use `configMapRef` "
                f"with `{GENERATED_CONFIG_MAP}`",
            )
        name = _mapping(source.get(of_map)).get("name")
        if name is not None and name not in maps and "{{" not in str(name):
            yield _no_map(document, place, what, name)


def _volume(
    document: Document, path: Path, pod: str, volume: dict[str, Any], maps: Collection[str]
) -> Iterator[Finding]:
    what = f"volume `{volume.get('name')}` of pod `{pod}`"
    if "secret" in volume:
        yield _finding(document, path, f"{what} is a Secret", "the guest has no Secrets")
    if "persistentVolumeClaim" in volume:
        yield _finding(
            document,
            path,
            f"{what} is a claim",
            "it becomes a volume of podman on the guest's own disk, which is lost at the next boot",
            hint="for data that stays use `hostPath` at the `mount` of a volume of the contract",
        )
    if "image" in volume:
        yield _finding(
            document, path, f"{what} is an image", "only newer versions of podman can mount one from a pod"
        )
    name = _mapping(volume.get("configMap")).get("name")
    if name is not None and name not in maps and "{{" not in str(name):
        yield _no_map(document, path, what, name)


def _paths(document: Document, archived: Collection[PurePosixPath]) -> Iterator[Finding]:
    """Relative paths, which start where the archive is unpacked."""
    for index, volume in enumerate(document.data["spec"].get("volumes") or []):
        path = str(_mapping(_mapping(volume).get("hostPath")).get("path", "/"))
        if path.startswith("/") or "{{" in path:
            continue
        if PurePosixPath(posixpath.normpath(path)) not in archived:
            yield _finding(
                document,
                ("spec", "volumes", index, "hostPath", "path"),
                f"`{path}` is not in the archive",
                "a relative path starts at the top of the archive",
                hint="put it into the folder under `workload: play: archive:`, and commit it",
                basis="documented",
            )


def _no_map(document: Document, path: Path, what: str, name: str) -> Finding:
    return _finding(
        document,
        path,
        f"{what} uses the ConfigMap `{name}`",
        "the workload has none of this name",
        hint=f"the contract's variables are in `{GENERATED_CONFIG_MAP}`",
    )


def _scalars(document: Document, node: Node, *, templates: bool, key: str = "") -> Iterator[Finding]:
    """Values that are not what their author may think: templates in vain, words of YAML 1.1."""
    if isinstance(node, MappingNode):
        for name, value in strict_yaml.pairs(node):
            yield from _scalars(document, value, templates=templates, key=name.value)
    elif not isinstance(node, ScalarNode):
        for item in node.value:
            yield from _scalars(document, item, templates=templates, key=key)
    elif "{{" in node.value and not templates:
        yield Finding(
            check="play",
            level="warn",
            what=f"`{key}` has template text",
            why="only descriptors under `templates` are expanded; here it stays as it is",
            hint="name this file under `workload: play: templates:`, if it is meant",
            where=document.where(node),
        )
    elif node.style is None and _YAML_1_1.fullmatch(node.value) and key not in _MODES:
        yield Finding(
            check="play",
            level="warn",
            what=f"`{key}: {node.value}`",
            why="YAML 1.1 and 1.2 read it differently",
            basis="inferred",
            hint="put it in quotes if it is text; write `true`, `false` or a decimal number otherwise",
            where=document.where(node),
        )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
