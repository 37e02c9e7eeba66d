"""What a run needs of the machine or the CI job, asked before all else; nothing is built or signed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from secure_build import builders, config
from secure_build.builders import Surroundings
from secure_build.model import BuilderName, Platform


def require_builder(
    path: Path, chosen: str | None, platform: str | None = None, images: Sequence[str] = ()
) -> None:
    """Raise MachineError where no builder works for what this config builds, or not the one it names.

    Only what is asked for counts: this builder, this platform, these images.
    """
    loaded = config.load(path).config
    wanted = BuilderName.parse(chosen) if chosen else loaded.builder
    built = [image for name, image in loaded.built.items() if not images or name in images]
    every = dict.fromkeys(one for image in built for one in image.build.platforms)
    platforms = [one for one in every if platform is None or one == Platform.parse(platform)]
    if platforms:
        with (
            tempfile.TemporaryDirectory() as folder,
            builders.open_builders(wanted, platforms, Surroundings(Path(folder), ())),
        ):
            pass


def require_identity(path: Path) -> None:
    """Raise MachineError where this config signs without a key, and the job cannot get a token."""
    from secure_build.signers import identity

    keyless = config.load(path).config.signing.keyless
    if keyless is not None and keyless.token is None:
        identity.require_permission()
