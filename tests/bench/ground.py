"""What rows need to stand on: a registry behind a network, projects with images, keys, and the rivals."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from integration.access_log import AccessLog
from integration.project import IDENTITY, SECURE_BUILD, Project
from services import running
from services.gpg_keys import GpgHome
from services.running import RunningRegistry

PASSWORD = "correct horse"


@dataclass
class Ground:
    """The state of one bench; folders are below `folder`, which is short-lived."""

    folder: Path
    registry: RunningRegistry
    exits: contextlib.ExitStack
    log: AccessLog = field(init=False)
    _networks: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.log = AccessLog(self.registry)

    def requests(self) -> int:
        """How many requests the registry has had."""
        return len(self.log.requests())

    def host(self, milliseconds: int) -> str:
        """The registry, this far away."""
        if milliseconds == 0:
            return self.registry.host
        if milliseconds not in self._networks:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.network", self.registry.host, str(milliseconds)],
                cwd=Path(__file__).parents[1],
                stdout=subprocess.PIPE,
                text=True,
            )
            self.exits.callback(process.kill)
            assert process.stdout is not None
            self._networks[milliseconds] = f"127.0.0.1:{process.stdout.readline().strip()}"
        return self._networks[milliseconds]

    @cached_property
    def environment(self) -> dict[str, str]:
        home = self.folder / "home"
        home.mkdir()
        # What is compiled anew each time is no start-up.
        own = {name: value for name, value in running.environment().items() if not name.startswith("PYTHON")}
        return {
            **own,
            **IDENTITY,
            "HOME": str(home),
            "COSIGN_PASSWORD": PASSWORD,
            "COSIGN_KEY": self.cosign_key.read_text(),
            "GPG_KEY": self.gpg.private("builder"),
            "BUILDAH_ISOLATION": "chroot",
            # Go's TUF client waits long for a network that is not there.
            "HTTPS_PROXY": "http://127.0.0.1:9",
        }

    @cached_property
    def cosign_key(self) -> Path:
        folder = self.folder / "cosign"
        folder.mkdir()
        environment = {
            "PATH": running.environment()["PATH"],
            "HOME": str(folder),
            "COSIGN_PASSWORD": PASSWORD,
        }
        subprocess.run(
            [running.tool("cosign2"), "generate-key-pair"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        return folder / "cosign.key"

    @cached_property
    def gpg(self) -> GpgHome:
        home = GpgHome(self.folder / "gpg")
        home.make("builder")
        self.exits.callback(home.stop)
        return home

    def project(
        self, name: str, host: str, count: int, *, used: bool = False, more: Mapping[str, Any] | None = None
    ) -> Project:
        """A project with so many small images, its own or those of others."""
        directory = self.folder / name
        images, files = {}, {}
        for number in range(count):
            image = f"{host}/{name}/image{number:04}"
            if used:
                images[f"image{number:04}"] = {"use": f"{image}:1.0"}
            else:
                context = f"context{number:04}"
                images[f"image{number:04}"] = {"image": f"{image}:1.0", "build": {"context": context}}
                files[f"{context}/Dockerfile"] = "FROM scratch\nCOPY page /page\n"
                files[f"{context}/page"] = f"page {number}\n" * 100
        services = "".join(
            f"  s{number:04}:\n    image: {one.get('image') or one['use']}\n"
            for number, one in enumerate(images.values())
        )
        files["docker-compose.yml"] = f"services:\n{services}"
        config = {
            "version": 1,
            "target": "ccrt",
            "images": images,
            "workload": {"compose": "docker-compose.yml"},
            **(more or {}),
        }
        project = Project(directory, dict(self.environment), config)
        directory.mkdir()
        project.commit(files)
        return project

    def push(self, project: Project, directory: Path, names: Sequence[tuple[str, str]]) -> None:
        """Put images of a layout to their registries as a stranger would, with skopeo."""
        for source, target in names:
            subprocess.run(
                [
                    running.tool("skopeo"),
                    "copy",
                    "--quiet",
                    "--all",
                    "--dest-tls-verify=false",
                    f"oci:{directory}:{source}",
                    f"docker://{target}",
                ],
                env=project.environment,
                check=True,
                capture_output=True,
            )

    def data(self) -> Path:
        """What the registry keeps."""
        return self.folder / "registry" / "data"

    @contextlib.contextmanager
    def kept(self, *places: Path) -> Iterator[Any]:
        """A function that puts these folders back as they are now."""
        copy = self.folder / "kept" / str(len(list((self.folder / "kept").glob("*"))))
        for number, place in enumerate(places):
            shutil.copytree(place, copy / str(number), symlinks=True)

        def back() -> None:
            for number, place in enumerate(places):
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(copy / str(number), place, symlinks=True)

        yield back
        shutil.rmtree(copy)


def pinned(project: Project) -> list[str]:
    """All images of a project by digest, from its build record."""
    return [
        f"{image['reference'].rpartition(':')[0]}@{image['descriptor']['digest']}"
        for image in project.record()["images"]
    ]


@contextlib.contextmanager
def ground(folder: Path) -> Iterator[Ground]:
    os.environ.update(running.environment())
    with contextlib.ExitStack() as exits:
        registry = exits.enter_context(running.registry(folder / "registry"))
        (folder / "kept").mkdir()
        yield Ground(folder, registry, exits)


def ours(*arguments: str) -> list[str]:
    return [str(SECURE_BUILD), *arguments]


def shell(script: str, *arguments: str) -> list[str]:
    """A script as somebody would write it who has the rival only; `"$@"` are the arguments."""
    return ["bash", "-euc", script, "bash", *arguments]


def machine() -> str:
    """What this was measured on, in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "unknown processor",
    )
    return f"{os.cpu_count()} cores, {model}, Python {sys.version.split()[0]}"


__all__ = ["Ground", "ground", "machine", "ours", "pinned", "shell"]
