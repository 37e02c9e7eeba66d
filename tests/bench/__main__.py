"""The performance table: each row the same work by several programs, by turns, on this machine.

    python -m bench [--write] [WORD…]

With words, only rows that hold one of them. `--write` puts the rows into docs/performance.md, in place of
those that are there under the same names.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.ground import ground, machine
from bench.measure import Costs, alternately
from bench.row import Goal, Row
from bench.rows import ROWS
from services.running import MissingTool

_DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
_TABLE = re.compile("(?<=<!-- table -->\n).*?(?=<!-- end of table -->)", re.DOTALL)
_HEAD = """\
| work | secure-build | others, and how many times their time it takes | requests | CPU | memory | goal |
|---|---|---|---|---|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    chosen = [row for row in ROWS if not given.words or any(word in row.name for word in given.words)]
    lines: dict[str, str] = {}
    failed = 0
    for row in chosen:
        started = time.monotonic()
        try:
            lines[row.name] = _line(row, _measured(row))
        except (MissingTool, ChildProcessError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", None) or b""
            print(f"{row.name}: {error}\n{said.decode(errors='replace')}", file=sys.stderr)
            failed += 1
            continue
        print(lines[row.name], end="", flush=True)
        print(f"{row.name}: {time.monotonic() - started:.0f} s in all", file=sys.stderr)
    if given.write:
        _write(lines)
    return 1 if failed else 0


def _measured(row: Row) -> list[Costs]:
    # Builders put paths into mount options, which have a limit.
    short = tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True)
    with short as folder, ground(Path(folder)) as here:
        contest = row.contest(here)
        costs = alternately(next(contest), row.runs, here.requests)
        with contextlib.suppress(StopIteration):
            next(contest)
    return costs


def _line(row: Row, costs: Sequence[Costs]) -> str:
    own, *others = costs
    named = {one.name: one for one in others}
    cells = [
        row.name,
        f"{own.wall:.3f} s",
        "<br>".join(_beside(own, other) for other in others),
        " / ".join(str(one.requests) for one in costs) if own.requests else "",
        f"{own.cpu:.2f} s",
        f"{own.peak:.0f} MiB",
        "<br>".join(_judged(goal, own, named) for goal in row.goals),
    ]
    return f"| {' | '.join(cells)} |\n"


def _beside(own: Costs, other: Costs) -> str:
    ratio, spread = own.ratio(other)
    return f"{other.name} {other.wall:.3f} s: **{ratio:.2f}** ± {spread:.2f}"


def _judged(goal: Goal, own: Costs, others: dict[str, Costs]) -> str:
    return f"{goal.text}: {'reached' if goal.reached(own, others) else '**missed**'}"


def _write(lines: dict[str, str]) -> None:
    text = _DOCUMENT.read_text(encoding="utf-8")
    found = _TABLE.search(text)
    assert found, f"{_DOCUMENT} has no marks"
    before = {line.split(" | ")[0].removeprefix("| "): f"{line}\n" for line in found[0].splitlines()}
    kept = (lines.get(row.name) or before.get(row.name, "") for row in ROWS)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    body = f"Measured on {today} on {machine()}.\n\n{_HEAD}{''.join(kept)}"
    _DOCUMENT.write_text(f"{text[: found.start()]}{body}{text[found.end() :]}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
