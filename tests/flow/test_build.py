"""build: several images at once, what is kept of them, and where their bytes are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow.conftest import Project
from secure_build.errors import RefusedError


def images(project: Project, **builds: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": "app", **build}}
        for name, build in builds.items()
    }


def test_32_secrets_of_images_with_names_that_run_together(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {"first": "canary-of-the-first", "second": "canary-of-the-second"}
    for name, value in secrets.items():
        monkeypatch.setenv(name.upper(), value)
    project.configure(
        images=images(
            project,
            **{
                "web": {"secrets": {"api-key": {"secret": "FIRST"}}},
                "web-api": {"secrets": {"key": {"secret": "SECOND"}}},
            },
        ),
        workload=None,
    )
    seen: list[dict[str, str]] = []

    def look() -> None:
        recipe = project.builder.recipes[-1]
        seen.append({identity: path.read_text() for identity, path in recipe.secrets.items()})

    project.builder.before = look
    assert project.run("build", "--jobs", "1").code == 0
    assert seen == [{"api-key": secrets["first"]}, {"key": secrets["second"]}]


def test_one_that_fails_among_ten_does_not_cost_the_others(project: Project) -> None:
    names = [f"image{number}" for number in range(10)]
    for name in names:
        project.write(f"{name}/Dockerfile", "FROM scratch\nCOPY . /\n")
    project.configure(images=images(project, **{name: {"context": name} for name in names}), workload=None)

    def fail_at_the_sixth() -> None:
        if len(project.builder.recipes) == 6:
            raise RefusedError("the sixth does not build")

    project.builder.before = fail_at_the_sixth
    outcome = project.run("build", "--jobs", "1")
    assert outcome.code == 1
    assert "the sixth does not build" in outcome.err
    assert [image["name"] for image in project.record["images"]] == names[:5]
    # What there is, is whole; the others are built when it works again, and nothing twice.
    outcome = project.run("build", "--jobs", "1")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("unchanged, not built") == 5
    assert len(project.builder.recipes) == 6 + 5
    assert [image["name"] for image in project.record["images"]] == names


def test_equal_configs_in_two_folders_are_two_things(project: Project, tmp_path: Path) -> None:
    """With one work folder, the second must not take the first one's images for its own."""
    for folder in ("a", "b"):
        project.write(f"{folder}/app/Dockerfile", f"FROM scratch\n# {folder}\nCOPY . /\n")
        project.write(f"{folder}/secure-build.yaml", (project.folder / "secure-build.yaml").read_text())
    project.commit()
    work = str(tmp_path / "work")
    for folder in ("a", "b"):
        outcome = project.run("build", "-c", f"{folder}/secure-build.yaml", "--workdir", work)
        assert outcome.code == 0, outcome.err
        assert "unchanged" not in outcome.err
    assert len(project.builder.recipes) == 2


@pytest.fixture
def sparse(project: Project) -> Project:
    """A project whose image was built by a builder that put the layers into the registry."""
    assert project.run("build").code == 0
    path = project.workdir / "build-record.json"
    written = json.loads(path.read_text())
    written["images"][0]["sparse"] = True
    path.write_text(json.dumps(written, indent=2, ensure_ascii=False, sort_keys=True) + "\n")
    blobs = project.workdir / "layout/blobs/sha256"
    root = json.loads((blobs / written["images"][0]["descriptor"]["digest"].partition(":")[2]).read_text())
    for layer in root["layers"]:
        (blobs / layer["digest"].partition(":")[2]).unlink()
    return project


def test_layers_that_are_elsewhere_are_not_published_to_a_layout(sparse: Project, tmp_path: Path) -> None:
    assert "unchanged, not built" in sparse.run("build").err
    outcome = sparse.run("publish", "--to", f"oci:{tmp_path / 'out'}")
    assert outcome.code == 2
    assert f"the layers of web are in `{sparse.host}/acme/web`" in outcome.err
    assert "`secure-build run --to oci:DIR` builds it into a layout" in outcome.err
    assert not (tmp_path / "out").exists()


def test_run_to_a_layout_builds_what_is_elsewhere(sparse: Project, tmp_path: Path) -> None:
    digest = sparse.record["images"][0]["descriptor"]["digest"]
    outcome = sparse.run("run", "--to", f"oci:{tmp_path / 'out'}")
    assert outcome.code == 0, outcome.err
    (image,) = sparse.record["images"]
    assert (image["descriptor"]["digest"], image["sparse"]) == (digest, False)
