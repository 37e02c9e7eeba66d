"""The performance table: each row the same work by several programs, by turns, on this machine.

    python -m bench [--write] [WORD…]

With words, only rows that hold one of them. `--write` puts the table into docs/performance.md.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.ground import ground, machine
from bench.measure import Costs, alternately
from bench.rows import ROWS, Goal, Row

_DOCUMENT = Path(__file__).parents[2] / "docs" / "performance.md"
_HEAD = """\
| work | secure-build | rival | ratio | floor | ratio | requests | CPU | memory | goal |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("words", nargs="*")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    chosen = [row for row in ROWS if not given.words or any(word in row.name for word in given.words)]
    lines = []
    with tempfile.TemporaryDirectory(prefix="sb-bench-") as folder:
        for number, row in enumerate(chosen):
            with ground(Path(folder) / str(number)) as here:
                contest = row.contest(here)
                commands = next(contest)
                costs = alternately(commands, row.runs, here.requests)
                with contextlib.suppress(StopIteration):
                    next(contest)
            lines.append(_line(row, costs))
            print(lines[-1], flush=True)
    if given.write:
        _write(lines)
    return 0


def _line(row: Row, costs: Sequence[Costs]) -> str:
    own, rival = costs[0], costs[1]
    floor = costs[2] if len(costs) > 2 else None
    known = {one.name: one for one in costs}
    cells = [
        row.name,
        _wall(own),
        f"{rival.name} {_wall(rival)}",
        f"{own.wall / rival.wall:.2f}",
        _wall(floor) if floor else "",
        f"{own.wall / floor.wall:.2f}" if floor else "",
        " / ".join(str(one.requests) for one in costs) if own.requests else "",
        f"{own.cpu:.2f} s",
        f"{own.peak:.0f} MiB",
        "; ".join(_judged(goal, own, known[goal.against]) for goal in row.goals),
    ]
    return f"| {' | '.join(cells)} |"


def _wall(costs: Costs) -> str:
    return f"{costs.wall:.3f} s ±{costs.spread:.0%}"


def _judged(goal: Goal, own: Costs, other: Costs) -> str:
    ratio = own.wall / other.wall
    word = "reached" if ratio <= goal.limit else "missed"
    return f"≤ {goal.limit:.2f} of {goal.against}: {word}"


def _write(lines: Sequence[str]) -> None:
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    body = f"Measured {today} on {machine()}.\n\n{_HEAD}" + "".join(f"{line}\n" for line in lines)
    text = _DOCUMENT.read_text(encoding="utf-8")
    text, count = re.subn(
        "(<!-- table -->\n).*?(<!-- end of table -->)", lambda it: it[1] + body + it[2], text, flags=re.DOTALL
    )
    assert count == 1, f"{_DOCUMENT} has no marks"
    _DOCUMENT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
