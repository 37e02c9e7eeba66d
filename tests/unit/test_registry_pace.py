"""How fast a host lets us go."""

from __future__ import annotations

import contextlib
import threading

import pytest

from secure_build import stopping
from secure_build.errors import StoppedError
from secure_build.registry.pace import Pace


def test_each_refusal_halves_and_each_answer_adds_a_little() -> None:
    pace = Pace(16)
    with contextlib.ExitStack() as under_way:
        for _ in range(16):
            under_way.enter_context(pace.turn())
        for left in (8, 4, 2, 1, 1):
            with pace.refused():
                assert int(pace._room) == left
    rooms = []
    for _ in range(200):
        pace.went_well()
        rooms.append(int(pace._room))
    assert rooms[0] == 2
    assert rooms == sorted(rooms)
    assert 12 < rooms[99] < 16
    assert rooms[-1] == 16


def test_of_few_under_way_half_remain() -> None:
    pace = Pace(1000)
    with pace.turn(), pace.turn(), pace.turn(), pace.turn(), pace.refused():
        assert int(pace._room) == 2


def test_a_turn_is_waited_for() -> None:
    pace, entered = Pace(1), threading.Event()

    def second() -> None:
        with pace.turn():
            entered.set()

    with pace.turn():
        waiting = threading.Thread(target=second)
        waiting.start()
        assert not entered.wait(0.1)
    waiting.join(5)
    assert entered.is_set()


def test_who_waits_hears_of_the_end() -> None:
    pace = Pace(1)
    stopping.request()
    try:
        with pace.turn(), pytest.raises(StoppedError), pace.turn():
            pass
    finally:
        stopping.side_by_side(lambda _: None, [], jobs=1)
    with pace.turn():
        pass
