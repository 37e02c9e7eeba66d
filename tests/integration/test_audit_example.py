"""examples/audit, as a reader runs it: an audit that holds, and four, each red where one byte was changed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from services.needed import need

ROOT = Path(__file__).resolve().parents[2]
BROKEN = {
    "whole": [],
    "record": ["record"],
    "compose": ["sections"],
    "layer": ["manifests"],
    "provenance": ["provenance"],
}


def test_each_change_is_red_at_its_link(tmp_path: Path) -> None:
    need("docker-registry", "skopeo", "busybox-s390x", "openssl", "ssh-keygen", "chromium")
    command = [sys.executable, ROOT / "examples" / "audit" / "audit.py", "--pictures", tmp_path]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    for name, links in BROKEN.items():
        page = (ROOT / ".demo-audit" / f"{name}.html").read_text()
        assert re.findall(r'<li class="bad">.*?href="#([a-z]+)"', page) == links, name
        picture = (tmp_path / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 200_000
    page = (ROOT / ".demo-audit" / "whole.html").read_text()
    assert "All 14 links hold" in page
