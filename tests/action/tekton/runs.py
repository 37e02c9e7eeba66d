"""TaskRuns and PipelineRuns as their documents say: a namespace with Tasks, claims and Secrets in it.

Of pipelines it knows what ours use: parameters, workspaces, a matrix, and results of tasks, which also
order the tasks. Tasks run one after the other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from action.tekton import substitution, taskrun
from action.tekton.containers import Containers
from action.tekton.objects import Binding, EmptyDir, Folder, Invalid, KeyValues, Plain, Unsupported, Value
from action.tekton.substitution import Replacements
from action.tekton.taskrun import Ran

_RESULT = re.compile(r"\$\(tasks\.([^.]+)\.results\.([A-Za-z0-9_.-]+?)(\[\*\])?\)")


@dataclass
class RanPipeline:
    """How a PipelineRun ended; a task with a matrix has several runs."""

    tasks: dict[str, list[Ran]] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return all(ran.ok for runs in self.tasks.values() for ran in runs)

    @property
    def log(self) -> str:
        return "".join(f"#### {name}\n{ran.log}" for name, runs in self.tasks.items() for ran in runs)


@dataclass
class Namespace:
    """What runs can name, each by its name: Tasks, Pipelines, StepActions, claims, Secrets and ConfigMaps."""

    containers: Containers
    known: Sequence[Plain]
    claims: dict[str, Path] = field(default_factory=dict)
    objects: Mapping[str, KeyValues] = field(default_factory=dict)

    def task_run(self, document: Plain) -> Ran:
        spec = document["spec"]
        return self._task(spec, _given(spec.get("params")), self._bound(spec.get("workspaces") or []))

    def pipeline_run(self, document: Plain) -> RanPipeline:
        spec = document["spec"]
        pipeline = spec.get("pipelineSpec") or self._named("Pipeline", spec["pipelineRef"])["spec"]
        params = substitution.parameters(pipeline.get("params") or [], _given(spec.get("params")))
        bound = self._bound(spec.get("workspaces") or [])
        declared = {one["name"]: one for one in pipeline.get("workspaces") or []}
        if wrong := set(bound) ^ {
            name for name, one in declared.items() if name in bound or not one.get("optional")
        }:
            raise Invalid(f"workspace {min(wrong)} is not declared, or not bound")
        ran = RanPipeline()
        waiting = [params.everywhere(task) for task in pipeline["tasks"]]
        while waiting and ran.ok:
            task = next(one for one in waiting if _needs(one) <= set(ran.tasks))
            waiting.remove(task)
            ran.tasks[task["name"]] = [
                self._task(task, values, _mapped(task, bound)) for values in _legs(task, ran.tasks)
            ]
        if ran.ok:
            results = _replacements(ran.tasks)
            ran.results = {one["name"]: results.text(one["value"]) for one in pipeline.get("results") or []}
        return ran

    def _task(self, spec: Plain, params: Mapping[str, Value], bound: Mapping[str, Binding]) -> Ran:
        task = (
            {"metadata": {"name": "embedded"}, "spec": spec["taskSpec"]}
            if "taskSpec" in spec
            else self._named("Task", spec["taskRef"])
        )
        actions = {one["metadata"]["name"]: one for one in self.known if one["kind"] == "StepAction"}
        return taskrun.run(task, self.containers, params, bound, step_actions=actions, objects=self.objects)

    def _named(self, kind: str, reference: Plain) -> Plain:
        """By name, also where a resolver gets it from somewhere else."""
        name = _given(reference.get("params")).get("name", reference.get("name"))
        found = [one for one in self.known if one["kind"] == kind and one["metadata"]["name"] == name]
        if not found:
            raise Invalid(f"there is no {kind} {name}")
        return found[0]

    def _bound(self, bindings: Sequence[Plain]) -> dict[str, Binding]:
        return {one["name"]: self._binding(one) for one in bindings}

    def _binding(self, one: Plain) -> Binding:
        if "emptyDir" in one:
            return EmptyDir()
        if claim := one.get("persistentVolumeClaim"):
            return Folder(self.claims[claim["claimName"]])
        source = one.get("secret") or one.get("configMap")
        if source is None:
            raise Unsupported(f"workspace {one}")
        return self.objects[source.get("secretName") or source["name"]]


def _given(params: Sequence[Plain] | None) -> dict[str, Any]:
    return {one["name"]: one["value"] for one in params or []}


def _mapped(task: Plain, bound: Mapping[str, Binding]) -> dict[str, Binding]:
    names = {one["name"]: one.get("workspace", one["name"]) for one in task.get("workspaces") or []}
    return {own: bound[name] for own, name in names.items() if name in bound}


def _needs(task: Plain) -> set[str]:
    return {found[1] for found in _RESULT.finditer(str(task))} | set(task.get("runAfter") or [])


def _replacements(done: Mapping[str, Sequence[Ran]]) -> Replacements:
    """Results of one run as text, of a task with several also as an array."""
    texts: dict[str, str] = {}
    arrays: dict[str, list[str]] = {}
    for task, runs in done.items():
        for name in {name for ran in runs for name in ran.results}:
            form = f"tasks.{task}.results.{name}"
            arrays[form] = [ran.results[name] for ran in runs]
            if len(runs) == 1:
                texts[form] = runs[0].results[name]
    return Replacements(texts, arrays)


def _legs(task: Plain, done: Mapping[str, Sequence[Ran]]) -> list[dict[str, Any]]:
    """The parameters of each run of a task: one, or each combination of a matrix."""
    replacements = _replacements(done)
    params = replacements.everywhere(_given(task.get("params")))
    matrix = replacements.everywhere(_given((task.get("matrix") or {}).get("params")))
    return [
        {**params, **dict(zip(matrix, values, strict=True))} for values in itertools.product(*matrix.values())
    ]
