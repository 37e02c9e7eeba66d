"""Many images, and many runs at the same time against one registry that lets only so many requests through.

`make torture` takes more of both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from integration.project import Project
from services import running
from services.counting import CountingProxy
from services.needed import need

ALL = os.environ.get("TORTURE") == "all"
_RUNS = 24 if ALL else 8
_IMAGES = 200 if ALL else 60
# Requests that all runs together may make in one second.
_RATE = 60 if ALL else 20
_MEBIBYTE = 1 << 20
_MOST_MEMORY = 150 * _MEBIBYTE
# Connections are at most 32; the rest are pipes, the layout, the lock and what Python has open.
_MOST_DESCRIPTORS = 100
# More is a storm: at the slowest pace, few requests of a run get through in a second, and one or two do not.
_REFUSED_PER_REQUEST = 2


@dataclass
class Watched:
    """The most that one process had, in bytes and open files."""

    memory: int = 0
    descriptors: int = 0

    def look(self, pid: int) -> None:
        """Whoever has ended is not looked at any more."""
        folder = Path("/proc") / str(pid)
        try:
            status = (folder / "status").read_text()
            self.descriptors = max(self.descriptors, len(list((folder / "fd").iterdir())))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.memory = max(self.memory, int(line.split()[1]) << 10)


def finished(processes: list[subprocess.Popen[str]], watched: Watched, seconds: float) -> None:
    """Wait for all of them, each of which has to end well."""
    with ThreadPoolExecutor(len(processes)) as threads:
        # What they say is read all the time: a full pipe would stop them.
        ends = [threads.submit(process.communicate, timeout=seconds) for process in processes]
        while not all(end.done() for end in ends):
            for process in processes:
                watched.look(process.pid)
            time.sleep(0.05)
    for process, end in zip(processes, ends, strict=True):
        _, said = end.result()
        assert process.returncode in (0, 5), said


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[running.RunningRegistry]:
    need("docker-registry", "buildah")
    with running.registry(tmp_path / "registry") as started:
        yield started


def project(folder: Path, host: str, count: int) -> Project:
    """A project of so many small images, built."""
    home = folder / "home"
    home.mkdir()
    images = {
        f"image{number}": {"image": f"{host}/many/image{number}:1.0", "build": {"context": f"image{number}"}}
        for number in range(count)
    }
    config = {
        "version": 1,
        "target": "ccrt",
        "builder": "buildah",
        "images": images,
        "attestations": {"sbom": []},
        "workload": {"compose": "docker-compose.yml"},
    }
    made = Project(folder / "project", {**running.environment(), "HOME": str(home)}, config)
    made.directory.mkdir()
    services = "".join(f"  {name}:\n    image: {one['image']}\n" for name, one in images.items())
    contexts = {f"{name}/Dockerfile": f"FROM scratch\nLABEL name={name}\n" for name in images}
    made.commit({**contexts, "docker-compose.yml": f"services:\n{services}"})
    made.run("build")
    return made


def contract(of: Project) -> dict[str, str]:
    """Which image each service has in the contract."""
    return {name: str(service["image"]) for name, service in of.compose()["services"].items()}


def test_many_runs_share_a_registry_that_limits_them(
    tmp_path: Path, registry: running.RunningRegistry, figures: Counter[str]
) -> None:
    with CountingProxy(registry.host, rate=_RATE) as proxy:
        first = project(tmp_path, proxy.host, 10)
        copies = []
        for number in range(_RUNS):
            copy = Project(tmp_path / f"copy{number}", first.environment, first.config)
            shutil.copytree(first.directory, copy.directory, symlinks=True)
            copies.append(copy)
        watched = Watched()
        finished([copy.start("run", "--quiet") for copy in copies], watched, 600)
        found = contract(copies[0])
        assert found == {
            name: f"{one['image'].rpartition(':')[0]}@{first.digest(name)}"
            for name, one in first.config["images"].items()
        }
        assert all(contract(copy) == found for copy in copies)

        statuses = Counter(one.status for one in proxy.requests)
        refused = statuses.pop(429, 0)
        served = sum(statuses.values())
        # Positive control: the limit was reached.
        assert refused
        assert refused <= served * _REFUSED_PER_REQUEST, f"{refused} of {served + refused} were refused"
        # Each run may be the first that publishes an image, which takes 9 requests, and 1 to verify it; a few
        # more where a blob of another run is not seen yet.
        assert served <= _RUNS * 10 * 13
    assert watched.memory < _MOST_MEMORY
    assert 3 < watched.descriptors < _MOST_DESCRIPTORS
    figures["runs at once against one registry that limits them"] += _RUNS
    figures["requests of those that were served"] += served
    figures["requests that it refused"] += refused


def test_a_config_of_very_many_images(
    tmp_path: Path, registry: running.RunningRegistry, figures: Counter[str]
) -> None:
    made = project(tmp_path, registry.host, _IMAGES)
    watched = Watched()
    finished([made.start("run", "--quiet")], watched, 600)
    assert len(contract(made)) == _IMAGES
    with (made.directory / "secure-build.yaml").open() as file:
        assert len(yaml.safe_load(file)["images"]) == _IMAGES
    finished([made.start("verify", "--quiet")], watched, 600)
    assert watched.memory < _MOST_MEMORY
    assert 3 < watched.descriptors < _MOST_DESCRIPTORS
    figures["images of one config, built and published"] += _IMAGES
