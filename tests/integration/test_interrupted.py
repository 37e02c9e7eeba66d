"""Ctrl-C and SIGTERM in the middle of the work: an orderly end, nothing left over, and the next run works."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.access_log import AccessLog
from integration.cosigns import PASSPHRASE, Cosigns
from integration.processes import alive, descendants, running_with, wait_until
from integration.project import SECONDS, Project, command
from integration.proxy import StallingProxy
from services.needed import need
from services.running import RunningRegistry

Projects = Callable[..., Project]
Stop = Callable[[subprocess.Popen[str]], None]

# Stopping may take a while on a slow machine, but less than the time-out of a silent registry.
HANGS_SECONDS = 20

VERBS = ("build", "sign", "publish", "contract workload", "run")

_sleeps = itertools.count(1_000_000 + 1000 * (os.getpid() % 1000))


def ctrl_c(process: subprocess.Popen[str]) -> None:
    """What a terminal does: every process of the group in front gets the signal."""
    os.killpg(process.pid, signal.SIGINT)


def interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def terminate(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)


WAYS = pytest.mark.parametrize(
    ("stop", "status"),
    [(ctrl_c, 130), (interrupt, 130), (terminate, 143)],
    ids=["ctrl-c", "sigint", "sigterm"],
)


def end(process: subprocess.Popen[str], stop: Stop, status: int) -> None:
    """Stop it, and check how it ended and that none of its processes lives on."""
    children = descendants(process.pid)
    stop(process)
    try:
        stdout, stderr = process.communicate(timeout=HANGS_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        stdout, stderr = process.communicate()
        pytest.fail(f"it goes on as if nobody had told it to stop:\n{stderr}")
    assert process.returncode == status, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "bug" not in stderr
    assert alive(children) == set()


def kill(process: subprocess.Popen[str]) -> None:
    """End it and all of its processes without giving them a chance."""
    family = {process.pid} | descendants(process.pid)
    for pid in alive(family):
        os.kill(pid, signal.SIGKILL)


def assert_tidy(project: Project) -> None:
    """Nothing in the work folder or in TMPDIR is temporary, half-written or mounted."""
    names = {path.name for path in project.workdir.iterdir()}
    assert names <= {".gitignore", ".lock", "layout", "buildah", "build-record.json"}
    assert list(Path(project.environment["TMPDIR"]).iterdir()) == []
    assert str(project.directory) not in Path("/proc/self/mounts").read_text()
    layout = project.workdir / "layout"
    if layout.exists():
        assert {path.name for path in layout.iterdir()} <= {"oci-layout", "index.json", "blobs"}
        for blob in (layout / "blobs" / "sha256").iterdir():
            assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    if project.record_path.exists():
        json.loads(project.record_path.read_text())


def assert_store_is_tidy(project: Project) -> None:
    """buildah's store in the work folder has no container, and of images only the base."""
    store = (f"--root={project.workdir / 'buildah'}", f"--runroot={project.environment['TMPDIR']}/state")
    assert command("buildah", *store, "containers", "--quiet") == b""
    kept = json.loads(command("buildah", *store, "images", "--all", "--json"))
    assert all(image["names"] for image in kept)


@WAYS
def test_while_a_step_of_the_build_runs(
    builder: str, make_project: Projects, base: str, stop: Stop, status: int
) -> None:
    marker = str(next(_sleeps))
    project = make_project(builder)
    project.commit({"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sleep", "{marker}"]\n'})
    process = project.start("run")
    wait_until(lambda: running_with(marker), "the step runs")
    end(process, stop, status)
    wait_until(lambda: not running_with(marker), "the step has ended")
    assert_tidy(project)
    if builder == "buildah":
        assert_store_is_tidy(project)
    assert not project.record_path.exists()
    assert not project.contract_path.exists()

    project.commit({"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sleep", "0"]\n'})
    project.run("run")


@WAYS
def test_while_a_registry_is_silent(
    make_project: Projects, registry: RunningRegistry, stop: Stop, status: int
) -> None:
    with StallingProxy(registry.host, b"PUT /v2/") as proxy:
        project = make_project("buildah", host=proxy.host)
        project.commit()
        project.run("build")
        record = project.record_path.read_bytes()
        log = AccessLog(registry)
        process = project.start("run")
        assert proxy.stalled.wait(SECONDS)
        end(process, stop, status)
        assert_tidy(project)
        assert project.record_path.read_bytes() == record
        assert not project.contract_path.exists()
        assert not [it for it in log.requests() if it.method == "PUT" and "/manifests/" in it.path]

        proxy.open.set()
        project.run("run")
        assert project.contract_path.exists()


def test_second_run_in_the_same_folder_waits_for_nobody(
    builder: str, make_project: Projects, base: str
) -> None:
    marker = str(next(_sleeps))
    project = make_project(builder)
    project.commit({"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sleep", "{marker}"]\n'})
    process = project.start("run")
    wait_until(lambda: running_with(marker), "the step runs")
    outcome = project.run("run", status=2)
    assert "another run is using" in outcome.stderr
    assert running_with(marker)
    end(process, terminate, 143)


def test_killed_run_is_in_nobodys_way(builder: str, make_project: Projects, base: str) -> None:
    """SIGKILL leaves no time to tidy up; the next run does it."""
    marker = str(next(_sleeps))
    project = make_project(builder)
    project.commit({"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sleep", "{marker}"]\n'})
    process = project.start("run")
    wait_until(lambda: running_with(marker), "the step runs")
    kill(process)
    process.communicate()
    wait_until(lambda: not running_with(marker), "the step has ended")

    project.commit({"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sleep", "0"]\n'})
    project.run("run")
    assert [path.name for path in project.workdir.glob(".*-*")] == []
    assert str(project.directory) not in Path("/proc/self/mounts").read_text()
    if builder == "buildah":
        assert_store_is_tidy(project)


@pytest.mark.parametrize("verb", VERBS)
def test_killed_in_the_middle_of_any_verb(make_project: Projects, tmp_path: Path, verb: str) -> None:
    """At a moment that nobody chose: the next run comes to what an undisturbed one comes to."""
    need("cosign2")
    key, _ = Cosigns(tmp_path).make_key("cosign2", "key")
    signing = {"cosign": {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSWORD"}}}
    project = make_project("buildah", signing=signing, attestations={"sbom": []})
    project.environment |= {"COSIGN_KEY": key.read_text(), "COSIGN_PASSWORD": PASSPHRASE}
    project.config["images"]["web"]["sign"] = ["cosign"]
    project.commit()
    elsewhere = ("--workdir", str(tmp_path / "undisturbed"))
    for before in VERBS[: VERBS.index(verb)]:
        for more in ((), elsewhere):
            project.run(*before.split(), *more)
    begun = time.monotonic()
    project.run(*verb.split(), *elsewhere)
    took = time.monotonic() - begun

    process = project.start(*verb.split())
    time.sleep(took * random.Random(verb).uniform(0.4, 0.9))
    kill(process)
    process.communicate()
    assert process.returncode in (-signal.SIGKILL, 0)
    if project.record_path.exists():
        json.loads(project.record_path.read_text())

    project.run("run")
    project.run("run", *elsewhere)
    assert project.contract_path.read_bytes() == (tmp_path / "undisturbed" / "workload.yaml").read_bytes()
    assert_store_is_tidy(project)
    assert [path.name for path in project.workdir.glob(".*-*")] == []
