"""Pods and ConfigMaps as `podman kube play` takes them, and a copy in which each image is pinned.

Rules: IBM's page "About the contract", parts on play, and `play` of its contract schema: kinds are
Pod and ConfigMap only, templates are Go `text/template` in string values with `.Env` as the one
object. In archives a file stays byte for byte but for its images; `resources` and `templates` are
objects inside the contract, so there the parsed documents go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from secure_build import strict_yaml
from secure_build.contract import kubernetes, pinning, text
from secure_build.contract.advice import listed, mapping
from secure_build.contract.places import Grammar, Place, name_at, place_of
from secure_build.errors import UsageError
from secure_build.strict_yaml import Document, Path

LARGEST = strict_yaml.LARGEST
ENDINGS = (".yaml", ".yml")
# The runtime makes it from the contract's variables.
GENERATED_CONFIG_MAP = "contract.config.map"
# Keys on the way to an image, and those that name one or decide whether it is pulled.
_ON_THE_WAY = ("metadata", "spec", "containers", "initContainers", "volumes", "image")
_OTHERS = "annotations ephemeralContainers imagePullPolicy kind name reference".split()
_LETTERS = {key.casefold(): key for key in (*_ON_THE_WAY, *_OTHERS)}
# podman-kube-play(1), "Automounting Volumes".
_AUTOMOUNT = "io.podman.annotations.kube.image.automount"
_WORKLOAD_KINDS = "CronJob DaemonSet Deployment Job ReplicaSet ReplicationController StatefulSet".split()
_INSTEAD = {
    **dict.fromkeys(_WORKLOAD_KINDS, "write what is under its `template:` as `kind: Pod`"),
    "Service": "containers of a pod reach each other on `localhost`; to the outside use `hostPort`",
    "Ingress": "use `hostPort` and `containerPort` of a container",
    "Secret": "put the values under `env` of the contract: the runtime makes them the ConfigMap "
    f"`{GENERATED_CONFIG_MAP}` for `envFrom`",
    "PersistentVolumeClaim": "use a `hostPath` volume at the `mount` of a volume of the contract",
    "PersistentVolume": "use a `hostPath` volume at the `mount` of a volume of the contract",
    "List": "write its items as documents, with `---` between them",
    "Namespace": "leave it out: the guest has no namespaces",
}


@dataclass(frozen=True, slots=True)
class PlayFile:
    """A file of descriptors that can be pinned; `templates` tells that their texts are expanded."""

    documents: tuple[Document, ...]
    places: tuple[Place, ...]
    templates: bool

    @classmethod
    def parse(cls, content: bytes, name: str, *, templates: bool) -> PlayFile:
        """Read a file; raises UsageError with file and line for what podman or IBM would not take."""
        documents = tuple(strict_yaml.load_all(content, name))
        if all(document.data is None for document in documents):
            raise UsageError(f"{name} has no descriptor: it needs at least one Pod or ConfigMap")
        places = [
            place
            for number, document in enumerate(documents)
            # Between two lines `---` there may be nothing.
            if document.data is not None
            for place in _places(document, number, templates=templates)
        ]
        return cls(documents, tuple(places), templates)

    @property
    def name(self) -> str:
        return self.documents[0].name

    @property
    def descriptors(self) -> list[Document]:
        return [document for document in self.documents if document.data is not None]

    def pinned(self, texts: Mapping[Place, str]) -> bytes:
        """The file with these texts at its places; raises UsageError when more would change."""
        return pinning.pinned(self.documents, {place: texts[place] for place in self.places})

    def objects(self, texts: Mapping[Place, str]) -> list[Any]:
        """The pinned documents as objects for the contract, each value written as the author did."""
        pinned = strict_yaml.load_all(self.pinned(texts), self.name)
        return [_written(document.root) for document in pinned if document.data is not None]


def check_together(files: Sequence[PlayFile]) -> None:
    """Raise UsageError for files without a pod, and for two descriptors of one kind and name."""
    known: dict[tuple[str, str], str] = {}
    for file in files:
        for document in file.descriptors:
            kind, name = document.data["kind"], document.data["metadata"]["name"]
            where = place_of(document, ("metadata", "name"))
            if (kind, name) in known:
                raise UsageError(
                    f"{where}: there is another {kind} `{name}` ({known[kind, name]})",
                    hint="give it another name, or name the file once",
                )
            known[kind, name] = where
    if all(kind != "Pod" for kind, _ in known):
        names = ", ".join(f"`{file.name}`" for file in files)
        raise UsageError(
            f"the workload has no Pod, so nothing would run: {names}",
            hint="name the file or folder with the pods under `workload: play:`",
        )


def containers(document: Document) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """The containers of a pod: name for people, path, and content."""
    return kubernetes.containers(document.data["spec"], ("spec",))


def _places(document: Document, number: int, *, templates: bool) -> Iterator[Place]:
    kind = _checked_kind(document)
    for key in ("labels", "annotations"):
        kubernetes.check_texts(
            document, ("metadata", key), document.data["metadata"].get(key), f"`{key}` of a {kind}"
        )
    if kind != "Pod":
        kubernetes.check_texts(document, ("data",), document.data.get("data"), "a ConfigMap")
        return
    grammar: Grammar = "template" if templates else "plain"
    pod = document.data["metadata"]["name"]
    check_spelling(document, document.data, ())
    check_annotations(document, document.data, (), pod)
    _check_pod(document, pod)
    found: list[tuple[str, Path, str]] = [
        (f"{what} of pod `{pod}`", path, "image") for what, path, _ in containers(document)
    ]
    for index, volume in enumerate(document.data["spec"].get("volumes") or []):
        if isinstance(volume, dict) and "image" in volume:
            path: Path = ("spec", "volumes", index, "image")
            what = f"volume `{volume.get('name')}` of pod `{pod}`"
            if not isinstance(volume["image"], dict) or "reference" not in volume["image"]:
                raise UsageError(f"{place_of(document, path)}: {what} names no image: `reference` is missing")
            found.append((what, path, "reference"))
    for what, path, key in found:
        name = name_at(document, (*path, key), grammar, what)
        yield Place(what, place_of(document, (*path, key)), path, key, name, document=number)


def _checked_kind(document: Document) -> str:
    data = document.data
    if not isinstance(data, dict) or not isinstance(data.get("kind"), str):
        raise UsageError(
            f"{place_of(document, ())}: this is no descriptor: it has no `kind`",
            hint="a descriptor is a Pod or a ConfigMap; in an archive, other YAML files go into a folder",
        )
    kind = str(data["kind"])
    where = place_of(document, ("kind",))
    if kind not in ("Pod", "ConfigMap"):
        raise UsageError(
            f"{where}: the runtime takes `Pod` and `ConfigMap` only, not `{kind}`",
            hint=_INSTEAD.get(kind, "take it out, or do the same inside a pod"),
        )
    if data.get("apiVersion") != "v1":
        raise UsageError(f"{where}: a {kind} has `apiVersion: v1`")
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise UsageError(f"{where}: this {kind} has no name: `metadata: {{name: …}}`")
    if kind == "ConfigMap" and name == GENERATED_CONFIG_MAP:
        raise UsageError(
            f"{place_of(document, ('metadata', 'name'))}: the runtime makes the ConfigMap `{name}` "
            "from the contract's variables",
            hint="give it another name",
        )
    return kind


def _check_pod(document: Document, pod: str) -> None:
    kubernetes.check_containers(document, ("spec",), document.data.get("spec"), f"pod `{pod}`")
    for what, path, container in containers(document):
        if container.get("imagePullPolicy") == "Never":
            raise UsageError(
                f"{place_of(document, (*path, 'imagePullPolicy'))}: "
                f"{what} of pod `{pod}` would not be pulled, and the guest has no images",
                hint="leave `imagePullPolicy` out",
            )
        _check_ports(document, path, container, f"{what} of pod `{pod}`")


def _check_ports(document: Document, path: Path, container: dict[str, Any], what: str) -> None:
    for index, port in enumerate(listed(container.get("ports"))):
        place: Path = (*path, "ports", index)
        if "containerPort" not in mapping(port):
            raise UsageError(f"{place_of(document, place)}: a port of {what} has no `containerPort`")
        for key in ("containerPort", "hostPort"):
            if key in port and not isinstance(port[key], int):
                raise UsageError(
                    f"{place_of(document, (*place, key))}: `{key}` of {what} must be a number",
                    hint="write it without quotes; in templates, too, it cannot be an expression",
                )


def check_spelling(document: Document, data: Any, path: Path) -> None:
    """Refuse `InitContainers`, `Image` and the like: podman reads keys in any case (Go's encoding/json)."""
    if isinstance(data, list):
        for index, item in enumerate(data):
            check_spelling(document, item, (*path, index))
    for key, value in mapping(data).items():
        meant = _LETTERS.get(key.casefold(), key)
        if key != meant:
            raise UsageError(
                f"{place_of(document, (*path, key))}: `{key}` is read as `{meant}` by podman, "
                "and as nothing by others",
                hint=f"write `{meant}`",
            )
        if key in _ON_THE_WAY:
            check_spelling(document, value, (*path, key))


def check_annotations(document: Document, data: Any, path: Path, pod: str) -> None:
    """Refuse annotations that name images, in the pod whose `data` stands at a path."""
    for key in mapping(mapping(mapping(data).get("metadata")).get("annotations")):
        if key.startswith(_AUTOMOUNT):
            where = place_of(document, (*path, "metadata", "annotations", key))
            raise UsageError(
                f"{where}: the annotation `{key}` of pod `{pod}` names images that cannot be pinned",
                hint="use a volume with `image: {reference: …}`",
            )


def _written(node: Node) -> Any:
    """The data of a node with merges and aliases written out, and plain scalars left plain.

    YAML 1.1 and 1.2 disagree on `0644` and `yes`; the guest must read what it would read in a file.
    """
    if isinstance(node, MappingNode):
        return {_scalar(key): _written(value) for key, value in strict_yaml.items(node)}
    if isinstance(node, SequenceNode):
        return [_written(item) for item in node.value]
    assert isinstance(node, ScalarNode)
    return _scalar(node)


def _scalar(node: ScalarNode) -> str | None:
    if node.style is not None:
        return str(node.value)
    return text.Plain(node.value) if node.value else None
