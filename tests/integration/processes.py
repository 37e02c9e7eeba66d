"""Processes of this machine, from `/proc`: who descends from whom, and what they were given."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from integration.project import SECONDS, Project

PATIENCE_SECONDS = 60


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something that comes soon; how soon is not part of any test."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)


def running_with(argument: str) -> list[int]:
    """The processes that have this argument."""
    return [pid for pid in _pids() if argument.encode() in _read(pid, "cmdline").split(b"\0")]


def interrupt_a_step(project: Project, base: str) -> None:
    """Ctrl-C while a build step sleeps: the program ends as interrupted, and so does the step."""
    # A number that no other process has among its arguments.
    marker = f"4343{os.getpid()}{id(project) % 1000}"
    project.commit({"app/Dockerfile": f'FROM {base}\nRUN ["/bin/busybox", "sleep", "{marker}"]\n'})
    process = project.start("build")
    wait_until(lambda: running_with(marker), "the step runs")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    wait_until(lambda: not running_with(marker), "the step ends")


def descendants(ancestor: int) -> set[int]:
    parents = {pid: _parent(pid) for pid in _pids()}
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def alive(pids: set[int]) -> set[int]:
    """Those that still run; one that has ended and was not waited for does not count."""
    return {pid for pid in pids if _state(pid) not in ("", "Z", "X")}


class Sampler:
    """Collects the command lines of a process's descendants while it runs, and their environments.

    A descendant that has not yet become another program is still a copy of its parent, and left out.
    """

    def __init__(self, ancestor: int) -> None:
        self.seen: dict[bytes, bytes] = {}
        self._ancestor = ancestor
        self._copies: set[bytes] = set()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.is_set():
            self._copies.add(_read(self._ancestor, "cmdline"))
            for pid in descendants(self._ancestor):
                arguments, environment = _read(pid, "cmdline"), _read(pid, "environ")
                # It may have become another program between the two.
                if arguments not in self._copies and arguments == _read(pid, "cmdline"):
                    self.seen[arguments] = environment


def _pids() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def _stat(pid: int) -> list[str]:
    # The name of the program, in brackets, may hold blanks.
    return _read(pid, "stat").decode(errors="replace").rpartition(")")[2].split()


def _state(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0
