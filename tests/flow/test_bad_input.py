"""Every mistake that a user can make: one clear message, the right exit code, and nothing left behind."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes.registry import FakeRegistry
from flow.conftest import COMPOSE, Outcome, Project

CANARY = "canary-5f2d81"
EXPIRING = base64.urlsafe_b64encode(json.dumps({"exp": 1, "x": CANARY}).encode()).decode()


def login(name: str = "KEY", username: str = "user") -> dict[str, Any]:
    return {"username": username, "password": {"secret": name}}


def refused(project: Project, outcome: Outcome, code: int, *parts: str) -> None:
    """The outcome is a clear refusal, and neither a file nor a secret got out."""
    assert outcome.code == code, outcome.err
    for part in parts:
        assert part in outcome.err
    assert outcome.err.startswith("error: ") or "\nerror: " in outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert CANARY not in outcome.err
    assert base64.b64encode(CANARY.encode()).decode() not in outcome.err
    left = {path.name for path in project.workdir.rglob("*")} if project.workdir.exists() else set()
    assert not {name for name in left if name.startswith(("workload", ".staging-", ".context-", ".build-"))}


def test_unknown_key(project: Project) -> None:
    project.configure(bilder="buildx")
    refused(
        project, project.run("run"), 2, "secure-build.yaml:10: bilder: unknown key; did you mean `builder`?"
    )


def test_duplicate_key(project: Project) -> None:
    with (project.folder / "secure-build.yaml").open("a") as file:
        file.write("target: hpvs\n")
    refused(project, project.run("run"), 2, "the key `target` stands twice")


def test_literal_password(project: Project) -> None:
    project.configure(registries={project.host: {"push": {"username": "user", "password": CANARY}}})
    refused(project, project.run("run"), 2, "must not stand in this file", "`{secret: NAME}`")


def test_missing_secret_is_found_before_anything_is_built(project: Project) -> None:
    project.configure(registries={project.host: {"runtime": login("ABSENT")}})
    refused(
        project, project.run("run"), 2, "the secret `ABSENT` is missing", "hint: set the environment variable"
    )
    assert project.builder.recipes == []


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("iambearer", CANARY),
        ("oauth2accesstoken", CANARY),
        ("x-access-token", f"ghs_{CANARY}"),
        (
            "user",
            f"e30.{base64.urlsafe_b64encode(json.dumps({'exp': 1, 'x': CANARY}).encode()).decode()}.sig",
        ),
    ],
)
def test_short_lived_runtime_credential(
    project: Project, monkeypatch: pytest.MonkeyPatch, username: str, password: str
) -> None:
    monkeypatch.setenv("KEY", password)
    project.configure(registries={project.host: {"runtime": login(username=username)}})
    refused(project, project.run("run"), 2, "this credential is short-lived", "hint: make a long-lived")
    assert project.builder.recipes == []


def test_push_credential_as_runtime(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", CANARY)
    access = {"push": login(), "runtime": login()}
    project.configure(registries={project.host: access})
    refused(project, project.run("run"), 2, "this is the credential that publishes", "allow-push-credential")


def test_push_credential_of_the_machine_as_runtime(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoded = base64.b64encode(f"user:{CANARY}".encode()).decode()
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {project.host: {"auth": encoded}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("KEY", CANARY)
    project.configure(registries={project.host: {"runtime": login()}})
    refused(project, project.run("run"), 2, "this is the credential that publishes")


def test_registry_that_the_contract_cannot_name(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", CANARY)
    project.configure(registries={"1234.dkr.ecr.us-east-1.amazonaws.com": {"runtime": login()}})
    refused(project, project.run("run"), 2, "must begin with a letter")


def test_missing_dockerfile(project: Project) -> None:
    (project.folder / "app" / "Dockerfile").unlink()
    project.configure()
    refused(
        project, project.run("run"), 2, "web: the commit has no file `app/Dockerfile`", "hint: add and commit"
    )


@pytest.mark.parametrize("context", ["..", "app/../..", "/etc"])
def test_context_outside_the_repository(project: Project, context: str) -> None:
    project.configure(
        images={"web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": context}}}
    )
    refused(project, project.run("run"), 2, f"web: the context `{context}`")


def test_dirty_tree(project: Project) -> None:
    project.write("app/hello.txt", "changed\n")
    project.write("new.txt", "new\n")
    refused(project, project.run("run"), 1, "`app/hello.txt`, `new.txt`", "--allow-dirty")


def test_dirty_tree_allowed_builds_the_commit_and_says_so(project: Project) -> None:
    project.write("app/hello.txt", "changed\n")
    seen = []
    project.builder.before = lambda: seen.append(
        (project.builder.recipes[-1].context / "hello.txt").read_text()
    )
    assert project.run("run", "--allow-dirty").code == 0
    assert seen == ["hello\n"]
    assert project.record["source"]["clean"] is False


def test_unreachable_registry(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr("secure_build.stopping.pause", lambda _: None)
    project.write("docker-compose.yml", COMPOSE.format(host=host))
    project.configure(images={"web": {"image": f"{host}/acme/web:1.0", "build": {"context": "app"}}})
    refused(project, project.run("run"), 4, f"cannot reach {host}", "hint: check the name of the registry")


def test_image_without_the_platform(project: Project) -> None:
    build = {"context": "app", "platforms": ["linux/amd64"]}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    refused(project, project.run("run"), 1, "is not made for linux/s390x, but for linux/amd64")


def test_third_party_image_without_the_platform(project: Project, registry: FakeRegistry) -> None:
    registry.add_image("library/redis", "7", platforms=["linux/amd64", "linux/arm64"])
    project.write(
        "docker-compose.yml",
        COMPOSE.format(host=project.host) + f"  cache:\n    image: {project.host}/library/redis:7\n",
    )
    project.commit()
    refused(
        project,
        project.run("run"),
        1,
        "redis:7` is not made for linux/s390x, but for linux/amd64, linux/arm64",
    )


def test_builder_that_makes_another_platform(project: Project) -> None:
    project.builder.architecture = "amd64"
    refused(project, project.run("run"), 1, "asked for linux/s390x", "made an image for linux/amd64")


def test_compose_file_that_builds_what_the_config_does_not(project: Project) -> None:
    project.write("docker-compose.yml", "services:\n  other:\n    build: app\n")
    project.commit()
    outcome = project.run("run")
    refused(project, outcome, 2, "docker-compose.yml:2: service `other` is built by compose")
    assert project.builder.recipes == []


def test_compose_file_that_cannot_be_pinned_is_found_before_anything_is_built(project: Project) -> None:
    shared = f"x-image: &image {project.host}/acme/web:1.0\n"
    project.write(
        "docker-compose.yml",
        shared + "services:\n  web:\n    image: *image\n    build: &here app\n    labels: {built: *here}\n",
    )
    project.commit()
    refused(project, project.run("run"), 2, "docker-compose.yml cannot be pinned")
    assert project.builder.recipes == []


def test_another_tag_than_the_one_that_is_built(project: Project) -> None:
    project.write("docker-compose.yml", f"services:\n  web:\n    image: {project.host}/acme/web:0.9\n")
    project.commit()
    refused(project, project.run("run"), 2, "docker-compose.yml:3: service `web` uses", "write the same tag")


def test_a_broken_build_leaves_the_last_record_as_it_was(project: Project) -> None:
    assert project.run("run").code == 0
    before = (project.workdir / "build-record.json").read_bytes()
    project.write("app/hello.txt", "other\n")
    project.commit()

    def fail() -> None:
        raise KeyboardInterrupt

    project.builder.before = fail
    assert project.run("run").code == 130
    assert (project.workdir / "build-record.json").read_bytes() == before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle(project: Project, number: signal.Signals, code: int) -> None:
    project.builder.before = lambda: os.kill(os.getpid(), number)
    outcome = project.run("run")
    assert outcome.code == code
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert {path.name for path in project.workdir.iterdir()} == {".gitignore", ".lock", "layout"}
    project.builder.before = lambda: None
    assert project.run("run").code == 0


def test_two_runs_in_one_work_folder(project: Project) -> None:
    others = []

    def run_another() -> None:
        command = [sys.executable, "-m", "secure_build", "build"]
        others.append(subprocess.run(command, capture_output=True, text=True, check=False))

    project.builder.before = run_another
    assert project.run("build").code == 0
    assert others[0].returncode == 2
    assert "another run is using" in others[0].stderr


def test_a_bug_is_called_one(project: Project) -> None:
    def fail() -> None:
        raise ZeroDivisionError("oops")

    project.builder.before = fail
    outcome = project.run("build")
    assert outcome.code == 70
    assert "this is a bug in secure-build: ZeroDivisionError: oops" in outcome.err
    assert "Traceback" not in outcome.err
    assert "Traceback" in project.run("build", "-v").err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "nothing"], "`nothing` is no image that `secure-build.yaml` builds"),
        (["publish"], "there is no build record"),
        (["contract", "workload"], "there is no build record"),
        (["contract", "images"], "there is no build record"),
        (["run", "--config", "absent.yaml"], "there is no config at `absent.yaml`"),
        (["run", "--platform", "linux/arm64"], "web is not built for linux/arm64"),
        (["run", "--to", "docker:x"], "images can go to `oci:DIRECTORY`"),
    ],
)
def test_wrong_arguments(project: Project, arguments: list[str], message: str) -> None:
    refused(project, project.run(*arguments), 2, message)


def test_a_record_of_another_config_or_commit(project: Project) -> None:
    assert project.run("build").code == 0
    project.write("app/hello.txt", "newer\n")
    project.commit()
    refused(project, project.run("contract", "workload"), 2, "the images were built from commit")
    project.configure(builder="buildah")
    refused(project, project.run("publish"), 2, "was made with another content of `secure-build.yaml`")
