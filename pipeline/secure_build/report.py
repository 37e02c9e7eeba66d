"""What the user sees while work goes on, on standard error only.

In CI and in files: plain lines with the time. On a terminal also a live display, one row for each
image that is being worked on. Whatever is shown has its secrets masked and its control characters
made visible: a build's output must not steer the reader's terminal.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from secure_build.errors import SecureBuildError
from secure_build.model import Finding
from secure_build.secret import mask

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

QUIET, NORMAL, VERBOSE = -1, 0, 1
# Without a display, a long transfer says this often, in seconds, how far it is.
_EVERY = 15.0
_LONGEST_NOTE = 60
# C0 and C1 controls but the tab, the marks that turn the direction of text, and halves of characters,
# such as Python makes of bytes in a file's name: no output takes them.
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
# What colours a line: nothing is lost without it.
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Report:
    """Progress lines and, on a terminal, a live display; threads may share one."""

    def __init__(self, level: int = NORMAL) -> None:
        self._level = level
        self._lock = threading.RLock()
        self._display: Progress | None = None
        self._running = 0
        self._told: set[Finding] = set()

    def step(self, text: str) -> None:
        """Something began, ended or was found not to be needed."""
        if self._level >= NORMAL:
            self._line(f"{time.strftime('%H:%M:%S')} {text}")

    def detail(self, text: str) -> None:
        """A line of a builder's own output and the like."""
        if self._level >= VERBOSE:
            self._line(f"{time.strftime('%H:%M:%S')}   {text}")

    def finding(self, finding: Finding) -> None:
        """A finding that somebody should read, once; those that passed are in the build record."""
        if finding.level == "pass" or finding in self._told:
            return
        self._told.add(finding)
        self._show_finding(finding)

    def note(self, text: str, hint: str | None = None) -> None:
        """Something that somebody should read and that no check has found."""
        self._lines(_explained("note", text, hint))

    def plain(self, text: str) -> None:
        """Lines that are no progress: a table, or what to do next."""
        if self._level >= NORMAL:
            self._lines(text.splitlines())

    def error(self, error: SecureBuildError) -> None:
        self._lines(_explained("error", error.message, error.hint))

    @contextlib.contextmanager
    def stage(self, _name: str) -> Iterator[None]:
        """A stretch of the work, which the logs of some CI systems fold."""
        yield

    def _show_finding(self, finding: Finding) -> None:
        self._lines(finding_lines(finding))

    @contextlib.contextmanager
    def task(self, name: str, doing: str, total: int | None = None) -> Iterator[Task]:
        """Work on one image that takes a while; `total` is in bytes, None where it is not known.

        Begins with a line, and shows how far the work is as long as it goes on.
        """
        self.step(f"{name}: {doing}")
        with self._shown() as display:
            task = Task(self, name, doing, total, display)
            try:
                yield task
            finally:
                task.end()

    @contextlib.contextmanager
    def _shown(self) -> Iterator[Progress | None]:
        """The display, which is there as long as a task is."""
        with self._lock:
            if self._display is None and self._level == NORMAL and sys.stderr.isatty():
                self._display = _display()
                if self._display is not None:
                    self._display.start()
            self._running += 1
        try:
            yield self._display
        finally:
            with self._lock:
                self._running -= 1
                if self._display is not None and not self._running:
                    self._display.stop()
                    self._display = None

    def _lines(self, texts: Iterable[str]) -> None:
        with self._lock:
            for text in texts:
                self._line(text)

    def _line(self, text: str) -> None:
        with self._lock:
            clean = shown(text)
            if self._display is not None:
                self._display.console.print(clean, markup=False, highlight=False, emoji=False, soft_wrap=True)
            else:
                print(clean, file=sys.stderr, flush=True)


class Task:
    """Work on one image, as `Report.task` gives it."""

    def __init__(
        self, report: Report, name: str, doing: str, total: int | None, display: Progress | None
    ) -> None:
        self._report = report
        self._what = f"{name}: {doing}"
        self._total = total
        self._done = 0
        self._lock = threading.Lock()
        self._told = time.monotonic()
        self._display = display
        self._row: TaskID | None = None
        if display is not None:
            self._row = display.add_task(shown(self._what), total=total, note="")

    def advance(self, count: int) -> None:
        """So many more bytes are done."""
        with self._lock:
            self._done += count
            done = self._done
            tell = self._display is None and time.monotonic() - self._told >= _EVERY
            if tell:
                self._told = time.monotonic()
        if self._display is not None and self._row is not None:
            self._display.update(self._row, completed=done, note=size(done))
        elif tell:
            of_all = f" of {size(self._total)}" if self._total else ""
            self._report.step(f"{self._what}: {size(done)}{of_all}")

    def line(self, text: str) -> None:
        """A line that the builder said: the display shows the last one, `-v` all of them."""
        self._report.detail(f"{self._what.partition(':')[0]}: {text}")
        if self._display is not None and self._row is not None and text.strip():
            self._display.update(self._row, note=shown(text.strip())[:_LONGEST_NOTE])

    def end(self) -> None:
        if self._display is not None and self._row is not None:
            self._display.remove_task(self._row)


def finding_lines(finding: Finding) -> list[str]:
    """A finding for people, its hint last."""
    where = f"{finding.where}: " if finding.where else ""
    return _explained(finding.level, f"{where}{finding.what}: {finding.why}", finding.hint)


def _explained(kind: str, text: str, hint: str | None) -> list[str]:
    """What may have lines of its own, such as the last ones of a builder."""
    return [*f"{kind}: {text}".splitlines(), *(f"hint: {hint}".splitlines() if hint else ())]


def shown(text: str) -> str:
    """One line as it may be shown: secrets masked, even those cut by colours, controls visible."""
    return _written_out(mask(_COLOURS.sub("", mask(text))))


def visible(text: str) -> str:
    """The text with its controls written out, but for the ends of lines; nothing is masked."""
    return "\n".join(map(_written_out, text.split("\n")))


def json_text(data: object) -> str:
    """Plain data as JSON that ends with a newline, controls in it escaped; nothing is masked."""
    # Within strings JSON has escapes for all of them, and elsewhere it has none of them but the line ends.
    lines = json.dumps(data, indent=2, ensure_ascii=False).split("\n")
    return "\n".join(_CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", line) for line in lines) + "\n"


def _written_out(line: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", line)


def size(count: int) -> str:
    """A number of bytes for people."""
    amount = float(count)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def _display() -> Progress | None:
    """A display for this terminal, None for one that cannot move its cursor."""
    # Only a terminal needs it, and it takes a tenth of a second to load.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        return None
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        # Nobody but us writes while it is there; the result must never get to standard error.
        redirect_stdout=False,
    )
