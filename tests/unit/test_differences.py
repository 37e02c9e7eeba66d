"""What differs between two builds: the layer, the files, and why."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from secure_build import manifest
from secure_build.differences import HINTS, differences
from secure_build.layout import Layout
from secure_build.model import Descriptor, Platform
from services.images import document

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
PLAIN = "application/vnd.oci.image.layer.v1.tar"


def tar(
    change: Callable[[tarfile.TarInfo], None] | None = None, *, content: bytes = b"same", order: str = "abc"
) -> bytes:
    """A layer with a folder, three files and a link."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name in order:
            entry = tarfile.TarInfo(f"srv/{name}")
            data = content if name == "b" else b"same"
            entry.size, entry.mtime, entry.mode = len(data), 1, 0o644
            if name == "b" and change:
                change(entry)
            file.addfile(entry, io.BytesIO(data))
        link = tarfile.TarInfo("srv/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a"
        file.addfile(link)
    return packed.getvalue()


def image(
    folder: Path, *layers: bytes, media_type: str = GZIP, level: int = 9, **config: object
) -> tuple[Layout, Descriptor]:
    layout = Layout.create(folder)
    packed = [gzip.compress(one, level, mtime=0) if media_type == GZIP else one for one in layers]
    kept = [layout.write(one, media_type) for one in packed]
    said = layout.write(
        json.dumps({"os": "linux", "architecture": "s390x", **config}).encode(),
        "application/vnd.oci.image.config.v1+json",
    )
    body = {"schemaVersion": 2, "mediaType": manifest.OCI_MANIFEST, "config": document(said)}
    content = json.dumps({**body, "layers": [document(one) for one in kept]}).encode()
    return layout, layout.write(content, manifest.OCI_MANIFEST)


def found(tmp_path: Path, first: tuple[Layout, Descriptor], second: tuple[Layout, Descriptor]) -> list[str]:
    listed = differences(*first, *second)
    assert all(one.kind in HINTS for one in listed)
    return [f"{one.kind}: {one}" for one in listed]


def later(entry: tarfile.TarInfo) -> None:
    entry.mtime = 2


def owned(entry: tarfile.TarInfo) -> None:
    entry.uid = 1000


def executable(entry: tarfile.TarInfo) -> None:
    entry.mode = 0o755


def attributed(entry: tarfile.TarInfo) -> None:
    entry.pax_headers = {"SCHILY.xattr.security.capability": "x"}


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (tar(later), "time: layer 2 of 2: another time: `srv/b`"),
        (tar(owned), "owner: layer 2 of 2: another owner: `srv/b`"),
        (tar(executable), "mode: layer 2 of 2: other rights: `srv/b`"),
        (tar(content=b"diff"), "content: layer 2 of 2: another content: `srv/b`"),
        (tar(attributed), "content: layer 2 of 2: another content: `srv/b`"),
        (tar(order="acb"), "order: layer 2 of 2: another order, from `srv/b` on"),
        (tar(order="ab"), "files: layer 2 of 2: `srv/c` is in the recorded one only"),
        (tar(order="abcd"), "files: layer 2 of 2: `srv/d` is in this one only"),
    ],
)
@pytest.mark.parametrize("media_type", [GZIP, PLAIN])
def test_the_layer_the_file_and_the_reason(
    tmp_path: Path, other: bytes, expected: str, media_type: str
) -> None:
    first = image(tmp_path / "a", b"", tar(), media_type=media_type)
    second = image(tmp_path / "b", b"", other, media_type=media_type)
    assert found(tmp_path, first, second) == [expected]
    assert found(tmp_path, first, first) == []


def test_the_same_files_packed_otherwise(tmp_path: Path) -> None:
    one, other = (image(tmp_path / str(level), tar(), level=level) for level in (1, 9))
    assert found(tmp_path, one, other) == ["compression: layer 1 of 1: the same files, packed otherwise"]


def test_the_config_and_the_number_of_layers(tmp_path: Path) -> None:
    one = image(tmp_path / "a", tar(), created="2026-01-01", history=[])
    other = image(tmp_path / "b", tar(), tar(), created="2026-01-02", history=[{}])
    assert found(tmp_path, one, other) == [
        "config: config: `created`, `history` differ",
        "layers: layers: 1 layers were recorded, and now there are 2",
    ]


def test_many_files_are_counted(tmp_path: Path) -> None:
    one, other = (image(tmp_path / order, tar(order=order)) for order in ("a", "abcdefghijk"))
    (said,) = found(tmp_path, one, other)
    assert said.endswith("`srv/f` is in this one only and 5 more")


def test_a_platform_of_an_index(tmp_path: Path) -> None:
    made = []
    for name, content in (("a", b"same"), ("b", b"diff")):
        layout, amd64 = image(tmp_path / name, tar())
        _, s390x = image(tmp_path / name, tar(content=content))
        members = [
            Descriptor(one.media_type, one.digest, one.size, Platform("linux", platform))
            for one, platform in ((amd64, "amd64"), (s390x, "s390x"))
        ]
        made.append((layout, layout.write(manifest.index_of(members).content, manifest.OCI_INDEX)))
    assert found(tmp_path, *made) == ["content: linux/s390x, layer 1 of 1: another content: `srv/b`"]


@pytest.mark.parametrize("damage", ["no tar", "cut", "unknown type", "gone"])
def test_what_cannot_be_read_is_said(tmp_path: Path, damage: str) -> None:
    first = image(tmp_path / "a", tar())
    other = {"no tar": b"x" * 2000, "cut": tar(content=b"x" * 4000)[:3000]}.get(damage, tar(later))
    media_type = "application/vnd.oci.image.layer.v1.tar+zstd" if damage == "unknown type" else GZIP
    second = image(tmp_path / "b", other, media_type=media_type)
    if damage == "gone":
        layer = second[0].manifest(second[1]).layers[0]
        (tmp_path / "b" / "blobs" / "sha256" / layer.digest.hexadecimal).unlink()
    (said,) = found(tmp_path, first, second)
    assert said.startswith("content: layer 1 of 1: differs, and cannot be compared by its files: ")
