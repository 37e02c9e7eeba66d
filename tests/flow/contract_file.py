"""Reading a plain contract file as the runtime would, with nothing of ours."""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

import yaml


def section(path: Path) -> dict[str, Any]:
    """The parsed workload section of a contract file."""
    document = yaml.safe_load(path.read_text())
    parsed = yaml.safe_load(document["workload"])
    assert isinstance(parsed, dict)
    return parsed


def archive(path: Path) -> dict[str, bytes]:
    """The regular files in the archive of a contract file, by name."""
    content = section(path)
    packed = io.BytesIO(
        base64.b64decode((content.get("compose") or content["play"])["archive"], validate=True)
    )
    with tarfile.open(fileobj=packed, mode="r:gz") as tar:
        return {
            member.name: file.read()
            for member in tar.getmembers()
            if (file := tar.extractfile(member)) is not None
        }
