"""How the action gets onto a runner: what it needs, what it keeps, and what it never takes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from action.github.act import ROOT


def start(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start the action's program as a runner would, for a command that needs nothing else."""
    folder.mkdir(exist_ok=True)
    given = {
        "PATH": os.environ["PATH"],
        "RUNNER_TEMP": str(folder),
        "RUNNER_OS": "Linux",
        "GITHUB_OUTPUT": str(folder / "outputs"),
        "GITHUB_PATH": str(folder / "path"),
        "PIP_NO_INDEX": "1",
        "SECURE_BUILD_COMMAND": "plan",
        **variables,
    }
    program = ROOT / "actions" / "github" / "secure-build.sh"
    return subprocess.run([program], env=given, cwd=folder, capture_output=True, text=True, check=False)


def is_installed(ended: subprocess.CompletedProcess[str]) -> bool:
    """Whether the tool ran: it finds no config where this was started."""
    return ended.returncode == 2 and "there is no config at" in ended.stderr


def test_a_cache_holds_wheels_whose_hashes_are_checked_again(tmp_path: Path, wheels: Path) -> None:
    cache = tmp_path / "cache"
    first = start(tmp_path / "first", ACTION_CACHE=str(cache), PIP_FIND_LINKS=str(wheels))
    assert is_installed(first), first.stdout + first.stderr
    assert {path.suffix for path in cache.iterdir()} == {".whl"}
    # Nothing but the command is on the PATH of later steps.
    (folder,) = (tmp_path / "first" / "path").read_text().splitlines()
    assert [path.name for path in Path(folder).iterdir()] == ["secure-build"]
    version = subprocess.run(
        [f"{folder}/secure-build", "--version"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("secure-build ")

    # The next action of the job installs nothing, and the next job takes what is kept.
    assert "install" in first.stdout
    again = start(tmp_path / "first", ACTION_CACHE=str(cache))
    assert is_installed(again)
    assert "install" not in again.stdout
    assert is_installed(start(tmp_path / "second", ACTION_CACHE=str(cache)))

    tampered = next(path for path in cache.iterdir() if path.name.startswith("docker-"))
    tampered.write_bytes(tampered.read_bytes() + b"x")
    third = start(tmp_path / "third", ACTION_CACHE=str(cache))
    assert third.returncode == 3
    assert "could not be installed" in third.stdout
    assert (tmp_path / "third" / "outputs").read_text() == "status=unsupported\n"


@pytest.mark.parametrize("system", ["macOS", "Windows"])
def test_another_system_is_told_which_runner_to_take(tmp_path: Path, system: str) -> None:
    ended = start(tmp_path, RUNNER_OS=system)
    assert ended.returncode == 3
    (line,) = ended.stdout.splitlines()
    assert f"needs a Linux runner, and this one has {system}" in line
    assert line.endswith("%0Ahint: runs-on: ubuntu-latest")


def test_an_old_interpreter_and_none_are_told_apart(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\necho False 3.9\n")
    old.chmod(0o755)
    assert "is older than Python 3.11" in start(tmp_path, ACTION_PYTHON=str(old)).stdout
    assert "does not run" in start(tmp_path, ACTION_PYTHON="/nonexistent").stdout


def test_on_s390x_the_distribution_brings_what_there_are_no_wheels_of(tmp_path: Path, wheels: Path) -> None:
    uname = tmp_path / "bin" / "uname"
    uname.parent.mkdir()
    uname.write_text("#!/bin/sh\necho s390x\n")
    uname.chmod(0o755)
    path = f"{uname.parent}{os.pathsep}{os.environ['PATH']}"
    ended = start(tmp_path / "temporary", PATH=path, PIP_FIND_LINKS=str(wheels))
    assert is_installed(ended), ended.stdout + ended.stderr
    settings = (tmp_path / "temporary/secure-build/venv/pyvenv.cfg").read_text()
    assert "include-system-site-packages = true" in settings
