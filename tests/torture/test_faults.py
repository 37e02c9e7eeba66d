"""Every request of a run, spoiled in every way: whole and right, or a clear error and nothing half-published.

`make torture` tries all of them; else a few, the same each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from services import certificates
from services.needed import need
from torture.faulty import deadly, spoiled
from torture.stage import ALL, STAGES, Stage, on_any, opened, sample, survived, whole_or_clear

pytestmark = pytest.mark.timeout(1800 if ALL else 300)
# Of all of them, one in so many is tried where not all are.
_SAMPLE, _CRASHES = 97, 31


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    """Two images, one of them signed, built and not yet published."""
    need("docker-registry", "buildah", "openssl")
    folder = tmp_path_factory.mktemp("stages")
    # Without a passphrase: to make one hard to guess takes more time than all else that a run does.
    key = certificates.private_key(folder, "key", "ec:prime256v1")
    signing = {"cosign": {"key": {"file": str(key)}}}
    images: dict[str, list[str]] = {"web": ["cosign"], "worker": []}
    with ExitStack() as stack:
        yield [
            stack.enter_context(opened(folder / str(number), images, signing, first=("build", "sign")))
            for number in range(STAGES)
        ]


def test_every_request_spoiled_in_every_way(stages: list[Stage], figures: Counter[str]) -> None:
    for _ in on_any(stages, sample(spoiled(stages[0].requests), _SAMPLE), whole_or_clear):
        figures["fault points tried"] += 1


def test_killed_at_every_request(stages: list[Stage], figures: Counter[str]) -> None:
    for _ in on_any(stages, sample(deadly(stages[0].requests), _CRASHES), survived):
        figures["crashes survived"] += 1


@pytest.mark.parametrize("strike", ["kill", "full"])
def test_struck_at_every_change_of_a_file(stages: list[Stage], strike: str, figures: Counter[str]) -> None:
    def struck(stage: Stage, at: int) -> None:
        ended, told = stage.run(strike=strike, at=at), f"{strike} at change {at}"
        if strike == "kill":
            assert ended.code == -9, f"{told}: {ended.said}"
        else:
            stage.check_clear(ended, told)
            assert ended.code != 0, f"{told}: {ended.said}"
        stage.check_always(told)
        stage.check_goes_on(told)

    changes = stages[0].changes
    assert changes > 10
    for _ in on_any(stages, sample(range(1, changes + 1), _CRASHES), struck):
        figures["crashes survived" if strike == "kill" else "full disks survived"] += 1


def test_two_at_once_do_not_disturb_each_other(stages: list[Stage]) -> None:
    stage = stages[0]
    stage.set_up()
    stage.front.start(None)
    started = [stage.project.start("run") for _ in range(2)]
    said = [process.communicate(timeout=120)[1] for process in started]
    codes = [process.returncode for process in started]
    assert sorted(codes) in ([0, 0], [0, 3], [0, 2]), said
    stage.check_always("two at once")
    stage.check_goes_on("two at once")
