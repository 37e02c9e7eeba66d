"""IBM's published contract schemas, for tests that compare with them; they are not part of this project.

Get them from the public repository `ibm-hyper-protect/contract-go` on GitHub, folder
`schema/contract/`, and put that folder's path into `IBM_CONTRACT_SCHEMAS`.
"""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

FOLDER = "IBM_CONTRACT_SCHEMAS"
# Patterns of the file names: the version in them changes.
FILES = {
    "hpvs": "hpse-contract-schema-[0-9]*[0-9].json",
    "ccrt": "hpse-contract-schema-[0-9]*[0-9].json",
    "ccrv": "hpse-contract-schema-[0-9]*-rhel.json",
    "ccco": "hpse-contract-schema-coco-*-rhel.json",
}
# The other half of a contract; sections are only checked in a whole document.
ENV = {"type": "env", "logging": {"syslog": {"hostname": "192.0.2.1", "server": "AAAA", "port": 6514}}}


def problems(target: str, workload: dict[str, Any]) -> list[str]:
    """What the schema has against a workload section, worst first."""
    return document_problems(target, {"workload": workload, "env": ENV})


def document_problems(target: str, document: dict[str, Any]) -> list[str]:
    """What the schema of a target has against a contract, its sections as mappings, worst first.

    Skips the test, and says how to get the schemas, when there are none.
    """
    from jsonschema.exceptions import relevance

    errors = _validator(max(folder().glob(FILES[target]))).iter_errors(document)
    return [error.message[:300] for error in sorted(errors, key=relevance)]


def folder() -> Path:
    """Where the schemas are; skips the test when nobody says so."""
    found = os.environ.get(FOLDER)
    if not found:
        pytest.skip(
            f"set {FOLDER} to the folder `schema/contract` of a clone of `ibm-hyper-protect/contract-go`"
        )
    return Path(found)


@functools.cache
def _validator(path: Path) -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(_like_go(json.loads(path.read_text())))


def _like_go(part: Any, key: str = "") -> Any:
    """The schema with expressions that mean in Python what they mean in Go, where the guest applies them."""
    if isinstance(part, dict):
        patterns = key == "patternProperties"
        return {
            _expression(name) if patterns else name: _like_go(value, name) for name, value in part.items()
        }
    if isinstance(part, list):
        return [_like_go(item) for item in part]
    return _expression(part) if key == "pattern" and isinstance(part, str) else part


def _expression(pattern: str) -> str:
    return "(?a)" + re.sub(r"\$(?=\||$)", r"\\Z", pattern)
