"""Runs a workflow with act, which is a runner of GitHub's workflows that is not ours.

What act does not do as GitHub does: it ignores `permissions`, sets `INPUT_*` in composite steps, and masks
literal values only. What it logs as JSON has masked values in the clear, so tests look for secrets in `text`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integration.project import git
from services import running

ACT = Path(sys.executable).with_name("act")
ROOT = Path(__file__).resolve().parents[3]
SECONDS = 280
# Every runner that the examples name is this machine.
RUNNERS = ("ubuntu-24.04", "ubuntu-24.04-s390x")


@dataclass(frozen=True, slots=True)
class Run:
    """How a workflow ended; `text` is the log that people see."""

    code: int
    text: str
    events: list[dict[str, Any]]

    def outputs(self, step: str, job: str | None = None) -> dict[str, str]:
        """Outputs of the step with this id in the workflow, of this job or of any."""
        return {
            event["name"]: event["arg"]
            for event in self._commands("set-output")
            if event["stepID"] == [step] and job in (None, event["jobID"])
        }

    def legs(self, step: str) -> list[tuple[dict[str, str], dict[str, str]]]:
        """Of each leg of a matrix, what tells it from others, and the outputs of the step with this id."""
        found: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
        for event in self._commands("set-output"):
            if event["stepID"] == [step]:
                leg = found.setdefault(event["job"], (event["matrix"], {}))
                leg[1][event["name"]] = event["arg"]
        return list(found.values())

    @property
    def groups(self) -> set[str]:
        """The names of the groups that the log is folded into."""
        return {event["arg"].removeprefix("secure-build: ") for event in self._commands("group")}

    @property
    def summary(self) -> str:
        # act reports a summary twice: of the step in the action, and of the step that uses it.
        return "".join(event["content"] for event in self._commands("summary") if len(event["stepID"]) > 1)

    def annotations(self, kind: str) -> list[dict[str, Any]]:
        """What is shown at a line or a job: `text`, and the properties that it has."""
        return [{**(event.get("kvPairs") or {}), "text": event["arg"]} for event in self._commands(kind)]

    @property
    def masks(self) -> set[str]:
        return {event["arg"] for event in self._commands("add-mask")}

    def _commands(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("command") == name]


@dataclass(frozen=True, slots=True)
class Runner:
    """Where workflows run: `folder` takes what act keeps, `variables` is what every step sees.

    `actions` are folders by the `owner/repository@commit` that workflows use. Without an image the steps run
    on this machine; else in a container of the engine at `engine`, with the folders `mounted`.
    """

    folder: Path
    variables: Mapping[str, str]
    actions: Mapping[str, Path]
    image: str | None = None
    engine: str = ""
    mounted: tuple[Path, ...] = ()

    def run(
        self,
        tree: Path,
        workflow: Path,
        *,
        secrets: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        event: str = "push",
        ref: str = "refs/heads/main",
        job: str | None = None,
        seconds: int = SECONDS,
    ) -> Run:
        """Commit what is in `tree` and run a workflow of it, or one job and what it needs.

        `secrets` and `settings` are those of the repository, `variables` what the machine has. `ref` is what
        was pushed.
        """
        _commit(tree)
        command = [
            str(ACT),
            event,
            "--json",
            "--pull=false",
            "--rm",
            "--no-cache-server",
            "--workflows",
            str(workflow),
        ]
        command += [
            part for name in RUNNERS for part in ("--platform", f"{name}={self.image or '-self-hosted'}")
        ]
        command += [
            part for name, path in self.actions.items() for part in ("--local-repository", f"{name}={path}")
        ]
        command += ["--job", job] if job else []
        payload = self.folder / "event.json"
        payload.write_text(json.dumps({"ref": ref}))
        command += ["--eventpath", str(payload)]
        if self.image:
            options = " ".join(f"--volume={path}:{path}" for path in self.mounted)
            command += ["--container-daemon-socket", "-", "--container-options", options]
        # In files, so that they are in no list of processes.
        given = {
            "secret": secrets,
            "env": {**self.variables, "PUSHED": str(tree), **(variables or {})},
            "var": settings,
        }
        for kind, values in given.items():
            path = self.folder / f"{kind}.yml"
            path.write_text(json.dumps(values or {}))
            command += [f"--{kind}-file", str(path)]
        ended = subprocess.run(
            command,
            cwd=tree,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        events = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith("{")]
        text = "".join(f"{event.get('msg', '')}\n" for event in events)
        return Run(ended.returncode, text + ended.stderr, events)

    def _environment(self) -> dict[str, str]:
        """What act is started with: it hands all of it on to steps on this machine."""
        home = self.folder / "home"
        (home / "tmp").mkdir(parents=True, exist_ok=True)
        # The interpreter itself: what stands on PATH may look for its versions in another home.
        return {
            "PATH": f"{Path(sys.base_prefix) / 'bin'}:{running.environment()['PATH']}",
            "HOME": str(home),
            "TMPDIR": str(home / "tmp"),
            "XDG_CACHE_HOME": str(self.folder / "act"),
            "LC_ALL": "C.UTF-8",
            "BUILDAH_ISOLATION": "chroot",
            "DOCKER_HOST": self.engine,
        }


def checkout(folder: Path) -> Path:
    """A copy of what the action consists of."""
    ignored = shutil.ignore_patterns("__pycache__")
    for name in (".github", "actions", "pipeline", "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "action.yml", folder)
    return folder


def _commit(tree: Path) -> None:
    git(tree, "init", "--quiet", "--initial-branch=main")
    if not git(tree, "remote"):
        git(tree, "remote", "add", "origin", "https://github.com/acme/app.git")
    git(tree, "add", "--all")
    if git(tree, "status", "--porcelain"):
        git(tree, "commit", "--quiet", "-m", "a change")
