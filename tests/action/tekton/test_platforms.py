"""The Task `secure-build` where it runs: users, capabilities, and what workspaces are bound to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from action.tekton import catalog, chains, security
from action.tekton.conftest import Cluster
from action.tekton.objects import Folder, Invalid, KeyValues, Value
from action.tekton.security import Platform
from action.tekton.taskrun import Ran, run
from integration.conftest import docker_config
from integration.project import command, git
from integration.test_secrets import contents, found_in
from services.belongings import Belongings
from services.git_servers import HttpGit, certificate, http_git
from services.running import RunningRegistry

Clusters = Callable[..., Cluster]
TASK = catalog.one("Task", "secure-build")
TOKEN = "git?Canary&0123456789abcdef>"
# The image's own user is 1000.
BUILD = {
    "kubernetes-1000": security.KUBERNETES,
    "kubernetes-root": replace(security.KUBERNETES, uid=0),
    "openshift-1000": security.OPENSHIFT_PIPELINES,
    "openshift-root": replace(security.OPENSHIFT_PIPELINES, uid=0),
}


def started(cluster: Cluster, verb: str = "run", **params: Value) -> Ran:
    secrets = cluster.namespace.objects["secure-build-secrets"]
    return run(
        TASK,
        cluster.namespace.containers,
        {"COMMAND": verb, "IMAGE": cluster.image, **params},
        {"output": Folder(cluster.output), "secrets": secrets, **cluster.bound},
    )


@pytest.mark.parametrize("platform", BUILD.values(), ids=BUILD)
def test_it_builds_with_steps_that_run(platform: Platform, make_cluster: Clusters) -> None:
    cluster = make_cluster(platform=platform)
    dockerfile = cluster.project / "app/Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + 'RUN ["/bin/busybox", "touch", "/ran"]\n')
    git(cluster.project, "commit", "--quiet", "--all", "-m", "a step that runs")
    ran = started(cluster, SOURCE_URL=cluster.url)
    assert ran.ok, ran.log
    assert chains.subjects(ran.results) == {
        ran.results["IMAGE_URL"].rpartition(":")[0]: ran.results["IMAGE_DIGEST"]
    }
    assert max(step.message for step in ran.steps) < 1000


def test_restricted_v2_refuses_the_capability(make_cluster: Clusters) -> None:
    cluster = make_cluster(platform=security.RESTRICTED_V2)
    with pytest.raises(Invalid, match="SETFCAP"):
        started(cluster, SOURCE_URL=cluster.url)


def test_a_clone_of_somebody_else_with_logins(
    make_cluster: Clusters, examples_registry: RunningRegistry, owned: Belongings
) -> None:
    """A clone of another user, a login as Kubernetes keeps it, and a new volume for the output."""
    cluster = make_cluster()
    config = cluster.project / "secure-build.yaml"
    lines = [line for line in config.read_text().splitlines() if "REGISTRY_PUSH" not in line]
    config.write_text("\n".join(lines))
    git(cluster.project, "commit", "--quiet", "--all", "-m", "no login in the config")
    login = docker_config(examples_registry.host, "demo-ci", owned.secrets["REGISTRY_PUSH"])
    cluster.bound |= {
        "source": Folder(cluster.project),
        "dockerconfig": KeyValues({".dockerconfigjson": login}),
    }
    (cluster.output / "lost+found").mkdir(mode=0o700)
    ran = started(cluster)
    assert ran.ok, ran.log
    assert (
        ran.results["CHAINS-GIT_COMMIT"]
        == command("git", "-C", cluster.project, "rev-parse", "HEAD").decode().strip()
    )
    assert (
        json.loads((cluster.output / "result.json").read_text())["contract"]["path"]
        == ran.results["CONTRACT"]
    )
    assert (cluster.output / "summary.md").read_text().startswith("## secure-build run: done")
    assert len((cluster.output / "expected-attestation.txt").read_text().splitlines()) > 2


@pytest.fixture
def private_git(tmp_path: Path) -> Iterator[tuple[HttpGit, Path]]:
    authority, tls = certificate(tmp_path)
    (tmp_path / "served").mkdir()
    with http_git(tmp_path / "served", users={"x-access-token": TOKEN}, tls=tls) as server:
        yield server, authority


def test_a_private_repository(make_cluster: Clusters, private_git: tuple[HttpGit, Path]) -> None:
    server, authority = private_git
    cluster = make_cluster()
    cluster.project.rename(server.root / "shop")
    url = f"{server.url}/shop/.git"
    untrusted = started(cluster, "plan", SOURCE_URL=url)
    assert untrusted.results["STATUS"] == "refused"
    assert "certificate is not trusted" in untrusted.log
    cluster.bound["sslcertdir"] = KeyValues({"git.crt": authority.read_text()})
    unknown = started(cluster, "plan", SOURCE_URL=url)
    assert (unknown.results["STATUS"], "the server wants a login" in unknown.log) == ("unsupported", True)
    known = cluster.namespace.objects["secure-build-secrets"]
    cluster.bound["secrets"] = KeyValues({**known.data, "GIT_TOKEN": TOKEN})
    ran = started(cluster, "plan", SOURCE_URL=url, PROBE_PUSH="true", SOURCE_REVISION="HEAD~0")
    assert "cannot be the name of a branch" in ran.log
    ran = started(cluster, "plan", SOURCE_URL=url, PROBE_PUSH="true")
    assert ran.ok, ran.log
    assert len(ran.results["CHAINS-GIT_COMMIT"]) == 40
    assert ran.results["CHAINS-GIT_URL"] == url
    assert found_in(ran.log.encode(), {"token": TOKEN}) == set()
    for path, content in contents(cluster.output):
        assert found_in(content, {"token": TOKEN}) == set(), path
