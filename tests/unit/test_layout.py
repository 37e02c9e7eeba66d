"""Image layouts: what is read is what was written, and everything else is noticed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes.registry import SmallImage, small_image
from secure_build import manifest
from secure_build.errors import ServiceError, UsageError
from secure_build.layout import REFERENCE_NAME, DamagedError, Layout
from secure_build.manifest import OCI_MANIFEST
from secure_build.model import Descriptor, Platform
from secure_build.reference import Digest, Reference
from secure_build.stopping import side_by_side

IMAGE = small_image()
REFERENCE = Reference.parse("us.icr.io/acme/web:1.0")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.create(tmp_path / "layout")


def put(layout: Layout, image: SmallImage = IMAGE) -> Descriptor:
    for blob, content in image.blobs.items():
        layout.write_from(blob, lambda content=content: iter([content]))  # type: ignore[misc]
    return layout.write(image.manifest.content, image.manifest.media_type)


def blob_file(layout: Layout, digest: Digest) -> Path:
    return layout.directory / "blobs" / "sha256" / digest.hexadecimal


def set_index(layout: Layout, index: Any) -> None:
    text = index if isinstance(index, str) else json.dumps(index)
    (layout.directory / "index.json").write_text(text)


def test_what_is_written_can_be_read(layout: Layout) -> None:
    descriptor = put(layout)
    assert layout.manifest(descriptor) == IMAGE.manifest
    assert manifest.platform_of_config(layout.config(IMAGE.manifest)) == Platform("linux", "s390x")
    for blob, content in IMAGE.blobs.items():
        assert layout.read(blob) == content
        assert b"".join(layout.chunks(blob)) == content


def test_a_layout_is_made_once(tmp_path: Path) -> None:
    descriptor = put(Layout.create(tmp_path))
    again = Layout.create(tmp_path)
    assert again.manifest(descriptor) == IMAGE.manifest
    assert json.loads((tmp_path / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}


def test_something_else_is_not_made_a_layout(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path, tmp_path / "file"):
        with pytest.raises(UsageError, match="is neither empty nor an OCI image layout"):
            Layout.create(directory)


def test_a_blob_that_is_there_is_not_written_again(layout: Layout) -> None:
    (blob, content), *_ = IMAGE.blobs.items()

    def never() -> Iterator[bytes]:
        raise AssertionError("must not be asked for")

    assert layout.write_from(blob, lambda: iter([content]))
    assert not layout.write_from(blob, never)


@pytest.mark.parametrize("content", [b"", b"too short", b"x" * 5000])
def test_a_blob_that_is_not_what_it_says_is_not_written(layout: Layout, content: bytes) -> None:
    blob = next(iter(IMAGE.blobs))
    with pytest.raises(DamagedError, match="what was to be written has not the"):
        layout.write_from(blob, lambda: iter([content]))
    other = bytes(blob.size)
    with pytest.raises(DamagedError, match="what was to be written is damaged"):
        layout.write_from(blob, lambda: iter([other]))
    assert not layout.has(blob)
    assert list((layout.directory / "blobs" / "sha256").iterdir()) == []


def test_a_blob_that_has_grown_is_given_up_at_once(layout: Layout) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 1000

    blob = next(iter(IMAGE.blobs))
    with pytest.raises(DamagedError):
        layout.write_from(blob, endless)


def test_damage_is_noticed_while_reading(layout: Layout) -> None:
    descriptor = put(layout)
    (config, content), *_ = IMAGE.blobs.items()
    blob_file(layout, config.digest).write_bytes(content[:-1] + b"X")
    assert layout.has(config)
    with pytest.raises(DamagedError, match=f"blob {config.digest} of `{layout.directory}` is damaged"):
        layout.read(config)
    blob_file(layout, descriptor.digest).write_bytes(b"{}")
    with pytest.raises(DamagedError, match="has not the"):
        layout.manifest(descriptor)


def test_a_missing_blob_is_named(layout: Layout) -> None:
    blob = next(iter(IMAGE.blobs))
    with pytest.raises(DamagedError, match=f"lacks blob {blob.digest}") as raised:
        layout.read(blob)
    assert raised.value.hint == "delete the layout and build again"


def test_a_large_blob_is_not_read_whole(layout: Layout) -> None:
    with pytest.raises(ServiceError, match="the limit is 8388608"):
        layout.read(Descriptor("x", Digest.of(b""), (8 << 20) + 1))
    with pytest.raises(ServiceError, match="the limit is 4194304"):
        layout.manifest(Descriptor(OCI_MANIFEST, Digest.of(b""), (4 << 20) + 1))


def test_an_image_is_held_when_all_of_it_is(layout: Layout) -> None:
    members = []
    for platform in ("linux/s390x", "linux/amd64"):
        image = small_image(platform, layer=platform.encode())
        put(layout, image)
        found = image.manifest.descriptor
        members.append(Descriptor(found.media_type, found.digest, found.size, Platform.parse(platform)))
    index = manifest.index_of(members)
    assert not layout.holds_image(index.descriptor)
    layout.write(index.content, index.media_type)
    assert layout.holds_image(index.descriptor)
    blob_file(layout, small_image("linux/amd64", layer=b"linux/amd64").manifest.blobs[1].digest).unlink()
    assert not layout.holds_image(index.descriptor)


def test_images_are_found_by_name(layout: Layout) -> None:
    assert layout.tagged(REFERENCE) is None
    descriptor = put(layout)
    layout.name(REFERENCE, descriptor)
    assert layout.entries() == [("us.icr.io/acme/web:1.0", descriptor)]
    assert layout.tagged(REFERENCE) == descriptor.digest
    other = put(layout, small_image(layer=b"other"))
    layout.name(REFERENCE, other)
    assert layout.entries() == [("us.icr.io/acme/web:1.0", other)]


def test_entries_are_ordered_and_others_are_kept(layout: Layout) -> None:
    descriptor = put(layout)
    foreign = {
        "mediaType": OCI_MANIFEST,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
        "annotations": {"mine": "x"},
    }
    set_index(layout, {"schemaVersion": 2, "manifests": [foreign], "annotations": {"kept": "yes"}})
    for name in ("b.example/x:1", "a.example/x:1"):
        layout.name(Reference.parse(name), descriptor)
    index = json.loads((layout.directory / "index.json").read_bytes())
    assert index["annotations"] == {"kept": "yes"}
    assert [entry["annotations"].get(REFERENCE_NAME) for entry in index["manifests"]] == [
        *(None, "a.example/x:1", "b.example/x:1")
    ]


def test_names_given_side_by_side_are_all_kept(layout: Layout) -> None:
    descriptor = put(layout)
    names = [f"us.icr.io/acme/web:{number}" for number in range(20)]
    side_by_side(lambda name: layout.name(Reference.parse(name), descriptor), names, jobs=8)
    assert {name for name, _ in layout.entries()} == set(names)


@pytest.mark.parametrize(
    "index", ["", "{", "[]", {}, {"manifests": {}}, {"manifests": [5]}, "[" * 100_000, '{"a": 1, "a": 2}']
)
def test_an_index_that_cannot_be_read_is_named(layout: Layout, index: Any) -> None:
    set_index(layout, index)
    with pytest.raises(DamagedError, match=r"index\.json` cannot be read") as raised:
        layout.entries()
    assert raised.value.hint == "delete the layout and build again"


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": "5"},
        {"size": True},
        {"size": None},
        {"digest": "x"},
        {"digest": 5},
        {"annotations": 5},
    ],
)
def test_an_entry_that_is_no_descriptor_is_named(layout: Layout, change: dict[str, Any]) -> None:
    entry = {"mediaType": OCI_MANIFEST, "digest": str(Digest.of(b"")), "size": 5} | change
    set_index(layout, {"schemaVersion": 2, "manifests": [entry]})
    if "annotations" in change:
        assert layout.entries()[0][0] is None
    else:
        with pytest.raises(DamagedError, match="holds an entry that is no descriptor"):
            layout.entries()


def test_a_builder_works_beside_the_layout(layout: Layout) -> None:
    descriptor = put(layout)
    layout.name(REFERENCE, descriptor)
    before = (layout.directory / "index.json").read_bytes()
    other = small_image(layer=b"other")
    with layout.staging() as staging:
        assert staging.entries() == []
        assert staging.holds_image(descriptor)
        staging.name(REFERENCE, put(staging, other))
        assert (layout.directory / "index.json").read_bytes() == before
    assert not staging.directory.exists()
    assert layout.holds_image(other.manifest.descriptor)
    assert layout.tagged(REFERENCE) == descriptor.digest


def test_a_layout_is_a_place_to_publish_to(layout: Layout) -> None:
    repository = REFERENCE.repository
    for blob, content in IMAGE.blobs.items():
        assert not layout.has_blob(repository, blob)
        layout.put_blob(repository, blob, lambda content=content: iter([content]))  # type: ignore[misc]
        assert layout.has_blob(repository, blob)
    layout.put_manifest(repository, IMAGE.manifest)
    assert layout.get_manifest(repository, IMAGE.manifest.descriptor) == IMAGE.manifest
    assert layout.tagged(REFERENCE) is None
    layout.tag(REFERENCE, IMAGE.manifest)
    assert layout.tagged(REFERENCE) == IMAGE.manifest.descriptor.digest
