"""The promises in SECURITY.md are shown by tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_names_tests_that_exist() -> None:
    promised = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    texts = (path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    known = {name for text in texts for name in re.findall(r"^(?:    )?def (test_\w+)\(", text, re.MULTILINE)}
    assert len(promised) > 20
    assert promised <= known, promised - known
