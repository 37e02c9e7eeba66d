"""The classic builder of a Docker engine, with either of its image stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.conftest import PrivateRegistry
from integration.processes import interrupt_a_step
from integration.project import SECONDS, Project, command
from integration.test_secrets import run_sampled, shown_to_others, sweep
from services import running
from services.needed import give_up, need
from services.running import Engine

Projects = Callable[..., Project]


@pytest.fixture(scope="module")
def old_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that keeps images in the older store and exports no layouts."""
    need("docker", "docker-buildx")
    try:
        with running.engine(tmp_path_factory.mktemp("old-engine"), exports_layouts=False) as started:
            yield started
    except running.MissingTool as missing:
        give_up(str(missing))


@pytest.fixture(params=["containerd", "older"])
def make_classic(request: pytest.FixtureRequest, make_project: Projects) -> Projects:
    """Makes a project for this machine's platform that is built by an engine with one of the stores."""

    def make(builder: str | None = "engine", **config: object) -> Project:
        engine: Engine = request.getfixturevalue("engine" if request.param == "containerd" else "old_engine")
        project = make_project("engine", **config)
        project.config["images"]["web"]["build"]["platforms"] = ["linux/amd64"]
        project.environment["DOCKER_HOST"] = engine.host
        return project

    return make


def images_of(project: Project) -> str:
    return command(
        "docker", "images", "--all", "--quiet", "--filter=dangling=true", environment=project.environment
    ).decode()


def test_image_is_whole_and_runs(make_classic: Projects, tmp_path: Path) -> None:
    project = make_classic(workload={"compose": "docker-compose.yml"})
    project.commit()
    before = images_of(project)
    project.run("build")
    image = project.record()["images"][0]
    assert image["builder"]["name"] == "engine"
    assert image["materials"] is None
    assert not image["reproducible"]
    project.run("publish")
    # crane checks every digest, the layers against the config too; skopeo reads the layout.
    command("crane", "validate", "--insecure", "--remote", project.image)
    command("skopeo", "inspect", f"oci:{project.workdir / 'layout'}:{project.image}")
    tar = tmp_path / "image.tar"
    command("crane", "export", "--insecure", project.image, tar)
    assert b"x86_64" in command("tar", "-xOf", tar, "srv/www/machine.txt")
    assert b"It runs" in command("tar", "-xOf", tar, "srv/www/index.html")
    # Nothing stays in the engine.
    assert images_of(project) == before


def test_ignore_file_and_arguments(make_classic: Projects, base: str, tmp_path: Path) -> None:
    project = make_classic()
    project.config["images"]["web"]["build"] |= {"args": {"GREETING": "hello"}, "target": "first"}
    project.commit(
        {
            "app/Dockerfile": f"FROM {base} AS first\nARG GREETING\nENV G=$GREETING\nCOPY page /srv/\n"
            "FROM first\nENV G=last\n",
            "app/.dockerignore": "# a comment\npage/private\n",
            "app/page/private": "left out\n",
        }
    )
    project.run("build")
    project.run("publish")
    tar = tmp_path / "image.tar"
    command("crane", "export", "--insecure", project.image, tar)
    listing = command("tar", "-tf", tar).decode().splitlines()
    assert "srv/index.html" in listing
    assert "srv/private" not in listing
    config = json.loads(command("crane", "config", "--insecure", project.image))
    assert "G=hello" in config["config"]["Env"]


def test_step_that_fails(make_classic: Projects, base: str) -> None:
    project = make_classic()
    project.commit(
        {"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sh", "-c", "echo so far; exit 7"]\n'}
    )
    outcome = project.run("build", status=1)
    assert "so far" in outcome.stderr
    assert "returned a non-zero code: 7" in outcome.stderr
    assert not project.record_path.exists()


def test_other_platform(make_classic: Projects, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """With the newer store, an engine may take a base of another platform: that is noticed."""
    project = make_classic()
    project.commit()
    project.run("build")
    project.config["images"]["web"]["build"]["platforms"] = ["linux/s390x"]
    project.commit()
    process = project.start("build")
    _, stderr = process.communicate(timeout=SECONDS)
    if process.returncode:
        assert "containerd" in request.node.name, stderr
        assert "asked for linux/s390x, engine" in stderr or "not the one of the image" in stderr
        return
    project.run("publish")
    command("crane", "validate", "--insecure", "--remote", project.image)
    tar = tmp_path / "image.tar"
    command("crane", "export", "--insecure", "--platform=linux/s390x", project.image, tar)
    assert b"s390x" in command("tar", "-xOf", tar, "srv/www/machine.txt")


def test_mount_is_explained(make_classic: Projects, base: str) -> None:
    project = make_classic()
    project.commit(
        {"app/Dockerfile": f'FROM {base}\nRUN --mount=type=cache,target=/c ["/bin/busybox", "true"]\n'}
    )
    outcome = project.run("build", status=1)
    assert "needs the builder `buildx` or `buildah`" in outcome.stderr


def test_private_base(make_classic: Projects, private_registry: PrivateRegistry) -> None:
    where = private_registry
    project = make_classic(base=where.base, registries={where.host: {"pull": where.login("builder")}})
    project.environment["BUILDER_PASSWORD"] = where.passwords["builder"]
    project.commit()
    outcome, seen = run_sampled(project, "build", "-v")
    sweep(project, outcome, where.passwords)
    assert shown_to_others(seen, where.passwords) == []
    project.environment["BUILDER_PASSWORD"] = "wrong?Canary&word"
    project.commit({"README.md": "another commit\n"})
    outcome, _ = run_sampled(project, "build", "-v", status=1)
    assert "`pull:` under `registries:`" in outcome.stderr
    sweep(project, outcome, {"wrong": "wrong?Canary&word"})


@pytest.mark.parametrize(
    ("build", "what"),
    [
        ({"secrets": {"id": {"secret": "SOME_SECRET"}}}, "build secrets"),
        ({"contexts": {"other": "app"}}, "further build contexts"),
        ({"cache": {"to": "127.0.0.1:1/cache:1"}}, "a build cache in a registry"),
    ],
)
def test_what_it_cannot_do(make_classic: Projects, build: dict[str, object], what: str) -> None:
    project = make_classic()
    project.config["images"]["web"]["build"] |= build
    project.environment["SOME_SECRET"] = "some secret"
    project.commit()
    outcome = project.run("build", status=2)
    assert f"the builder `engine` cannot do {what}" in outcome.stderr


def test_ctrl_c(make_classic: Projects, base: str) -> None:
    # The engine ends a build whose client is gone.
    interrupt_a_step(make_classic(), base)


def test_is_the_last_that_is_tried(old_engine: Engine, make_project: Projects, short_path: Path) -> None:
    """Where buildx cannot export and buildah is missing, it is what is left."""
    project = make_project("engine")
    del project.config["builder"]
    project.config["images"]["web"]["build"]["platforms"] = ["linux/amd64"]
    programs = short_path / "programs"
    programs.mkdir()
    for name in ("docker", "git"):
        (programs / name).symlink_to(running.tool(name))
    project.environment |= {"DOCKER_HOST": old_engine.host, "PATH": str(programs)}
    project.commit()
    project.run("build")
    assert project.record()["images"][0]["builder"]["name"] == "engine"


def test_no_engine(make_project: Projects, engine: Engine) -> None:
    project = make_project("engine")
    project.environment["DOCKER_HOST"] = "unix:///nonexistent/docker.sock"
    project.commit()
    outcome = project.run("build", status=3)
    assert "the Docker engine" in outcome.stderr
    assert "DOCKER_HOST" in outcome.stderr
