"""Third-party images whose index does not keep what it promises."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from fakes.registry import FakeRegistry, small_image
from flow.conftest import COMPOSE, Project
from secure_build import manifest
from secure_build.manifest import OCI_INDEX, OCI_MANIFEST
from secure_build.model import Descriptor, Platform

S390X, AMD64 = Platform("linux", "s390x"), Platform("linux", "amd64")


@pytest.fixture
def uses(project: Project, registry: FakeRegistry) -> Project:
    """A project whose workload uses an image of somebody else."""
    project.write(
        "docker-compose.yml",
        COMPOSE.format(host=project.host) + f"  cache:\n    image: {project.host}/library/redis:7\n",
    )
    project.commit()
    return project


def index_of(registry: FakeRegistry, members: Sequence[tuple[Platform, str]]) -> None:
    """Put an index of images for these platforms that claims others of them."""
    claims = []
    for claimed, real in members:
        image = small_image(real, layer=f"{claimed} {real} {len(claims)}".encode())
        digest = registry.add("library/redis", image)
        claims.append(Descriptor(OCI_MANIFEST, digest, len(image.manifest.content), claimed))
    index = manifest.index_of(claims)
    registry.tags["library/redis", "7"] = registry._add_manifest("library/redis", index)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([(AMD64, "linux/amd64")], "is not made for linux/s390x, but for linux/amd64"),
        ([(S390X, "linux/amd64")], "is not made for linux/s390x"),
        ([(S390X, "linux/s390x"), (S390X, "linux/s390x")], "lists linux/s390x 2 times: sha256:"),
        ([(S390X, "linux/s390x"), (S390X, "linux/amd64")], "lists linux/s390x 2 times: sha256:"),
    ],
)
def test_hardening_11_an_index_that_lies_about_the_platform(
    uses: Project, registry: FakeRegistry, members: Sequence[tuple[Platform, str]], says: str
) -> None:
    index_of(registry, members)
    outcome = uses.run("run")
    assert outcome.code == 1, outcome.err
    assert says in outcome.err
    assert not [name for _, name in registry.tags if name == "1.0"]


def test_hardening_11_an_index_in_an_index(uses: Project, registry: FakeRegistry) -> None:
    index_of(registry, [(S390X, "linux/s390x")])
    inner = registry.tags["library/redis", "7"]
    size = len(registry.manifests["library/redis", inner][1])
    outer = manifest.index_of([Descriptor(OCI_INDEX, inner, size, S390X)])
    registry.tags["library/redis", "7"] = registry._add_manifest("library/redis", outer)
    outcome = uses.run("run")
    assert outcome.code == 1, outcome.err
    assert "redis:7` lists another index for linux/s390x, and no image" in outcome.err
    assert not [name for _, name in registry.tags if name == "1.0"]


def test_hardening_11_a_manifest_of_one_byte_too_much(uses: Project, registry: FakeRegistry) -> None:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "annotations": {}}
    room = manifest.LARGEST - len(json.dumps({**document, "annotations": {"a": ""}}))
    for excess, code, says in (
        (0, 1, "is not made for linux/s390x, but for no platform"),
        (1, 4, "answered with more than 4194304 bytes"),
    ):
        content = json.dumps({**document, "annotations": {"a": "x" * (room + excess)}}).encode()
        assert len(content) == manifest.LARGEST + excess
        registry.tags["library/redis", "7"] = registry._add_manifest(
            "library/redis", manifest.parse(content, OCI_INDEX)
        )
        outcome = uses.run("run")
        assert says in outcome.err
        assert outcome.code == code
