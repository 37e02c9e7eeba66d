"""What a registry was asked, from its own access log."""

from __future__ import annotations

import re
from pathlib import Path

from services.counting import Counted
from services.running import RunningRegistry

_LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) [^"]*" (?P<status>\d{3}) ')


class AccessLog:
    """The requests to a registry from the moment this object is made, or all of them."""

    def __init__(self, registry: RunningRegistry, *, whole: bool = False) -> None:
        self._path: Path = registry.log
        self._start = 0 if whole else self._path.stat().st_size

    def requests(self) -> list[Counted]:
        with self._path.open("rb") as file:
            file.seek(self._start)
            text = file.read().decode(errors="replace")
        found = [Counted(it["method"], it["path"], int(it["status"])) for it in _LINE.finditer(text)]
        assert len(found) == len(text.splitlines()), text
        return found
