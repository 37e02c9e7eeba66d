"""What gets into a job through the action: nothing that its requirements, its inputs or a build bring."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

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
        *("::stop-commands::planted", "::add-path::/planted", "::set-env name=PATH::/planted", "##[command]planted"),
    )
    recipe = one.folder / "app" / "Dockerfile"
    steps = "".join(f'RUN ["/bin/busybox", "echo", "{line}"]\n' for line in printed)
    recipe.write_text(recipe.read_text().replace("EXPOSE", f"{steps}EXPOSE"))
    one.write("own", {"id": "run", "uses": ACTION, "with": {"command": "build", "verbose": "true"}})
    run = one.run("own")
    assert run.code == 0, run.text
    assert all(f"\n{line}\n" in run.text for line in printed if line.startswith("##"))
    assert re.fullmatch("sha256:[0-9a-f]{64}", run.outputs("run")["digest"])
    assert "linux" not in run.masks
    assert run.annotations("error") == []
    assert "build" in run.groups
    assert not any("planted" in str(event.get("arg")) for event in run.events)


def test_no_input_runs_anything(repository: Repositories, short_path: Path) -> None:
    mark = short_path / "mark"
    # Nothing in an environment has a zero.
    values = [value for value in hostile.values(str(mark)).values() if "\0" not in value]
    assert len(values) > 30
    one = repository("minimal")
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert {"working-directory", "command", "python"} < set(inputs)
    alone = ({"python"}, {"command"})
    together = set(inputs).difference(*alone)
    steps = [
        {
            "id": f"step{number}-{len(names)}-{'python' in names}",
            "uses": ACTION,
            "continue-on-error": True,
            "with": {name: f"${{{{ env.VALUE{number} }}}}" for name in sorted(names)},
        }
        for number in range(len(values))
        for names in (*alone, together)
    ]
    one.write("own", *steps)
    run = one.run("own", variables={f"VALUE{number}": value for number, value in enumerate(values)})
    assert run.code == 0
    assert not mark.exists()
    for step in steps:
        status = run.outputs(step["id"]).get("status", "")
        assert status == ("" if "python" in step["with"] else "usage"), step
    assert "x" not in run.masks
