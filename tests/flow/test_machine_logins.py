"""Logins that this machine keeps, in a whole run."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry
from flow.conftest import Project


def test_a_credential_helper_is_asked_once_for_each_repository(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker, asked = tmp_path / "docker", tmp_path / "asked"
    docker.mkdir()
    (docker / "config.json").write_text(json.dumps({"credsStore": "test"}))
    helper = docker / "docker-credential-test"
    answer = json.dumps({"Username": "robot", "Secret": "canary-9d2"})
    helper.write_text(f"#!/bin/sh\nread host; echo $host >> {asked}\nprintf '{answer}'\n")
    helper.chmod(0o755)
    monkeypatch.setenv("DOCKER_CONFIG", str(docker))
    monkeypatch.setenv("PATH", f"{docker}:{os.environ['PATH']}")
    with FakeRegistry(users={"robot": "canary-9d2"}, auth="token", public=True) as registry:
        registry.add_image("somebody/cache", "8")
        names = {name: f"{registry.host}/acme/{name}:1" for name in ("web", "api")}
        used = f"{registry.host}/somebody/cache:8"
        images = {name: {"image": image, "build": {"context": "app"}} for name, image in names.items()}
        lines = [f"  {name}:\n    image: {image}" for name, image in (names | {"cache": used}).items()]
        project.write("docker-compose.yml", "services:\n" + "\n".join(lines) + "\n")
        project.configure(images=images | {"cache": {"use": used, "mirror": f"{registry.host}/acme/cache:8"}})
        assert project.run("run").code == 0
        # web, api, cache and its mirror.
        assert asked.read_text().splitlines() == [registry.host] * 4
        assert "canary" not in (project.workdir / "workload.yaml").read_text()
        tokens = [request.scope for request in registry.token_requests if request.username == "robot"]
        assert len(tokens) == len(set(tokens))


def test_the_login_that_fills_a_mirror_is_refused_as_the_guests(
    project: Project, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add_image("somebody/cache", "8")
    with FakeRegistry(users={"robot": "canary-9d2"}, auth="basic") as own:
        encoded = base64.b64encode(b"robot:canary-9d2").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {own.host: {"auth": encoded}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        monkeypatch.setenv("OF_THE_GUEST", "canary-9d2")
        used, copy = f"{project.host}/somebody/cache:8", f"{own.host}/acme/cache:8"
        login = {"username": "robot", "password": {"secret": "OF_THE_GUEST"}}
        project.write("docker-compose.yml", f"services:\n  cache:\n    image: {used}\n")
        project.configure(
            images={"cache": {"use": used, "mirror": copy}}, registries={own.host: {"runtime": login}}
        )
        outcome = project.run("run")
        assert outcome.code == 2
        assert "this is the credential that publishes" in outcome.err
        assert own.writes == []
