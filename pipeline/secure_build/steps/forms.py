"""The files that a deployment takes, put where they belong."""

from __future__ import annotations

from pathlib import Path

from secure_build import files
from secure_build.contract import deployment_files
from secure_build.contract.deployment import Deployment
from secure_build.contract.deployment_files import Form


def write_form(form: Form | None, contract: bytes, needed: Deployment, folder: Path) -> tuple[Path, ...]:
    """Write the contract in a form below a folder, for its owner only; returns where. None writes nothing.

    Raises UsageError for a contract that the form would change.
    """
    if form is None:
        return ()
    made = deployment_files.files(contract.decode(), form, needed)
    for name, content in made.items():
        files.write(folder / name, content, mode=files.PRIVATE)
    return tuple(folder / name for name in made)
