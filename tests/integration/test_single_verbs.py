"""The verbs one by one, which hand each other the build record and the layout."""

from __future__ import annotations

import json
from collections.abc import Callable

from integration.access_log import AccessLog
from integration.project import Project, command
from services.needed import need
from services.running import RunningRegistry

Projects = Callable[..., Project]


def test_verbs_one_after_another_do_what_run_does(builder: str, make_project: Projects) -> None:
    project = make_project(builder)
    project.commit()
    project.run("build")
    project.run("publish")
    project.run("contract", "workload")
    draft = (project.workdir / "workload.draft.yaml").read_bytes()
    assert not project.contract_path.exists()
    project.run("contract", "images")
    outcome = project.run("run")
    assert "web: unchanged, not built" in outcome.stderr
    assert "web: unchanged, not uploaded" in outcome.stderr
    assert project.contract_path.read_bytes() == draft


def test_verb_without_the_one_before_it_says_so(make_project: Projects) -> None:
    project = make_project(None)
    project.commit()
    for verb in (("publish",), ("contract", "workload"), ("contract", "images")):
        outcome = project.run(*verb, status=2)
        assert "run `secure-build build` first" in outcome.stderr
        assert outcome.stdout == ""


def test_layout_first_registry_later(builder: str, make_project: Projects, registry: RunningRegistry) -> None:
    need("skopeo", "crane")
    project = make_project(builder)
    project.commit()
    project.run("build")
    log = AccessLog(registry)
    project.run("publish", "--to", "oci:embedded")
    assert [request for request in log.requests() if request.writes] == []
    layout = project.directory / "embedded"
    inspected = command("skopeo", "inspect", "--override-arch=s390x", f"oci:{layout}:{project.image}")
    assert json.loads(inspected)["Digest"] == project.digest()
    index = json.loads((layout / "index.json").read_text())
    assert [entry["digest"] for entry in index["manifests"]] == [project.digest()]

    project.run("contract", "workload")
    assert {finding["level"] for finding in project.record()["findings"]} == {"deferred", "pass"}
    deferred = (project.workdir / "workload.draft.yaml").read_bytes()

    project.run("publish")
    assert command("crane", "digest", "--insecure", project.image).decode().strip() == project.digest()
    project.run("contract", "workload")
    assert (project.workdir / "workload.draft.yaml").read_bytes() == deferred
    assert {finding["level"] for finding in project.record()["findings"]} == {"pass"}


def test_published_is_what_the_layout_holds(builder: str, make_project: Projects) -> None:
    """crane reads our layout and the registry, and finds the same bytes."""
    need("crane")
    project = make_project(builder)
    project.config["images"]["web"]["build"]["platforms"] = ["linux/s390x", "linux/amd64"]
    project.commit()
    project.run("build")
    copy = project.image.replace("/web:", "/copied-by-crane:")
    command("crane", "push", "--insecure", "--index", project.workdir / "layout", copy)
    project.run("publish")
    published = command("crane", "manifest", "--insecure", project.image)
    (member,) = json.loads(command("crane", "manifest", "--insecure", copy))["manifests"]
    assert member["digest"] == project.digest()
    assert (
        command("crane", "manifest", "--insecure", f"{copy.rpartition(':')[0]}@{member['digest']}")
        == published
    )
