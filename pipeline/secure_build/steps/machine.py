"""What a run needs of the machine or the CI job, asked before all else; nothing is built or signed."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from secure_build import builders, config
from secure_build.builders import Surroundings
from secure_build.model import GUEST, BuilderName


def require_builder(path: Path, chosen: str | None) -> None:
    """Raise MachineError where no builder works, or not the one that was chosen here or in this config."""
    loaded = config.load(path).config
    wanted = BuilderName.parse(chosen) if chosen else loaded.builder
    if loaded.built:
        platforms = wanted if isinstance(wanted, Mapping) else [GUEST]
        with (
            tempfile.TemporaryDirectory() as folder,
            builders.open_builders(wanted, platforms, Surroundings(Path(folder), ())),
        ):
            pass


def require_identity(path: Path) -> None:
    """Raise UsageError where this config signs without a key, and the job cannot get a token."""
    from secure_build.signers import identity

    keyless = config.load(path).config.signing.keyless
    if keyless is not None and keyless.token is None:
        identity.require_permission()
