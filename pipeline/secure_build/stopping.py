"""Ending early: work side by side, and how all of it stops when one part fails or Ctrl-C is pressed.

A signal reaches the main thread only. Work in other threads ends because child processes are
killed (`process.py`) and because long transfers call `check` between chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from secure_build.errors import StoppedError

Item = TypeVar("Item")
Result = TypeVar("Result")

_requested = threading.Event()
_hooks: list[Callable[[], None]] = []


def on_stop(hook: Callable[[], None]) -> None:
    """Have `hook` called once whenever work is told to stop."""
    _hooks.append(hook)


def request() -> None:
    """Tell all work to stop; returns at once."""
    _requested.set()
    for hook in _hooks:
        hook()


def check() -> None:
    """Raise StoppedError when the run is ending."""
    if _requested.is_set():
        raise StoppedError("stopped before it was done")


def pause(seconds: float) -> None:
    """Sleep, but raise StoppedError as soon as the run is ending."""
    if _requested.wait(seconds):
        check()


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], *, jobs: int) -> list[Result]:
    """`function` of every item, in the order of the items, at most `jobs` at a time.

    The first failure stops the rest and is raised once all of it has ended.
    """
    pool = ThreadPoolExecutor(max_workers=jobs)
    futures = [pool.submit(function, item) for item in items]
    try:
        wait(futures, return_when=FIRST_EXCEPTION)
        if any(future.done() and future.exception() for future in futures):
            request()
            pool.shutdown(wait=True, cancel_futures=True)
            failures = [future.exception() for future in futures if not future.cancelled()]
            # A part that was told to stop is not the reason.
            raise next(failure for failure in failures if failure and not isinstance(failure, StoppedError))
        return [future.result() for future in futures]
    except BaseException:
        request()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        if threading.current_thread() is threading.main_thread():
            _requested.clear()
