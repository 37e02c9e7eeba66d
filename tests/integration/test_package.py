"""What is released: a wheel and a source archive that anybody can make again, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Built = tuple[Path, Path]


def build(folder: Path, *, umask: int, year: int, zone: str) -> Built:
    """A wheel and a source archive of the commit, from a folder, rights and a time of their own."""
    source = folder / "source"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "--no-same-permissions"], cwd=source, input=archive, check=True, umask=umask)
    for path in source.rglob("*"):
        os.utime(path, (year * 31_556_952, year * 31_556_952))
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TZ": zone, "LC_ALL": "C"}
    for kind in ("wheel", "sdist"):
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(folder)],
            cwd=source, env=environment, check=True, capture_output=True, umask=umask,
        )  # fmt: skip
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(tmp_path_factory.mktemp("first"), umask=0o022, year=40, zone="UTC")


def test_both_are_the_same_again(built: Built, tmp_path: Path) -> None:
    again = build(tmp_path / "other" / "place", umask=0o077, year=55, zone="Asia/Tokyo")
    assert [path.name for path in again] == [path.name for path in built]
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in built]


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
