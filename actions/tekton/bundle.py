"""Puts our Tasks, the StepAction and the Pipeline into one Tekton bundle, the same bytes every time.

    python actions/tekton/bundle.py FOLDER
    skopeo copy oci:FOLDER docker://registry.example.com/secure-build/tekton:0.1

The form is that of "Tekton Bundle Contract v0.1": one layer a resource, each a tar with one file, and
what it is in the annotations of the layer. FOLDER becomes an OCI image layout.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import yaml

from secure_build.layout import Layout
from secure_build.manifest import OCI_MANIFEST
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference

CATALOG = Path(__file__).parent
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"


def make(folder: Path) -> Digest:
    """The digest of the bundle, which is in `folder` then."""
    layout = Layout.create(folder)
    layers, contents = [], []
    for path in sorted(CATALOG.glob("*/*/0.1/*.yaml")):
        content = _tar(path)
        layer = layout.write(gzip.compress(content, mtime=0), _LAYER)
        document = yaml.safe_load(path.read_text())
        said = {
            "dev.tekton.image.apiVersion": document["apiVersion"],
            "dev.tekton.image.kind": document["kind"].lower(),
            "dev.tekton.image.name": document["metadata"]["name"],
        }
        layers.append({**_entry(layer), "annotations": said})
        contents.append(str(Digest.of(content)))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": contents},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _entry(layout.write(_json(config), _CONFIG)),
        "layers": layers,
    }
    descriptor = layout.write(_json(manifest), OCI_MANIFEST)
    layout.name(Reference.parse("registry.example.com/secure-build/tekton:0.1"), descriptor)
    return descriptor.digest


def _tar(path: Path) -> bytes:
    content, buffer = path.read_bytes(), io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        entry = tarfile.TarInfo(path.stem)
        entry.size, entry.mode = len(content), 0o644
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _entry(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


if __name__ == "__main__":
    print(make(Path(sys.argv[1])))
