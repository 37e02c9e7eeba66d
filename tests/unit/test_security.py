"""The promises in SECURITY.md are shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def known() -> set[str]:
    """The names of all tests."""
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    return {name for text in texts for name in re.findall(r"^(?:    )?def (test_\w+)\(", text, re.MULTILINE)}


def test_every_promise_names_tests_that_exist() -> None:
    promised = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    assert len(promised) > 20
    assert promised <= known(), promised - known()


def test_every_broken_case_has_tests() -> None:
    rows = re.findall(
        r"^\| (\w+) \| .* \| (.*) \|$", (ROOT / "docs" / "hardening.md").read_text(), re.MULTILINE
    )
    cases = {number: re.findall(r"`(test_\w+)`", named) for number, named in rows if number[0].isdecimal()}
    assert set(cases) == {str(number) for number in range(1, 61)} | {"45a"}
    names = known()
    for number, wanted in cases.items():
        files = [path for _, named in rows for path in re.findall(r"`(tests/[^`]+)`", named)]
        assert all((ROOT / path).exists() for path in files)
        assert wanted or number == "50", number
        for one in wanted:
            is_group = re.fullmatch(r"test_(hardening_)?\d+a?(_\d+)?", one)
            found = {name for name in names if name.startswith(f"{one}_")} if is_group else names & {one}
            assert found, f"{number}: {one}"
