"""How fast a host lets us go.

A thread that is told to come again later says nothing to the others, and all of them coming again at the same
moment is what registries limit. So all threads keep to one pace for each host: as TCP does with a network,
half as many requests at once each time that it was too fast, and slowly more while it goes well.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from secure_build import stopping

_NAP_SECONDS = 1.0


class Pace:
    """Turns for requests to one host; `most` at once, and fewer while it asks for that."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._room = float(most)
        self._taken = 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until there is room for one request; raises StoppedError when the run is ending."""
        with self._changed:
            while self._taken >= int(self._room):
                stopping.check()
                self._changed.wait(_NAP_SECONDS)
            self._taken += 1
        try:
            yield
        finally:
            self._leave()

    def went_well(self) -> None:
        """The host answered a request."""
        if self._room < self._most:
            with self._changed:
                self._room = min(self._room + 1 / self._room, self._most)
                self._changed.notify()

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        """The host wants no more for now: whoever pauses here also takes the room that others would use."""
        with self._changed:
            self._room = max(1.0, min(self._room, self._taken) / 2)
            self._taken += 1
        try:
            yield
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._taken -= 1
            self._changed.notify()
