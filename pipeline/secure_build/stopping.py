"""Ending early: work side by side, and how all of it stops when one part fails or Ctrl-C is pressed.

A signal reaches the main thread only. Work in other threads ends because child processes are
killed (`process.py`) and because long transfers call `check` between chunks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

from secure_build.errors import StoppedError

Item = TypeVar("Item")
Result = TypeVar("Result")

_NAP_SECONDS = 1.0
_requested = threading.Event()
_hooks: list[Callable[[], None]] = []


def on_stop(hook: Callable[[], None]) -> None:
    """Have `hook` called whenever work is told to stop; it must not block."""
    _hooks.append(hook)


def request() -> None:
    """Tell all work to stop; returns at once."""
    if not _requested.is_set():
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

    The first failure stops the rest and is raised once all of it has ended. May be used inside
    `function` too. Afterwards work can start anew.
    """
    pool = ThreadPoolExecutor(max_workers=jobs)
    failures: list[BaseException] = []

    def work(item: Item) -> Result:
        check()
        try:
            return function(item)
        except StoppedError:
            raise
        except BaseException as error:
            # Here and not in the thread that waits, which would let the next items begin meanwhile.
            failures.append(error)
            request()
            raise

    try:
        futures = [pool.submit(work, item) for item in items]
        # Not in one go: a signal that comes just before would be noticed at the very end.
        while wait(futures, timeout=_NAP_SECONDS).not_done:
            pass
        if failures:
            raise failures[0]
        return [future.result() for future in futures]
    except BaseException:
        request()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        # In another thread this is a part of work that may be stopping as a whole.
        if threading.current_thread() is threading.main_thread():
            _requested.clear()
