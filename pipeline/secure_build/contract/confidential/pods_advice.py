"""What of pods for OpenShift will not work in the confidential guest, or not as it looks."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from secure_build.contract import kubernetes
from secure_build.contract.advice import mapping, warning
from secure_build.contract.confidential.pods import ConfidentialFile, Pod, data_at
from secure_build.model import Finding
from secure_build.strict_yaml import Document, Path

# Bare metal, and peer pods, whose guests are machines of their own.
Flavour = Literal["bmtl", "peerpod"]
RUNTIME_CLASSES: Mapping[Flavour, str] = {"bmtl": "kata-cc", "peerpod": "kata-remote"}
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_finding = functools.partial(warning, "pods")


def findings(file: ConfidentialFile, flavour: Flavour) -> list[Finding]:
    """All of it, in the order of the file."""
    found: list[Finding] = []
    pods = {pod.number: pod for pod in file.pods}
    for number, document in enumerate(file.documents):
        if number in pods:
            found += _runtime(document, pods[number], RUNTIME_CLASSES[flavour])
            found += _commands(document, pods[number])
        elif _has_containers(document.data):
            found.append(
                _finding(
                    document,
                    ("kind",),
                    f"`kind: {document.data['kind']}` has containers",
                    "pods of this kind are not known here: they are neither pinned nor in the policy, "
                    "and get no init data",
                )
            )
    # What an anchor shares is one thing to say.
    return list(dict.fromkeys(found))


def _runtime(document: Document, pod: Pod, wanted: str) -> Iterator[Finding]:
    path: Path = (*pod.path, "spec", "runtimeClassName")
    written = data_at(document.data, path)
    if written != wanted:
        yield _finding(
            document,
            path,
            f"{pod.what} has " + (f"`runtimeClassName: {written}`" if written else "no `runtimeClassName`"),
            f"with another runtime than `{wanted}` the pod does not run in the confidential guest, "
            "and nothing checks it",
            hint=f"write `runtimeClassName: {wanted}`, unless your cluster has another name for it",
            basis="documented",
        )


def _commands(document: Document, pod: Pod) -> Iterator[Finding]:
    """Commands that the cluster would run in a container."""
    spec_path: Path = (*pod.path, "spec")
    for word, path, container in kubernetes.containers(data_at(document.data, spec_path), spec_path):
        hooks = mapping(container.get("lifecycle"))
        asked = [((*path, key), container.get(key)) for key in _PROBES]
        asked += [((*path, "lifecycle", key), hooks.get(key)) for key in ("postStart", "preStop")]
        for where, value in asked:
            if "exec" in mapping(value):
                yield _finding(
                    document,
                    where,
                    f"`{where[-1]}` of {word} of {pod.what} runs a command in the container",
                    "the policy denies commands from outside, so it will fail",
                    hint="ask over HTTP, gRPC or TCP instead",
                )


def _has_containers(data: Any) -> bool:
    if isinstance(data, list):
        return any(map(_has_containers, data))
    return any(
        (
            key in ("containers", "initContainers")
            and isinstance(value, list)
            and any("image" in mapping(item) for item in value)
        )
        or _has_containers(value)
        for key, value in mapping(data).items()
    )
