"""Whether a machine runs programs of a platform, by what its kernel lists."""

from __future__ import annotations

import platform as machine
from pathlib import Path

import pytest

from secure_build.builders.programs import run_here
from secure_build.model import Platform


@pytest.fixture(autouse=True)
def amd64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "machine", lambda: "x86_64")


@pytest.mark.parametrize(
    ("entries", "wanted", "expected"),
    [
        ({"status": "enabled\n", "qemu-s390x": "enabled\ninterpreter /usr/bin/qemu\n"}, "linux/s390x", True),
        ({"status": "enabled\n", "qemu-s390x": "disabled\n"}, "linux/s390x", False),
        ({"status": "enabled\n"}, "linux/s390x", False),
        ({}, "linux/s390x", None),
        ({"status": "enabled\n"}, "linux/amd64", True),
        ({"status": "enabled\n"}, "linux/mips64", None),
    ],
)
def test_what_the_kernel_lists(
    tmp_path: Path, entries: dict[str, str], wanted: str, expected: bool | None
) -> None:
    for name, content in entries.items():
        (tmp_path / name).write_text(content)
    assert run_here(Platform.parse(wanted), tmp_path) is expected
