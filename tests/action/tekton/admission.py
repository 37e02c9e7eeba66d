"""What Tekton's admission refuses and no schema says, and what it lets pass although it cannot work.

Of Tasks and StepActions; "Tekton Pipelines: Tasks" and "StepActions". Also our own rules: no text of a
parameter inside a script, every parameter, result and workspace used, and Chains' hints in pairs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from action.tekton.objects import Plain

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PARAM = re.compile(r"[_a-zA-Z][_a-zA-Z0-9.-]*")
_RESULT = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_REFERENCE = re.compile(
    r"\$\((params|step\.results|results|workspaces|context\.taskRun|context\.task)\.([^()\[\]]+)(\[[0-9*]+\])?\)"
)
_CONTEXT = {"context.taskRun": ("name", "namespace", "uid"), "context.task": ("name", "retry-count")}
_TYPES = {list: "array", dict: "object"}
# What Tekton Chains reads only together.
_PAIRS = (("IMAGE_URL", "IMAGE_DIGEST"), ("CHAINS-GIT_URL", "CHAINS-GIT_COMMIT"))


@dataclass
class _Names:
    params: dict[str, str]
    results: set[str]
    workspaces: set[str]
    own_results: set[str] = field(default_factory=set)
    used: set[tuple[str, str]] = field(default_factory=set)


def problems(document: Plain) -> list[str]:
    """What is wrong with a Task or StepAction, one a line."""
    return list(_problems(document))


def _problems(document: Plain) -> Iterator[str]:
    spec, name = document["spec"], document["metadata"]["name"]
    if not _LABEL.fullmatch(name):
        yield f"metadata.name: {name} is no DNS label"
    for kind in ("params", "results", "workspaces", "volumes", "steps"):
        given = [one.get("name") for one in spec.get(kind) or []]
        yield from (f"{kind}: {one} is declared twice" for one in {it for it in given if given.count(it) > 1})
    yield from _declarations(spec)
    names = _Names(
        {one["name"]: _type(one) for one in spec.get("params") or []},
        {one["name"] for one in spec.get("results") or []},
        {one["name"] for one in spec.get("workspaces") or []},
    )
    is_action = document["kind"] == "StepAction"
    steps = [spec] if is_action else spec.get("steps") or []
    if not steps:
        yield "steps: there are none"
    template = spec.get("stepTemplate") or {}
    for step in [*([template] if template else []), *steps]:
        names.own_results = names.results if is_action else {one["name"] for one in step.get("results") or []}
        yield from _step(step, template, names, is_template=step is template)
    yield from _references("volumes", spec.get("volumes") or [], names)
    declared = {("params", one) for one in names.params} | {("workspaces", one) for one in names.workspaces}
    declared |= {("step.results" if is_action else "results", one) for one in names.results}
    yield from (f"{kind}: {one} is never used" for kind, one in sorted(declared - names.used))
    for pair in _PAIRS:
        if len(names.results & set(pair)) == 1:
            yield f"results: Chains reads {' and '.join(pair)} together"


def _declarations(spec: Plain) -> Iterator[str]:
    for kind, pattern in (("params", _PARAM), ("results", _RESULT)):
        for one in spec.get(kind) or []:
            where = f"{kind}[{one['name']}]"
            if not pattern.fullmatch(one["name"]):
                yield f"{where}: bad name"
            if _type(one) not in ("string", "array", "object"):
                yield f"{where}: bad type"
            if _type(one) == "object" and "properties" not in one:
                yield f"{where}: an object needs properties"
            if not one.get("description"):
                yield f"{where}: no description"
            if "default" in one and _TYPES.get(type(one["default"]), "string") != _type(one):
                yield f"{where}: the default is of another type"
            if "default" in one and not isinstance(one["default"], (str, list, dict)):
                yield f"{where}: the default is no text: quote it"
            if "enum" in one:
                yield f"{where}: enum needs a feature flag"


def _type(declared: Plain) -> str:
    return str(declared.get("type") or _TYPES.get(type(declared.get("default")), "string"))


def _step(step: Plain, template: Plain, names: _Names, *, is_template: bool) -> Iterator[str]:
    where = f"steps[{step.get('name', 'template' if is_template else '')}]"
    if "ref" in step:
        beside = {"image", "command", "args", "script", "env", "volumeMounts"} & set(step)
        yield from (f"{where}: {key} cannot stand beside ref" for key in sorted(beside))
    elif not is_template and not (step.get("image") or template.get("image")):
        yield f"{where}: no image"
    if "script" in step and "command" in step:
        yield f"{where}: script and command together"
    if step.get("onError", "continue") not in ("continue", "stopAndFail"):
        yield f"{where}: bad onError"
    yield from (
        f"{where}: {key} needs a feature flag" for key in ("stdoutConfig", "stderrConfig") if key in step
    )
    for mount in step.get("volumeMounts") or []:
        if str(mount.get("mountPath")).startswith("/tekton/"):
            yield f"{where}: /tekton is Tekton's"
    fields = ["image", "command", "args", "script", "env", "workingDir", "volumeMounts"]
    for key in [*fields, *(["params"] if "ref" in step else [])]:
        yield from _references(f"{where}.{key}", step.get(key), names)


def _references(where: str, node: Any, names: _Names) -> Iterator[str]:
    for text in _texts(node):
        for found in _REFERENCE.finditer(text):
            kind, name, index = found.groups()
            if kind == "params":
                yield from _parameter(where, text, name, index, names)
            elif kind == "workspaces":
                name, _, attribute = name.rpartition(".")
                if attribute not in ("path", "bound", "claim", "volume"):
                    yield f"{where}: {found[0]}: no such attribute"
            elif kind in _CONTEXT:
                if name not in _CONTEXT[kind]:
                    yield f"{where}: {found[0]}: unknown"
            else:
                name, _, attribute = name.rpartition(".")
                if attribute != "path":
                    yield f"{where}: {found[0]}: only .path is there"
            known = {
                "workspaces": names.workspaces,
                "results": names.results,
                "step.results": names.own_results,
            }
            if kind in known and name not in known[kind]:
                yield f"{where}: {found[0]}: is not declared"
            names.used.add((kind, name))


def _parameter(where: str, text: str, name: str, index: str | None, names: _Names) -> Iterator[str]:
    whole = f"$(params.{name}{index or ''})"
    if name not in names.params:
        yield f"{where}: {whole} is not declared"
    elif names.params[name] == "array" and index in (None, "[*]"):
        if not where.endswith((".command", ".args", ".params")):
            yield f"{where}: {whole}: an array fits in command and args only"
        elif text != whole:
            yield f"{where}: {whole}: an array stands alone"
    elif names.params[name] == "string" and index:
        yield f"{where}: {whole}: is no array"
    if where.endswith(".script"):
        yield f"{where}: {whole} is pasted into the script"


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
