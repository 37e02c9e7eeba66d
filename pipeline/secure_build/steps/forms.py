"""The files that a deployment takes, put where they belong."""

from __future__ import annotations

from pathlib import Path

from secure_build import files
from secure_build.contract.deployment import forms
from secure_build.contract.deployment.forms import Form
from secure_build.contract.deployment.needs import Deployment


def write_form(form: Form | None, contract: bytes, needed: Deployment, folder: Path) -> tuple[Path, ...]:
    """Write the contract in a form below a folder, for its owner only; returns where. None writes nothing.

    Raises UsageError for a contract that the form would change.
    """
    if form is None:
        return ()
    made = forms.files(contract.decode(), form, needed)
    for name, content in made.items():
        files.write(folder / name, content, mode=files.PRIVATE)
    return tuple(folder / name for name in made)
