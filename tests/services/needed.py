"""What a test does when a program that it needs is absent."""

from __future__ import annotations

import os

import pytest

from services import running


def need(*names: str) -> None:
    """Skip when a program is absent, saying what brings it; in CI that is a failure."""
    for name in names:
        try:
            running.tool(name)
        except running.MissingTool as missing:
            give_up(str(missing))


def give_up(reason: str) -> None:
    """Skip the test for this reason; in CI, where everything must be there, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
