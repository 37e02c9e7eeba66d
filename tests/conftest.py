"""What all tests share: how a missing tool is handled, and the real services."""

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
            if os.environ.get("CI"):
                pytest.fail(str(missing))
            pytest.skip(str(missing))
