"""`plan`: what it shows is what `run` then does, and everything that is missing is seen at once."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fakes.registry import FakeRegistry, Fault, small_image
from flow.conftest import Project
from secure_build import builders, secret
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
        "chosen": True,
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
    assert not (project.folder.parent / "carried").exists()
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


def test_one_image_that_fails_hides_no_other(project: Project, registry: FakeRegistry) -> None:
    images: dict[str, Any] = {
        name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": "app"}}
        for name in ("web", "api")
    }
    project.configure(images=images)
    assert project.run("build").code == 0
    lost = {f"lost{number}": f"{project.host}/somebody/lost{number}:1" for number in range(6)}
    digest = registry.add_image("somebody/good", "1")
    used = {**lost, "good": f"{project.host}/somebody/good:1"}
    project.configure(images=images | {name: {"use": use} for name, use in used.items()})
    assert project.run("build").code == 0
    registry.faults.append(Fault("HEAD", "/acme/api/blobs/", status=403, times=9))
    plan = plan_of(project, code=1)
    failed = [one["what"] for one in plan["findings"] if one["level"] == "fail"]
    assert failed == [*(f"`{use}`" for use in lost.values()), f"`{project.host}/acme/api:1.0`"]
    assert image(plan, "good")["pinned"] == f"{project.host}/somebody/good@{digest}"
    assert image(plan, "web")["writes"]
    assert image(plan, "api")["writes"] is None
    assert plan["findings"] == plan_of(project, code=1)["findings"]


def test_a_blob_that_images_share_is_sent_once(project: Project, registry: FakeRegistry) -> None:
    names = {"web": "acme/web:1.0", "same": "acme/web:1.1", "api": "acme/api:1.0"}
    project.configure(
        images={
            name: {"image": f"{project.host}/{image}", "build": {"context": "app"}}
            for name, image in names.items()
        }
    )
    assert project.run("build").code == 0
    plan = plan_of(project, code=5)
    writes = [write for one in plan["images"] for write in one["writes"] if write["kind"] == "blob"]
    assert [write["mounted"] for write in writes] == [False, False, True, True]
    text = project.run("plan").out
    assert "0 blobs (0 B; 2 mounted)" in text
    registry.requests.clear()
    assert project.run("run", "--jobs", "1").code == 0
    blobs = [request for request in registry.requests if request.status == 201 and "/blobs/" in request.path]
    assert ["mount=" in request.path for request in blobs] == [False, False, True, True]
    # What the summary counts is what the registry was asked to change.
    assert f"in {len(registry.writes)} writing requests" in text
    # In a layout all of it is in one place.
    plan = plan_of(project, "--to", "oci:../carried", code=0)
    assert sum(len(image(plan, name)["writes"]) for name in names) == 2 + 3 * 2


def test_images_that_are_chosen_or_carried_leave_mirrors_alone(
    project: Project, registry: FakeRegistry
) -> None:
    digest = registry.add_image("somebody/cache", "8")
    with FakeRegistry() as own:
        pinned = f"{own.host}/mirror/cache@{digest}"
        project.write(
            "docker-compose.yml",
            f"services:\n  web:\n    image: {project.host}/acme/web:1.0\n"
            f"  cache:\n    image: {project.host}/somebody/cache:8\n",
        )
        project.configure(
            images={
                "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}},
                "cache": {"use": f"{project.host}/somebody/cache:8", "mirror": f"{own.host}/mirror/cache:8"},
            }
        )
        for arguments, code in ((("web",), 5), (("--to", "oci:../carried"), 0)):
            cache = image(plan_of(project, *arguments, code=code), "cache")
            assert (cache["doing"], cache["pinned"], cache["writes"]) == ("use", pinned, [])
            assert project.run("run", *arguments).code == 0
            assert own.writes == []
            levels = {one["what"]: one["level"] for one in project.record["findings"]}
            # Nobody has copied it yet, so the guest's pull can only be tried later.
            assert levels[pinned] == "deferred"
        assert project.run("contract", "workload").code == 0


def test_a_part_of_the_platforms_is_refused_as_the_run_does(project: Project) -> None:
    build = {"context": "app", "platforms": ["linux/s390x", "linux/amd64"]}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    outcome = project.run("run", "--platform", "linux/s390x")
    assert outcome.code == 2
    plan = plan_of(project, "--platform", "linux/s390x", code=1)
    (failed,) = [one for one in plan["findings"] if one["level"] == "fail"]
    assert f"error: {failed['why']}" in outcome.err


def test_only_secrets_that_the_run_takes_are_missed(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def login(name: str) -> dict[str, Any]:
        return {"username": "iamapikey", "password": {"secret": name}}

    project.configure(
        images={
            "web": {
                "image": f"{project.host}/acme/web:1.0",
                "build": {"context": "app", "secrets": {"npmrc": {"secret": "OF_THE_BUILD"}}},
            },
        },
        registries={"us.icr.io": {"push": login("TO_PUSH"), "runtime": login("OF_THE_GUEST")}},
    )

    def missing(*arguments: str, code: int) -> list[str]:
        found = plan_of(project, *arguments, code=code)["findings"]
        return [one["what"] for one in found if one["level"] == "fail"]

    assert missing(code=1) == [f"the secret `{name}`" for name in ("OF_THE_BUILD", "OF_THE_GUEST", "TO_PUSH")]
    monkeypatch.setenv("OF_THE_GUEST", "guest-canary-1")
    monkeypatch.setenv("OF_THE_BUILD", "build-canary-1")
    assert missing("--to", "oci:../carried", code=0) == []
    assert project.run("run", "--to", "oci:../carried").code == 0
    # It was built, so what only the build needs may be gone.
    monkeypatch.setattr(secret, "_taken", {"OF_THE_GUEST": "guest-canary-1"})
    assert missing(code=1) == ["the secret `TO_PUSH`"]


def test_only_logins_that_the_workload_needs_are_in_the_contract(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_GUEST", "guest-canary-2")
    login = {"username": "iamapikey", "password": {"secret": "OF_THE_GUEST"}}
    project.configure(registries={name: {"runtime": login} for name in ("us.icr.io", project.host)})
    assert plan_of(project, code=5)["auths"] == [project.host]
    assert project.run("run").code == 0
    assert "us.icr.io" not in (project.workdir / "workload.yaml").read_text()


def test_what_the_lock_holds_is_not_said_of_one_image(project: Project) -> None:
    digest = f"sha256:{'1' * 64}"
    project.write(
        "secure-build.lock",
        f'version: 1\nimage:\n  "docker.io/library/busybox:1":\n    linux/s390x: {digest}\n',
    )
    project.commit()
    plan = plan_of(project, code=5)
    assert plan["locked"] == [{"name": "docker.io/library/busybox:1", "digest": digest}]
    assert image(plan, "web")["inputs"] is None
    assert f"lock       docker.io/library/busybox:1 {digest}" in project.run("plan").out


def test_a_long_reason_keeps_its_lines(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_builder(*_: object) -> None:
        raise MachineError("no builder works on this machine:\n  buildx: gone\n  buildah: gone")

    monkeypatch.setattr(builders, "open_builder", no_builder)
    assert "machine:\n  buildx: gone\n  buildah: gone\n" in project.run("plan").out


def test_layers_that_nobody_has_are_found_before_the_run(project: Project, registry: FakeRegistry) -> None:
    """A remote builder leaves its layers in the registry, and there they can be lost."""
    assert project.run("run").code == 0
    record = project.record
    record["images"][0]["sparse"] = True
    (project.workdir / "build-record.json").write_text(json.dumps(record))
    layers = [blob for (_, blob), content in registry.blobs.items() if content.startswith(b"\x1f\x8b")]
    for layer in layers:
        (project.workdir / "layout" / "blobs" / "sha256" / layer.hexadecimal).unlink()
    assert image(plan_of(project, code=0), "web")["writes"] == []
    registry.tags.clear()
    assert {write["kind"] for write in image(plan_of(project, code=5), "web")["writes"]} == {
        "manifest",
        "tag",
    }
    registry.blobs.clear()
    (lost, _) = plan_of(project, code=5)["findings"]
    outcome = project.run("run")
    assert outcome.code == 4
    assert f"error: {lost['why']}" in outcome.err


def test_every_image_of_the_workload_is_looked_at(project: Project) -> None:
    lost = {name: f"{project.host}/somebody/{name}:1" for name in ("lost", "gone")}
    others = lost | {"tag": f"{project.host}/acme/web:2.0"}
    lines = [f"  {name}:\n    image: {image}" for name, image in others.items()]
    project.write("docker-compose.yml", "services:\n" + "\n".join(lines) + "\n")
    project.commit()
    failed = [one["why"] for one in plan_of(project, code=1)["findings"] if one["level"] == "fail"]
    assert len(failed) == 3
    for image in others.values():
        assert sum(f"`{image}`" in why for why in failed) == 1


@pytest.mark.parametrize("verb", ["plan", "run"])
def test_a_folder_that_is_no_layout_is_refused_at_once(project: Project, verb: str) -> None:
    outcome = project.run(verb, "--to", "oci:app")
    assert outcome.code == 2
    assert "`app` is neither empty nor an OCI image layout" in outcome.err
    assert project.builder.recipes == []
