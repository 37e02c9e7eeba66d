"""Projects that are right but unusual, and mistakes that must not end in a wrong contract."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fakes.registry import FakeRegistry
from flow import contract_file
from flow.conftest import COMPOSE, Project


def two_images(project: Project, **build: object) -> None:
    """`web` and `db`, both used by the compose file."""
    names = ("web", "db")
    for name in names:
        project.write(f"{name}/Dockerfile", "FROM scratch\nCOPY . /\n")
    services = "".join(f"  {name}:\n    image: {project.host}/acme/{name}:1.0\n" for name in names)
    project.write("docker-compose.yml", f"services:\n{services}")
    images = {
        name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": name, **build}}
        for name in names
    }
    project.configure(images=images)


@pytest.mark.parametrize(
    "extra",
    ["    volumes: ['.:/srv:ro']\n", "configs:\n  own:\n    file: ./docker-compose.yml\n"],
)
def test_the_compose_file_as_it_was_never_gets_into_the_archive(project: Project, extra: str) -> None:
    project.write("docker-compose.yml", COMPOSE.format(host=project.host) + extra)
    project.commit()
    assert project.run("run").code == 0
    files = contract_file.archive(project.workdir / "workload.yaml")
    assert all(b":1.0" not in content for name, content in files.items() if name.endswith(".yml"))
    pinned = yaml.safe_load(files["docker-compose.yml"])["services"]["web"]
    assert "@sha256:" in pinned["image"]
    assert "build" not in pinned


@pytest.mark.parametrize(
    "name", [".env", "compose.yaml", "docker-compose.yaml", "docker-compose.override.yml"]
)
def test_names_that_compose_reads_by_itself_are_refused(project: Project, name: str) -> None:
    project.write(name, "A: b\n")
    project.write(
        "docker-compose.yml", COMPOSE.format(host=project.host) + f"    volumes: ['./{name}:/srv/x:ro']\n"
    )
    project.commit()
    outcome = project.run("run")
    assert outcome.code == 2
    assert f"`{name}` must not be in the archive" in outcome.err
    assert project.builder.recipes == []


def test_a_compose_file_of_another_name_is_called_as_the_runtime_wants(project: Project) -> None:
    (project.folder / "docker-compose.yml").unlink()
    project.write("deploy/stack.yaml", COMPOSE.format(host=project.host) + "    volumes: ['.:/srv:ro']\n")
    project.configure(workload={"compose": "deploy/stack.yaml"})
    assert project.run("run").code == 0
    assert contract_file.archive(project.workdir / "workload.yaml").keys() == {"docker-compose.yml"}


def test_nothing_of_a_contract_that_is_merged_into_is_shown(project: Project, tmp_path: Path) -> None:
    project.run("run")
    own = tmp_path / "own.yaml"
    own.write_text(
        "env: |\n  type: env\n  logging:\n    logDNA: {ingestionKey: leak-1}\n"
        "workload: |\n  type: workload\n  play:\n    resources: [{env: leak-2}]\n"
    )
    before = own.read_bytes()
    outcome = project.run("contract", "images", "--into", str(own), "-v")
    assert outcome.code == 0
    assert "leak" not in outcome.out + outcome.err
    assert str(own) in outcome.out
    # There was no login to merge.
    assert own.read_bytes() == before


def test_a_dockerignore_of_the_dockerfile_goes_with_it(project: Project) -> None:
    project.write("app/Dockerfile.dockerignore", "hello.txt\n")
    project.commit()
    seen = []

    def look() -> None:
        dockerfile = project.builder.recipes[-1].dockerfile
        seen.append(dockerfile.with_name(f"{dockerfile.name}.dockerignore").read_text())

    project.builder.before = look
    assert project.run("build").code == 0
    assert seen == ["hello.txt\n"]


def test_images_of_many_registries_into_one_layout(project: Project, tmp_path: Path) -> None:
    names = [f"image{number}" for number in range(24)]
    images = {
        name: {"image": f"{name}.example.com/acme/{name}:1.0", "build": {"context": "app"}} for name in names
    }
    project.configure(images=images, workload=None)
    assert project.run("run", "--jobs", "16", "--to", f"oci:{tmp_path / 'out'}").code == 0
    index = json.loads((tmp_path / "out" / "index.json").read_text())
    assert len(index["manifests"]) == len(names)


def test_building_one_image_leaves_the_other_as_it_is(project: Project) -> None:
    two_images(project, platforms=["linux/s390x", "linux/amd64"])
    assert project.run("build").code == 0
    db = next(image for image in project.record["images"] if image["name"] == "db")
    assert project.run("build", "web", "--platform", "linux/s390x").code == 0
    assert project.record["images"][1] == db
    assert len(project.record["images"]) == 2


def test_a_platform_that_only_one_image_has(project: Project) -> None:
    two_images(project)
    assert project.run("build").code == 0
    images = yaml.safe_load((project.folder / "secure-build.yaml").read_text())["images"]
    images["web"]["build"]["platforms"] = ["linux/s390x", "linux/amd64"]
    project.configure(images=images)
    assert project.run("build", "web", "--platform", "linux/amd64").code == 0


def test_an_image_that_is_needed_and_not_built_is_missed_before_building(project: Project) -> None:
    two_images(project)
    outcome = project.run("run", "db")
    assert outcome.code == 2
    assert "image `web` has not been built, and is not to be built now" in outcome.err
    assert project.builder.recipes == []


def test_the_wrong_platform_and_a_file_outside_are_found_before_building(project: Project) -> None:
    two_images(project, platforms=["linux/amd64"])
    assert "is not made for linux/s390x" in project.run("run").err
    project.configure()
    project.write("docker-compose.yml", COMPOSE.format(host=project.host) + "    volumes: ['../x:/srv:ro']\n")
    project.commit()
    assert "lies outside the folder" in project.run("run").err
    assert project.builder.recipes == []


def test_a_config_that_builds_nothing(project: Project, registry: FakeRegistry) -> None:
    redis = registry.add_image("library/redis", "7")
    project.write("docker-compose.yml", f"services:\n  redis:\n    image: {project.host}/library/redis:7\n")
    for target in ("ccrt", "hpvs"):
        project.configure(images={"redis": {"use": f"{project.host}/library/redis:7"}}, target=target)
        assert project.run("run").code == 0
    assert (
        str(redis).encode() in contract_file.archive(project.workdir / "workload.yaml")["docker-compose.yml"]
    )


def test_a_job_that_only_writes_contracts_needs_no_push_secret(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(auth="basic", users={"pusher": "push-secret", "puller": "pull-secret"}) as private:
        project.host = private.host
        project.write("docker-compose.yml", COMPOSE.format(host=private.host))
        access = {
            "push": {"username": "pusher", "password": {"secret": "GIT_PUSH"}},
            "runtime": {"username": "puller", "password": {"secret": "PULL"}},
        }
        project.configure(registries={private.host: access})
        monkeypatch.setenv("GIT_PUSH", "push-secret")
        monkeypatch.setenv("PULL", "pull-secret")
        # Also shows that a secret may be called like a variable of git.
        assert project.run("run").code == 0
        monkeypatch.setattr("secure_build.secret._taken", {"PULL": "pull-secret"})
        assert project.run("contract", "workload").code == 0
        assert project.run("publish").code == 2


def test_drafts_do_not_spoil_the_record(project: Project) -> None:
    project.run("run")
    section = project.record["sections"]["workload"]
    key = (project.workdir / "workload.key").read_bytes()
    project.run("contract", "workload")
    assert "unchanged, not written" in project.run("run").err
    assert project.record["sections"]["workload"] == section
    assert (project.workdir / "workload.key").read_bytes() == key


def test_a_lost_key_makes_a_new_section(project: Project) -> None:
    project.run("run")
    (project.workdir / "workload.key").unlink()
    assert "workload: written" in project.run("run").err
    assert (project.workdir / "workload.key").exists()


@pytest.mark.parametrize("workdir", [".", "app", "a,b", "a:b"])
def test_a_folder_that_cannot_be_the_work_folder(project: Project, workdir: str) -> None:
    outcome = project.run("run", "--workdir", workdir)
    assert outcome.code == 2
    assert "work folder" in outcome.err
    assert not (project.folder / ".gitignore").exists()


def test_a_config_that_is_not_the_commits_is_said(project: Project) -> None:
    project.write(".gitignore", "local.yaml\n")
    project.commit()
    project.write("local.yaml", (project.folder / "secure-build.yaml").read_text() + "builder: buildah\n")
    outcome = project.run("build", "--config", "local.yaml")
    assert outcome.code == 0
    assert "`local.yaml` is used as it is here, which is not as it is in the commit" in outcome.err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("    pull_policy: build\n", "docker-compose.yml:7: service `web` would not be pulled"),
        ("    platform: linux/amd64\n", "docker-compose.yml:7: service `web` asks for linux/amd64"),
    ],
)
def test_what_the_guest_could_not_do(project: Project, line: str, message: str) -> None:
    project.write("docker-compose.yml", COMPOSE.format(host=project.host) + line)
    project.commit()
    outcome = project.run("run")
    assert outcome.code == 2
    assert message in outcome.err


def test_a_null_character_is_a_mistake_and_no_bug(project: Project) -> None:
    build = '{context: app, args: {A: "a\\0b"}}'
    text = (project.folder / "secure-build.yaml").read_text().replace("context: app", "args: {}")
    assert "args: {}" in text
    project.write(
        "secure-build.yaml",
        f"version: 1\ntarget: ccrt\nimages: {{web: {{image: a.b/c:d, build: {build}}}}}\n",
    )
    outcome = project.run("build")
    assert outcome.code == 2
    assert "secure-build.yaml:3: this text holds a character that is none" in outcome.err
