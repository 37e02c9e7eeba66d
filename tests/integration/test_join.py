"""Two jobs on two builders make a platform each; a third publishes one image of both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.access_log import AccessLog
from integration.project import Project, command, git
from services import running
from services.needed import need
from services.running import RunningRegistry

Projects = Callable[..., Project]


@dataclass(frozen=True, slots=True)
class Jobs:
    """Two clones of one project, each with a builder of its own; `alone` builds everything itself."""

    s390x: Project
    amd64: Project
    alone: Project


@pytest.fixture
def jobs(
    builder: str,
    make_project: Projects,
    variables: Callable[..., dict[str, str]],
    tmp_path: Path,
) -> Iterator[Jobs]:
    alone = make_project(builder)
    alone.config["images"]["web"]["build"]["platforms"] = ["linux/s390x", "linux/amd64"]
    alone.commit()

    def clone(name: str, environment: dict[str, str]) -> Project:
        directory = alone.directory.with_name(f"{alone.directory.name}-{name}")
        git(alone.directory, "clone", "--quiet", str(alone.directory), str(directory))
        return Project(directory, environment, alone.config)

    if builder == "buildah":
        # Its store is in the work folder: each job has a builder of its own.
        yield Jobs(clone("s390x", variables(builder)), clone("amd64", variables(builder)), alone)
        return
    with running.engine(tmp_path / "engine") as other:
        elsewhere = variables(builder) | {"DOCKER_HOST": other.host}
        yield Jobs(clone("s390x", variables(builder)), clone("amd64", elsewhere), alone)


def check_published(jobs: Jobs) -> None:
    """crane and skopeo find both platforms under the tag, and what one job would have made."""
    image = jobs.alone.image
    jobs.alone.run("build")
    published = command("crane", "digest", "--insecure", image).decode().strip()
    assert published == jobs.alone.digest()
    index = json.loads(command("crane", "manifest", "--insecure", image))
    assert [it["platform"]["architecture"] for it in index["manifests"]] == ["amd64", "s390x"]
    for architecture in ("amd64", "s390x"):
        inspected = json.loads(
            command(
                "skopeo",
                "inspect",
                "--tls-verify=false",
                f"--override-arch={architecture}",
                f"docker://{image}",
            )
        )
        assert inspected["Architecture"] == architecture
        files = command("crane", "export", "--insecure", f"--platform=linux/{architecture}", image, "-")
        machine = command("tar", "-xO", "srv/www/machine.txt", stdin=files).decode().strip()
        assert machine == {"amd64": "x86_64"}.get(architecture, architecture)


def tag_requests(log: AccessLog) -> list[str]:
    return [it.method for it in log.requests() if it.writes and it.path.endswith("/manifests/1.0.0")]


def test_parts_that_are_handed_on_as_folders(jobs: Jobs, registry: RunningRegistry, short_path: Path) -> None:
    need("crane", "skopeo")
    log = AccessLog(registry)
    jobs.s390x.run("build", "--platform", "linux/s390x")
    jobs.amd64.run("build", "--platform", "linux/amd64")
    jobs.amd64.run("publish", status=2)
    assert [it for it in log.requests() if it.writes] == []
    parts = []
    for project in (jobs.s390x, jobs.amd64):
        # What a CI system keeps of a job and gives to the next.
        folder = short_path / f"part-{project.directory.name}"
        folder.mkdir()
        shutil.copy(project.record_path, folder)
        shutil.copytree(project.workdir / "layout", folder / "layout")
        parts += ["--record", str(folder / "build-record.json")]
    joining = jobs.s390x
    shutil.rmtree(joining.workdir)
    joining.run("run", *parts)
    assert joining.pinned().endswith(joining.digest())
    assert tag_requests(log) == ["PUT"]
    check_published(jobs)


def test_parts_that_are_handed_on_through_the_registry(jobs: Jobs, registry: RunningRegistry) -> None:
    need("crane", "skopeo")
    log = AccessLog(registry)
    parts = []
    for project, platform in ((jobs.s390x, "linux/s390x"), (jobs.amd64, "linux/amd64")):
        project.run("build", "--platform", platform)
        name = project.run("publish", "--by-digest").stdout.strip()
        parts += ["--record", name]
        artifact = json.loads(command("crane", "manifest", "--insecure", name))
        assert artifact["artifactType"] == "application/vnd.secure-build.record.v1"
        layer = f"{name.partition('@')[0]}@{artifact['layers'][0]['digest']}"
        assert json.loads(command("crane", "blob", "--insecure", layer)) == project.record()
    assert tag_requests(log) == []
    joining = jobs.amd64
    shutil.rmtree(joining.workdir)
    joining.run("run", *parts)
    writes = [it for it in log.requests() if it.writes]
    assert writes[-1].path.endswith("/manifests/1.0.0")
    assert tag_requests(log) == ["PUT"]
    check_published(jobs)
