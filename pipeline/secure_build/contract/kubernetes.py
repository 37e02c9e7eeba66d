"""What all readers of Kubernetes descriptors share: the containers of a pod, and what must be text.

Which kinds there may be, and what becomes of them, is for `play.py` and `confidential/pods.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from yaml.nodes import ScalarNode

from secure_build import strict_yaml
from secure_build.contract.advice import listed, mapping
from secure_build.contract.places import place_of
from secure_build.errors import UsageError
from secure_build.strict_yaml import Document, Path

# Plain scalars that some readers of YAML take for text, and others for a number, a date or a truth value.
DOUBTFUL = re.compile(
    r"(?i:y|n|yes|no|on|off)|[-+]?0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+|[0-9]+_[0-9_]*"
    r"|[-+]?0(?:x[0-9A-Fa-f_]+|o[0-7_]+|b[01_]+)|[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+"
    r"|[-+]?(?:\.[0-9]+|[0-9]+\.)|(?i:[-+]?\.inf|\.nan)|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"
)


def containers(spec: dict[str, Any], path: Path) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """The containers of the pod whose `spec` stands at `path`: name for people, path, and content."""
    for key, word in (("initContainers", "init container"), ("containers", "container")):
        for index, container in enumerate(spec.get(key) or []):
            yield f"{word} `{container['name']}`", (*path, key, index), container


def check_containers(document: Document, path: Path, spec: Any, pod: str) -> None:
    """Refuse a pod that has no containers, or one without name or image; raises UsageError with the place.

    `spec` is what stands at `path`; `pod` names the pod for people.
    """

    def refused(where: Path, why: str, hint: str | None = None) -> UsageError:
        return UsageError(f"{place_of(document, where)}: {why}", hint=hint)

    if not isinstance(spec, dict) or not isinstance(spec.get("containers"), list) or not spec["containers"]:
        raise refused(path, f"{pod} needs `spec: containers`, a list with at least one container")
    if "ephemeralContainers" in spec:
        raise refused(
            (*path, "ephemeralContainers"),
            f"{pod} has `ephemeralContainers`, which only a running cluster can add",
            "take them out",
        )
    for key in ("initContainers", "volumes"):
        if not isinstance(spec.get(key) or [], list):
            raise refused((*path, key), f"`{key}` of {pod} must be a list")
    for key in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(key) or []):
            where: Path = (*path, key, index)
            if not isinstance(container, dict) or not isinstance(container.get("name"), str):
                raise refused(where, f"a container of {pod} has no `name`")
            what = f"container `{container['name']}` of {pod}"
            if container.get("image") is None:
                raise refused(where, f"{what} names no image")
            for number, variable in enumerate(listed(container.get("env"))):
                value = {"value": mapping(variable).get("value")}
                check_texts(document, (*where, "env", number), value, f"`env` of {what}")


def check_texts(document: Document, path: Path, values: Any, what: str) -> None:
    """Refuse numbers and the like in a mapping whose values Kubernetes wants to be text."""
    for key, value in mapping(values).items():
        if value is not None:
            check_text(document, (*path, key), f"`{key}` in {what}")


def check_text(document: Document, path: Path, what: str) -> None:
    """Refuse what some reader of YAML does not take for text; raises UsageError with the place."""
    node = strict_yaml.at(document.root, path)
    plain = node.value if isinstance(node, ScalarNode) and node.style is None else ""
    if not strict_yaml.is_text(node) or DOUBTFUL.fullmatch(plain):
        raise UsageError(
            f"{place_of(document, path)}: {what} must be text",
            hint=f'put it in quotes: `"{node.value}"`' if isinstance(node, ScalarNode) else None,
        )
