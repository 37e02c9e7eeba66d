"""The runs of `examples/tekton`, each in real containers, and beside each one that has to fail."""

from __future__ import annotations

from collections.abc import Callable

from action.tekton import catalog
from action.tekton.conftest import Cluster
from action.tekton.objects import Plain, load


def example(cluster: Cluster, name: str) -> Plain:
    return cluster.values(load(catalog.EXAMPLES / name))


def test_build(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    ran = cluster.namespace.task_run(example(cluster, "build.yaml"))
    assert ran.ok, (ran.reason, ran.log)
    print(ran)


def test_build_refused(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    ran = cluster.namespace.task_run(example(cluster, "build.refused.yaml"))
    assert not ran.ok
    print(ran)
