"""Names in an action and in workflows that lead nowhere: what no linter that is to be had looks at.

Also two things that a runner for tests permits and GitHub does not, or that are dangerous there: variables
`INPUT_…`, which no composite action has, and expressions that become part of a program.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(
    r"(?<![\w.'-])(inputs|steps|needs|matrix|secrets|vars)\.([\w-]+)(?:\.([\w-]+))?(?:\.([\w-]+))?"
)
_OF_A_STEP = {"outputs", "outcome", "conclusion"}
_PINNED = re.compile(r"[\w.-]+(/[\w.-]+)+@[0-9a-f]{40}")

Document = Mapping[str, Any]


def of_action(action: Document) -> list[str]:
    """What is wrong with the names in a composite action."""
    inputs, steps = action.get("inputs", {}), action["runs"]["steps"]
    found = [*_of_steps(steps, {}, {"inputs": set(inputs), "steps": set()})]
    ids = {step.get("id") for step in steps}
    for name, output in action.get("outputs", {}).items():
        found += _of_text(f"output `{name}`", output.get("value"), {"steps": ids})
    read = {name for kind, name, *_ in _NAME.findall(str(steps)) if kind == "inputs"}
    found += [f"input `{name}` is never read" for name in inputs if name not in read]
    return found


def of_workflow(workflow: Document, actions: Mapping[str, Document]) -> list[str]:
    """What is wrong with the names in a workflow, and with what it hands to actions, by `owner/name`."""
    found, jobs = [], workflow["jobs"]
    # YAML 1.1 has another meaning for the word `on`.
    on = workflow.get("on", workflow.get(True))
    called = on.get("workflow_call") or {} if isinstance(on, Mapping) else {}
    for name, job in jobs.items():
        needs = job.get("needs", [])
        needs = {needs} if isinstance(needs, str) else set(needs)
        found += [f"job `{name}`: there is no job `{one}`" for one in needs - set(jobs)]
        known = {
            "inputs": set(called.get("inputs", {})),
            "steps": set(),
            "needs": needs,
            "matrix": _matrix(job),
        }
        if called:
            known["secrets"] = set(called.get("secrets", {}))
        steps = job.get("steps", [])
        of_job = [*_of_steps(steps, actions, known)]
        for output, value in job.get("outputs", {}).items():
            ids = {step.get("id") for step in steps}
            of_job += _of_text(f"output `{output}`", value, known | {"steps": ids})
            of_job += _of_outputs(f"output `{output}`", value, steps, actions)
        for kind, other, part, output in _NAME.findall(str(job)):
            if (
                kind == "needs"
                and other in jobs
                and output not in (set(jobs[other].get("outputs", {})) | {""})
            ):
                of_job.append(f"job `{other}` has no output `{output}`")
            if kind == "needs" and part not in ("outputs", "result"):
                of_job.append(f"there is no `needs.{other}.{part}`")
        if uses := job.get("uses"):
            of_job += _of_uses(uses)
        found += [f"job `{name}`: {one}" for one in of_job]
    for name, output in called.get("outputs", {}).items():
        for job, of_job in re.findall(r"jobs\.([\w-]+)\.outputs\.([\w-]+)", output["value"]):
            if of_job not in jobs.get(job, {}).get("outputs", {}):
                found.append(f"output `{name}`: job `{job}` has no output `{of_job}`")
    return found


def _matrix(job: Document) -> set[str]:
    """What the legs of a job have; what an expression makes of them cannot be told."""
    matrix = job.get("strategy", {}).get("matrix", {})
    legs = matrix.get("include", [])
    if isinstance(legs, str):
        return {name for kind, name, *_ in _NAME.findall(str(job)) if kind == "matrix"}
    return {name for name in matrix if name != "include"}.union(*legs)


def _of_steps(
    steps: list[dict[str, Any]], actions: Mapping[str, Document], known: Mapping[str, set[str]]
) -> Iterator[str]:
    before: list[dict[str, Any]] = []
    for number, step in enumerate(steps, 1):
        where = f"step {number}"
        names = {**known, "steps": {one.get("id") for one in before}}
        if step.get("id") in names["steps"] - {None}:
            yield f"{where}: another step is `{step['id']}` already"
        condition = str(step.get("if", ""))
        texts = [*step.get("env", {}).values(), *step.get("with", {}).values()]
        texts.append(condition if "${{" in condition else f"${{{{ {condition} }}}}")
        for text in texts:
            yield from _of_text(where, text, names)
            yield from _of_outputs(where, text, before, actions)
        yield from _of_run(where, step)
        uses = step.get("uses", "")
        yield from (f"{where}: {one}" for one in _of_uses(uses))
        action = actions.get(uses.partition("@")[0])
        if action is not None:
            for name in set(step.get("with", {})) - set(action["inputs"]):
                yield f"{where}: `{uses}` has no input `{name}`"
        before.append(step)


def _of_uses(uses: str) -> list[str]:
    return [f"`{uses}` is not pinned to a commit"] if uses and not _PINNED.fullmatch(uses) else []


def _of_run(where: str, step: Document) -> Iterator[str]:
    program = step.get("run", "")
    if _EXPRESSION.search(program):
        yield f"{where}: an expression becomes part of a program"
    for name in set(re.findall(r"\bINPUT_\w+", program)) - set(step.get("env", {})):
        yield f"{where}: nothing sets `{name}`"


def _of_text(where: str, text: object, known: Mapping[str, set[Any]]) -> Iterator[str]:
    """Names of a kind that is `known` and are not among them; others are not looked at."""
    for expression in _EXPRESSION.findall(str(text)):
        for kind, name, part, _ in _NAME.findall(expression):
            if kind in known and name not in known[kind]:
                yield f"{where}: there is no `{kind}.{name}` here"
            elif kind == "steps" and part not in _OF_A_STEP:
                yield f"{where}: there is no `steps.{name}.{part}`"


def _of_outputs(
    where: str, text: object, steps: list[dict[str, Any]], actions: Mapping[str, Document]
) -> Iterator[str]:
    """Outputs of steps that these actions do not have."""
    uses = {step.get("id"): str(step.get("uses", "")).partition("@")[0] for step in steps}
    for kind, step, part, name in _NAME.findall(str(text)):
        action = actions.get(uses.get(step, ""))
        if kind == "steps" and part == "outputs" and action is not None and name not in action["outputs"]:
            yield f"{where}: `{uses[step]}` has no output `{name}`"
