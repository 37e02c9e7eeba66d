"""Runs the steps of a Task in real containers, with Tekton's controller and entrypoint played around them.

It gives parameters and their defaults, substitution in Tekton's order, workspaces, volumes, the
`/tekton` tree, results through files and messages of limited size, StepActions, exit codes and
security contexts. What it does not know raises `Unsupported`. It cannot show what only a cluster has:
admission by policies, scheduling, volumes' access modes, service accounts, resolvers, and Chains.
"""

from __future__ import annotations

import copy
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from action.tekton import messages, substitution
from action.tekton.containers import Containers
from action.tekton.objects import Binding, Invalid, KeyValues, Plain, Step, Unsupported, Value
from action.tekton.substitution import Replacements
from action.tekton.volumes import Mount, Volumes

_UNKNOWN_IN_STEP = ("envFrom", "when", "onError", "timeout", "workspaces", "workingDir", "script")


@dataclass
class Ran:
    """How a TaskRun ended."""

    ok: bool = False
    reason: str = ""
    steps: list[Step] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)
    # Of what a container may leave as its message.
    limit: int = 0

    @property
    def log(self) -> str:
        return "".join(f"== {step.name}: {step.exit_code}\n{step.stdout}{step.stderr}" for step in self.steps)


def run(
    task: Plain,
    containers: Containers,
    params: Mapping[str, Value] | None = None,
    workspaces: Mapping[str, Binding] | None = None,
    *,
    step_actions: Mapping[str, Plain] | None = None,
    objects: Mapping[str, KeyValues] | None = None,
    name: str = "run",
) -> Ran:
    """Run a Task; raises Invalid for what a cluster would refuse."""
    root = Path(tempfile.mkdtemp(prefix="tekton-"))
    root.chmod(0o755)
    try:
        bound = dict(workspaces or {})
        spec = _resolved(task, dict(params or {}), bound, dict(step_actions or {}), name)
        return _Pod(spec, containers, Volumes(root, objects or {}), bound).run()
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _resolved(
    task: Plain,
    params: Mapping[str, Value],
    bound: Mapping[str, Binding],
    actions: Mapping[str, Plain],
    name: str,
) -> Plain:
    """The spec with everything replaced that is known before the pod starts."""
    spec: Plain = copy.deepcopy(task["spec"])
    if unknown := set(spec) & {"sidecars"}:
        raise Unsupported(", ".join(unknown))
    declared = {one["name"]: one for one in spec.get("workspaces") or []}
    if undeclared := set(bound) - set(declared):
        raise Invalid(f"workspace {min(undeclared)} is not declared")
    for one in declared.values():
        if one["name"] not in bound and not one.get("optional"):
            raise Invalid(f"workspace {one['name']} is not bound")
    own = substitution.parameters(spec.get("params") or [], params)
    spec["steps"] = [_inlined(step, own, actions) for step in spec["steps"]]
    # A parameter's value may hold `$(context.…)`: the next pass replaces that, in a cluster as here.
    context = {
        "context.taskRun.name": name,
        "context.taskRun.namespace": "default",
        "context.taskRun.uid": str(uuid.uuid4()),
        "context.task.name": task["metadata"]["name"],
        "context.task.retry-count": "0",
    }
    results = {
        form: f"/tekton/results/{one['name']}"
        for one in spec.get("results") or []
        for form in (f"results.{one['name']}.path", f'results["{one["name"]}"].path')
    }
    spaces = {
        f"workspaces.{one}.{what}": value
        for one, space in declared.items()
        for what, value in (
            ("path", _path(space) if one in bound else ""),
            ("bound", "true" if one in bound else "false"),
        )
    }
    for replacements in (own, Replacements(context), Replacements(results), Replacements(spaces)):
        for part in ("steps", "stepTemplate", "volumes"):
            if part in spec:
                spec[part] = replacements.everywhere(spec[part])
    steps = []
    for number, step in enumerate(spec["steps"]):
        full = f"step-{step.get('name') or f'unnamed-{number}'}"
        mine = {
            f"step.results.{one['name']}.path": f"/tekton/steps/{full}/results/{one['name']}"
            for one in step.get("results") or []
        }
        replaced = Replacements(mine).everywhere(step)
        steps.append(substitution.merged(spec.get("stepTemplate") or {}, replaced) | {"name": full})
    return {**spec, "steps": steps}


def _inlined(step: Plain, own: Replacements, actions: Mapping[str, Plain]) -> Plain:
    """The step, with its StepAction in its place."""
    if "ref" not in step:
        return step
    if (action := actions.get(step["ref"].get("name", ""))) is None:
        raise Unsupported(f"the StepAction {step['ref']}")
    body = copy.deepcopy(action["spec"])
    given = own.everywhere({one["name"]: one["value"] for one in step.get("params") or []})
    replacements = substitution.parameters(body.pop("params", []), given)
    body.pop("description", None)
    rest = {name: value for name, value in step.items() if name not in ("ref", "params")}
    return {**rest, **replacements.everywhere(body)}


def _path(space: Plain) -> str:
    return str(space.get("mountPath") or f"/workspace/{space['name']}")


@dataclass
class _Pod:
    spec: Plain
    containers: Containers
    volumes: Volumes
    bound: Mapping[str, Binding]

    def run(self) -> Ran:
        steps = self.spec["steps"]
        # One more container prepares the pod.
        ran = Ran(limit=messages.limit(len(steps) + 1))
        for number, step in enumerate(steps):
            self.volumes.name_step(number, step["name"])
            ended = Step(step["name"], skipped=bool(ran.reason))
            ran.steps.append(ended)
            if ended.skipped:
                continue
            self._step(number, step, ended)
            if ended.message > ran.limit:
                ran.reason = f"{ended.name}: a message of {ended.message} bytes, over {ran.limit}"
            elif ended.exit_code:
                ran.reason = f"{ended.name} exited with {ended.exit_code}"
        ran.ok = not ran.reason
        # A failed TaskRun has its results all the same.
        ran.results = self._written(self.volumes.results(), self.spec)
        return ran

    def _step(self, number: int, step: Plain, ended: Step) -> None:
        if unknown := [name for name in _UNKNOWN_IN_STEP if step.get(name)]:
            raise Unsupported(f"{ended.name}: {', '.join(unknown)}")
        environment = self._environment(step)
        config = self.containers.config(step["image"])
        words = [*(step.get("command") or config.get("Entrypoint") or []), *(step.get("args") or [])]
        ended.argv = [substitution.kubernetes(word, environment) for word in words]
        if not ended.argv:
            raise Invalid(f"{ended.name}: neither the step nor the image says what to run")
        done = self.containers.run(
            step["image"],
            ended.argv,
            context=step.get("securityContext") or {},
            environment=environment,
            mounts=self._mounts(number, step),
            scratch=self.volumes.root,
        )
        ended.exit_code, ended.stdout, ended.stderr = done.returncode, done.stdout, done.stderr
        own = self.volumes.run(number) / "status" / "results"
        ended.message = messages.size(
            self._written(self.volumes.results(), self.spec), self._written(own, step)
        )

    def _environment(self, step: Plain) -> dict[str, str]:
        found: dict[str, str] = {}
        for variable in step.get("env") or []:
            if "valueFrom" in variable:
                raise Unsupported(f"env {variable['name']}: valueFrom")
            found[variable["name"]] = substitution.kubernetes(variable.get("value", ""), found)
        if wrong := [name for name, value in found.items() if "\0" in value]:
            raise Invalid(f"env {wrong[0]} has a NUL: no container runtime takes it")
        return found

    def _mounts(self, number: int, step: Plain) -> list[Mount]:
        own = list(self.volumes.of_pod(self.spec.get("volumes") or [], step))
        for space in self.spec.get("workspaces") or []:
            if space["name"] in self.bound:
                source, readonly = self.volumes.of_binding(space["name"], self.bound[space["name"]])
                own.append(Mount(source, _path(space), readonly or space.get("readOnly", False)))
        return [*self.volumes.of_tekton(number, len(self.spec["steps"])), *own]

    @staticmethod
    def _written(folder: Path, spec: Plain) -> dict[str, str]:
        paths = {one["name"]: folder / one["name"] for one in spec.get("results") or []}
        return {name: path.read_text() for name, path in paths.items() if path.is_file()}
