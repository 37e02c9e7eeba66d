"""The runs of `examples/tekton`, each in real containers, and beside each one that has to fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import yaml

from action.tekton import catalog, security
from action.tekton.conftest import Cluster
from action.tekton.objects import Plain, load
from integration.project import git

Clusters = Callable[..., Cluster]


def example(cluster: Cluster, name: str) -> Plain:
    return cluster.values(load(catalog.EXAMPLES / name))


def test_build_and_audit(make_cluster: Clusters) -> None:
    cluster = make_cluster()
    ran = cluster.namespace.task_run(example(cluster, "build.yaml"))
    assert ran.ok, ran.log
    for platform in (security.KUBERNETES, security.RESTRICTED_V2):
        audited = cluster.on(platform).task_run(example(cluster, "audit.yaml"))
        assert audited.ok, audited.log
    refused = cluster.namespace.task_run(example(cluster, "build.refused.yaml"))
    assert refused.results["STATUS"] == "usage"
    # Somebody has deleted the image.


def test_fan_out(make_cluster: Clusters) -> None:
    cluster = make_cluster()
    second_image(cluster)
    ran = cluster.namespace.pipeline_run(example(cluster, "fan-out.yaml"))
    assert ran.ok, ran.log[-3000:]
    print({n: [r.results for r in v] for n, v in ran.tasks.items()}, ran.results)
    refused = cluster.namespace.pipeline_run(example(cluster, "fan-out.refused.yaml"))
    print(refused.log[-3000:])
    assert not refused.ok


def test_deploy(make_cluster: Clusters) -> None:
    provider = make_cluster("personas/provider")
    ran = provider.namespace.task_run(example(provider, "build.yaml"))
    assert ran.ok, ran.log[-3000:]
    deployer = make_cluster("personas/deployer")
    deployment = deployer.project
    shutil.copy(provider.output / "workload.encrypted.yaml", deployment)
    deployer.namespace.claims["deployment"] = deployment
    ran = deployer.on(security.RESTRICTED_V2).task_run(example(deployer, "deploy.yaml"))
    assert ran.ok, ran.log[-3000:]
    print(ran.log[-1500:])


def second_image(cluster: Cluster) -> None:
    """Let the project have the image `api` too."""
    path = cluster.project / "secure-build.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    web = config["images"]["web"]
    config["images"]["api"] = {**web, "image": web["image"].replace("/web:", "/api:")}
    path.write_text(yaml.safe_dump(config))
    compose = cluster.project / "docker-compose.yml"
    services: dict[str, Any] = yaml.safe_load(compose.read_text())
    services["services"]["api"] = {"image": config["images"]["api"]["image"]}
    compose.write_text(yaml.safe_dump(services))
    git(cluster.project, "commit", "--quiet", "--all", "-m", "two images")
