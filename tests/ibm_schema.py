"""IBM's published contract schemas, for tests that compare with them; they are not part of this project.

Get them from the public repository `ibm-hyper-protect/contract-go` on GitHub, folder
`schema/contract/`, and put that folder's path into `IBM_CONTRACT_SCHEMAS`.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import Any

import pytest

FOLDER = "IBM_CONTRACT_SCHEMAS"
# Patterns of the file names: the version in them changes.
FILES = {"hpvs": "hpse-contract-schema-[0-9]*[0-9].json", "ccrv": "hpse-contract-schema-[0-9]*-rhel.json"}
# The other half of a contract; sections are only checked in a whole document.
ENV = {"type": "env", "logging": {"syslog": {"hostname": "192.0.2.1", "server": "AAAA", "port": 6514}}}


def schema(target: str) -> dict[str, Any]:
    """The schema of a target; skips the test, and says how to get it, when there is none."""
    folder = os.environ.get(FOLDER)
    if not folder:
        pytest.skip(
            f"set {FOLDER} to the folder `schema/contract` of a clone of `ibm-hyper-protect/contract-go`"
        )
    return _read(max(Path(folder).glob(FILES["hpvs" if target == "ccrt" else target])))


@functools.cache
def _read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def problems(target: str, workload: dict[str, Any]) -> list[str]:
    """What the schema has against a workload section, worst first."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import relevance

    validator = Draft202012Validator(schema(target))
    errors = validator.iter_errors({"workload": workload, "env": ENV})
    return [error.message[:300] for error in sorted(errors, key=relevance)]
