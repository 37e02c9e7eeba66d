"""Work side by side: order, the first real failure, and that all of it stops."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import pytest

from secure_build import stopping
from secure_build.errors import ServiceError, StoppedError
from secure_build.stopping import side_by_side


def _stopped() -> bool:
    try:
        stopping.check()
    except StoppedError:
        return True
    return False


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Each test ends with the flag down and no thread of its own."""
    threads = set(threading.enumerate())
    yield
    assert not _stopped()
    assert set(threading.enumerate()) <= threads


def test_results_come_in_the_order_of_the_items() -> None:
    last = threading.Event()

    def work(number: int) -> int:
        if number == 0:
            last.wait(10)
        if number == 3:
            last.set()
        return number * 2

    assert side_by_side(work, range(4), jobs=4) == [0, 2, 4, 6]
    assert side_by_side(work, [], jobs=4) == []


def test_no_more_than_jobs_at_a_time() -> None:
    working: set[int] = set()
    most = []

    def work(number: int) -> None:
        working.add(number)
        most.append(len(working))
        stopping.pause(0.001)
        working.remove(number)

    side_by_side(work, range(20), jobs=3)
    assert max(most) <= 3


def test_the_first_failure_stops_the_others_and_is_raised() -> None:
    begun = threading.Barrier(3)
    seen = []

    def work(number: int) -> None:
        seen.append(number)
        begun.wait(10)
        if number == 1:
            raise ServiceError("the reason")
        stopping.pause(60)

    with pytest.raises(ServiceError, match="the reason"):
        side_by_side(work, range(10), jobs=3)
    assert sorted(seen) == [0, 1, 2]


def test_what_fails_because_of_the_stop_is_not_the_reason() -> None:
    begun = threading.Barrier(3)

    def work(number: int) -> None:
        begun.wait(10)
        if number == 1:
            raise ServiceError("the reason")
        try:
            stopping.pause(60)
        except StoppedError:
            raise ServiceError("the consequence") from None

    with pytest.raises(ServiceError, match="the reason"):
        side_by_side(work, range(3), jobs=3)


def test_a_failure_in_work_within_work_is_the_reason() -> None:
    begun = threading.Barrier(3)

    def inner(number: int) -> None:
        if number == 0:
            raise ServiceError("the reason")
        stopping.pause(60)

    def outer(number: int) -> None:
        begun.wait(10)
        if number != 2:
            side_by_side(inner, [1, 2], jobs=2)
        try:
            side_by_side(inner, [1, 0], jobs=2)
        finally:
            time.sleep(0.05)  # The others have been stopped by now.

    with pytest.raises(ServiceError, match="the reason"):
        side_by_side(outer, range(3), jobs=3)


def test_the_flag_stays_up_until_the_outermost_work_has_ended() -> None:
    begun = threading.Barrier(2)
    inner_failed = threading.Event()
    seen = []

    def fail(_: int) -> None:
        raise ServiceError("the reason")

    def outer(number: int) -> None:
        begun.wait(10)
        if number == 0:
            try:
                side_by_side(fail, [0], jobs=1)
            finally:
                inner_failed.set()
        inner_failed.wait(10)
        seen.append(_stopped())

    with pytest.raises(ServiceError):
        side_by_side(outer, [0, 1], jobs=2)
    assert seen == [True]


def test_a_stop_from_outside_is_raised_when_nothing_else_failed() -> None:
    def work(number: int) -> None:
        if number == 0:
            stopping.request()
        stopping.pause(60)

    with pytest.raises(StoppedError):
        side_by_side(work, range(3), jobs=3)


def test_ctrl_c_stops_all_work(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = threading.Event()
    stopped = []
    # Where the kernel delivers it when the key is pressed.
    main = threading.get_ident()
    wait = futures.wait

    def announced(*arguments: Any, **options: Any) -> Any:
        waiting.set()
        return wait(*arguments, **options)

    def work(number: int) -> None:
        waiting.wait(10)
        if number == 0:
            signal.pthread_kill(main, signal.SIGINT)
        try:
            stopping.pause(60)
        except StoppedError:
            stopped.append(number)
            raise

    monkeypatch.setattr(stopping, "wait", announced)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(work, range(3), jobs=3)
    assert sorted(stopped) == [0, 1, 2]


def test_items_that_fail_to_come_stop_the_work_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ServiceError("no more")

    with pytest.raises(ServiceError, match="no more"):
        side_by_side(lambda _: stopping.pause(60), items(), jobs=2)


def test_hooks_are_called_when_work_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[bool] = []
    monkeypatch.setattr(stopping, "_hooks", [])
    stopping.on_stop(lambda: called.append(True))

    def fail(_: int) -> None:
        raise ServiceError("the reason")

    side_by_side(lambda _: None, [1], jobs=1)
    assert called == []
    with pytest.raises(ServiceError):
        side_by_side(fail, [1], jobs=1)
    assert called == [True]
