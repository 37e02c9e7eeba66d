"""A second `run` does nothing that is not needed, and notices what is."""

from __future__ import annotations

from collections.abc import Callable

from integration.access_log import AccessLog
from integration.project import Project
from secure_build.layout import Layout
from services.running import RunningRegistry

Projects = Callable[..., Project]
MoveTag = Callable[[str], str]


def with_helper(project: Project, helper: str) -> dict[str, str]:
    compose = f"services:\n  web:\n    image: {project.image}\n  helper:\n    image: {helper}\n"
    return {"docker-compose.yml": compose}


def test_nothing_changed(builder: str, make_project: Projects, registry: RunningRegistry) -> None:
    project = make_project(builder)
    project.commit()
    first = project.run("run")
    files = [project.contract_path, project.contract_path.with_suffix(".key"), project.record_path]
    before = [(path.read_bytes(), path.stat().st_ino) for path in files[:2]]
    record = project.record()

    log = AccessLog(registry)
    second = project.run("run")
    assert [request for request in log.requests() if request.writes] == []
    assert not any("/blobs/" in request.path for request in log.requests())
    assert [(path.read_bytes(), path.stat().st_ino) for path in files[:2]] == before
    assert project.record() == record
    assert second.stdout == first.stdout
    for what in ("web: unchanged, not built", "web: unchanged, not uploaded", "workload: unchanged"):
        assert what in second.stderr
        assert what not in first.stderr


def test_moved_base_tag_builds_again(builder: str, make_project: Projects, move_tag: MoveTag) -> None:
    project = make_project(builder, base=move_tag("STATE=old"))
    project.commit()
    project.run("run")
    before = project.record()["images"][0]

    move_tag("STATE=new")
    outcome = project.run("run")
    after = project.record()["images"][0]
    assert "web: building" in outcome.stderr
    assert after["materials"] != before["materials"]
    assert project.pinned().endswith(after["descriptor"]["digest"])
    assert after["descriptor"] != before["descriptor"]


def test_moved_third_party_tag_changes_the_contract_only(
    builder: str, make_project: Projects, move_tag: MoveTag, registry: RunningRegistry
) -> None:
    project = make_project(builder)
    project.commit(with_helper(project, move_tag("STATE=old")))
    project.run("run")
    before = project.pinned(), project.pinned("helper")

    move_tag("STATE=new")
    log = AccessLog(registry)
    outcome = project.run("run")
    assert "web: unchanged, not built" in outcome.stderr
    assert [request for request in log.requests() if request.writes] == []
    assert project.pinned() == before[0]
    assert project.pinned("helper") != before[1]


def test_changed_config_builds_again(builder: str, make_project: Projects) -> None:
    project = make_project(builder)
    project.commit()
    project.run("run")
    before = project.record()

    project.config["images"]["web"]["build"]["args"] = {"UNUSED": "1"}
    project.commit()
    outcome = project.run("run")
    assert "web: building" in outcome.stderr
    assert project.record()["config"] != before["config"]


def test_lost_blob_is_made_again(builder: str, make_project: Projects) -> None:
    project = make_project(builder)
    project.commit()
    project.run("run")
    digest = project.digest()
    blobs = project.workdir / "layout" / "blobs" / "sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    largest.unlink()

    outcome = project.run("run")
    assert "web: building" in outcome.stderr
    assert largest.exists()
    assert project.digest() == digest


def test_damaged_blob_never_reaches_a_registry(
    builder: str, make_project: Projects, registry: RunningRegistry
) -> None:
    project = make_project(builder)
    project.commit()
    project.run("build")
    layout = Layout(project.workdir / "layout")
    # A layer of our own: those of the base are mounted from where they are, and not read here.
    [(_, image)] = layout.entries()
    layer = layout.manifest(image).layers[-1]
    path = layout.directory / "blobs" / "sha256" / layer.digest.hexadecimal
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    log = AccessLog(registry)
    outcome = project.run("publish", status=4)
    assert "damaged" in outcome.stderr
    assert [it for it in log.requests() if it.method == "PUT" and "/manifests/" in it.path] == []
