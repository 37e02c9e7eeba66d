"""The controls of the search for secrets: what is planted is found, in every form and every place."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import secrets
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from integration.processes import Sampler
from integration.sweeping import Search, Snapshots, forms
from torture.canaries import may_hold

CANARY = 'control?Canary&0123456789abcdef>"é'
KINDS = tuple(forms(CANARY))


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_secret_is_found_in_every_form_and_place(
    kind: str, tmp_path: Path, figures: Counter[str]
) -> None:
    for written in forms(CANARY)[kind]:
        around = b"before " + written + b" after"
        for name, content in planted(around).items():
            search = Search({"A": CANARY})
            assert search.look("a place", name, content), (kind, name)
            assert {leak.secret for leak in search.leaks} == {"A"}
            figures["planted secrets found"] += 1
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(forms(CANARY)[kind][0])
    search = Search({"A": CANARY})
    search.look_below("files", folder)
    assert search.leaks


def planted(content: bytes) -> dict[str, bytes]:
    """The ways in which places hold what is written there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("a")
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
    layer = gzip.compress(buffer.getvalue())
    payload = base64.b64encode(json.dumps({"a": 1}).encode() + content)
    return {
        "output": content,
        "tar": buffer.getvalue(),
        "layer": layer,
        "archive of a contract": b"workload: |\n  compose:\n    archive: " + base64.b64encode(layer) + b"\n",
        "envelope": b'{"payload": "' + payload + b'"}',
        "envelope in an envelope": b'{"a": "' + base64.b64encode(b'{"b": "' + payload + b'"}') + b'"}',
    }


def test_what_is_no_secret_is_not_found() -> None:
    search = Search({"A": CANARY})
    for content in (b"", b"control?Canary&", CANARY.swapcase().encode(), bytes(1000)):
        assert not search.look("a place", "x", content)


def test_a_secret_of_a_process_that_starts_or_writes_is_found(tmp_path: Path) -> None:
    """In an argument, in an environment, and in a file that is there for a moment."""
    script = (
        "import os, pathlib, subprocess, sys, time\n"
        "p = pathlib.Path('passing'); p.write_text(os.environ['WORD']); time.sleep(1); p.unlink()\n"
        "subprocess.run(['sleep', '1', sys.argv[1][:0] or '0'], env={'WORD': os.environ['WORD']})\n"
        "subprocess.run(['/bin/sh', '-c', 'sleep 1; :', os.environ['WORD']], env={})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, ""], cwd=tmp_path, env=os.environ | {"WORD": CANARY}
    )
    with Sampler(process.pid) as sampler, Snapshots(tmp_path) as snapshots:
        assert process.wait(timeout=60) == 0
    search = Search({"A": CANARY})
    for command, environment in sampler.seen.items():
        search.look("command lines", "a", command)
        search.look("environments", "b", environment)
    for path, content in snapshots.seen:
        search.look("temporary files", path.name, content)
    assert {leak.place for leak in search.leaks} == {
        *("command lines: a", "environments: b", "temporary files: passing")
    }


def test_a_core_and_a_file_that_others_can_read_are_found(tmp_path: Path) -> None:
    """Of a process that keeps cores there is one, and it holds what the process held."""
    if not re.fullmatch(r"[^|/]*", Path("/proc/sys/kernel/core_pattern").read_text().strip()):
        pytest.skip("this machine takes cores elsewhere")
    word = CANARY[:10] + secrets.token_hex(8)
    program = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)); os.abort()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"WORD": word}, check=False)
    search = Search({"A": word})
    search.look_below("core", tmp_path)
    assert search.leaks
    held = tmp_path / ".secure-build" / "env.yaml"
    held.parent.mkdir()
    for mode, leaks in ((0o600, set()), (0o640, {"files: .secure-build/env.yaml"})):
        search = Search({"SEED_ENV": word}, may_hold)
        held.write_text(word)
        held.chmod(mode)
        search.look_below("files", tmp_path, without=["core"])
        assert {leak.place for leak in search.leaks} == leaks
        assert search.held == {"SEED_ENV"}
