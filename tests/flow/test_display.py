"""The live display, on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SHOWN = """
from secure_build.report import Report
report = Report()
with report.task("web", "publishing", total=2000) as task:
    task.advance(1000)
    report.step("api: unchanged [red]not markup[/red] :smile:")
    import time; time.sleep(0.3)
print("end", flush=True)
"""


@pytest.mark.parametrize("terminal", ["xterm-256color", "dumb"])
def test_a_display_on_a_terminal(terminal: str) -> None:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": terminal, "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-c", SHOWN], stdin=follower, stdout=follower, stderr=follower, env=environment
    ) as child:
        os.close(follower)
        output = b""
        while True:
            try:
                piece = os.read(leader, 65536)
            except OSError:
                break
            if not piece:
                break
            output += piece
        assert child.wait() == 0
    os.close(leader)
    text = output.decode()
    assert "api: unchanged [red]not markup[/red] :smile:" in text
    assert ("1.0 kB" in text) == (terminal != "dumb")
    # The display is gone at the end, and the cursor is back.
    if terminal != "dumb":
        assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    assert text.rstrip().endswith("end")
