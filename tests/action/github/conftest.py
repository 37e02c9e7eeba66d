"""A runner with the action in it, as it stands in this checkout, and wheels in the place of an index."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from action.github import act
from action.github.act import ROOT, Run, Runner
from integration import examples
from integration.project import git
from services import debian, running
from services.belongings import Belongings
from services.needed import need
from services.running import Engine, RunningRegistry

EXAMPLES = ROOT / "examples" / "github"
_USED = re.compile(r"uses: ([\w/-]+@[0-9a-f]{40})")
# In the place of GitHub's where another commit than the one that is pushed is wanted; act has that one.
_CHECKOUT = """\
inputs: {ref: {}, persist-credentials: {}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {REF: "${{ inputs.ref }}"}
      run: git clone --quiet "$PUSHED" . && git checkout --quiet --detach "$REF"
"""
# In the place of GitHub's, which keeps files on its servers: they go to the folder KEPT, below what their
# paths have in common.
_UPLOAD = """\
inputs: {name: {}, path: {}, include-hidden-files: {}, if-no-files-found: {}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {NAME: "${{ inputs.name }}", FILES: "${{ inputs.path }}"}
      run: |
        mkdir "$KEPT/$NAME"
        case $(wc --words <<<"$FILES") in
          1) [[ ! -d $FILES ]] || FILES=$FILES/.; cp --recursive $FILES "$KEPT/$NAME" ;;
          *) cp --recursive --parents $FILES "$KEPT/$NAME" ;;
        esac
"""
_DOWNLOAD = """\
inputs: {name: {}, path: {default: .}}
runs:
  using: composite
  steps:
    - shell: bash
      env: {NAME: "${{ inputs.name }}", FOLDER: "${{ inputs.path }}"}
      run: mkdir --parents "$FOLDER" && cp --recursive "$KEPT/$NAME/." "$FOLDER"
"""


def pinned(action: str) -> str:
    """How the examples and our workflows name an action: by one commit."""
    workflows = [*EXAMPLES.glob("*.yml"), *(ROOT / ".github" / "workflows").glob("*.yml")]
    used = {name for path in workflows for name in _USED.findall(path.read_text())}
    (name,) = (name for name in used if name.startswith(f"{action}@"))
    return name


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheels of requirements/main.txt."""
    return download_wheels(tmp_path_factory.mktemp("wheels"))


def download_wheels(folder: Path, *more: str, lock: str = "main") -> Path:
    """Put the wheels of a lock into a folder."""
    options = (
        *("--quiet", "--require-hashes", "--only-binary", ":all:", "--no-deps"),
        "--dest",
        folder,
        *more,
    )
    requirements = str(ROOT / "requirements" / f"{lock}.txt")
    download = [sys.executable, "-m", "pip", "download", *options, "--requirement", requirements]
    subprocess.run(download, check=True, stdout=subprocess.DEVNULL)
    return folder


@pytest.fixture(scope="session")
def actions(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What the examples use, by commit: this checkout, and what stands for GitHub's servers."""
    folder = tmp_path_factory.mktemp("actions")
    known = {"secure-build/secure-build": act.checkout(folder / "secure-build")}
    for name, text in (
        ("actions/checkout", _CHECKOUT),
        ("actions/upload-artifact", _UPLOAD),
        ("actions/download-artifact", _DOWNLOAD),
    ):
        known[name] = folder / name
        known[name].mkdir(parents=True)
        (known[name] / "action.yml").write_text(text)
    return {pinned(name): path for name, path in known.items()}


@pytest.fixture
def runner(short_path: Path, wheels: Path, actions: Mapping[str, Path]) -> Runner:
    """A runner that is this machine."""
    folder = short_path / "runner"
    (folder / "kept").mkdir(parents=True)
    installing = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_NO_COMPILE": "1"}
    return Runner(folder, {**installing, "KEPT": str(folder / "kept")}, actions)


@pytest.fixture
def container(runner: Runner, registry: RunningRegistry, engine: Engine, tmp_path: Path) -> Runner:
    """A runner that is a container of Debian, with an interpreter of its own."""
    need("mmdebstrap")
    packages = ("ca-certificates", "git", "python3-venv")
    image = debian.image(registry, "runner/debian:1", packages=packages).partition("@")[0]
    docker = (running.tool("docker"), "--host", engine.host)
    subprocess.run([*docker, "pull", "--quiet", image], check=True, env=engine.environment)
    version = "import sys; print(sys.version_info.major, sys.version_info.minor, sep='.')"
    command = [*docker, "run", "--rm", image, "python3", "-c", version]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env=engine.environment)
    wheels = download_wheels(tmp_path / "wheels", "--python-version", found.stdout.strip())
    return dataclasses.replace(
        runner,
        variables={**runner.variables, "PIP_FIND_LINKS": str(wheels)},
        image=image,
        engine=engine.host,
        mounted=(wheels, Path(runner.variables["KEPT"])),
    )


@dataclass(frozen=True)
class Repository:
    """Somebody's repository with the project of an example; `secrets` are those of its settings."""

    folder: Path
    workflows: Path
    runner: Runner
    secrets: Mapping[str, str]

    def edit(self, name: str, *edits: tuple[str, str]) -> None:
        """Replace texts in a file of the project; each must be there."""
        _edit(self.folder / name, edits)

    def edit_workflow(self, name: str, *edits: tuple[str, str]) -> None:
        """Replace texts in a workflow, which makes no other commit; each must be there."""
        _edit(self.workflows / f"{name}.yml", edits)

    def run(self, workflow: str, **more: Any) -> Run:
        """Run an example's workflow, as it stands or was edited."""
        path = self.workflows / f"{workflow}.yml"
        return self.runner.run(self.folder, path, **{"secrets": self.secrets, **more})

    def write(self, name: str, *steps: Mapping[str, Any]) -> None:
        """Write a workflow of one job, which has these steps after a checkout."""
        job = {"runs-on": "ubuntu-24.04", "steps": [{"uses": pinned("actions/checkout")}, *steps]}
        (self.workflows / f"{name}.yml").write_text(json.dumps({"on": "push", "jobs": {"job": job}}))

    @property
    def commit(self) -> str:
        return git(self.folder, "rev-parse", "HEAD").strip()

    def kept(self, name: str) -> Path:
        """The folder of what a workflow has kept under a name."""
        return Path(self.runner.variables["KEPT"]) / name


def _edit(path: Path, edits: tuple[tuple[str, str], ...]) -> None:
    text = path.read_text()
    for find, put in edits:
        assert find in text, find
        text = text.replace(find, put)
    path.write_text(text)


Repositories = Callable[[str], Repository]


@pytest.fixture
def repository(
    short_path: Path, runner: Runner, copy_example: Callable[[str, Path], None], owned: Belongings
) -> Repositories:
    """Makes a repository of an example's project; it builds with buildah, which needs no service."""

    def make(example: str) -> Repository:
        need("buildah", "git")
        folder = short_path / "app"
        copy_example(example, folder)
        # Certificates are committed where a job needs them, and no private key is.
        (folder / ".gitignore").write_text(".secure-build/\n*.key\n")
        workflows = short_path / "workflows"
        shutil.copytree(EXAMPLES, workflows)
        config = folder / "secure-build.yaml"
        if "\nimages:" in config.read_text():
            config.write_text(f"{config.read_text()}\nbuilder: buildah\n")
        return Repository(folder, workflows, runner, examples.secrets(folder, owned.secrets))

    return make
