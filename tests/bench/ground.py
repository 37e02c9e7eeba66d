"""What rows stand on: a registry behind a network, an engine, projects with images, and keys."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.measure import Command
from integration.access_log import AccessLog
from integration.project import IDENTITY, SECURE_BUILD, Project
from services import running
from services.gpg_keys import GpgHome
from services.running import RunningRegistry

UNSIGNED = {"attestations": {"provenance": False, "sbom": []}}
_PASSWORD = "correct horse"
# Connections that the floor keeps open, as many as this tool does.
_CONNECTIONS = 32
_TESTS = Path(__file__).parents[1]
_PIECE = 1 << 20


@dataclass
class Ground:
    """What one row stands on; all of it is below `folder`, which is short-lived."""

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
                cwd=_TESTS,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.exits.callback(process.kill)
            assert process.stdout is not None
            self._networks[milliseconds] = f"127.0.0.1:{process.stdout.readline().strip()}"
        return self._networks[milliseconds]

    def floor(
        self,
        milliseconds: int,
        jobs: Sequence[Sequence[Mapping[str, str]]],
        reset: Callable[[], None] = lambda: None,
    ) -> Command:
        """These requests and nothing else; see `floor.py`."""
        argv = [sys.executable, "-m", "bench.floor", self.host(milliseconds), str(_CONNECTIONS)]
        return Command("floor", argv, _TESTS, self.environment, reset, json.dumps(jobs).encode())

    @cached_property
    def environment(self) -> dict[str, str]:
        """That of a user; what is compiled anew each time is no start-up."""
        home = self.folder / "home"
        home.mkdir()
        own = {name: value for name, value in running.environment().items() if not name.startswith("PYTHON")}
        return {
            **own,
            **IDENTITY,
            "HOME": str(home),
            "COSIGN_PASSWORD": _PASSWORD,
            "COSIGN_KEY": self.cosign_key.read_text(),
            "GPG_KEY": self.gpg.private("builder"),
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
            "COSIGN_PASSWORD": _PASSWORD,
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

    def start_engine(self) -> None:
        """Start a container engine; whoever runs in `environment` from now on uses it."""
        engine = self.exits.enter_context(running.engine(self.folder / "engine"))
        names = ("DOCKER_HOST", "DOCKER_CONFIG")
        self.environment.update({name: engine.environment[name] for name in names})

    def project(
        self, name: str, host: str, count: int, *, size: int = 900, more: Mapping[str, Any] | None = None
    ) -> Project:
        """A project that builds so many images, each of so many bytes that no compression makes fewer."""
        images, files = {}, {}
        for number in range(count):
            context = f"context{number:04}"
            image = f"{host}/{name}/image{number:04}:1.0"
            images[f"image{number:04}"] = {"image": image, "build": {"context": context}}
            files[f"{context}/Dockerfile"] = "FROM scratch\nCOPY page /page\n"
        services = "".join(
            f"  s{number:04}:\n    image: {image['image']}\n" for number, image in enumerate(images.values())
        )
        config = {
            "version": 1,
            "target": "ccrt",
            "images": images,
            "workload": {"compose": "docker-compose.yml"},
            **(more or {}),
        }
        project = Project(self.folder / name, self.environment, config)
        project.directory.mkdir()
        project.write(files)
        for number in range(count):
            with (project.directory / f"context{number:04}" / "page").open("wb") as page:
                # Whoever is started by a process inherits its peak of memory.
                for start in range(0, size, _PIECE):
                    page.write(os.urandom(min(_PIECE, size - start)))
        project.commit({"docker-compose.yml": f"services:\n{services}"})
        return project

    def fill(self, count: int) -> str:
        """Put so many small images to the registry; their names without the numbers, `0000` and on."""
        repositories = self.data() / "docker" / "registry" / "v2" / "repositories" / "base"
        if not repositories.exists():
            base = self.project("base", self.registry.host, 1, more={"builder": "buildah", **UNSIGNED})
            self.run(base, "build")
            self.push(base)
        for number in range(1, count):
            there = repositories / f"image{number:04}"
            if not there.exists():
                shutil.copytree(repositories / "image0000", there)
        return "base/image"

    def push(self, project: Project) -> None:
        """Put the images of a layout to the registry as a stranger would."""
        layout = project.workdir / "layout"
        for image in project.config["images"].values():
            name = str(image["image"])
            there = f"docker://{self.registry.host}/{name.partition('/')[2]}"
            self.must(
                *("skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false"),
                f"oci:{layout}:{name}",
                there,
            )

    def must(self, *argv: str) -> None:
        """Run a program that has to succeed."""
        subprocess.run(argv, env=self.environment, check=True, capture_output=True)

    def run(self, project: Project, *arguments: str) -> None:
        """Run our command line, as long as it takes."""
        subprocess.run(
            ours(*arguments), cwd=project.directory, env=project.environment, check=True, capture_output=True
        )

    def data(self) -> Path:
        """What the registry keeps."""
        return self.folder / "registry" / "data"

    @contextlib.contextmanager
    def kept(self, *places: Path) -> Iterator[Callable[[], None]]:
        """A function that puts these folders back as they are now."""
        copy = self.folder / "kept"
        there = [place.exists() for place in places]
        for number, place in enumerate(places):
            if there[number]:
                shutil.copytree(place, copy / str(number), symlinks=True)

        def back() -> None:
            for number, place in enumerate(places):
                shutil.rmtree(place, ignore_errors=True)
                if there[number]:
                    shutil.copytree(copy / str(number), place, symlinks=True)

        yield back
        shutil.rmtree(copy, ignore_errors=True)


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
        yield Ground(folder, registry, exits)


def ours(*arguments: str) -> list[str]:
    return [str(SECURE_BUILD), *arguments]


def shell(script: str, *arguments: str) -> list[str]:
    """A script as somebody would write it who has the rival only; `"$@"` are the arguments."""
    return ["bash", "-euc", script, "bash", *arguments]


def machine() -> str:
    """What this was measured on, in one line."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{os.cpu_count()} cores, {next(named, 'unknown processor')}, Python {sys.version.split()[0]}"
