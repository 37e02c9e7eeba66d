"""What `verify` finds, as data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from integration.project import SECONDS, Project
from secure_build.model import Finding

_VERIFY = """
import dataclasses, json, pathlib, sys
from secure_build.report import Report
from secure_build.steps.verify import VerifyOptions, verify
contract = pathlib.Path(sys.argv[1]) if sys.argv[1:] else None
verified = verify(VerifyOptions(contract=contract), Report())
findings = [dataclasses.asdict(one) for one in verified.all_findings]
print(json.dumps({"verdict": verified.verdict, "findings": findings}))
"""


def verified(
    project: Project, *contract: Path, environment: Mapping[str, str] | None = None
) -> tuple[str, list[Finding]]:
    """The verdict, and all findings, of a contract or of what the config makes."""
    said = subprocess.run(
        [sys.executable, "-c", _VERIFY, *map(str, contract)],
        cwd=project.directory,
        env={**project.environment, **(environment or {})},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert said.returncode == 0, said.stderr.decode()
    document = json.loads(said.stdout)
    return document["verdict"], [Finding(**one) for one in document["findings"]]
