"""What is released: a wheel and a source archive that anybody can make again, byte for byte."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from integration.project import command, git
from secure_build import __version__

ROOT = Path(__file__).parents[2]
Built = tuple[Path, Path]


def release(tree: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the program that makes releases, in a clone of this repository."""
    program = [sys.executable, tree / "actions" / "release" / "release.py", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(program, cwd=tree, env=environment, check=False, capture_output=True, text=True)


def cloned(folder: Path) -> Path:
    """This repository at its commit, somewhere else."""
    command("git", "clone", "--quiet", "--no-hardlinks", ROOT, folder)
    return folder


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what is released."""
    folder = tmp_path_factory.mktemp("release") / "dist"
    ended = release(ROOT, "build", folder)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def built(files: Path) -> Built:
    (wheel,), (sdist,) = files.glob("*.whl"), files.glob("*.tar.gz")
    return wheel, sdist


def test_everybody_makes_the_same_files(files: Path, tmp_path: Path) -> None:
    again = tmp_path / "other" / "place"
    ended = release(cloned(tmp_path / "clone"), "build", again)
    assert ended.returncode == 0, ended.stderr
    made = {path.name: path.read_bytes() for path in again.iterdir()}
    assert made == {path.name: path.read_bytes() for path in files.iterdir()}
    listed = command("env", f"--chdir={again}", "sha256sum", "--check", "SHA256SUMS").decode()
    assert set(listed.splitlines()) == {f"{name}: OK" for name in made.keys() - {"SHA256SUMS"}}


def test_the_sbom_lists_what_is_released_and_every_package_of_the_lock(files: Path) -> None:
    (path,) = files.glob("*.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None
    document = json.loads(path.read_text())

    def hashes(component: dict[str, Any]) -> dict[str, set[str]]:
        references = component["externalReferences"]
        return {one["url"]: {found["content"] for found in one["hashes"]} for one in references}

    released = document["metadata"]["component"]
    assert (released["name"], released["version"]) == ("secure-build", __version__)
    sums = [line.split() for line in (files / "SHA256SUMS").read_text().splitlines()]
    assert hashes(released) == {name: {digest} for digest, name in sums if name != path.name}
    locked: dict[str, set[str]] = {}
    for line in (ROOT / "requirements" / "main.txt").read_text().splitlines():
        if name := re.match(r"([\w.-]+)==([^ ;]+)", line):
            current = locked.setdefault(f"pkg:pypi/{name[1]}@{name[2]}", set())
        current.update(re.findall("sha256:([0-9a-f]{64})", line))
    assert {one["purl"]: hashes(one)[one["purl"]] for one in document["components"]} == locked
    (needed,) = (one["dependsOn"] for one in document["dependencies"] if one["ref"] == released["purl"])
    assert set(needed) == set(locked)


HOOK = """
[tool.hatch.build.targets.wheel.hooks.custom]
path = "hook.py"
"""
WRITES_WHERE_IT_IS_BUILT = """\
from pathlib import Path
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

class Hook(BuildHookInterface):
    def initialize(self, version, build_data):
        Path(self.root, "where").write_text(self.root)
        build_data["force_include"][self.root + "/where"] = "secure_build/where"
"""


def test_what_depends_on_more_than_the_commit_is_not_released(tmp_path: Path) -> None:
    clone = cloned(tmp_path / "clone")
    with (clone / "pyproject.toml").open("a") as settings:
        settings.write(HOOK)
    (clone / "hook.py").write_text(WRITES_WHERE_IT_IS_BUILT)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "a change")
    ended = release(clone, "build", tmp_path / "dist", TMPDIR=str(tmp_path))
    assert ended.returncode == 1, ended.stderr
    assert "-none-any.whl` is not the same when it is built again" in ended.stderr
    assert not list((tmp_path / "dist").iterdir())


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    listed = ["git", "ls-files", "pipeline/secure_build"]
    kept = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert names == {name.removeprefix("pipeline/") for name in kept.splitlines()}


def test_the_source_archive_holds_what_a_build_needs(built: Built) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {member.name.partition("/")[2] for member in sdist.getmembers()}
        assert all(member.isfile() and member.uid == member.gid == 0 for member in sdist.getmembers())
    assert {"pyproject.toml", "README.md", "LICENSE", "pipeline/secure_build/cli.py"} <= names
    assert not any(part.startswith(".git/") or "__pycache__" in part for part in names)


def test_the_wheel_runs_where_nothing_else_of_ours_is(built: Built, tmp_path: Path) -> None:
    run = installed(tmp_path / "venv", built[0])
    assert run("--version").startswith("secure-build ")
    assert '"$schema"' in run("schema")


def test_59_a_bare_environment_is_enough(built: Built, tmp_path: Path) -> None:
    """No home, no locale, no terminal, nothing to read, and a reader that goes away."""
    installed(tmp_path / "venv", built[0])
    contract = tmp_path / "contract.yaml"
    contract.write_text("workload: |\n  type: workload\nenv: |\n  type: env\n")
    program = [tmp_path / "venv" / "bin" / "python", "-I", "-m", "secure_build"]
    ended = subprocess.run(
        [*program, "verify", contract, "--target", "ccrt", "--offline"],
        env={"LC_ALL": "C"}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert b"Traceback" not in ended.stderr
    assert b"refused" in ended.stdout
    read, write = os.pipe()
    os.close(read)
    ended = subprocess.run(
        [*program, "schema"], check=False, env={}, cwd="/",
        stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(write)
    assert ended.returncode == 1
    assert b"Traceback" not in ended.stderr


def installed(folder: Path, wheel: Path) -> Callable[..., str]:
    """The wheel in an environment that has its dependencies from here, and not its source."""
    venv.create(folder, with_pip=False)
    (packages,) = folder.glob("lib/python3.*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    here = next(path for path in map(Path, sys.path) if path.name == "site-packages")
    names = [path for path in here.iterdir() if "secure_build" not in path.name]
    for path in names:
        if not (packages / path.name).exists():
            (packages / path.name).symlink_to(path)

    def run(*arguments: str) -> str:
        ended = subprocess.run(
            [folder / "bin" / "python", "-I", "-m", "secure_build", *arguments],
            cwd=folder, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return ended.stdout

    return run
