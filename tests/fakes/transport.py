"""A transport that is quick to give up and is checked for lost connections."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from secure_build.registry.http import Transport


@contextmanager
def checked_transport(
    *, connect_seconds: float = 5, read_seconds: float = 5, deadline_seconds: float = 180
) -> Iterator[Transport]:
    """A transport; in the end every connection must be back in its pool, whatever went wrong."""
    transport = Transport(
        connect_seconds=connect_seconds, read_seconds=read_seconds, deadline_seconds=deadline_seconds
    )
    yield transport
    for manager in transport._pools.values():
        pools = manager.pools
        for key in pools.keys():  # noqa: SIM118  # it cannot be iterated over
            queue = pools[key].pool
            assert queue is not None
            assert queue.qsize() == queue.maxsize, f"{queue.maxsize - queue.qsize()} connections are lost"
    transport.__exit__()
