"""The door of GitHub Actions: outputs, summary and log, and what cannot get into them."""

from __future__ import annotations

import base64
import json
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from fakes.registry import FakeRegistry
from flow import github_log
from flow.conftest import COMPOSE, Project
from flow.deployer import ENV, SECRETS
from flow.github_log import Log
from secure_build import builders, secret
from secure_build.builders import Builder, Surroundings
from secure_build.doors import github
from secure_build.errors import MachineError, RefusedError
from secure_build.model import BuilderName


@dataclass(frozen=True)
class Step:
    """What a step of a workflow came to."""

    code: int
    outputs: dict[str, str]
    summary: str
    log: Log
    stdout: str


@dataclass
class Runner:
    """Runs the door as a runner would, in the folder of a project."""

    folder: Path
    project: Project
    monkeypatch: pytest.MonkeyPatch

    def step(self, **inputs: str) -> Step:
        files = {name: self.folder / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        with self.monkeypatch.context() as patch:
            patch.setenv("GITHUB_ACTIONS", "true")
            patch.setenv("GITHUB_WORKSPACE", str(self.project.folder))
            for name, path in files.items():
                path.write_text("")
                patch.setenv(name, str(path))
            for name, value in {"SECURE_BUILD_COMMAND": "run", **inputs}.items():
                patch.setenv(name, value)
            # What the process would forget at its end.
            patch.setattr(secret, "_listeners", [])
            patch.setattr(secret, "_masked", set())
            self.project.capture.readouterr()
            code = github.main()
        captured = self.project.capture.readouterr()
        return Step(
            code,
            github_log.outputs(files["GITHUB_OUTPUT"].read_text()),
            files["GITHUB_STEP_SUMMARY"].read_text(),
            github_log.read(captured.err),
            captured.out,
        )


@pytest.fixture
def runner(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    return Runner(tmp_path, project, monkeypatch)


def test_outputs_and_summary_of_a_run(project: Project, registry: FakeRegistry, runner: Runner) -> None:
    step = runner.step()
    assert step.code == 0, step.log.lines
    digest = str(registry.tags["acme/web", "1.0"])
    pinned = f"{project.host}/acme/web@{digest}"
    assert step.outputs["status"] == "done"
    assert (step.outputs["image"], step.outputs["digest"]) == (pinned, digest)
    assert json.loads(step.outputs["images"]) == [
        {
            "name": "web",
            "reference": f"{project.host}/acme/web:1.0",
            "digest": digest,
            "pinned": pinned,
            "platforms": ["linux/s390x"],
        }
    ]
    assert step.outputs["record"] == ".secure-build/build-record.json"
    assert step.outputs["workload"] == ".secure-build/workload.yaml"
    assert step.outputs["contract"] == ""
    assert yaml.safe_load(step.outputs["images-section"]) == {"images": {}, "auths": {}}
    assert f"#   web: {pinned}" in step.outputs["images-section"].splitlines()
    fragment = project.folder / step.outputs["images-section-path"]
    assert (fragment.read_text(), fragment.stat().st_mode & 0o777) == (
        step.outputs["images-section"] + "\n",
        0o600,
    )
    for said in (
        "secure-build run: done",
        digest,
        "linux/s390x",
        "verify: accepted: 1 container",
        "workload.yaml",
    ):
        assert said in step.summary
    groups = [one.value for one in step.log.of("group")]
    assert groups == [f"secure-build: {name}" for name in ("build", "publish", "contract", "result")]
    assert len(step.log.of("endgroup")) == len(groups)
    assert step.stdout == ""


@pytest.mark.parametrize("command", ["run", "plan", "contract images", "contract workload"])
def test_the_summary_is_what_the_command_prints_as_markdown(
    project: Project, runner: Runner, command: str
) -> None:
    assert project.run("run").code == 0
    printed = project.run(*command.split(), "--output", "markdown").out
    assert project.host in printed
    heading, _, body = runner.step(SECURE_BUILD_COMMAND=command).summary.partition("\n\n")
    assert (heading, body) == (f"## secure-build {command}: done", printed)


def test_several_images_have_no_single_one(project: Project, runner: Runner) -> None:
    images = {
        name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": "app"}}
        for name in ("web", "api")
    }
    project.configure(images=images)
    step = runner.step()
    assert (step.outputs["image"], step.outputs["digest"]) == ("", "")
    assert [one["name"] for one in json.loads(step.outputs["images"])] == ["web", "api"]


def test_the_fragment_without_a_workload_section(project: Project, runner: Runner) -> None:
    project.configure(workload=None)
    step = runner.step()
    assert step.code == 0
    assert step.outputs["images-section"].startswith("# ")
    assert (step.outputs["workload"], step.outputs["contract"]) == ("", "")
    again = runner.step(SECURE_BUILD_COMMAND="contract images")
    assert again.outputs["images-section"] == step.outputs["images-section"]
    assert again.outputs["images"] == ""


def test_a_whole_contract(project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED"}}}}
    project.configure(workload=workload, env=ENV)
    step = runner.step()
    assert step.outputs["contract"] == ".secure-build/contract.yaml", step.log.lines
    lines = step.outputs["expected-attestation"].splitlines()
    assert any(line.endswith(" contract:workload") for line in lines)
    assert all(line in step.summary for line in lines)


INJECTIONS = (
    "::set-output name=digest::sha256:forged",
    "   ::add-mask::e",
    "##[add-path]/tmp/evil",
    "text ##[set-env name=LD_PRELOAD;]/tmp/evil.so",
    "::stop-commands::mine",
    "\r::error::forged",
    "\x1b[31m::warning::forged",
    "%0A::notice::forged",
    "::endgroup::",
)


def test_a_build_cannot_command_the_runner(project: Project, runner: Runner) -> None:
    clean = runner.step(SECURE_BUILD_VERBOSE="true").log
    project.builder.before = lambda: None
    said = "\n".join(INJECTIONS)

    def fail() -> None:
        raise RefusedError(f"web: the build failed:\n{said}", hint=said)

    real = project.builder.build

    def build(recipe, staging, on_line):  # type: ignore[no-untyped-def]
        for line in INJECTIONS:
            on_line(line)
        return real(recipe, staging, on_line)

    project.builder.build = build  # type: ignore[method-assign]
    project.configure()
    loud = runner.step(SECURE_BUILD_VERBOSE="true").log
    assert any("sha256:forged" in line for line in loud.lines)
    assert [one for one in loud.commands if one.name != "group"] == [
        one for one in clean.commands if one.name != "group"
    ]
    assert loud.masks == clean.masks

    project.builder.before = fail
    project.configure()
    step = runner.step(SECURE_BUILD_VERBOSE="true")
    assert (step.code, step.outputs["status"]) == (1, "refused")
    (error,) = step.log.of("error")
    assert error.properties == {"title": "secure-build"}
    assert "the build failed" in error.value
    assert "forged" in error.value
    assert step.log.masks == []
    assert {one.name for one in step.log.commands} == {"error", "group", "endgroup"}
    # In the summary it is a block of text, never a heading or a tag.
    assert all(line.startswith("    ") for line in step.summary.splitlines() if "forged" in line)


def test_secrets_are_masked_before_anybody_can_print_them(
    project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = {"PUSH": "push canary/1?", "PULL": "pull-canary-2"}
    for name, value in passwords.items():
        monkeypatch.setenv(name, value)
    users = {"pusher": passwords["PUSH"], "puller": passwords["PULL"]}
    with FakeRegistry(auth="token", users=users, readers=["puller"]) as private:
        project.host = private.host
        project.write("docker-compose.yml", COMPOSE.format(host=private.host))
        access = {
            "push": {"username": "pusher", "password": {"secret": "PUSH"}},
            "runtime": {"username": "puller", "password": {"secret": "PULL"}},
        }
        project.configure(registries={private.host: access})
        # A builder has the logins of its time, and prints whatever it likes.
        project.builder.before = lambda: print(*passwords.values(), file=sys.stderr)
        step = runner.step(SECURE_BUILD_VERBOSE="true")
    assert step.code == 0, step.log.lines
    shown = "\n".join([*step.log.lines, *step.outputs.values(), step.summary])
    for password in passwords.values():
        assert password in step.log.masks
        assert base64.b64encode(password.encode()).decode() in step.log.masks
        assert password not in shown
    assert "push%20canary/1%3F" in step.log.masks
    section = yaml.safe_load(step.outputs["images-section"])
    assert section["auths"] == {private.host: {"username": "puller", "password": "***"}}
    assert passwords["PULL"] in (project.folder / step.outputs["images-section-path"]).read_text()


def test_an_output_that_holds_a_secret_is_explained(
    project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSH", "acme")
    with FakeRegistry(auth="token", users={"pusher": "acme"}) as private:
        project.host = private.host
        push = {"username": "pusher", "password": {"secret": "PUSH"}}
        project.configure(registries={private.host: {"push": push}}, workload=None)
        step = runner.step(SECURE_BUILD_COMMAND="build")
        assert step.code == 0
        step = runner.step(SECURE_BUILD_COMMAND="publish")
    assert step.code == 0
    # What the steps of this job get is whole.
    assert "/acme/web@sha256:" in step.outputs["image"]
    assert any("the output `image` holds the text of a secret" in line for line in step.log.lines)


def test_findings_stand_at_the_line_of_their_file(project: Project, runner: Runner) -> None:
    assert runner.step().code == 0
    path = project.workdir / "workload.yaml"
    path.write_text(path.read_text() + "  imagse: {}\n")
    wrong = len(path.read_text().splitlines())
    step = runner.step(
        SECURE_BUILD_COMMAND="verify", SECURE_BUILD_CONTRACT=str(path), SECURE_BUILD_TARGET="ccrt"
    )
    assert (step.code, step.outputs["status"]) == (1, "refused"), step.log.lines
    places = [(one.properties.get("file"), one.properties.get("line")) for one in step.log.of("error")]
    assert (".secure-build/workload.yaml", str(wrong)) in places, step.log.commands
    assert "verify: refused" in step.summary


def test_mistakes_in_the_config_stand_at_their_lines(project: Project, runner: Runner) -> None:
    project.configure(taget="ccrt", builder="bildx")
    step = runner.step()
    assert step.code == 2
    errors = step.log.of("error")
    assert {one.properties["file"] for one in errors} == {"secure-build.yaml"}
    config = (project.folder / "secure-build.yaml").read_text().splitlines()
    for one in errors:
        assert config[int(one.properties["line"]) - 1].startswith(("taget", "builder"))
    assert len(errors) == 2


def test_an_input_that_the_command_does_not_take_is_an_error(project: Project, runner: Runner) -> None:
    step = runner.step(SECURE_BUILD_STRICT="true", SECURE_BUILD_CONTRACT="contract.yaml")
    assert (step.code, step.outputs["status"]) == (2, "usage")
    (error,) = step.log.of("error")
    assert "`run` does not take `contract`, `strict`" in error.value
    assert project.builder.recipes == []


@pytest.mark.parametrize("command", ["rum", "contract", "--help", "run; touch x", "run --allow-dirty", "-h"])
def test_a_command_is_one_of_the_known_ones(runner: Runner, command: str) -> None:
    step = runner.step(SECURE_BUILD_COMMAND=command)
    assert step.code == 2
    (error,) = step.log.of("error")
    assert "must be one of" in error.value


def test_no_permission_for_a_token_is_said_before_anything_is_built(project: Project, runner: Runner) -> None:
    keyless = {
        "identity": "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1",
        "issuer": "https://token.actions.githubusercontent.com",
    }
    project.configure(signing={"keyless": keyless})
    step = runner.step()
    assert step.code == 3
    (error,) = step.log.of("error")
    assert "no OIDC token" in error.value
    assert "permissions:\n  contents: read\n  id-token: write" in error.value
    assert "    permissions:\n      contents: read\n      id-token: write" in step.summary
    assert project.builder.recipes == []


def test_no_builder_is_said_with_the_step_that_brings_one(
    project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise MachineError("no builder works on this machine")

    monkeypatch.setattr(builders, "open_builder", none)
    step = runner.step()
    assert (step.code, step.outputs["status"]) == (3, "unsupported")
    assert "- run: sudo apt-get update && sudo apt-get install --yes buildah" in step.log.of("error")[0].value


def test_a_builder_of_another_platform_is_not_asked_for(
    project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builders.open_builder

    def only_buildah(name: BuilderName | None, surroundings: Surroundings) -> AbstractContextManager[Builder]:
        if name is not None and name.instance:
            raise MachineError(f"`{name}` is not reachable from this runner")
        return real(name, surroundings)

    monkeypatch.setattr(builders, "open_builder", only_buildah)
    project.configure(
        builder={"linux/s390x": "buildah", "linux/amd64": "buildx:remote"},
        images={
            "web": {
                "image": f"{project.host}/acme/web:1.0",
                "build": {"context": "app", "platforms": ["linux/s390x", "linux/amd64"]},
            }
        },
    )
    given = {"SECURE_BUILD_COMMAND": "build"}
    assert runner.step(**given, SECURE_BUILD_PLATFORM="linux/s390x").code == 0
    step = runner.step(**given, SECURE_BUILD_PLATFORM="linux/amd64")
    assert step.code == 3
    assert "not reachable from this runner" in step.log.of("error")[0].value


def test_what_an_input_lacks_is_an_annotation(project: Project, runner: Runner) -> None:
    step = runner.step(SECURE_BUILD_COMMAND="contract re-encrypt")
    assert (step.code, step.outputs["status"]) == (2, "usage")
    (error,) = step.log.of("error")
    assert "the following arguments are required: --section" in error.value
    assert "--section" in step.summary


def test_the_record_is_handed_on(project: Project, runner: Runner) -> None:
    step = runner.step(SECURE_BUILD_HAND_ON="true")
    assert step.code == 0
    assert step.outputs["record"].startswith(f"{project.host}/acme/web@sha256:")
    again = runner.step(SECURE_BUILD_COMMAND="verify", SECURE_BUILD_RECORD=step.outputs["record"])
    assert again.code == 0, again.log.lines


def test_a_fragment_that_the_guest_cannot_use_is_not_written(
    project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUSH", "push-canary-1")
    monkeypatch.setenv("PULL", "not-the-password")
    users = {"pusher": "push-canary-1", "puller": "pull-canary-2"}
    with FakeRegistry(auth="token", users=users, readers=["puller"]) as private:
        project.host = private.host
        access = {
            "push": {"username": "pusher", "password": {"secret": "PUSH"}},
            "runtime": {"username": "puller", "password": {"secret": "PULL"}},
        }
        project.configure(registries={private.host: access}, workload=None)
        step = runner.step()
    assert (step.code, step.outputs["status"]) == (1, "refused")
    assert step.outputs["images-section"] == ""
    assert not (project.workdir / "images.yaml").exists()


def test_another_folder(project: Project, runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder.parent)
    assert runner.step(ACTION_DIRECTORY=str(project.folder)).code == 0
    step = runner.step(ACTION_DIRECTORY="nowhere")
    assert step.code == 2
    assert "there is no folder `nowhere`" in step.log.of("error")[0].value


def test_what_plan_finds_is_annotated(project: Project, runner: Runner) -> None:
    project.configure(workload={"compose": "missing.yml"})
    step = runner.step(SECURE_BUILD_COMMAND="plan")
    told = [one.value for one in step.log.of("error")]
    assert step.code != 0
    assert any("missing.yml" in one for one in told), told
    assert len(told) == len(set(told))
