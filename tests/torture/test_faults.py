"""Every request of a run, spoiled in every way: whole and right, or a clear error and nothing half-published.

`make torture` tries all of them; else a few, the same each time.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.cosigns import PASSPHRASE, Cosigns
from integration.project import Project
from services import running
from services.needed import need
from torture.faulty import KINDS, FaultyProxy, Kind, Spoiled
from torture.stage import Ended, Stage, zygote

ALL = os.environ.get("TORTURE") == "all"
pytestmark = pytest.mark.timeout(1800 if ALL else 300)
# In what a registry can stay.
_LASTING: tuple[Kind, ...] = ("503", "429 in an hour", "reset", "401", "404")
# Of all of them, one in so many is tried where not all are.
_SAMPLE, _CRASHES = 71, 23


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Two images, one of them signed, built and not yet published."""
    need("docker-registry", "buildah", "cosign2")
    folder = tmp_path_factory.mktemp("stage")
    cosigns = Cosigns(folder)
    key, _ = cosigns.make_key("cosign2", "key")
    environment = {
        **running.environment(),
        "HOME": str(folder / "home"),
        "COSIGN_KEY": key.read_text(),
        "COSIGN_PASSWORD": PASSPHRASE,
    }
    (folder / "home").mkdir()
    with running.registry(folder / "registry") as registry, FaultyProxy(registry.host) as proxy:
        images = {
            name: {"image": f"{proxy.host}/acme/{name}:1.0", "build": {"context": name}, "sign": signed}
            for name, signed in (("web", ["cosign"]), ("worker", []))
        }
        signing = {"cosign": {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSWORD"}}}
        config = {
            "version": 1,
            "target": "ccrt",
            "builder": "buildah",
            "images": images,
            "signing": signing,
            "attestations": {"sbom": []},
            "workload": {"compose": "docker-compose.yml"},
        }
        project = Project(folder / "project", environment, config)
        project.directory.mkdir()
        services = "".join(f"  {name}:\n    image: {one['image']}\n" for name, one in images.items())
        files = {f"{name}/Dockerfile": "FROM scratch\nCOPY Dockerfile /\n" for name in images}
        project.commit({**files, "docker-compose.yml": f"services:\n{services}"})
        project.run("build")
        project.run("sign")
        with zygote(environment) as process:
            data = folder / "registry" / "data"
            made = Stage(project, registry, data, proxy, folder, process)
            made.keep()
            ended = made.run(strike="count")
            assert ended.code == 0, ended.said
            made.whole, made.published = made.in_folder(), made.at_registry()
            made.requests = len(proxy.requests)
            yield made


def few(everything: list[Spoiled], every: int) -> list[Spoiled]:
    return everything if ALL else everything[::every]


def assert_clear(ended: Ended, told: str) -> None:
    """The end is one that is documented, and says why in our words."""
    assert ended.code in range(6), f"{told}: {ended.code}\n{ended.said}"
    assert "Traceback" not in ended.said, f"{told}:\n{ended.said}"
    if ended.code in (2, 3, 4):
        assert "error: " in ended.said, f"{told}:\n{ended.said}"


def test_every_request_spoiled_in_every_way(stage: Stage, figures: Counter[str]) -> None:
    kinds = [kind for kind in KINDS if not kind.startswith("kill")]
    once = [Spoiled(*point) for point in itertools.product(range(stage.requests), kinds)]
    lasting = [Spoiled(*point, always=True) for point in itertools.product(range(stage.requests), _LASTING)]
    for spoiled in few([*once, *lasting], _SAMPLE):
        stage.set_up()
        ended = stage.run(spoiled)
        told = str(spoiled)
        assert_clear(ended, told)
        assert not any(stage.proxy.elsewhere), f"{told}: a login went to another host"
        stage.check_always(told)
        if ended.code == 0:
            assert stage.in_folder() == stage.whole, told
            assert stage.at_registry() == stage.published, told
        stage.check_goes_on(told)
        figures["fault points tried"] += 1


def test_killed_at_every_request(stage: Stage, figures: Counter[str]) -> None:
    points = itertools.product(range(stage.requests), ("kill before", "kill after"))
    for spoiled in few([Spoiled(*point) for point in points], _CRASHES):
        stage.set_up()
        ended = stage.run(spoiled)
        told = str(spoiled)
        assert ended.code == -9, f"{told}: {ended.said}"
        stage.check_always(told)
        stage.check_goes_on(told)
        figures["crashes survived"] += 1


@pytest.mark.parametrize("strike", ["kill", "full"])
def test_struck_at_every_change_of_a_file(stage: Stage, strike: str, figures: Counter[str]) -> None:
    assert stage.changes > 10
    for at in range(1, stage.changes + 1, 1 if ALL else _CRASHES):
        stage.set_up()
        ended = stage.run(strike=strike, at=at)
        told = f"{strike} at change {at}"
        if strike == "kill":
            assert ended.code == -9, f"{told}: {ended.said}"
        else:
            assert_clear(ended, told)
            assert ended.code != 0, f"{told}: {ended.said}"
        stage.check_always(told)
        stage.check_goes_on(told)
        figures["crashes survived" if strike == "kill" else "full disks survived"] += 1


def test_two_at_once_do_not_disturb_each_other(stage: Stage, tmp_path: Path) -> None:
    stage.set_up()
    stage.proxy.start(None)
    started = [stage.project.start("run") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) in ([0, 0], [0, 3], [0, 2]), said
    stage.check_always("two at once")
    stage.check_goes_on("two at once")
