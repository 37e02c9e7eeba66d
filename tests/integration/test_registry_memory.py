"""How much memory publishing takes, however large the images are."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from fakes.sink import SinkRegistry
from secure_build.layout import Layout
from secure_build.manifest import OCI_MANIFEST
from secure_build.model import Descriptor
from secure_build.reference import Digest
from services import running
from services.images import document

MIB = 1 << 20
MOST = 150 * MIB
# The peak of the process's own memory. `ru_maxrss` would begin with that of whoever started it.
PUBLISH = """
import json, re, sys
from pathlib import Path
from secure_build import stopping
from secure_build.layout import Layout
from secure_build.model import BuilderVersion, Descriptor, Image
from secure_build.reference import Digest, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.steps.publish import send_image
from secure_build.steps.transfer import Holders

folder, host, images = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
holders = Holders()
with Transport() as transport:
    remote = RemoteRegistry(host, None, transport, push=True)
    layout = Layout(Path(folder))
    def send(pair):
        number, (kind, digest, size) = pair
        descriptor = Descriptor(kind, Digest.parse(digest), size)
        reference = Reference.parse(f"{host}/acme/image{number}:1")
        image = Image("x", reference, descriptor, (), BuilderVersion("tests", "1"), None)
        return send_image(layout, image, remote, jobs=2, holders=holders).bytes
    sent = stopping.side_by_side(send, list(enumerate(images)), jobs=4)
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
print(json.dumps({"sent": sum(sent), "peak": peak}))
"""


def large_image(layout: Layout, number: int, size: int) -> Descriptor:
    """An image of one layer, which takes no room on the disk: it is a hole behind a few bytes."""
    head = f"layer {number}".encode()
    hasher, zeros = hashlib.sha256(head), bytes(MIB)
    for start in range(len(head), size, MIB):
        hasher.update(zeros[: min(MIB, size - start)])
    digest = Digest(f"sha256:{hasher.hexdigest()}")
    with (layout.directory / "blobs" / "sha256" / digest.hexadecimal).open("wb") as file:
        file.write(head)
        file.truncate(size)
    layer = Descriptor("application/vnd.oci.image.layer.v1.tar", digest, size)
    config = layout.write(
        json.dumps({"architecture": "s390x", "os": "linux", "number": number}).encode(),
        "application/vnd.oci.image.config.v1+json",
    )
    written = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": document(config),
        "layers": [document(layer)],
    }
    return layout.write(json.dumps(written).encode(), OCI_MANIFEST)


@pytest.mark.parametrize(("count", "size"), [(10, 200 * MIB), (1, 1024 * MIB)])
def test_memory_does_not_grow_with_the_images(tmp_path: Path, count: int, size: int) -> None:
    layout = Layout.create(tmp_path / "layout")
    images = [large_image(layout, number, size) for number in range(count)]
    described = [(image.media_type, str(image.digest), image.size) for image in images]
    with SinkRegistry() as registry:
        result = subprocess.run(
            [sys.executable, "-c", PUBLISH, str(layout.directory), registry.host, json.dumps(described)],
            env=running.environment(),
            stdout=subprocess.PIPE,
            check=True,
            timeout=200,
        )
        found = json.loads(result.stdout)
        assert found["sent"] == registry.received > count * size
        assert len([name for name in registry.manifests if name.endswith("/1")]) == count
    assert found["peak"] < MOST, f"{found['peak'] / MIB:.0f} MiB"
    print(f"{count} images of {size // MIB} MiB: at most {found['peak'] / MIB:.1f} MiB")
