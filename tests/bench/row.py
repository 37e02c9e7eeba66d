"""What a row of the table is: one piece of work, who does it, and the goal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from bench.ground import Ground
from bench.measure import Command, Costs

Contest = Iterator[Sequence[Command]]


@dataclass(frozen=True, slots=True)
class Goal:
    """What our costs have to be, beside those of the others by name."""

    text: str
    reached: Callable[[Costs, Mapping[str, Costs]], bool]


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; `contest` yields the commands, ours first, and cleans up when it is left."""

    name: str
    contest: Callable[[Ground], Contest]
    goals: tuple[Goal, ...] = ()
    runs: int = 5


def at_most(limit: Fraction | float, other: str) -> Goal:
    """At most so many times what the other takes."""
    return Goal(f"≤ {limit} of {other}", lambda own, others: own.wall <= limit * others[other].wall)


def fewer_requests(other: str) -> Goal:
    return Goal(f"fewer requests than {other}", lambda own, others: own.requests < others[other].requests)


def within_seconds(limit: float, why: str) -> Goal:
    return Goal(f"≤ {limit:.2f} s ({why})", lambda own, _: own.wall <= limit)


def within_mebibytes(limit: int) -> Goal:
    return Goal(f"≤ {limit} MiB", lambda own, _: own.peak <= limit)


def little_more_cpu(limit: float, other: str) -> Goal:
    """So many seconds of CPU more than the other, which does the least that there is to do."""
    return Goal(f"≤ {limit} s of CPU over {other}", lambda own, others: own.cpu <= others[other].cpu + limit)
