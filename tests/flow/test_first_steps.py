"""First steps with the program: what is missing is found early, said by name, and mended as the hint says."""

from __future__ import annotations

import pytest

from fakes.registry import FakeRegistry
from flow.conftest import Project
from secure_build.errors import RefusedError


def test_a_plan_sees_what_the_commit_lacks(project: Project) -> None:
    build = {"context": "app", "dockerfile": "Containerfile"}
    project.configure(
        images={
            "web": {"image": f"{project.host}/acme/web:1.0", "build": build},
            "api": {"image": f"{project.host}/acme/api:1.0", "build": {"context": "ap"}},
        }
    )
    outcome = project.run("plan")
    assert outcome.code == 1
    assert "fail: web: web: the commit has no file `app/Containerfile`" in outcome.out
    assert "fail: api: api: the commit has no folder `ap` to build in" in outcome.out


def test_a_build_that_fails_names_its_image(project: Project) -> None:
    def fail() -> None:
        raise RefusedError("buildah could not build the image:\nno", hint="look")

    project.builder.before = fail
    outcome = project.run("build")
    assert outcome.code == 1
    assert "error: web: buildah could not build the image:" in outcome.err


def test_a_record_can_be_named_by_its_work_folder(project: Project) -> None:
    project.configure(
        images={
            "web": {
                "image": f"{project.host}/acme/web:1.0",
                "build": {"context": "app", "platforms": ["linux/amd64", "linux/s390x"]},
            }
        }
    )
    for part in ("amd64", "s390x"):
        outcome = project.run("build", "--platform", f"linux/{part}", "--workdir", f"../{part}")
        assert outcome.code == 0, outcome.err
    outcome = project.run("run", "--record", "../amd64", "--record", "../s390x")
    assert outcome.code == 0, outcome.err


def test_building_again_says_that_all_is_the_same(project: Project) -> None:
    assert project.run("build").code == 0
    outcome = project.run("build", "--check")
    assert outcome.code == 0, outcome.err
    assert "building it again gave the same digest" in outcome.err


def test_without_a_config_init_is_named(project: Project) -> None:
    outcome = project.run("plan", "--config", "absent.yaml")
    assert outcome.code == 2
    assert "hint: `secure-build init` writes one" in outcome.err


def test_a_contract_of_an_earlier_run_is_called_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeRegistry(auth="token", users={"pusher": "push-canary-1"}) as private:
        monkeypatch.setenv("PUSH", "push-canary-1")
        project.write("docker-compose.yml", f"services:\n  web:\n    image: {private.host}/acme/web:1.0\n")
        images = {"web": {"image": f"{private.host}/acme/web:1.0", "build": {"context": "app"}}}
        login = {"username": "pusher", "password": {"secret": "PUSH"}}
        access = {"push": login, "runtime": login, "allow-push-credential": True}
        project.configure(images=images, registries={private.host: access})
        assert project.run("run").code == 0
        project.configure(images=images, registries={private.host: {"push": login}})
        outcome = project.run("run")
        assert outcome.code == 1
        assert "`.secure-build/workload.yaml` is that of an earlier run" in outcome.err
        assert "is private, and the contract has no login for" in outcome.err


def test_a_part_of_another_commit_is_no_part_of_this_run(project: Project, registry: FakeRegistry) -> None:
    """Else one image would be published under its tag, and then the contract refused."""
    host = project.host
    project.write(
        "docker-compose.yml",
        f"services:\n  web:\n    image: {host}/acme/web:1.0\n  api:\n    image: {host}/acme/api:1.0\n",
    )
    build = {"context": "app"}
    project.configure(
        images={name: {"image": f"{host}/acme/{name}:1.0", "build": build} for name in ("web", "api")}
    )
    assert project.run("run").code == 0
    assert project.run("run", "web").code == 0
    project.commit()
    registry.requests.clear()
    outcome = project.run("run", "web")
    assert outcome.code == 2
    assert "image `api` has not been built, and is not to be built now" in outcome.err
    assert registry.writes == []
