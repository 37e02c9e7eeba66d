"""The runs of `examples/tekton`, each in real containers, and beside each one that has to fail."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import yaml

from action.tekton import catalog, chains, security
from action.tekton.conftest import Cluster
from action.tekton.objects import Folder, Plain, load
from action.tekton.taskrun import run
from integration import examples
from integration.project import command, git
from services import opened

Clusters = Callable[..., Cluster]


def example(cluster: Cluster, name: str) -> Plain:
    return cluster.values(load(catalog.EXAMPLES / name))


def assert_verified(cluster: Cluster, name: str) -> None:
    """`verify` accepts what the runtime opens with its key, once the signature is right."""
    contract = examples.contract(cluster.output / name)
    key = cluster.owned.runtime[1]
    plain = {section: opened.plaintext(contract[section], key).decode() for section in ("workload", "env")}
    signature = contract["workload"], contract["env"], contract["envWorkloadSignature"]
    assert opened.verified(*signature, yaml.safe_load(plain["env"])["signingKey"]) == "Verified OK\n"
    folder = cluster.output / "opened"
    folder.mkdir()
    # The signature is of the tokens.
    (folder / "workload.yaml").write_text(yaml.safe_dump({"workload": plain["workload"]}))
    params = {"COMMAND": "verify", "CONTRACT": "workload.yaml", "TARGET": "ccrt", "IMAGE": cluster.image}
    task = catalog.one("Task", "secure-build")
    (step,) = run(task, cluster.namespace.containers, params, {"source": Folder(folder)}).steps
    document = json.loads(step.stdout)
    assert [one for one in document["findings"] if one["level"] == "fail"] == []
    assert (step.exit_code, document["verdict"]) == (0, "accepted")


def test_build_and_audit(make_cluster: Clusters) -> None:
    cluster = make_cluster()
    refused = cluster.namespace.task_run(example(cluster, "build.refused.yaml"))
    assert (refused.ok, refused.results["STATUS"]) == (False, "usage")
    assert "there is no `secure-build.lock`" in refused.log
    ran = cluster.namespace.task_run(example(cluster, "build.yaml"))
    assert ran.ok, ran.log
    assert_verified(cluster, "contract.yaml")

    other = cluster.on(security.RESTRICTED_V2)
    assert other.task_run(example(cluster, "audit.yaml")).ok
    refused = other.task_run(example(cluster, "audit.refused.yaml"))
    assert "there is no build record" in refused.log
    # What is deployed has gone.
    pinned = ran.results["IMAGES"]
    registry, _, rest = pinned.partition("/")
    repository, _, digest = rest.partition("@")
    login = f"demo-ci:{cluster.owned.secrets['REGISTRY_PUSH']}"
    address = f"http://{registry}/v2/{repository}/manifests/{digest}"
    command("curl", "--fail", "--silent", "--request", "DELETE", "--user", login, address)
    gone = other.task_run(example(cluster, "audit.yaml"))
    assert gone.steps[0].exit_code == 1
    assert json.loads(gone.steps[0].stdout)["verdict"] == "refused"


def test_fan_out(make_cluster: Clusters) -> None:
    cluster = make_cluster()
    second_image(cluster)
    ran = cluster.namespace.pipeline_run(example(cluster, "fan-out.yaml"))
    assert ran.ok, ran.log
    legs = ran.tasks["build"]
    assert [len(leg.steps) for leg in legs] == [2, 2]
    records = [leg.results for leg in legs]
    assert all(set(one) == {"RECORD"} and "@sha256:" in one["RECORD"] for one in records)
    assert len(chains.subjects(ran.results)) == 2
    assert ran.results["STATUS"] == "done"
    steps = [step for runs in ran.tasks.values() for one in runs for step in one.steps]
    assert max(step.message for step in steps) < 1000
    assert_verified(cluster, "contract.yaml")
    refused = cluster.namespace.pipeline_run(example(cluster, "fan-out.refused.yaml"))
    assert not refused.ok
    assert "no record has the image `api`" in refused.log


def test_deploy(make_cluster: Clusters) -> None:
    provider = make_cluster("personas/provider")
    ran = provider.namespace.task_run(example(provider, "build.yaml"))
    assert ran.ok, ran.log
    deployer = make_cluster("personas/deployer")
    shutil.copy(provider.output / "workload.encrypted.yaml", deployer.project)
    deployer.namespace.claims["deployment"] = deployer.project
    other = deployer.on(security.RESTRICTED_V2)
    refused = other.task_run(example(deployer, "deploy.refused.yaml"))
    assert [step.exit_code for step in refused.steps] == [0, 2], refused.log
    ran = other.task_run(example(deployer, "deploy.yaml"))
    assert ran.ok, ran.log
    assert_verified(deployer, "contract.draft.yaml")


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
