"""The script that brings the real parts, on a machine where it cannot."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from services.running import PREPARE

# What the script itself runs on any machine.
BASIC = (
    "bash dirname mkdir mktemp rm flock uname cat env tail head grep awk sed tr cp mv ln chmod touch sort cut"
)


def prepare(folder: Path, *parts: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a machine without a package manager and without the parts."""
    programs = folder / "bin"
    programs.mkdir()
    for name in BASIC.split():
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    return subprocess.run(
        [programs / "bash", "-c", f'PATH="{programs}"; exec bash "{PREPARE}" "$@"', "prepare", *parts],
        env={"PATH": str(programs), "HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_that_is_not_like_debian_is_told_what_is_missing(tmp_path: Path) -> None:
    outcome = prepare(tmp_path, "crane", "docker")
    assert outcome.returncode == 3, outcome.stderr
    missing = [line for line in outcome.stderr.splitlines() if line.startswith("missing: ")]
    assert len(missing) == 2
    assert "crane" in outcome.stderr
    assert outcome.stdout == ""


def test_an_unknown_part_is_a_usage_error(tmp_path: Path) -> None:
    assert prepare(tmp_path, "nothing").returncode == 2
