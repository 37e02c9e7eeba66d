"""`run` from a commit to a published image and a contract that names it, seen with other people's tools."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from integration.project import Outcome, Project, command
from services.needed import need
from services.running import Engine, RunningRegistry

Projects = Callable[..., Project]


def skopeo_digest(reference: str) -> str:
    """The digest of what a tag names, index or manifest."""
    raw = command("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{reference}")
    return "sha256:" + sha256sum(raw)


def crane_digest(reference: str) -> str:
    return command("crane", "digest", "--insecure", reference).decode().strip()


def sha256sum(content: bytes) -> str:
    return command("sha256sum", stdin=content).decode().split()[0]


@pytest.fixture
def helper(registry: RunningRegistry, bases: Callable[..., str]) -> str:
    """An image of somebody else with its digest."""
    return bases(f"{registry.host}/somebody/helper:3", variable="HELPER=3")


@pytest.fixture
def finished(builder: str, make_project: Projects, helper: str) -> tuple[Project, Outcome]:
    """A project with an image of somebody else beside its own, after `run` from nothing."""
    project = make_project(builder)
    tagged = helper.partition("@")[0]
    project.commit(
        {
            "docker-compose.yml": f"""\
services:
  web:
    image: {project.image}
    build: app
    volumes: ["./static:/static:ro"]
  helper:
    image: {tagged}
""",
            "static/page.html": "<h1>static</h1>\n",
        }
    )
    return project, project.run("run")


def test_contract_names_what_the_registry_has(finished: tuple[Project, Outcome], helper: str) -> None:
    need("skopeo", "crane")
    project, _ = finished
    repository, _, digest = project.pinned().partition("@")
    assert f"{repository}:1.0.0" == project.image
    assert digest == skopeo_digest(project.image) == crane_digest(project.image) == project.digest()
    assert project.pinned("helper") == helper.replace(":3@", "@")
    assert "build" not in project.compose()["services"]["web"]
    inspected = command(
        "skopeo", "inspect", "--tls-verify=false", "--override-arch=s390x", f"docker://{project.pinned()}"
    )
    assert json.loads(inspected)["Architecture"] == "s390x"


def test_image_runs_on_s390x(
    finished: tuple[Project, Outcome], builder: str, short_path: Path, request: pytest.FixtureRequest
) -> None:
    project, _ = finished
    if builder == "buildx":
        engine: Engine = request.getfixturevalue("engine")
        options = ("--rm", "--quiet", "--network=none", "--platform=linux/s390x")
        docker = ("docker", "run", *options, project.pinned())
        printed = command(*docker, environment=engine.environment)
        asked = command(*docker, "/bin/busybox", "uname", "-m", environment=engine.environment)
    else:
        store = (f"--root={short_path / 'store'}", f"--runroot={short_path / 'state'}")
        container = command(
            *("buildah", *store, "from", "--quiet", "--tls-verify=false", "--arch=s390x"), project.pinned()
        ).decode()
        buildah = ("buildah", *store, "run", container.strip())
        printed = command(*buildah, "/bin/busybox", "cat", "/srv/www/machine.txt")
        asked = command(*buildah, "/bin/busybox", "uname", "-m")
    assert printed == asked == b"s390x\n"


def test_archive_is_plain_and_as_recorded(finished: tuple[Project, Outcome]) -> None:
    project, _ = finished
    packed = project.archive()
    listing = command("tar", "--numeric-owner", "--utc", "--full-time", "-tvzf", "-", stdin=packed).decode()
    assert [line.split()[0:2] + line.split()[3:] for line in listing.splitlines()] == [
        ["-rw-r--r--", "0/0", "1970-01-01", "00:00:00", "docker-compose.yml"],
        ["drwxr-xr-x", "0/0", "1970-01-01", "00:00:00", "static/"],
        ["-rw-r--r--", "0/0", "1970-01-01", "00:00:00", "static/page.html"],
    ]
    section = project.record()["sections"]["workload"]
    assert section["archive_gzip"] == "sha256:" + sha256sum(packed)
    assert section["archive_tar"] == "sha256:" + sha256sum(command("gzip", "-dc", stdin=packed))


def test_record_names_the_base(finished: tuple[Project, Outcome], base: str) -> None:
    project, _ = finished
    (image,) = project.record()["images"]
    assert image["materials"] == [
        {"kind": "image", "name": base, "digest": skopeo_digest(base), "platform": None}
    ]
    assert image["builder"]["name"] == project.config["builder"]
    assert image["platforms"] == ["linux/s390x"]


def test_standard_output_is_the_masked_contract_only(finished: tuple[Project, Outcome]) -> None:
    project, outcome = finished
    shown, plain = yaml.safe_load(outcome.stdout), yaml.safe_load(project.contract_path.read_text())
    assert shown == plain  # there is no secret in it
    assert stat.S_IMODE(project.contract_path.stat().st_mode) == 0o600


def test_several_platforms_make_an_index_of_just_these(
    builder: str, make_project: Projects, tmp_path: Path
) -> None:
    need("skopeo", "crane")
    project = make_project(builder)
    project.config["images"]["web"]["build"]["platforms"] = ["linux/s390x", "linux/amd64"]
    project.commit()
    project.run("run")
    # Each of these reads every blob of every platform.
    command("crane", "validate", "--insecure", "--remote", project.image)
    copied = f"dir:{tmp_path / 'copy'}"
    command("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{project.image}", copied)
    raw = command("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{project.image}")
    index = json.loads(raw)
    assert index["mediaType"] == "application/vnd.oci.image.index.v1+json"
    platforms = [member["platform"] for member in index["manifests"]]
    assert sorted(platforms, key=lambda it: it["architecture"]) == [
        {"os": "linux", "architecture": "amd64"},
        {"os": "linux", "architecture": "s390x"},
    ]
    assert project.pinned().endswith(skopeo_digest(project.image))


def test_images_that_are_alike_side_by_side(builder: str, make_project: Projects) -> None:
    """Builds that share a store and make the very same image do not get in each other's way."""
    project = make_project(builder)
    names = [f"copy{number}" for number in range(4)]
    for name in names:
        image = project.image.replace("/web:", f"/{name}:")
        project.config["images"][name] = {"image": image, "build": {"context": "app"}}
    project.commit()
    project.run("run", "--jobs", "5")
    assert {project.digest(name) for name in names} == {project.digest("web")}
    (material,) = {json.dumps(image["materials"]) for image in project.record()["images"]}
    assert material != "[]"
