"""Parsers of remote and user bytes under hostile input: they end in a value or in an error of ours.

How many inputs each gets is decided here; what is watched, in `fuzzing.py`. The same inputs each time, but
for those that coverage leads to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from services import running
from services.needed import need
from torture import broken, parsers

ALL = os.environ.get("TORTURE") == "all"
TESTS = Path(__file__).resolve().parents[1]
# Inputs for a quick parser; slow ones get fewer.
RANDOM = 12_000 if ALL else 1500
COVERING = 15_000
SECONDS = 420
NAMES = parsers.names()


def fuzzed(mode: str, budget: int, folder: Path, table: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """What came of each parser, by its name."""
    folder.mkdir()
    # What brings the package puts it where Python finds it.
    program = [running.tool("atheris")] if mode == "coverage" else []
    ended = subprocess.run(
        [*program, sys.executable, "-m", "torture.fuzzing", mode, str(budget), str(folder), table, *names],
        cwd=TESTS,
        env={**running.environment(), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def by_two(mode: str, budget: int, folder: Path) -> dict[str, dict[str, Any]]:
    """All parsers, half of them at a time."""
    folder.mkdir()
    halves = [(folder / str(number), list(NAMES[number::2])) for number in range(2)]
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda half: fuzzed(mode, budget, half[0], "torture.parsers", half[1]), halves)
    return {name: result for half in results for name, result in half.items()}


def survived(results: dict[str, dict[str, Any]], figures: Counter[str]) -> None:
    assert {name: one["failure"] for name, one in results.items() if one["failure"]} == {}
    figures["fuzz executions"] += sum(one["executions"] for one in results.values())
    figures["inputs refused"] += sum(one["refused"] for one in results.values())
    # What refuses nothing, or everything, was not put to the test.
    assert [name for name, one in results.items() if one["executions"] == one["refused"]] == []


def test_no_input_breaks_a_parser(tmp_path: Path, figures: Counter[str]) -> None:
    need("git", "gpg")
    results = by_two("random", RANDOM, tmp_path / "fuzz")
    assert len(results) == len(parsers.PARSERS) > 50
    survived(results, figures)


@pytest.mark.skipif(not ALL, reason="only `make torture` looks for inputs that reach new code")
@pytest.mark.timeout(SECONDS)
def test_no_input_that_coverage_leads_to_breaks_a_parser(tmp_path: Path, figures: Counter[str]) -> None:
    need("git", "gpg", "atheris")
    survived(by_two("coverage", COVERING, tmp_path / "fuzz"), figures)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaves", "KeyError: 'a'"),
        ("recurses", "RecursionError"),
        ("hangs", "Timeout (0:00:01)!"),
        ("hoards", "MemoryError"),
        ("dies", "ended with -6"),
        ("writes", "NotAllowed: open /"),
        ("links", "NotAllowed: os.mkdir /etc/elsewhere"),
        ("connects", "NotAllowed: socket."),
        ("starts", "NotAllowed: subprocess.Popen"),
    ],
)
def test_a_broken_parser_is_found(name: str, said: str, tmp_path: Path) -> None:
    """The control of the watch itself."""
    assert name in {one.name for one in broken.PARSERS}
    (result,) = fuzzed("random", 1, tmp_path / "fuzz", "torture.broken", [name]).values()
    assert said in result["failure"]
    assert (tmp_path / "fuzz" / f"{name}.input").read_bytes() == b"x"
