"""examples/monorepo from a clone to a contract: `init`, and the names of two secrets."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from integration.conftest import PrivateRegistry
from integration.project import Project, command, git
from services.git_servers import http_git

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "monorepo"
LOGINS = ("--push", "publisher=PUBLISHER_PASSWORD", "--runtime", "guest=GUEST_PASSWORD")


@pytest.fixture
def shop(
    builder: str,
    short_path: Path,
    variables: Callable[..., dict[str, str]],
    private_registry: PrivateRegistry,
    base: str,
) -> Project:
    """A clone of the example, with a base that is here and images that go to the private registry.

    The bare repository that it was cloned from is `served/shop.git` beside it.
    """
    upstream = short_path / "upstream"
    shutil.copytree(EXAMPLE, upstream)
    for path in upstream.rglob("*.yaml"):
        path.write_text(path.read_text().replace("registry.example.com", private_registry.host))
    for path in [*upstream.rglob("*Dockerfile*"), *upstream.rglob("Containerfile")]:
        path.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={base}", path.read_text()))
    git(upstream, "init", "--quiet")
    git(upstream, "add", "--all")
    git(upstream, "commit", "--quiet", "-m", "a shop of ten images")
    git(short_path, "clone", "--quiet", "--bare", str(upstream), "served/shop.git")
    git(short_path, "clone", "--quiet", "served/shop.git", "clone")
    environment = variables(builder) | private_registry.secrets | {"SECURE_BUILD_BUILDER": builder}
    return Project(short_path / "clone", environment)


def _files(archive: bytes) -> list[bytes]:
    """The files of a compressed archive, read with tar."""
    names = command("tar", "-tz", stdin=archive).decode().split()
    return [command("tar", "-xzO", name, stdin=archive) for name in names if not name.endswith("/")]


def assert_the_guest_finds_all(shop: Project, private_registry: PrivateRegistry) -> None:
    """The guest's login, with a tool that is not ours, finds every image of the contract's pods."""
    built = {
        image["reference"].rpartition(":")[0]: image["descriptor"]["digest"]
        for image in shop.record()["images"]
    }
    archive = command("base64", "--decode", stdin=shop.workload()["play"]["archive"].encode())
    named = {
        container["image"]
        for pod in yaml.safe_load_all(b"---\n".join(_files(archive)))
        for container in pod.get("spec", {}).get("containers", [])
    }
    assert len(named) == 10
    assert named == {f"{repository}@{digest}" for repository, digest in built.items()}
    credentials = f"--creds=guest:{private_registry.passwords['guest']}"
    for image in sorted(named):
        found = json.loads(
            command(
                *("skopeo", "inspect", "--tls-verify=false", "--override-arch=s390x", credentials),
                f"docker://{image}",
            )
        )
        assert (found["Digest"], found["Architecture"]) == (image.partition("@")[2], "s390x")


def test_from_a_clone_to_a_contract_with_ten_images(shop: Project, private_registry: PrivateRegistry) -> None:
    shop.run("init", *LOGINS)
    git(shop.directory, "add", "secure-build.yaml")
    git(shop.directory, "commit", "--quiet", "-m", "Add secure-build.yaml")
    shop.run("run")
    assert_the_guest_finds_all(shop, private_registry)


def test_from_a_git_server_to_a_contract_with_ten_images(
    shop: Project, private_registry: PrivateRegistry, short_path: Path
) -> None:
    shop.directory = short_path / "empty"
    shop.directory.mkdir()
    with http_git(short_path / "served") as server:
        shop.run("init", "--source", f"{server.url}/shop.git", *LOGINS)
        shop.run("run")
    assert_the_guest_finds_all(shop, private_registry)
