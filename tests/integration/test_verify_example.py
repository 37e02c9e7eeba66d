"""examples/verify: a contract that verify accepts, and what it says of one mistake at a time.

The registry has a name without a port, as the contract's keys demand: a proxy leads there.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.conftest import docker_config, variables_of_a_user
from integration.examples import EXAMPLES
from integration.project import Project, git
from secure_build.layout import Layout
from services import certificates, images, running
from services.gpg_keys import GpgHome
from services.needed import need
from services.signatures import SignatureRegistry
from services.tunnel import TunnelProxy

EXAMPLE = EXAMPLES / "verify"
DOCS = EXAMPLES.parent / "docs"
HOST = "registry.example.com"
LOGINS = {"demo-ci": "canary push", "demo-guest": "canary pull"}


@dataclass(frozen=True)
class Shop:
    """The example, run once; what is changed of it is put back."""

    project: Project
    gpg: GpgHome

    def verify(self, *arguments: str, **options: int) -> tuple[int, dict[str, Any]]:
        """How `verify` ended, and what it said."""
        process = self.project.start("verify", *arguments, "--output", "json")
        stdout, stderr = process.communicate(timeout=180)
        assert process.returncode in (0, 1, 5), stderr
        return process.returncode, json.loads(stdout)


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, base: str, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    """The example as it stands, with our registry and base image, and what others have there."""
    need("buildah", "docker-registry", "gpg", "skopeo", "openssl", "busybox-amd64", "busybox-s390x")
    folder = tmp_path_factory.mktemp("verify")
    with ExitStack() as stack:
        short = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True)))
        issuer = certificates.authority(folder)
        certificate = certificates.signed(folder, issuer, HOST)
        behind = stack.enter_context(running.registry(folder / "registry", htpasswd=LOGINS))
        registry = stack.enter_context(SignatureRegistry(behind.host, certificate))
        proxy = stack.enter_context(TunnelProxy({f"{HOST}:443": registry.host}))
        gpg = GpgHome(short / "gpg")
        stack.callback(gpg.stop)
        (folder / "auth.json").write_text(docker_config(behind.host, "demo-ci", LOGINS["demo-ci"]))
        for name, architectures in (("valkey:8.1", ("s390x", "amd64")), ("amd64-only:1", ("amd64",))):
            layout = Layout.create(folder / name.partition(":")[0])
            images.busybox(layout, f"{behind.host}/valkey/{name}", architectures=architectures)
            images.push(layout, f"{behind.host}/valkey/{name}", authfile=folder / "auth.json")
        environment = variables_of_a_user(short, "buildah", request) | {
            "HTTPS_PROXY": f"http://{proxy.host}",
            "NO_PROXY": "127.0.0.1,localhost",
            "SSL_CERT_FILE": str(issuer[0]),
            "REGISTRY_PUSH": LOGINS["demo-ci"],
            "REGISTRY_PULL": LOGINS["demo-guest"],
            "GPG_KEY": gpg.private(gpg.make("builder", passphrase="canary phrase"), passphrase="canary phrase"),
            "GPG_PASSPHRASE": "canary phrase",
            "SEED_WORKLOAD": "canary-seed-of-the-workload",
            "SEED_ENV": "canary-seed-of-the-env",
            "LOGS_KEY": "canary key of the logs",
            "SECURE_BUILD_BUILDER": "buildah",
        }
        shutil.copytree(EXAMPLE, short / "shop")
        for path in (short / "shop").rglob("Dockerfile"):
            path.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={base}", path.read_text()))
        config = (short / "shop" / "secure-build.yaml").read_text()
        project = Project(short / "shop", environment, yaml.safe_load(config))
        git(project.directory, "init", "--quiet")
        git(project.directory, "add", "--all")
        git(project.directory, "commit", "--quiet", "-m", "a shop")
        project.run("run")
        yield Shop(project, gpg)


def test_x(shop: Shop) -> None:
    print((shop.project.workdir / "contract.yaml").read_text())
    assert 0
