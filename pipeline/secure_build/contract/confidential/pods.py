"""Descriptors for OpenShift: each image of their pods pinned, and init data put where Kata looks for it.

Pods stand for themselves or under the `template` of something that makes them; other kinds are left
as they are. A file stays byte for byte but for its images and the one annotation. What may run is
decided by the policy in the contract (`policy.py`), not by these files: the cluster can change them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from yaml.nodes import MappingNode, Node

from secure_build import strict_yaml
from secure_build.contract import kubernetes, pinning
from secure_build.contract.advice import mapping
from secure_build.contract.confidential.container import ConfidentialContainer, Variables
from secure_build.contract.edit import Edits
from secure_build.contract.places import Place, name_at, place_of
from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Pinned
from secure_build.strict_yaml import Document, Path

ANNOTATION = "io.katacontainers.config.hypervisor.cc_init_data"
_WITH_TEMPLATE = (
    "DaemonSet Deployment DeploymentConfig Job ReplicaSet ReplicationController StatefulSet".split()
)
# Where a pod's `metadata` and `spec` stand in each kind.
_POD_OF: Mapping[str, Path] = {
    "Pod": (),
    **dict.fromkeys(_WITH_TEMPLATE, ("spec", "template")),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod, or the template of one: the number of its document, its place there, and its name for people."""

    number: int
    path: Path
    what: str


@dataclass(frozen=True, slots=True)
class ConfidentialFile:
    """A file of descriptors whose pods can be pinned."""

    documents: tuple[Document, ...]
    places: tuple[Place, ...]
    pods: tuple[Pod, ...]

    @classmethod
    def parse(cls, content: bytes, name: str) -> ConfidentialFile:
        """Read a file; raises UsageError with file and line for pods that cannot be pinned."""
        documents = tuple(strict_yaml.load_all(content, name))
        if all(document.data is None for document in documents):
            raise UsageError(f"{name} has no descriptor")
        pods = tuple(
            pod
            for number, document in enumerate(documents)
            # Between two lines `---` there may be nothing.
            if document.data is not None and (pod := _pod(document, number))
        )
        places = [place for pod in pods for place in _places(documents[pod.number], pod)]
        return cls(documents, tuple(places), pods)

    @property
    def name(self) -> str:
        return self.documents[0].name

    def pinned(self, texts: Mapping[Place, str]) -> bytes:
        """The file with these texts at its places; raises UsageError when more would change."""
        return pinning.pinned(self.documents, {place: texts[place] for place in self.places})

    def containers(self, texts: Mapping[Place, str]) -> list[ConfidentialContainer]:
        """What the pods run, with these texts as images.

        Raises RefusedError for an image that is not named by digest, and UsageError for arguments
        that only the cluster knows.
        """
        return [
            _container(self.documents[place.document], place, _image(place, texts[place]))
            for place in self.places
        ]

    def annotated(self, pinned: bytes, initdata: str) -> bytes:
        """The pinned file with this init data in every pod, in place of any that was there.

        Raises UsageError when something else would change.
        """
        documents = strict_yaml.load_all(pinned, self.name)
        edits = Edits(documents[0])
        # An alias leads to what was changed already.
        changed: set[int] = set()
        expected = [document.data for document in documents]
        for pod in self.pods:
            _annotate(edits, strict_yaml.at(documents[pod.number].root, pod.path), initdata, changed)
            expected[pod.number] = _with_annotation(expected[pod.number], pod.path, initdata)
        result = edits.apply().encode()
        try:
            found = [document.data for document in strict_yaml.load_all(result, self.name)]
        except UsageError:
            # Text that was cut in a place where YAML does not take it.
            found = []
        if found != expected:
            raise UsageError(
                f"{self.name} cannot take the annotation `{ANNOTATION}` without changing something else",
                hint="write `metadata` of each pod in block style, and share nothing of it by anchor",
            )
        return result


def _pod(document: Document, number: int) -> Pod | None:
    data = document.data
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        raise UsageError(f"{place_of(document, ())}: this is no descriptor: it has no `kind`")
    if kind.endswith("List") and isinstance(data.get("items"), list):
        raise UsageError(
            f"{place_of(document, ('kind',))}: `{kind}` may hold pods that would be passed over",
            hint="write its items as documents, with `---` between them",
        )
    if kind not in _POD_OF:
        return None
    path = _POD_OF[kind]
    metadata = mapping(data.get("metadata"))
    pod = Pod(number, path, f"{kind} `{metadata.get('name') or metadata.get('generateName')}`")
    _check_template(document, pod, data_at(data, path))
    return pod


def _check_template(document: Document, pod: Pod, template: Any) -> None:
    def mapping_or_none(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value or {}, dict):
            raise UsageError(f"{place_of(document, pod.path)}: `{name}` of {pod.what} must be a mapping")
        return value or {}

    template = mapping_or_none(template, ".".join(map(str, pod.path)))
    metadata = mapping_or_none(template.get("metadata"), "metadata")
    annotations = mapping_or_none(metadata.get("annotations"), "annotations")
    where: Path = (*pod.path, "metadata", "annotations")
    kubernetes.check_texts(document, where, annotations, f"`annotations` of {pod.what}")
    spec_path: Path = (*pod.path, "spec")
    kubernetes.check_containers(document, spec_path, template.get("spec"), pod.what)
    for index, volume in enumerate(template["spec"].get("volumes") or []):
        if "image" in mapping(volume):
            raise UsageError(
                f"{place_of(document, (*spec_path, 'volumes', index))}: a volume of {pod.what} is an image, "
                "which the host would pull: no rule of the policy covers it",
                hint="put the files into an image that a container runs",
            )


def _places(document: Document, pod: Pod) -> Iterator[Place]:
    spec = data_at(document.data, (*pod.path, "spec"))
    for word, path, container in kubernetes.containers(spec, (*pod.path, "spec")):
        what = f"{word} of {pod.what}"
        for key in ("command", "args"):
            if not isinstance(container.get(key) or [], list):
                raise UsageError(f"{place_of(document, (*path, key))}: `{key}` of {what} must be a list")
            for index in range(len(container.get(key) or [])):
                kubernetes.check_text(document, (*path, key, index), f"each part of `{key}` of {what}")
        name = name_at(document, (*path, "image"), "plain", what)
        yield Place(what, place_of(document, (*path, "image")), path, "image", name, document=pod.number)


def _image(place: Place, written: str) -> Pinned:
    try:
        return Pinned.parse(written)
    except UsageError:
        raise RefusedError(
            f"{place.where}: {place.what}: `{written[:200]}` is not named by digest, and a tag can be moved",
            hint="name the image under `images:`, or write `repository@sha256:…`; a cosign key does not "
            "help: by which rule the guest finds the key for an image is not documented",
        ) from None


def _container(document: Document, place: Place, image: Pinned) -> ConfidentialContainer:
    container = data_at(document.data, place.path)
    variables = Variables(container)

    def expanded(key: str) -> tuple[str, ...] | None:
        try:
            return tuple(variables.expand(part) for part in container.get(key) or ()) or None
        except UsageError as error:
            where = place_of(document, (*place.path, key))
            raise UsageError(f"{where}: `{key}` of {place.what}: {error.message}", hint=error.hint) from None

    return ConfidentialContainer(
        container["name"], image, expanded("command"), expanded("args"), where=place.where
    )


def _annotate(edits: Edits, pod: Node, initdata: str, changed: set[int]) -> None:
    keys = ("metadata", "annotations", ANNOTATION)
    node, depth = pod, 0
    while (found := strict_yaml.find(node, keys[depth])) and depth < 2 and _has_entries(found.value):
        node, depth = found.value, depth + 1
    if id(node) in changed:
        return
    changed.add(id(node))
    value: Any = initdata
    for key in reversed(keys[depth + 1 :]):
        value = {key: value}
    # JSON, which is YAML too: a file may be either.
    written = json.dumps(value)
    if found:
        edits.replace_value(found.key, found.value, written)
    else:
        assert isinstance(node, MappingNode)
        key = json.dumps(keys[depth]) if node.flow_style else keys[depth]
        edits.add_to(node, f"{key}: {written}")


def _has_entries(node: Node) -> bool:
    return isinstance(node, MappingNode) and bool(node.value)


def _with_annotation(data: Any, path: Path, initdata: str) -> Any:
    """A copy of the data with the annotation in the pod at `path`."""
    if path:
        return data | {path[0]: _with_annotation(data[path[0]], path[1:], initdata)}
    metadata = data.get("metadata") or {}
    annotations = (metadata.get("annotations") or {}) | {ANNOTATION: initdata}
    return data | {"metadata": metadata | {"annotations": annotations}}


def data_at(data: Any, path: Path) -> Any:
    """What stands at a path of plain data; None when there is nothing."""
    for part in path:
        data = mapping(data).get(str(part)) if isinstance(part, str) else data[part]
    return data
