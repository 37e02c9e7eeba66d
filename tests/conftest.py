"""What all tests share: how a missing tool is handled (see `services/needed.py`), and a clean masker."""

from __future__ import annotations

import hypothesis
import pytest

from secure_build import cli, secret
from services.needed import need

__all__ = ["need"]

# Machines that do other things at the same time are no reason to fail.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def no_secrets_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_masked", set())
    monkeypatch.setattr(secret, "_taken", {})


@pytest.fixture(autouse=True)
def limits_of_this_process_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command lowers them for good, which is for its own process, and not for that of the tests."""
    monkeypatch.setattr(cli, "_keep_no_core", lambda: None)
