"""`make audit` asks about every package of every lock, and ends ill when one is known to be weak.

The database that it asks is on the internet, so another stands in its place.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from services.serving import Serving

ROOT = Path(__file__).parents[2]


class Database(Serving):
    """A database in the form of OSV, which knows of `weak` packages and keeps what it was asked for."""

    def __init__(self) -> None:
        self.weak: set[str] = set()
        self.asked: set[str] = set()
        database = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(database.answer(asked["package"]["name"], asked["version"])).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))

    def answer(self, name: str, version: str) -> dict[str, Any]:
        self.asked.add(f"{name}=={version}")
        if name not in self.weak:
            return {}
        affected = {
            "package": {"name": name, "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}],
        }
        return {"vulns": [{"id": "PYSEC-0", "modified": "2026-01-01T00:00:00Z", "affected": [affected]}]}


@pytest.fixture
def database() -> Iterator[Database]:
    with Database() as serving:
        yield serving


def audit(database: Database) -> subprocess.CompletedProcess[str]:
    variables = {
        "NO_PROXY": "127.0.0.1",
        "PIP_AUDIT_OSV_URL": f"http://{database.host}/v1/query",
    }
    # The environment is there: these tests run in it.
    command = ["make", "--old-file=.venv/ready", "audit"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, check=False, capture_output=True, text=True
    )


def test_every_locked_package_is_asked_about(database: Database) -> None:
    ended = audit(database)
    assert ended.returncode == 0, ended.stderr
    locked = {
        found
        for path in (ROOT / "requirements").glob("*.txt")
        for found in re.findall(r"^([\w.-]+==[^ ;]+)", path.read_text(), re.MULTILINE)
    }
    assert len(locked) > 80
    assert database.asked == locked


@pytest.mark.parametrize("name", ["urllib3", "hatchling", "pytest", "atheris"])
def test_a_weak_package_of_any_lock_is_found(database: Database, name: str) -> None:
    database.weak = {name}
    ended = audit(database)
    assert ended.returncode != 0
    assert re.search(rf"^{name} +\S+ +PYSEC-0 +999", ended.stdout, re.MULTILINE), ended.stdout
