"""Whether this machine's kernel runs programs of a platform: its own, or through an emulator."""

from __future__ import annotations

import platform as machine
from pathlib import Path

from secure_build.model import Platform

# Where the kernel lists what it hands to other programs (binfmt_misc), and QEMU's names there.
_FORMATS = Path("/proc/sys/fs/binfmt_misc")
_MACHINES = {
    "amd64": "x86_64",
    "arm": "arm",
    "arm64": "aarch64",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


def run_here(wanted: Platform, formats: Path = _FORMATS) -> bool | None:
    """Whether programs of the platform run on this machine; None when that cannot be told."""
    name = _MACHINES.get(wanted.architecture)
    if name is None:
        return None
    if machine.machine() == name:
        return True
    try:
        return (formats / f"qemu-{name}").read_text().startswith("enabled")
    except FileNotFoundError:
        # Where the kernel shows no list at all, it may still have the entry.
        return False if (formats / "status").exists() else None
    except OSError:
        return None
