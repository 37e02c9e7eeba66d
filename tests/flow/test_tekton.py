"""The door of Tekton in this process: results, what they are for Chains, and what the environment brings."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry
from flow.conftest import Project
from secure_build.doors import tekton
from secure_build.doors.running import KeepingReport

Task = Callable[..., tuple[int, dict[str, str]]]


@pytest.fixture
def task(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    """Runs the door as a step would; returns its exit code and the results."""
    folder = tmp_path / "results"
    folder.mkdir()

    def run(command: str, *records: str, **variables: str) -> tuple[int, dict[str, str]]:
        with monkeypatch.context() as patch:
            # A workspace that is not bound.
            patch.setenv("DOCKER_CONFIG", "")
            for name in tekton.RESULTS:
                patch.setenv(f"RESULT_{name.replace('-', '_')}", str(folder / name))
            for name, value in {"SECURE_BUILD_COMMAND": command, **variables}.items():
                patch.setenv(name, value)
            code = tekton.main(records)
        return code, {name: (folder / name).read_text() for name in tekton.RESULTS}

    return run


def test_results_of_a_run(project: Project, registry: FakeRegistry, task: Task) -> None:
    code, results = task("run")
    assert (code, results["STATUS"]) == (0, "done")
    assert results["IMAGE_URL"] == f"{project.host}/acme/web:1.0"
    assert results["IMAGE_DIGEST"] == str(registry.tags["acme/web", "1.0"])
    assert results["IMAGES"] == f"{project.host}/acme/web@{results['IMAGE_DIGEST']}"
    assert results["CHAINS-GIT_COMMIT"] == project.record["source"]["commit"]
    # The record is in the registry, by digest, and another job finds all images in it.
    assert results["RECORD"].startswith(f"{project.host}/acme/web@sha256:")
    outcome = project.run("verify", "--record", results["RECORD"], "--workdir", "other")
    assert outcome.code == 0, outcome.out + outcome.err
    for name in ("result.json", "summary.md"):
        assert (project.workdir / name).stat().st_size


@pytest.mark.parametrize(
    ("command", "variables"),
    [("build", {}), ("run", {"SECURE_BUILD_TO": "oci:out"}), ("contract workload", {})],
)
def test_only_what_was_published_is_an_artifact(
    project: Project, task: Task, command: str, variables: dict[str, str]
) -> None:
    if command == "contract workload":
        assert project.run("run").code == 0
    code, results = task(command, **variables)
    assert code == 0
    assert (results["IMAGE_URL"], results["IMAGE_DIGEST"], results["IMAGES"]) == ("", "", "")
    assert results["RECORD"] == ".secure-build/build-record.json"


def test_records_that_the_verb_does_not_take_are_refused(project: Project, task: Task) -> None:
    code, results = task("plan", f"example.com/x@sha256:{'0' * 64}")
    assert (code, results["STATUS"]) == (2, "usage")


def test_a_source_that_leads_in_a_circle(project: Project, task: Task) -> None:
    (project.folder / "loop").symlink_to("loop")
    code, results = task("plan", SOURCE=str(project.folder), SOURCE_DIRECTORY="loop")
    assert (code, results["STATUS"]) == (2, "usage")


def test_two_sources_are_refused(project: Project, task: Task, tmp_path: Path) -> None:
    given = {
        "SOURCE": str(project.folder),
        "SOURCE_URL": "https://example.com/a.git",
        "CLONE": str(tmp_path / "c"),
    }
    code, results = task("plan", **given)
    assert (code, results["STATUS"]) == (2, "usage")


def test_what_does_not_fit_is_left_empty_whole_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    image = f"registry.example.com/acme/image@sha256:{'a' * 64}"
    values = {**dict.fromkeys(tekton.RESULTS, ""), "STATUS": "done", "RECORD": image}
    for count in range(1, 40):
        given = {**values, "IMAGES": ",".join([image] * count)}
        found = tekton.chosen(given, KeepingReport(), "it is in `result.json`")
        assert found["IMAGES"] in ("", given["IMAGES"])
        # As Tekton sends them: key, value and type of each.
        message = [{"key": name, "value": value, "type": 1} for name, value in found.items()]
        assert len(json.dumps(message)) < 1000
    assert found["IMAGES"] == ""
    assert (found["STATUS"], found["RECORD"]) == ("done", image)
    assert "the result IMAGES is left empty" in capsys.readouterr().err


def test_a_result_is_one_plain_line() -> None:
    values = {**dict.fromkeys(tekton.RESULTS, ""), "CONTRACT": "a\nb", "IMAGE_URL": "a\u202eb"}
    found = tekton.chosen(values, KeepingReport(), "")
    assert (found["CONTRACT"], found["IMAGE_URL"]) == ("", "")
