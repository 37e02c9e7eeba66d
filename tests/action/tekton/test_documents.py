"""Our Tekton documents as they stand: by Tekton's schema, admission and catalog, and by each other."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from action.tekton import admission, catalog, crd_schemas
from action.tekton.objects import Plain, load
from integration.project import command
from secure_build.arguments import parser
from secure_build.doors.tekton import RESULTS
from secure_build.twins import chosen, options, twin, why_without
from services import running
from services.needed import need
from services.running import RunningRegistry


def script(name: str) -> ModuleType:
    """One of the scripts beside the catalog."""
    spec = importlib.util.spec_from_file_location(name, catalog.CATALOG / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


bundle, tables = script("bundle"), script("tables")
TASKS = [path for path in catalog.FILES if "pipeline" not in path.parts]
RUNS = sorted(catalog.EXAMPLES.glob("*.yaml"))
NOT_A_TWIN = {"RECORDS", "IMAGE", "SOURCE_URL", "SOURCE_REVISION", "SOURCE_DIRECTORY", "STORAGE_DRIVER"}
PATHS = {
    f"{name}_PATH": name.lower() for name in ("SOURCE", "OUTPUT", "DOCKERCONFIG", "SECRETS", "SSLCERTDIR")
}


def name_of(path: Path) -> str:
    return str(path.relative_to(catalog.ROOT))


@pytest.mark.parametrize("path", [*catalog.FILES, *RUNS], ids=name_of)
def test_the_schema_of_the_crd_has_nothing_against_it(path: Path) -> None:
    assert crd_schemas.problems(load(path)) == []


def test_a_definition_becomes_a_strict_schema() -> None:
    from jsonschema import Draft202012Validator

    spec = {"type": "object", "properties": {"value": {"x-kubernetes-preserve-unknown-fields": True}}}
    version = {"name": "v1", "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}
    names = {"group": "tekton.dev", "names": {"kind": "Task"}, "versions": [version]}
    validator = Draft202012Validator(crd_schemas.strict({"spec": names}, "v1"))
    document = {
        "apiVersion": "tekton.dev/v1",
        "kind": "Task",
        "metadata": {"name": "x"},
        "spec": {"value": ["a"]},
    }
    assert validator.is_valid(document)
    assert not validator.is_valid(document | {"spec": {"valeu": "a"}})
    assert not validator.is_valid(document | {"spec": {"value": [["a"]]}})


@pytest.mark.parametrize("path", TASKS, ids=name_of)
def test_admission_has_nothing_against_it(path: Path) -> None:
    assert admission.problems(load(path)) == []


@pytest.mark.parametrize("path", catalog.FILES, ids=name_of)
def test_it_has_what_a_catalog_asks_for(path: Path) -> None:
    document = load(path)
    metadata, spec = document["metadata"], document["spec"]
    assert metadata["name"] == path.stem == path.parent.parent.name
    assert metadata["labels"] == {"app.kubernetes.io/version": path.parent.name}
    wanted = ("pipelines.minVersion", "categories", "tags", "displayName", "platforms")
    assert {f"tekton.dev/{name}" for name in wanted} <= set(metadata["annotations"])
    summary, _, rest = spec["description"].partition("\n")
    assert summary.endswith(".")
    assert rest
    assert (path.parent / "README.md").is_file()
    samples = list((path.parent / "samples").iterdir())
    assert samples
    # One home for each run: that which is tested.
    assert all(sample.resolve().parent == catalog.EXAMPLES for sample in samples)


def test_nothing_is_a_script_or_privileged() -> None:
    text = "".join(path.read_text() for path in [*catalog.FILES, *RUNS])
    for word in ("script:", "privileged", "allowPrivilegeEscalation", "hostPath", "/bin/sh", "bash"):
        assert word not in text
    added = [
        step["securityContext"]
        for document in catalog.everything()
        for step in document["spec"].get("steps", [])
        if "securityContext" in step
    ]
    assert added == 2 * [{"capabilities": {"add": ["SETFCAP"]}}]


def test_task_and_step_action_are_in_step() -> None:
    task, action = (
        catalog.one("Task", "secure-build")["spec"],
        catalog.one("StepAction", "secure-build")["spec"],
    )
    (step,) = task["steps"]
    assert [one for one in action["params"] if one["name"] not in PATHS] == task["params"]
    assert {PATHS[one["name"]] for one in action["params"] if one["name"] in PATHS} == {
        one["name"] for one in task["workspaces"]
    }
    assert action["results"] == task["results"]

    def generic(value: str) -> str:
        value = re.sub(r"\$\(params\.(\w+)_PATH\)", lambda it: f"$(workspaces.{it[1].lower()}.path)", value)
        return value.replace("$(step.results.", "$(results.")

    assert [{**one, "value": generic(one["value"])} for one in action["env"]] == step["env"]
    assert (action["command"], action["args"], action["image"]) == (
        step["command"],
        step["args"],
        step["image"],
    )


@pytest.mark.parametrize("name", ["secure-build", "secure-build-leg"])
def test_what_the_command_has_is_called_as_there(name: str) -> None:
    task = catalog.one("Task", name)["spec"]
    known = {twin(action) for action in options(parser())}
    known |= {"SECURE_BUILD_COMMAND", "SECURE_BUILD_SECRETS"}
    env = [
        one
        for step in [task.get("stepTemplate", {}), *task["steps"]]
        for one in step.get("env", [])
        if one["name"].startswith("SECURE_BUILD_")
    ]
    assert {one["name"] for one in env} <= known
    for one in env:
        if "$(params." in one["value"]:
            assert one["value"] == f"$(params.{one['name'].removeprefix('SECURE_BUILD_')})"
    by_name = {one["name"]: one["value"] for one in env}
    for param in task["params"]:
        if param["name"] not in NOT_A_TWIN:
            assert f"SECURE_BUILD_{param['name']}" in by_name


def test_results_are_those_of_the_door() -> None:
    task = catalog.one("Task", "secure-build")["spec"]
    assert {one["name"] for one in task["results"]} == set(RESULTS)
    env = {one["name"]: one["value"] for one in task["steps"][0]["env"]}
    for name in RESULTS:
        assert env[f"RESULT_{name.replace('-', '_')}"] == f"$(results.{name}.path)"


Change = Callable[[Plain], Any]
# One fault each, which the schema does not know or lets pass.
FAULTS: dict[str, Change] = {
    "undeclared parameter": lambda it: step(it)["env"][0].update(value="$(params.IMAEG)"),
    "undeclared result": lambda it: step(it)["env"][-1].update(value="$(results.IMAEG.path)"),
    "undeclared workspace": lambda it: step(it)["env"][0].update(value="$(workspaces.sauce.path)"),
    "attribute of a workspace": lambda it: step(it)["env"][0].update(value="$(workspaces.source.pth)"),
    "result without path": lambda it: step(it)["env"][0].update(value="$(results.STATUS)"),
    "unknown context": lambda it: step(it)["env"][0].update(value="$(context.taskRun.id)"),
    "array in a variable": lambda it: step(it)["env"][0].update(value="$(params.RECORDS[*])"),
    "array that is not alone": lambda it: step(it).update(args=["-r=$(params.RECORDS[*])"]),
    "parameter in a script": lambda it: step(it).update(script="echo $(params.IMAGE)"),
    "script and command": lambda it: step(it).update(script="true"),
    "no image": lambda it: step(it).pop("image"),
    "no steps": lambda it: it["spec"].update(steps=[]),
    "name": lambda it: it["metadata"].update(name="secure_build"),
    "parameter twice": lambda it: it["spec"]["params"].append(it["spec"]["params"][0]),
    "unused parameter": lambda it: it["spec"]["params"].append({"name": "X", "description": "x"}),
    "unused result": lambda it: it["spec"]["results"].append({"name": "X", "description": "x"}),
    "half a pair": lambda it: it["spec"]["results"].pop(2),
    "default of another type": lambda it: it["spec"]["params"][0].update(default=["run"]),
    "default that is no text": lambda it: it["spec"]["params"][0].update(default=True),
    "step and reference": lambda it: step(it).update(ref={"name": "x"}),
    "mount of Tekton's": lambda it: step(it).update(
        volumeMounts=[{"name": "x", "mountPath": "/tekton/results"}]
    ),
    "bad onError": lambda it: step(it).update(onError="ignore"),
    "feature flag": lambda it: step(it).update(stdoutConfig={"path": "/x"}),
}


def step(document: Plain) -> Plain:
    found: Plain = document["spec"]["steps"][0]
    return found


@pytest.mark.parametrize("change", FAULTS.values(), ids=FAULTS)
def test_admission_finds_a_fault(change: Change) -> None:
    document = copy.deepcopy(catalog.one("Task", "secure-build"))
    change(document)
    assert admission.problems(document)


def linted(*paths: Path) -> list[tuple[str, str]]:
    """Rule and message of each error of tekton-lint; its warnings are about capitals in names."""
    done = subprocess.run(
        [running.tool("tekton-lint"), "--quiet", "--format=json", *map(str, paths)],
        env=running.environment(),
        capture_output=True,
        check=False,
    )
    return [(one["rule"], one["message"]) for one in json.loads(done.stdout)]


def test_the_linter_finds_nothing_in_the_pipeline(tmp_path: Path) -> None:
    need("tekton-lint")
    pipeline, *tasks = [path for path in catalog.FILES if path.parts[-4] != "stepaction"]
    wrong = tmp_path / "wrong.yaml"
    # It does not know that the results of a matrix are an array.
    known = pipeline.read_text().replace("RECORD[*]", "RECORD")
    wrong.write_text(known)
    assert linted(*tasks, wrong) == []
    wrong.write_text(known.replace("{name: COMMAND,", "{name: COMAND,"))
    assert [rule for rule, _ in linted(*tasks, wrong)] == ["no-extra-param"]


def test_tables_are_current() -> None:
    for path in tables.texts():
        text = path.read_text()
        assert "<!-- end -->" in text
        assert tables.filled(text) == text, "run `python actions/tekton/tables.py`"


def test_every_flag_with_a_variable_is_a_param_or_left_out_on_purpose() -> None:
    # What the door says itself, and what only a person asks for who carries the result away.
    left_out = {"OUTPUT", "QUIET", "CHECK", "INTO", "WORKDIR", "HAND_ON", "WITH_EVIDENCE"}
    task = catalog.one("Task", "secure-build")["spec"]
    offered = {one["name"] for one in task["params"]} | {"RECORD"}
    verbs = ("plan", "run", "build", "sign", "publish", "verify", "contract images", "contract assemble")
    of_verbs = [chosen(parser(), verb.split()) for verb in (*verbs, "contract re-encrypt")]
    flags = {twin(action) for verb in of_verbs for action in options(verb) if not why_without(action)}
    assert {flag.removeprefix("SECURE_BUILD_") for flag in flags} - left_out <= offered


def test_a_bundle_is_the_same_twice(tmp_path: Path, registry: RunningRegistry) -> None:
    need("skopeo", "crane")
    digests = {str(bundle.make(tmp_path / name)) for name in ("one", "two")}
    name = f"{registry.host}/secure-build/tekton:0.1"
    command(
        "skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{tmp_path / 'one'}", f"docker://{name}"
    )
    assert {command("crane", "digest", "--insecure", name).decode().strip()} == digests
    manifest = json.loads(command("crane", "manifest", "--insecure", name))
    for path, layer in zip(catalog.FILES, manifest["layers"], strict=True):
        said = layer["annotations"]
        document = load(path)
        assert said["dev.tekton.image.name"] == document["metadata"]["name"]
        assert said["dev.tekton.image.kind"] == document["kind"].lower()
        blob = command("crane", "blob", "--insecure", f"{name.rpartition(':')[0]}@{layer['digest']}")
        assert command("tar", "-xzO", stdin=blob) == path.read_bytes()
