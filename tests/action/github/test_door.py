"""What gets into a job through the action: nothing that its requirements, its inputs or a build bring."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from action import hostile
from action.github.act import ROOT
from action.github.conftest import Repositories, pinned

ACTION = pinned("secure-build/secure-build")


def test_a_tampered_requirement_stops_the_install(repository: Repositories, short_path: Path) -> None:
    one = repository("minimal")
    tampered = short_path / "tampered"
    shutil.copytree(one.runner.actions[ACTION], tampered)
    lock = tampered / "requirements" / "main.txt"
    lock.write_text(re.sub(r"sha256:[0-9a-f]{8}", "sha256:00000000", lock.read_text()))
    runner = dataclasses.replace(one.runner, actions={**one.runner.actions, ACTION: tampered})
    run = dataclasses.replace(one, runner=runner).run("single")
    assert run.code == 1
    assert "DO NOT MATCH THE HASHES" in run.text
    assert run.outputs("run").get("status", "") == ""


def test_what_a_build_prints_is_no_command(repository: Repositories) -> None:
    one = repository("minimal")
    printed = (
        *("::set-output name=digest::sha256:0", "::add-mask::linux", "::error::planted", "##[error]planted"),
        *(
            "::stop-commands::planted",
            "::add-path::/planted",
            "::set-env name=PATH::/planted",
            "##[command]planted",
        ),
    )
    recipe = one.folder / "app" / "Dockerfile"
    steps = "".join(f'RUN ["/bin/busybox", "echo", "{line}"]\n' for line in printed)
    recipe.write_text(recipe.read_text().replace("EXPOSE", f"{steps}EXPOSE"))
    one.write("own", {"id": "run", "uses": ACTION, "with": {"command": "build", "verbose": "true"}})
    run = one.run("own")
    assert run.code == 0, run.text
    assert sum("planted" in line for line in run.text.splitlines()) >= 6
    assert re.fullmatch("sha256:[0-9a-f]{64}", run.outputs("run")["digest"])
    assert "linux" not in run.masks
    assert run.annotations("error") == []
    assert not any("planted" in str(event.get("arg")) for event in run.events)


# Nothing in an environment has a zero.
VALUES = {name: value for name, value in hostile.values("mark").items() if "\0" not in value}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_no_interpreter_runs_anything_else(value: str, tmp_path: Path) -> None:
    program = ROOT / "actions" / "github" / "secure-build.sh"
    given = {"PATH": os.environ["PATH"], "RUNNER_TEMP": str(tmp_path), "ACTION_PYTHON": value}
    ended = subprocess.run([program], env=given, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    (line,) = ended.stdout.splitlines()
    assert line.startswith("::error title=secure-build::")
    assert list(tmp_path.iterdir()) == []


def test_no_input_runs_anything(repository: Repositories) -> None:
    one = repository("minimal")
    inputs = set(yaml.safe_load((ROOT / "action.yml").read_text())["inputs"])
    # What is no command ends a job before anything else is looked at, and so does what is no interpreter.
    inputs -= {"command", "python"}
    assert len(inputs) > 20
    # act evaluates what stands in variables.
    values = [value for value in VALUES.values() if "${{" not in value]
    assert len(values) >= 30
    # An environment is two mebibytes at most.
    few = ("config", "images", "working-directory")
    steps = [
        {
            "id": f"step{number}",
            "uses": ACTION,
            "continue-on-error": True,
            "with": dict.fromkeys(
                inputs if len(value) < hostile.LONG else few, f"${{{{ env.VALUE{number} }}}}"
            ),
        }
        for number, value in enumerate(values)
    ]
    one.write("own", *steps, {"run": "test ! -e mark"})
    run = one.run("own", variables={f"VALUE{number}": value for number, value in enumerate(values)})
    assert run.code == 0, run.text
    assert {step["id"]: run.outputs(step["id"])["status"] for step in steps} == dict.fromkeys(
        (step["id"] for step in steps), "usage"
    )
    assert "x" not in run.masks
