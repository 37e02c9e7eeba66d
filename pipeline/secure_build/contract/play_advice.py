"""What of pods and ConfigMaps the runtime ignores, or what cannot work there, although it can be pinned.

Each finding says what it rests on: IBM's documentation, or what is certain from there being only
Pods, ConfigMaps and the contract's variables.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build import strict_yaml
from secure_build.contract.advice import listed, mapping, warning
from secure_build.contract.kubernetes import DOUBTFUL
from secure_build.contract.play import GENERATED_CONFIG_MAP, PlayFile, containers
from secure_build.model import Finding
from secure_build.strict_yaml import Document, Path

_finding = functools.partial(warning, "play")
_MODES = ("defaultMode", "mode")


def findings(files: Sequence[PlayFile], archived: Collection[PurePosixPath]) -> list[Finding]:
    """All of it, in the order of the files and their parts; `archived` is what the archive holds."""
    descriptors = [document for file in files for document in file.descriptors]
    maps = {document.data["metadata"]["name"] for document in descriptors if document.data["kind"] != "Pod"}
    found = []
    for file in files:
        found += [finding for place in file.places for finding in place.findings()]
        for document in file.descriptors:
            found += _scalars(document, document.root, (), templates=file.templates)
            if document.data["kind"] == "Pod":
                found += _pod(document, maps | {GENERATED_CONFIG_MAP})
                found += _paths(document, {folder for path in archived for folder in (path, *path.parents)})
    # What an anchor shares is one thing to say.
    return list(dict.fromkeys(found))


def _pod(document: Document, maps: Collection[str]) -> Iterator[Finding]:
    pod = document.data["metadata"]["name"]
    spec = document.data["spec"]
    for what, path, container in containers(document):
        yield from _ports(document, path, f"{what} of pod `{pod}`", container)
        yield from _variables(document, path, f"{what} of pod `{pod}`", container, maps)
    for index, volume in enumerate(spec.get("volumes") or []):
        yield from _volume(document, ("spec", "volumes", index), pod, mapping(volume), maps)
    if "imagePullSecrets" in spec:
        yield _finding(
            document,
            ("spec", "imagePullSecrets"),
            f"`imagePullSecrets` of pod `{pod}`",
            "the guest has no Secrets; it pulls with the logins of the contract's `auths`",
            hint="name the login under `registries: …: runtime:`",
        )


def _ports(document: Document, path: Path, what: str, container: dict[str, Any]) -> Iterator[Finding]:
    for index, port in enumerate(listed(container.get("ports"))):
        if "hostPort" not in mapping(port):
            yield _finding(
                document,
                (*path, "ports", index),
                f"a port of {what} has no `hostPort`",
                "nothing is bound without both `hostPort` and `containerPort`",
                basis="documented",
            )


def _variables(
    document: Document, path: Path, what: str, container: dict[str, Any], maps: Collection[str]
) -> Iterator[Finding]:
    sources = [
        ((*path, "envFrom", index), mapping(source), "configMapRef", "secretRef")
        for index, source in enumerate(listed(container.get("envFrom")))
    ] + [
        ((*path, "env", index), mapping(mapping(entry).get("valueFrom")), "configMapKeyRef", "secretKeyRef")
        for index, entry in enumerate(listed(container.get("env")))
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
        name = mapping(source.get(of_map)).get("name")
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
    name = mapping(volume.get("configMap")).get("name")
    if name is not None and name not in maps and "{{" not in str(name):
        yield _no_map(document, path, what, name)


def _paths(document: Document, archived: Collection[PurePosixPath]) -> Iterator[Finding]:
    """Relative paths, which start where the archive is unpacked."""
    for index, volume in enumerate(document.data["spec"].get("volumes") or []):
        path = str(mapping(mapping(volume).get("hostPath")).get("path", "/"))
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


def _scalars(document: Document, node: Node, path: Path, *, templates: bool) -> Iterator[Finding]:
    """Values that are not what their author may think: templates in vain, words of YAML 1.1."""
    if isinstance(node, MappingNode):
        for key, value in strict_yaml.items(node):
            yield from _scalars(document, value, (*path, key.value), templates=templates)
        return
    if not isinstance(node, ScalarNode):
        for index, item in enumerate(node.value):
            yield from _scalars(document, item, (*path, index), templates=templates)
        return
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if "{{" in node.value and not templates:
        yield _finding(
            document,
            path,
            f"`{name}` has template text",
            "only descriptors under `templates` are expanded; here it stays as it is",
            hint="name this file under `workload: play: templates:`, if it is meant",
            basis="documented",
        )
    elif node.style is None and DOUBTFUL.fullmatch(node.value) and name not in _MODES:
        yield _finding(
            document,
            path,
            f"`{name}: {node.value}`",
            "not every reader of YAML takes it for the same",
            hint="put it in quotes if it is text; write `true`, `false` or a decimal number otherwise",
        )
