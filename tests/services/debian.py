"""Debian images for tests and the demo, made from packages, since no public image can be assumed.

They are what `debian:trixie-slim` is, with this machine's Debian archive in apt's sources. What was
made is kept for the week, as compressed tars beside the prepared programs.
"""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from secure_build.layout import Layout
from secure_build.reference import Reference
from services import images, running
from services.running import RunningRegistry

_SUITE = "trixie"
_WITHOUT = ("man", "locale", "doc", "info")
_ENVIRONMENT = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",)


def image(
    registry: RunningRegistry, name: str, *, packages: Sequence[str] = (), architecture: str = "amd64"
) -> str:
    """Push a Debian image with these packages added, and return its reference, tag and digest.

    `name` is a repository and a tag of the registry. Another architecture than the machine's takes
    minutes the first time. Raises MissingTool, and ServiceFailed with mmdebstrap's last lines.
    """
    reference = f"{registry.host}/{name}"
    with tempfile.TemporaryDirectory() as folder:
        layout = Layout.create(Path(folder))
        layer = _layer(sorted(packages), architecture).read_bytes()
        descriptor = images.of_layer(layout, architecture, layer, _ENVIRONMENT)
        layout.name(Reference.parse(reference), descriptor)
        images.push(layout, reference)
    return f"{reference}@{descriptor.digest}"


def _layer(packages: Sequence[str], architecture: str) -> Path:
    program, cache = running.tool("mmdebstrap"), running.cache_folder() / "debian"
    cache.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(" ".join([_SUITE, *packages]).encode()).hexdigest()[:12]
    week = f"{datetime.now(UTC):%G-%V}"
    kept = cache / f"{week}-{architecture}-{key}.tar.gz"
    if kept.exists():
        return kept
    address, keyring = running.debian_archive()
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        made = Path(folder) / kept.name
        command = [
            *(program, "--variant=minbase", "--components=main", f"--architectures={architecture}"),
            f"--keyring={keyring}",
            *(f"--include={package}" for package in packages),
            '--aptopt=APT::Install-Recommends "false"',
            *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in _WITHOUT),
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            # Engines put files into a container below `/var/run`, and not all follow an absolute link.
            '--customize-hook=ln -sfn ../run "$1/var/run"',
            *(_SUITE, str(made), address),
        ]
        variables = running.environment() | {"LC_ALL": "C.UTF-8"}
        ended = subprocess.run(command, check=False, env=variables, capture_output=True, text=True)
        if ended.returncode:
            raise running.ServiceFailed("\n".join(["mmdebstrap failed:", *ended.stderr.splitlines()[-20:]]))
        for old in cache.glob(f"*-{architecture}-{key}.tar.gz"):
            old.unlink(missing_ok=True)
        made.replace(kept)
    return kept
