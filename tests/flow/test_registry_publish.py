"""`publish` through the command line: logins of the machine, shared layers, a tag that moved."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry
from flow.conftest import Project


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    """One that has tokens for `ann` and `bob` only."""
    with FakeRegistry(auth="token", users={"ann": "ann-word", "bob": "bob-word"}) as registry:
        yield registry


def two_images(project: Project, *names: str) -> None:
    """Images with the same content but for their name."""
    for name in names:
        project.write(f"{name}/Dockerfile", "FROM scratch\nCOPY . /\n")
    images = {name: {"image": f"{project.host}/{name}/web:1.0", "build": {"context": name}} for name in names}
    project.configure(images=images, workload=None)


def test_hardening_34_each_namespace_is_published_with_its_own_login(
    project: Project, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_images(project, "acme", "other")
    entries = {
        f"{registry.host}/{name}": {"auth": base64.b64encode(f"{user}:{user}-word".encode()).decode()}
        for name, user in (("acme", "ann"), ("other", "bob"))
    }
    (tmp_path / "auth.json").write_text(json.dumps({"auths": entries}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    assert project.run("build").code == 0
    outcome = project.run("publish")
    assert outcome.code == 0, outcome.err
    assert {(request.username, request.scope) for request in registry.token_requests} >= {
        ("ann", "repository:acme/web:pull,push"),
        ("bob", "repository:other/web:pull,push"),
    }
    assert set(registry.tags) == {("acme/web", "1.0"), ("other/web", "1.0")}
    assert "word" not in outcome.out + outcome.err


def test_without_a_login_nothing_is_published(project: Project, registry: FakeRegistry) -> None:
    assert project.run("build").code == 0
    outcome = project.run("publish")
    assert outcome.code == 3
    assert f"{registry.host} asks for a login and there is none" in outcome.err
    assert registry.blobs == {}


def test_what_images_share_is_told_as_mounted(project: Project, registry: FakeRegistry) -> None:
    registry.auth = "none"
    two_images(project, "acme", "other")
    assert project.run("build").code == 0
    outcome = project.run("publish")
    assert outcome.code == 0, outcome.err
    # Config and layer: which of the images brings which is a matter of moments.
    assert sum(map(int, re.findall(r"(\d+) mounted\)", outcome.err))) == 2
    assert len(registry.asked("PUT", "/uploads/")) == 2


def test_hardening_17_a_tag_that_moved_is_told(project: Project, registry: FakeRegistry) -> None:
    registry.auth = "none"
    somebody = registry.add_image("acme/web", "1.0")
    assert project.run("build").code == 0
    outcome = project.run("publish")
    assert outcome.code == 0, outcome.err
    assert f"the tag named {somebody} before" in outcome.err
    assert str(registry.tags["acme/web", "1.0"]) in outcome.out
