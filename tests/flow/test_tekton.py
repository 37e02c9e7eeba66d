"""Tekton's door: what a Task brings becomes what the command reads, and what it tells becomes results."""

from __future__ import annotations

import json
import os
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from action.tekton import chains, messages
from flow.conftest import Project
from integration.conftest import docker_config
from secure_build.doors import tekton
from secure_build.doors.running import KeepingReport
from secure_build.reference import Digest, Reference
from secure_build.registry.auth import machine_credential
from services.certificates import self_signed

LARGEST_MESSAGE = 1000


@dataclass(frozen=True)
class Ended:
    code: int
    results: dict[str, str]
    printed: str
    said: str


Door = Callable[..., Ended]


@pytest.fixture
def door(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    """Runs the door with these variables and records, in the project."""
    folder = tmp_path / "results"
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.delenv("DOCKER_CONFIG")

    def run(command: str, records: Sequence[str] = (), **variables: str) -> Ended:
        places = {f"RESULT_{name.replace('-', '_')}": str(folder / name) for name in tekton.RESULTS}
        project.capture.readouterr()
        # A door runs once in a process, and leaves there what it has set.
        with mock.patch.dict(os.environ, {"SECURE_BUILD_COMMAND": command, **places, **variables}):
            code = tekton.main(records)
        captured = project.capture.readouterr()
        results = {path.name: path.read_text() for path in folder.iterdir()}
        return Ended(code, results, captured.out, captured.err)

    return run


def with_images(project: Project, *names: str) -> None:
    build = {"context": "app"}
    images = {name: {"image": f"{project.host}/acme/{name}:1.0", "build": build} for name in names}
    project.configure(images=images, workload=None)


def test_a_run_and_what_it_hands_on(project: Project, door: Door) -> None:
    ended = door("run")
    assert ended.code == 0, ended.said
    document = json.loads(ended.printed)
    (image,) = document["images"]
    assert ended.results == {
        "STATUS": "done",
        "RECORD": document["handed-on"],
        "IMAGE_DIGEST": image["digest"],
        "IMAGE_URL": image["reference"],
        "CONTRACT": "",
        "COMMIT": "",
        "CHAINS-GIT_COMMIT": document["source"]["commit"],
        "CHAINS-GIT_URL": "",
        "IMAGES": image["pinned"],
    }
    assert ended.results["RECORD"].startswith(f"{project.host}/acme/web@sha256:")
    assert (project.workdir / "result.json").read_text() == ended.printed
    assert image["digest"] in (project.workdir / "summary.md").read_text()
    assert chains.subjects(ended.results) == {f"{project.host}/acme/web": image["digest"]}
    assert door("plan").code == 0, "the working tree is as it was"


@pytest.mark.parametrize(
    ("command", "variables"),
    [("build", {}), ("run", {"SECURE_BUILD_TO": "oci:out"}), ("contract workload", {})],
)
def test_only_what_was_published_is_an_artifact(
    project: Project, door: Door, command: str, variables: dict[str, str]
) -> None:
    if command == "contract workload":
        assert project.run("run").code == 0
    ended = door(command, **variables)
    assert ended.code == 0, ended.said
    assert chains.subjects(ended.results) == {}
    assert ended.results["RECORD"] == ".secure-build/build-record.json"


def test_the_record_of_a_run_is_enough_for_another_job(project: Project, door: Door) -> None:
    record = door("run").results["RECORD"]
    outcome = project.run("verify", "--record", record, "--workdir", "other")
    assert outcome.code == 0, outcome.out + outcome.err
    refused = door("plan", [record])
    assert (refused.code, refused.results["STATUS"]) == (2, "usage")


def test_several_images(project: Project, door: Door) -> None:
    with_images(project, "web", "api")
    ended = door("run")
    assert ended.code == 0, ended.said
    assert (ended.results["IMAGE_URL"], ended.results["IMAGE_DIGEST"]) == ("", "")
    built = {one["name"]: one["digest"] for one in json.loads(ended.printed)["images"]}
    assert chains.subjects(ended.results) == {
        f"{project.host}/acme/{name}": digest for name, digest in built.items()
    }


def test_too_many_images_for_a_result(project: Project, door: Door) -> None:
    with_images(project, *(f"image-{number}" for number in range(12)))
    ended = door("run")
    assert ended.code == 0, ended.said
    assert ended.results["IMAGES"] == ""
    assert "the result IMAGES is left empty" in ended.said
    assert len(json.loads((project.workdir / "result.json").read_text())["images"]) == 12


@given(st.fixed_dictionaries({name: st.text(max_size=400) for name in tekton.RESULTS}))
def test_results_fit_into_any_message(values: dict[str, str]) -> None:
    kept = tekton.chosen(values, KeepingReport(), "")
    assert messages.size(kept, {}) < LARGEST_MESSAGE
    for name, value in kept.items():
        assert value in ("", values[name])
        assert value.isprintable()


def test_what_is_usual_fits() -> None:
    digest = str(Digest.of(b""))
    image = "registry.example.com/a-team/an-image:1.0.0-0123456789ab"
    pinned = f"{image.rpartition(':')[0]}@{digest}"
    found = {
        "STATUS": "interrupted",
        "RECORD": pinned,
        "IMAGE_DIGEST": digest,
        "IMAGE_URL": image,
        "CONTRACT": "/workspace/output/contract.yaml",
        "COMMIT": 40 * "a",
        "CHAINS-GIT_COMMIT": 40 * "a",
        "CHAINS-GIT_URL": "https://git.example.com/a-team/a-repository.git",
        "IMAGES": pinned,
    }
    kept = tekton.chosen(found, KeepingReport(), "")
    assert kept == found
    assert chains.material(kept) == (f"git+{found['CHAINS-GIT_URL']}", 40 * "a")


def test_a_failure_has_results_too(project: Project, door: Door) -> None:
    assert door("build").code == 0
    ended = door("run", SECURE_BUILD_IMAGES="none")
    assert ended.code == 2
    assert ended.results == dict.fromkeys(tekton.RESULTS, "") | {"STATUS": "usage"}
    assert json.loads((project.workdir / "result.json").read_text())["status"] == "usage"


def test_a_failure_before_anything_leaves_the_source_alone(project: Project, door: Door) -> None:
    assert door("run", SECURE_BUILD_JOBS="many").code == 2
    assert not project.workdir.exists()
    assert door("run", SECURE_BUILD_JOBS="").code == 0


@pytest.mark.parametrize("name", ["config.json", ".dockerconfigjson"])
def test_logins_of_the_workspace(
    name: str, project: Project, door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Any] = []
    repository = Reference.parse(f"{project.host}/acme/web:1.0").repository
    monkeypatch.setattr(
        tekton, "_source", lambda _: (found.append(machine_credential(repository)), (Path(), None))[1]
    )
    folder = tmp_path / "dockerconfig"
    folder.mkdir()
    refused = door("run", DOCKER_CONFIG=str(folder))
    assert (refused.code, refused.results["STATUS"]) == (2, "usage")
    assert "neither `config.json` nor `.dockerconfigjson`" in refused.said
    (folder / name).write_text(docker_config(project.host, "somebody", "a password"))
    assert door("run", DOCKER_CONFIG=str(folder)).code == 0
    assert [one.username for one in found] == ["somebody"]


def test_authorities_of_the_workspace(door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def build(*_: object) -> None:
        context = ssl.create_default_context()
        seen.extend(one["subject"] for one in context.get_ca_certs())

    folder = tmp_path / "certificates"
    folder.mkdir()
    assert "has no `.crt`" in door("plan", CERTIFICATES=str(folder)).said
    certificate, _ = self_signed(tmp_path, "authority.example.com")
    (folder / "own.crt").write_bytes(certificate.read_bytes())
    monkeypatch.setattr(tekton, "_source", lambda _: (build(), (Path(), None))[1])
    ended = door("build", CERTIFICATES=str(folder))
    assert ended.code == 0, ended.said
    assert any("authority.example.com" in str(subject) for subject in seen)


@pytest.mark.parametrize(
    ("variables", "records", "said"),
    [
        ({"SOURCE_REVISION": "main"}, (), "goes with `SOURCE_URL`"),
        ({"SOURCE_DIRECTORY": ".."}, (), "leads out of"),
        ({"SOURCE_DIRECTORY": "none"}, (), "there is no folder `none`"),
        ({"SOURCE_DIRECTORY": "x" * 100_000}, (), "cannot use"),
        ({"SOURCE": "/nonexistent"}, (), "there is no folder `/nonexistent`"),
        ({"SOURCE_URL": "file:///srv/git", "CLONE": "clone"}, (), "no address of a git repository"),
        ({}, ("a\nb",), "is named by one line"),
        ({}, ("none.json",), "no build record at `none.json`"),
        ({"SOURCE_DIRECTORY": "loop"}, (), "in a circle"),
        ({"SOURCE": "a", "SOURCE_URL": "https://example.com/a.git", "CLONE": "b"}, (), "are two sources"),
        ({"SECURE_BUILD_STRICT": "true"}, (), "does not take `strict`"),
    ],
)
def test_what_is_wrong_is_said(
    door: Door, variables: dict[str, str], records: Sequence[str], said: str
) -> None:
    Path("loop").symlink_to("loop")
    ended = door("run", records, **variables)
    assert (ended.code, ended.results["STATUS"]) == (2, "usage")
    assert said in ended.said
    assert ended.printed == ""


def test_records_are_joined(project: Project, door: Door) -> None:
    platforms = ["linux/amd64", "linux/s390x"]
    build = {"context": "app", "platforms": platforms}
    project.configure(
        images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}}, workload=None
    )
    records = []
    for platform in platforms:
        ended = door(
            "build", SECURE_BUILD_PLATFORM=platform, SECURE_BUILD_WORKDIR=f"../{platform.partition('/')[2]}"
        )
        assert ended.code == 0, ended.said
        records.append(ended.results["RECORD"])
    ended = door("run", ["", *records], SECURE_BUILD_PLATFORM="", SECURE_BUILD_WORKDIR="")
    assert ended.code == 0, ended.said
    assert json.loads(ended.printed)["images"][0]["platforms"] == platforms
