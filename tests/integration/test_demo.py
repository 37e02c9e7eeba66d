"""`make demo`, which is the first thing that a newcomer runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from services.needed import need

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_ends_with_the_digest_that_skopeo_reports() -> None:
    need("skopeo", "docker-registry", "busybox-s390x")
    outcome = subprocess.run(
        [sys.executable, ROOT / "examples" / "demo.py"], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    named = re.search(r"the image that it names +\S+@(sha256:[0-9a-f]{64})", outcome.stdout)
    reported = re.search(r"digest that skopeo reports +(sha256:[0-9a-f]{64})", outcome.stdout)
    assert named
    assert reported
    assert named[1] == reported[1]
    assert re.search(r"machine that served a page +s390x\n", outcome.stdout)
