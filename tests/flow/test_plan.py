"""`plan`: what it shows is what `run` then does, and everything that is missing is seen at once."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes.registry import FakeRegistry, small_image
from flow.conftest import Project
from secure_build import builders
from secure_build.errors import MachineError
from services.pushed import planned, pushed


def plan_of(project: Project, *arguments: str, code: int) -> dict[str, Any]:
    outcome = project.run("plan", "--output", "json", *arguments)
    assert outcome.code == code, outcome.err + outcome.out
    return dict(json.loads(outcome.out))


def image(plan: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in plan["images"] if one["name"] == name)


def state(folder: Path) -> dict[str, str]:
    """Every file with the digest of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_before_the_first_build(project: Project, registry: FakeRegistry) -> None:
    plan = plan_of(project, code=5)
    web = image(plan, "web")
    assert (web["doing"], web["inputs"], web["writes"]) == ("build", None, None)
    assert web["builders"] == ["buildah 0"]
    assert plan["contract"] == ".secure-build/workload.yaml"
    assert plan["source"]["clean"] is True
    assert registry.writes == []
    # This registry says nothing on rights, so it is not known whether a push would be allowed.
    assert [(one["check"], one["level"]) for one in plan["findings"]] == [("push", "unknown")]
    text = project.run("plan").out
    assert "for linux/s390x with buildah 0" in text
    assert "layers as the build makes them, then the tag 1.0" in text
    assert "unknown: pushing to" in text
    assert "--probe-push" in text


def test_hardening_60_a_plan_writes_nothing_and_equals_the_run(
    project: Project, registry: FakeRegistry
) -> None:
    project.write("api/Dockerfile", "FROM scratch\nCOPY . /\n")
    project.write("api/same.txt", "hello\n")
    project.configure(
        images={
            "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}},
            "api": {
                "image": f"{project.host}/acme/api:2.0",
                "build": {"context": "api", "platforms": ["linux/s390x", "linux/amd64"]},
            },
        }
    )
    assert project.run("build").code == 0
    before = state(project.workdir)
    registry.requests.clear()
    plan = plan_of(project, code=5)
    assert registry.writes == []
    assert state(project.workdir) == before
    assert {image(plan, name)["doing"] for name in ("web", "api")} == {"keep"}
    registry.requests.clear()
    assert project.run("run").code == 0
    writes = planned(plan)
    assert {kind for kind, _, _ in writes} == {"blob", "manifest", "tag"}
    assert pushed(project.host, registry.requests) == writes
    # Once all is there, the plan is empty, and so is the run.
    registry.requests.clear()
    again = plan_of(project, code=0)
    assert planned(again) == set()
    assert image(again, "web")["writes"] == []
    assert project.run("run").code == 0
    assert registry.writes == []


def test_probing_finds_out_whether_a_push_is_allowed(project: Project, registry: FakeRegistry) -> None:
    plan = plan_of(project, "--probe-push", code=0)
    assert [one["level"] for one in plan["findings"]] == ["pass"]
    assert [line.split()[0] for line in registry.writes] == ["POST", "DELETE"]
    assert registry.open_uploads == 0


def test_a_token_service_tells_whether_a_push_is_allowed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(users={"robot": "push-canary-7c1"}, auth="token") as private:
        private.readable_tokens = True
        project.write("docker-compose.yml", f"services:\n  web:\n    image: {private.host}/acme/web:1.0\n")
        login = {"username": "robot", "password": {"secret": "PUSH"}}
        project.configure(
            images={"web": {"image": f"{private.host}/acme/web:1.0", "build": {"context": "app"}}},
            registries={private.host: {"push": login, "runtime": login, "allow-push-credential": True}},
        )
        monkeypatch.setenv("PUSH", "push-canary-7c1")
        plan = plan_of(project, code=0)
        assert [(one["check"], one["level"]) for one in plan["findings"]] == [("push", "pass")]
        assert plan["auths"] == [private.host]
        monkeypatch.setenv("PUSH", "wrong-canary-7c1")
        outcome = project.run("plan")
        assert outcome.code == 1
        assert "refuses the login of user `robot`" in outcome.out
        assert "wrong-canary-7c1" not in outcome.out + outcome.err


def test_everything_that_is_missing_is_seen_at_once(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.add("somebody/amd", small_image("linux/amd64"))

    def no_builder(*_: object) -> None:
        raise MachineError("no builder works on this machine", hint="install the package `buildah`")

    monkeypatch.setattr(builders, "open_builder", no_builder)
    project.write("docker-compose.yml", f"services:\n  other:\n    image: {project.host}/acme/other:1\n")
    project.configure(
        images={
            "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}},
            "lost": {"use": f"{project.host}/somebody/lost:1"},
        },
        registries={
            "us.icr.io": {
                "push": {"username": "iamapikey", "password": {"secret": "ICR_PUSH"}},
                "runtime": {"username": "iamapikey", "password": {"secret": "ICR_PULL"}},
            }
        },
    )
    project.write("app/hello.txt", "changed\n")
    plan = plan_of(project, code=1)
    failed = {(one["check"], one["what"]) for one in plan["findings"] if one["level"] == "fail"}
    assert ("secret", "the secret `ICR_PUSH`") in failed
    assert ("secret", "the secret `ICR_PULL`") in failed
    assert ("source", "the source") in failed
    assert ("builder", "a builder for linux/s390x") in failed
    assert ("image", f"`{project.host}/somebody/lost:1`") in failed


def test_what_each_choice_is_worth(project: Project, registry: FakeRegistry) -> None:
    choices = {one["choice"]: one for one in image(plan_of(project, code=5), "web")["enforce"]}
    assert list(choices) == ["digest", "rhs", "dct", "cosign"]
    assert choices["digest"] == {
        "choice": "digest",
        "possible": True,
        "why": "proves which build runs; another build needs another contract",
    }
    assert not choices["rhs"]["possible"]
    assert "play workloads only" in choices["rhs"]["why"]
    # The registry of this test has a port, which the key of `dct` cannot say.
    assert not choices["dct"]["possible"]
    assert "port" in choices["dct"]["why"]
    assert "only `ccco` does" in choices["cosign"]["why"]


def test_a_mirrored_image_is_copied_and_enforced_under_its_new_name(
    project: Project, registry: FakeRegistry
) -> None:
    project.run("build")
    digest = registry.add_image("somebody/cache", "8")
    with FakeRegistry() as own:
        project.write(
            "docker-compose.yml",
            f"services:\n  web:\n    image: {project.host}/acme/web:1.0\n"
            f"  cache:\n    image: {project.host}/somebody/cache:8\n",
        )
        project.configure(
            images={
                "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}},
                "cache": {
                    "use": f"{project.host}/somebody/cache:8",
                    "mirror": f"{own.host}/mirror/cache:8",
                },
            }
        )
        plan = plan_of(project, code=5)
        cache = image(plan, "cache")
        assert (cache["doing"], cache["pinned"]) == ("mirror", f"{own.host}/mirror/cache@{digest}")
        assert "the runtime goes by the digest alone" in project.run("plan").out
        assert own.writes == []
        assert project.run("run").code == 0
        mirrored = {write for write in planned(plan) if write[1].startswith(own.host)}
        assert pushed(own.host, own.requests) == mirrored
        assert {kind for kind, _, _ in mirrored} == {"blob", "manifest", "tag"}
        used = next(one for one in project.record["used"] if one["mirror"])
        assert used["mirror"] == f"{own.host}/mirror/cache:8"
        pulled = [one["what"] for one in project.record["findings"] if one["check"] == "delivery"]
        assert f"{own.host}/mirror/cache@{digest}" in pulled
        own.requests.clear()
        assert project.run("run").code == 0
        assert own.writes == []


def test_a_plan_for_a_layout_asks_no_registry_for_rights(project: Project, registry: FakeRegistry) -> None:
    assert project.run("build").code == 0
    registry.requests.clear()
    plan = plan_of(project, "--to", "oci:../carried", code=0)
    assert registry.requests == []
    assert {write["kind"] for write in image(plan, "web")["writes"]} == {"blob", "manifest", "tag"}


def test_a_machine_that_cannot_run_the_steps_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In its package the function stands in the place of the module.
    module = sys.modules["secure_build.steps.plan"]
    monkeypatch.setattr(module, "run_here", lambda _platform: False)
    warned = [one for one in plan_of(project, code=5)["findings"] if one["level"] == "warn"]
    assert [(one["check"], one["what"]) for one in warned] == [("platform", "building for linux/s390x")]
    assert "qemu-user-static" in warned[0]["hint"]
