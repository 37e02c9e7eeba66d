"""What a process costs: wall time, CPU time, peak memory, and requests; with whoever it starts."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds, seconds of CPU, peak of one process in MiB, requests."""

    wall: float
    cpu: float
    peak: float
    requests: int


@dataclass(frozen=True)
class Command:
    """One way to do the work; `reset` brings back the state that it starts from."""

    name: str
    argv: Sequence[str]
    folder: Path
    environment: Mapping[str, str]
    reset: Callable[[], None] = lambda: None
    stdin: bytes = b""
    codes: tuple[int, ...] = (0,)


@dataclass
class Costs:
    """All runs of one command."""

    name: str
    runs: list[Cost] = field(default_factory=list)

    @property
    def wall(self) -> float:
        return statistics.median(one.wall for one in self.runs)

    @property
    def cpu(self) -> float:
        return statistics.median(one.cpu for one in self.runs)

    @property
    def peak(self) -> float:
        return max(one.peak for one in self.runs)

    @property
    def requests(self) -> int:
        return round(statistics.median(one.requests for one in self.runs))

    def ratio(self, other: Costs) -> tuple[float, float]:
        """How many times the other's time this takes, and half the span of that over all turns."""
        found = [own.wall / its.wall for own, its in zip(self.runs, other.runs, strict=True)]
        return self.wall / other.wall, (max(found) - min(found)) / 2


def cost(command: Command, requests: Callable[[], int]) -> Cost:
    """Run it once; raises ChildProcessError when it does not end as it should."""
    command.reset()
    before, started = requests(), time.perf_counter()
    process = subprocess.Popen(
        command.argv,
        cwd=command.folder,
        env=dict(command.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(command.stdin)
    process.stdin.close()
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in command.codes:
        raise ChildProcessError(
            f"{command.name} ended with {process.returncode}: {said.decode(errors='replace')[-2000:]}"
        )
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, requests() - before)


def alternately(commands: Sequence[Command], runs: int, requests: Callable[[], int]) -> list[Costs]:
    """Each command `runs` times, by turns, so that what else the machine does hits all of them."""
    found = [Costs(command.name) for command in commands]
    for _ in range(runs):
        for command, costs in zip(commands, found, strict=True):
            costs.runs.append(cost(command, requests))
    return found
