"""What the user sees while work goes on: plain lines with the time, on standard error only."""

from __future__ import annotations

import sys
import threading
import time

from secure_build.errors import SecureBuildError
from secure_build.model import Finding
from secure_build.secret import mask

QUIET, NORMAL, VERBOSE = -1, 0, 1


class Report:
    """Progress lines; threads may share one. Every line passes the masker."""

    def __init__(self, level: int = NORMAL) -> None:
        self._level = level
        self._lock = threading.Lock()

    def step(self, text: str) -> None:
        """Something began, ended or was found not to be needed."""
        if self._level >= NORMAL:
            self._line(f"{time.strftime('%H:%M:%S')} {text}")

    def detail(self, text: str) -> None:
        """A line of a builder's own output and the like."""
        if self._level >= VERBOSE:
            self._line(f"{time.strftime('%H:%M:%S')}   {text}")

    def finding(self, finding: Finding) -> None:
        """A finding that somebody should read; those that passed are in the build record."""
        if finding.level == "pass":
            return
        where = f"{finding.where}: " if finding.where else ""
        self._line(f"{finding.level}: {where}{finding.what}: {finding.why}")
        if finding.hint:
            self._line(f"hint: {finding.hint}")

    def note(self, text: str, hint: str | None = None) -> None:
        """Something that somebody should read and that no check has found."""
        self._line(f"note: {text}")
        if hint:
            self._line(f"hint: {hint}")

    def plain(self, text: str) -> None:
        """Lines that are no progress: a table, or what to do next."""
        if self._level >= NORMAL:
            self._line(text)

    def error(self, error: SecureBuildError) -> None:
        self._line(f"error: {error.message}")
        if error.hint:
            self._line(f"hint: {error.hint}")

    def _line(self, text: str) -> None:
        with self._lock:
            print(mask(text), file=sys.stderr, flush=True)


def size(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"
