"""`action.yml`, its documentation and the command's flags say the same."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from secure_build import twins
from secure_build.arguments import parse, parser
from secure_build.doors.outputs import OUTPUTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "actions" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_files_are_as_the_declaration_makes_them(generate: ModuleType) -> None:
    documentation = (ROOT / "docs" / "github.md").read_text()
    assert (ROOT / "action.yml").read_text() == generate.action_yml()
    assert documentation == generate.tables(documentation)


def test_every_input_reaches_the_command(generate: ModuleType) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    (step,) = action["runs"]["steps"]
    carried = {re.findall(r"inputs\.([a-z0-9-]+)", value)[0]: name for name, value in step["env"].items()}
    for name, value in step["env"].items():
        # What a workflow sets for the command counts where an input says nothing.
        own = f" || env.{name}" if name.startswith("SECURE_BUILD_") else ""
        assert re.fullmatch(rf"\$\{{\{{ inputs\.[a-z0-9-]+{re.escape(own)}( \|\| 'run')? \}}\}}", value), (
            value
        )
    assert carried.keys() == action["inputs"].keys()
    assert "${{" not in step["run"]
    known = {twins.twin(one) for one in twins.options(parser()) if not twins.why_without(one)}
    door = (ROOT / "actions/github/secure-build.sh").read_text()
    door += (ROOT / "pipeline/secure_build/doors/github.py").read_text()
    for name, variable in carried.items():
        assert variable in {*known, twins.COMMAND} or re.search(rf"\b{variable}\b", door), name
    assert action["outputs"].keys() == OUTPUTS.keys()


def test_every_flag_with_a_variable_is_an_input_or_left_out_on_purpose(generate: ModuleType) -> None:
    offered = {one.name for one in generate.inputs()}
    for command in generate.COMMANDS:
        for action in twins.options(twins.chosen(parser(), command.split())):
            name = twins.flag(twins.twin(action))
            wanted = not twins.why_without(action) and name not in generate._LEFT_OUT
            assert (name in offered) == wanted or not wanted, name
    # What an example shows is taken.
    for one in generate.inputs():
        for command in one.commands[:1]:
            parse([], {twins.COMMAND: command, one.variable: one.example, **_required(command)})


def _required(command: str) -> dict[str, str]:
    return {"SECURE_BUILD_SECTION": "workload"} if command == "contract re-encrypt" else {}


def test_a_weakening_flag_is_no_input(generate: ModuleType) -> None:
    offered = {one.name for one in generate.inputs()}
    assert not offered & {"allow-dirty", "insecure-unverified-certificate", "reveal", "sha256", "probe-push"}
