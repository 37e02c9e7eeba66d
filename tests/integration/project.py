"""A small project in a git repository, the real command line on it, and what came out.

Contracts are taken apart with `base64`, `tar` and `gzip`, so that nothing of ours reads what is ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from services import running

SECURE_BUILD = Path(sys.executable).with_name("secure-build")
SECONDS = 180
IDENTITY = {
    "GIT_AUTHOR_NAME": "tests",
    "GIT_AUTHOR_EMAIL": "tests@example.com",
    "GIT_COMMITTER_NAME": "tests",
    "GIT_COMMITTER_EMAIL": "tests@example.com",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}

# The base has busybox and no shell. The step runs a program of the image's platform.
DOCKERFILE = """\
FROM {base}
COPY page/ /srv/www/
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox uname -m > /srv/www/machine.txt"]
CMD ["/bin/busybox", "cat", "/srv/www/machine.txt"]
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str


@dataclass
class Project:
    """A git repository with `secure-build.yaml`; `environment` is all that the command line sees."""

    directory: Path
    environment: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    # In front of the command line, to run it as somebody else.
    runner: tuple[str, ...] = ()

    @property
    def image(self) -> str:
        """The reference that `web` is published under."""
        return str(self.config["images"]["web"]["image"])

    @property
    def workdir(self) -> Path:
        return self.directory / ".secure-build"

    @property
    def contract_path(self) -> Path:
        return self.workdir / "workload.yaml"

    @property
    def record_path(self) -> Path:
        return self.workdir / "build-record.json"

    # The source

    def write(self, files: Mapping[str, str]) -> None:
        for name, content in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def commit(self, files: Mapping[str, str] | None = None) -> None:
        """Commit these files, the config and whatever else there is."""
        self.write({"secure-build.yaml": yaml.safe_dump(self.config, sort_keys=False), **(files or {})})
        git(self.directory, "init", "--quiet")
        git(self.directory, "add", "--all")
        git(self.directory, "commit", "--quiet", "-m", "a change")

    # The command line

    def run(
        self, *arguments: str, status: int = 0, environment: Mapping[str, str] | None = None, umask: int = -1
    ) -> Outcome:
        """Run `secure-build` here; its exit code must be `status`."""
        process = self.start(*arguments, environment=environment, umask=umask)
        stdout, stderr = process.communicate(timeout=SECONDS)
        assert process.returncode == status, f"exit code {process.returncode}\n{stdout}\n{stderr}"
        return Outcome(process.returncode, stdout, stderr)

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None, umask: int = -1
    ) -> subprocess.Popen[str]:
        """Start `secure-build` here in a session of its own."""
        return subprocess.Popen(
            [*self.runner, str(SECURE_BUILD), *arguments],
            cwd=self.directory,
            env={**self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            umask=umask,
        )

    # What came out

    def record(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.record_path.read_text())
        return document

    def digest(self, name: str = "web") -> str:
        """The digest of a built image, from the build record."""
        return next(
            str(image["descriptor"]["digest"]) for image in self.record()["images"] if image["name"] == name
        )

    def workload(self) -> dict[str, Any]:
        """The workload section of the contract."""
        section: dict[str, Any] = yaml.safe_load(yaml.safe_load(self.contract_path.read_text())["workload"])
        return section

    def archive(self) -> bytes:
        """The archive in the contract, decoded."""
        return command("base64", "--decode", stdin=self.workload()["compose"]["archive"].encode())

    def compose(self) -> dict[str, Any]:
        """The compose file in the archive in the contract."""
        content = command("tar", "-xzO", "docker-compose.yml", stdin=self.archive())
        document: dict[str, Any] = yaml.safe_load(content)
        return document

    def pinned(self, service: str = "web") -> str:
        return str(self.compose()["services"][service]["image"])


def command(*argv: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None) -> bytes:
    """Standard output of a program that is not ours and has to succeed."""
    outcome = subprocess.run(
        [running.tool(str(argv[0])), *argv[1:]],
        input=stdin,
        capture_output=True,
        env={**running.environment(), **(environment or {})},
        timeout=SECONDS,
        check=False,
    )
    assert outcome.returncode == 0, f"{argv}: {outcome.stdout!r} {outcome.stderr!r}"
    return outcome.stdout


def git(directory: Path, *arguments: str) -> str:
    return command("git", "-C", directory, *arguments, environment=IDENTITY).decode()
