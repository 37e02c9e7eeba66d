"""Images for tests and the demo, made from Debian's static busybox, since no public one can be assumed.

A base image is an ordinary two-platform image: an index, a manifest for each platform, one layer
with `/bin/busybox`. skopeo, which is not ours, puts it into a registry.
"""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from secure_build import manifest
from secure_build.layout import Layout
from secure_build.model import Descriptor, Platform
from secure_build.reference import Digest, Reference
from services import running

_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"


def busybox(
    layout: Layout, name: str, *, architectures: tuple[str, ...] = ("amd64", "s390x"), variable: str = ""
) -> Digest:
    """Write a base image under this name into the layout; returns its digest.

    `variable` is one more environment variable (`NAME=value`), to have images that differ.
    """
    environment = ["PATH=/bin", *([variable] if variable else [])]
    members = [of_layer(layout, name, _busybox_layer(name), environment) for name in architectures]
    descriptor = members[0]
    if len(members) > 1:
        index = manifest.index_of(members)
        descriptor = layout.write(index.content, index.media_type)
    layout.name(Reference.parse(name), descriptor)
    return descriptor.digest


def push(layout: Layout, name: str, *, authfile: Path | None = None) -> None:
    """Copy the image of this name from the layout to its registry, with skopeo."""
    login = [f"--authfile={authfile}"] if authfile else []
    source, target = f"oci:{layout.directory}:{name}", f"docker://{name}"
    subprocess.run(
        [
            running.tool("skopeo"),
            "copy",
            "--quiet",
            "--all",
            "--dest-tls-verify=false",
            *login,
            source,
            target,
        ],
        check=True,
        env=running.environment(),
        stdout=subprocess.DEVNULL,
    )


def _busybox_layer(architecture: str) -> bytes:
    binary = Path(running.tool(f"busybox-{architecture}")).read_bytes()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in ("bin", "srv"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(binary), 0o755
        archive.addfile(entry, io.BytesIO(binary))
    return gzip.compress(tar.getvalue(), mtime=0)


def of_layer(layout: Layout, architecture: str, layer: bytes, environment: Sequence[str]) -> Descriptor:
    """Write an image of one platform and one layer, a compressed tar, and return its descriptor."""
    written_layer = layout.write(layer, _LAYER)
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Env": list(environment)},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(gzip.decompress(layer)))]},
        # Builders compare it with the layers.
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "tests"}],
    }
    described = layout.write(json.dumps(config).encode(), _CONFIG)
    written = {
        "schemaVersion": 2,
        "mediaType": manifest.OCI_MANIFEST,
        "config": document(described),
        "layers": [document(written_layer)],
    }
    descriptor = layout.write(json.dumps(written).encode(), manifest.OCI_MANIFEST)
    return Descriptor(
        descriptor.media_type, descriptor.digest, descriptor.size, Platform("linux", architecture)
    )


def document(descriptor: Descriptor) -> dict[str, object]:
    """A descriptor as it stands in a manifest."""
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
