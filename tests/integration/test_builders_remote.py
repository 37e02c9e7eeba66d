"""A builder elsewhere, reached through a socket: it pushes layers by digest. And several builders at once."""

from __future__ import annotations

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.access_log import AccessLog
from integration.conftest import PrivateRegistry, docker_config
from integration.processes import Sampler, interrupt_a_step
from integration.project import SECONDS, Project, command
from integration.test_secrets import found_in, shown_to_others
from services import running
from services.needed import need
from services.running import Engine, RunningRegistry

Projects = Callable[..., Project]
FAR = "buildx:far"


@pytest.fixture(scope="session")
def buildkit(engine: Engine) -> Iterator[str]:
    """The address of a BuildKit that is reached like one on another machine."""
    need("socat")
    with running.remote_buildkit(engine) as address:
        yield address


@pytest.fixture
def make_far(make_project: Projects, buildkit: str) -> Projects:
    """Makes a project whose user has made a remote builder called `far`."""

    def make(builder: object = FAR, **config: object) -> Project:
        project = make_project(FAR, **config)
        project.config["builder"] = builder
        register(project, buildkit)
        return project

    return make


def register(project: Project, address: str) -> None:
    docker(project, "buildx", "create", "--driver=remote", "--name=far", address)


def docker(project: Project, *arguments: str) -> str:
    return command("docker", *arguments, environment=project.environment).decode()


def tags(host: str, repository: str, login: str = "") -> list[str]:
    """The tags of a repository, asked for with nothing of ours. Without any, a registry may not know it."""
    request = urllib.request.Request(f"http://{host}/v2/{repository}/tags/list")
    if login:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return list(json.load(answer)["tags"] or [])
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 404:
            return []
        raise


def blobs(project: Project) -> set[str]:
    return {path.name for path in (project.workdir / "layout/blobs/sha256").iterdir()}


def test_layers_go_straight_to_the_registry(make_far: Projects, registry: RunningRegistry) -> None:
    project = make_far()
    project.commit()
    log = AccessLog(registry)
    project.run("build")
    image = project.record()["images"][0]
    assert image["sparse"]
    assert image["reproducible"]
    repository = project.image.partition("/")[2].partition(":")[0]
    assert tags(registry.host, repository) == []
    assert not any(it.writes and "/manifests/1.0.0" in it.path for it in log.requests())
    # crane, which is not ours, finds all of the image by digest.
    pinned = f"{registry.host}/{repository}@{project.digest()}"
    command("crane", "validate", "--insecure", "--remote", pinned)
    manifest = json.loads(command("crane", "manifest", "--insecure", pinned))
    # The layout holds the manifest and the config, and no layer.
    config = manifest["config"]["digest"]
    assert blobs(project) == {project.digest().removeprefix("sha256:"), config.removeprefix("sha256:")}
    # Nothing of the image stays with the builder.
    assert repository not in docker(project, "images", "--all")

    # Publishing sends no layer, and gives the tag.
    log = AccessLog(registry)
    project.run("publish")
    assert tags(registry.host, repository) == ["1.0.0"]
    assert not any(it.method in ("POST", "PATCH") for it in log.requests())
    assert command("crane", "digest", "--insecure", project.image).decode().strip() == project.digest()
    # And the next build finds nothing to do.
    log = AccessLog(registry)
    assert "unchanged, not built" in project.run("build").stderr
    assert not any(it.writes for it in log.requests())


def test_run_to_a_layout_exports_the_same_image(
    make_far: Projects, tmp_path: Path, registry: RunningRegistry
) -> None:
    project = make_far()
    project.commit()
    project.run("build")
    digest = project.digest()
    assert project.record()["images"][0]["sparse"]
    log = AccessLog(registry)
    project.run("run", "--to", f"oci:{tmp_path / 'out'}")
    assert project.digest() == digest
    assert not project.record()["images"][0]["sparse"]
    assert not any(it.writes for it in log.requests())
    # The layout is whole: skopeo reads all of it.
    command("skopeo", "copy", "--all", f"oci:{tmp_path / 'out'}:{project.image}", f"dir:{tmp_path / 'copy'}")


def test_run_with_a_private_registry(make_far: Projects, private_registry: PrivateRegistry) -> None:
    where = private_registry
    logins = {
        "push": where.login("publisher"),
        "pull": where.login("builder"),
        "runtime": where.login("guest"),
    }
    project = make_far(host=where.host, base=where.base, registries={where.host: logins})
    project.environment |= where.secrets
    # The machine's own login is of somebody who may not; it must not be what is used.
    own = Path(project.environment["HOME"]) / ".docker" / "config.json"
    own.write_text(docker_config(where.host, "nobody", "not-the-password"))
    before = own.read_bytes()
    project.commit()
    process = project.start("run", "-v")
    with Sampler(process.pid) as sampler:
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, stderr
    assert found_in((stdout + stderr).encode(), where.passwords) == set()
    assert shown_to_others(sampler.seen, where.passwords) == []
    assert project.record()["images"][0]["sparse"]
    assert own.read_bytes() == before
    login = f"publisher:{where.passwords['publisher']}"
    assert tags(where.host, project.image.partition("/")[2].partition(":")[0], login) == ["1.0.0"]
    command(
        *("skopeo", "inspect", "--tls-verify=false", "--override-arch=s390x"),
        f"--creds=guest:{where.passwords['guest']}",
        f"docker://{project.pinned()}",
    )


def test_push_login_that_is_refused(make_far: Projects, private_registry: PrivateRegistry) -> None:
    where = private_registry
    project = make_far(
        host=where.host,
        registries={where.host: {"push": where.login("publisher")}},
    )
    project.environment |= {**where.secrets, "PUBLISHER_PASSWORD": "wrong?Canary&word"}
    project.commit()
    outcome = project.run("build", "-v", status=1)
    assert "`push:`" in outcome.stderr
    assert found_in((outcome.stdout + outcome.stderr).encode(), {"wrong": "wrong?Canary&word"}) == set()


def test_one_builder_for_each_platform(make_far: Projects, registry: RunningRegistry) -> None:
    project = make_far({"linux/s390x": FAR, "linux/amd64": "buildx"})
    project.config["images"]["web"]["build"]["platforms"] = ["linux/amd64", "linux/s390x"]
    project.commit()
    outcome = project.run("run")
    image = project.record()["images"][0]
    assert image["builder"]["name"] == "buildx"
    assert "linux/s390x: buildx" in image["builder"]["version"]
    assert "linux/amd64: buildx" in image["builder"]["version"]
    assert "building for linux/s390x" in outcome.stderr
    command("crane", "validate", "--insecure", "--remote", project.image)
    index = json.loads(command("crane", "manifest", "--insecure", project.image))
    found = {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"]}
    assert set(found) == {"amd64", "s390x"}
    # The member that the engine exported has its layers in the layout, the other one's are not there.
    for architecture, there in (("amd64", True), ("s390x", False)):
        name = f"{project.image.rpartition(':')[0]}@{found[architecture]}"
        manifest = json.loads(command("crane", "manifest", "--insecure", name))
        layers = {layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]}
        assert (layers <= blobs(project)) is there


def test_platform_without_a_builder(make_far: Projects) -> None:
    project = make_far({"linux/amd64": FAR})
    project.commit()
    outcome = project.run("build", status=2)
    assert "names no builder for linux/s390x" in outcome.stderr


def test_several_images_on_one_builder(make_far: Projects, registry: RunningRegistry) -> None:
    project = make_far()
    web = project.config["images"]["web"]
    for number in range(3):
        name = f"more{number}"
        project.config["images"][name] = {**web, "image": web["image"].replace("/web:", f"/{name}:")}
    project.commit()
    project.run("run", "--jobs=4")
    digests = {image["descriptor"]["digest"] for image in project.record()["images"]}
    assert digests == {project.digest()}
    for image in project.config["images"].values():
        command("crane", "validate", "--insecure", "--remote", image["image"])


def test_builder_that_does_not_exist(make_project: Projects, engine: Engine) -> None:
    project = make_project("buildx:nobody")
    project.commit()
    outcome = project.run("build", status=3)
    assert "`nobody`" in outcome.stderr
    assert "docker buildx ls" in outcome.stderr


def test_builder_that_does_not_answer(make_project: Projects, engine: Engine, tmp_path: Path) -> None:
    project = make_project(FAR)
    register(project, f"unix://{tmp_path / 'nothing.sock'}")
    project.commit()
    outcome = project.run("build", status=3)
    assert "`far`" in outcome.stderr


def test_ctrl_c_ends_the_step_elsewhere(make_far: Projects, base: str) -> None:
    interrupt_a_step(make_far(), base)


def test_builder_of_an_engine_by_name(make_far: Projects) -> None:
    """It exports a layout: an engine's own BuildKit pushes nothing without a tag."""
    project = make_far("buildx:default")
    project.commit()
    project.run("build")
    image = project.record()["images"][0]
    assert not image["sparse"]
    assert "engine" in image["builder"]["version"]
