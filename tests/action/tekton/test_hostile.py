"""Hostile values at Tekton's door, through everything that Tekton and Kubernetes do with them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from action import hostile
from action.tekton import catalog
from action.tekton.conftest import Cluster
from action.tekton.objects import Folder, Invalid, Value
from action.tekton.taskrun import run

VALUES = hostile.values("/workspace/output/mark")
TASK = catalog.one("Task", "secure-build")
PARAMS = [one["name"] for one in TASK["spec"]["params"] if one["name"] != "IMAGE"]
# Verbs that take what `run` does not.
VERBS = {
    **dict.fromkeys(("TARGET", "IMAGE_VERSION", "CONTRACT", "STRICT"), "verify"),
    **dict.fromkeys(("WORKLOAD", "FORMAT"), "contract assemble"),
    "PROBE_PUSH": "plan",
}
# Each value in some parameter, and each parameter with some value.
TURNS = list(zip(VALUES, itertools.cycle(PARAMS), strict=False))


@pytest.mark.parametrize(("name", "param"), TURNS)
def test_nothing_runs(name: str, param: str, make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster()
    value: Value = [VALUES[name]] if param == "RECORDS" else VALUES[name]
    params: dict[str, Value] = {
        "COMMAND": VERBS.get(param, "run"),
        "SOURCE_URL": cluster.url,
        "IMAGE": cluster.image,
        param: value,
    }
    workspaces = {
        "output": Folder(cluster.output),
        "secrets": cluster.namespace.objects["secure-build-secrets"],
    }
    if "\0" in VALUES[name]:
        with pytest.raises(Invalid, match="NUL"):
            run(TASK, cluster.namespace.containers, params, workspaces)
        return
    ran = run(TASK, cluster.namespace.containers, params, workspaces)
    (step,) = ran.steps
    # buildah says what is no storage driver.
    ended = (3, "unsupported") if param == "STORAGE_DRIVER" else (2, "usage")
    assert (step.exit_code, ran.results["STATUS"]) == ended, ran.log
    assert not {"mark", "elsewhere"} & {path.name for path in cluster.output.iterdir()}
    assert not {"\x1b", "\u202e"} & set(step.stdout + step.stderr)
    assert "Traceback" not in step.stderr
