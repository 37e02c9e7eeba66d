"""Manifests and indexes: bytes are kept, what is not one is refused, and an index is made one way."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.registry import small_image
from secure_build import manifest
from secure_build.errors import ServiceError
from secure_build.manifest import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from secure_build.model import Descriptor, Platform
from secure_build.reference import Digest

DIGEST = "sha256:" + "1" * 64
BLOB = {"mediaType": "application/octet-stream", "digest": DIGEST, "size": 5}


def image(**changes: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": BLOB, "layers": [BLOB]} | changes


def index(*members: Any, **changes: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(members)} | changes


def test_bytes_are_kept_as_they_are() -> None:
    content = json.dumps(image(unknown={"b": 1, "a": 2}), indent=7).encode() + b"\n\n"
    parsed = manifest.parse(content, OCI_MANIFEST)
    assert parsed.content is content
    assert parsed.descriptor == Descriptor(OCI_MANIFEST, Digest.of(content), len(content))
    assert parsed.blobs == (Descriptor("application/octet-stream", Digest(DIGEST), 5),) * 2


@pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
def test_an_image_may_not_name_its_type(media_type: str) -> None:
    document = image()
    del document["mediaType"]
    assert manifest.parse(json.dumps(document).encode(), media_type).media_type == media_type


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_an_index_has_members_with_platforms(media_type: str) -> None:
    member = BLOB | {"platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}}
    parsed = manifest.parse(json.dumps(index(member, mediaType=media_type)).encode(), media_type)
    assert parsed.members == (
        Descriptor("application/octet-stream", Digest(DIGEST), 5, Platform("linux", "arm", "v7")),
    )
    assert parsed.blobs == ()


@pytest.mark.parametrize(
    ("document", "media_type", "why"),
    [
        (image(), OCI_INDEX, "it says `.*` of itself but was served as"),
        (image(mediaType="text/plain"), "text/plain", "`text/plain` is no image manifest"),
        ({"schemaVersion": 2}, OCI_MANIFEST, "`layers` is missing"),
        ({"schemaVersion": 2, "layers": []}, OCI_MANIFEST, "`config` is missing"),
        ({"schemaVersion": 2}, OCI_INDEX, "`manifests` is missing"),
        (image(layers={}), OCI_MANIFEST, "`layers` is no list"),
        (image(layers=[BLOB] * 2049), OCI_MANIFEST, "`layers` is no list of at most 2048"),
        (image(layers=["x"]), OCI_MANIFEST, ""),
        (image(config=None), OCI_MANIFEST, ""),
        (image(config=BLOB | {"size": -1}), OCI_MANIFEST, "`-1` is no size"),
        (image(config=BLOB | {"size": 1.5}), OCI_MANIFEST, "`1.5` is no size"),
        (image(config=BLOB | {"size": True}), OCI_MANIFEST, "`True` is no size"),
        (image(config=BLOB | {"size": "5"}), OCI_MANIFEST, "`5` is no size"),
        (image(config=BLOB | {"digest": "sha512:" + "1" * 128}), OCI_MANIFEST, "is no digest"),
        (image(config=BLOB | {"digest": 5}), OCI_MANIFEST, ""),
        (index(BLOB | {"platform": "linux"}), OCI_INDEX, ""),
        (index(BLOB | {"platform": {"os": "linux"}}), OCI_INDEX, "`architecture` is missing"),
        ([], OCI_MANIFEST, "it is no JSON object"),
    ],
)
def test_what_is_no_manifest_is_refused(document: Any, media_type: str, why: str) -> None:
    content = json.dumps(document).encode()
    with pytest.raises(ServiceError, match=f"manifest {Digest.of(content)} cannot be read: .*{why}"):
        manifest.parse(content, media_type)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xff", b"[" * 100_000, b'{"layers": [], "layers": []}'])
def test_bytes_that_are_no_document_are_refused(content: bytes) -> None:
    with pytest.raises(ServiceError, match="cannot be read"):
        manifest.parse(content, OCI_MANIFEST)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
names = st.sampled_from(
    "schemaVersion mediaType config layers manifests digest size platform os architecture variant".split()
)
documents = st.recursive(
    json_values | st.sampled_from([DIGEST, OCI_MANIFEST, 5]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=6),
)


@given(
    st.binary() | documents.map(lambda document: json.dumps(document).encode()),
    st.sampled_from(manifest.MEDIA_TYPES),
)
def test_no_document_gets_another_answer_than_a_refusal(content: bytes, media_type: str) -> None:
    for read in (lambda: manifest.parse(content, media_type), lambda: manifest.platform_of_config(content)):
        with contextlib.suppress(ServiceError):
            read()


def test_an_index_does_not_depend_on_the_order_of_its_members() -> None:
    s390x, amd64 = (
        Descriptor(OCI_MANIFEST, Digest.of(name.encode()), 5, Platform.parse(name))
        for name in ("linux/s390x", "linux/amd64")
    )
    made = manifest.index_of([s390x, amd64])
    assert made == manifest.index_of([amd64, s390x])
    assert made.members == (amd64, s390x)
    assert made.media_type == OCI_INDEX
    assert json.loads(made.content)["manifests"][1] == {
        "mediaType": OCI_MANIFEST,
        "digest": str(s390x.digest),
        "size": 5,
        "platform": {"architecture": "s390x", "os": "linux"},
    }


def test_the_platform_of_a_config() -> None:
    (config, content), *_ = small_image("linux/arm/v7").blobs.items()
    assert config.size == len(content)
    assert manifest.platform_of_config(content) == Platform("linux", "arm", "v7")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"os": "linux"}',
        b'{"os": "linux", "architecture": "S390X"}',
        b'{"os": 5, "architecture": 6}',
    ],
)
def test_a_config_without_a_platform_is_refused(content: bytes) -> None:
    with pytest.raises(ServiceError, match="names no platform"):
        manifest.platform_of_config(content)


def test_a_member_without_a_platform_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="needs a platform"):
        manifest.index_of([Descriptor(OCI_MANIFEST, Digest(DIGEST), 5)])


def test_an_artifact_has_the_empty_config_and_its_own_type() -> None:
    """image-spec v1.1, manifest.md, "Guidelines for Artifact Usage", with one blob."""
    made = manifest.artifact_of("application/vnd.example.a", "application/vnd.example.b", b"content")
    assert json.loads(made.content) == {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/vnd.example.a",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [
            {
                "mediaType": "application/vnd.example.b",
                "digest": "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
                "size": 7,
            }
        ],
    }
    assert made == manifest.artifact_of("application/vnd.example.a", "application/vnd.example.b", b"content")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"a": 1, "a": 1}', "a key stands twice"),
        (b'{"a": {"b": 1, "b": 2}}', "a key stands twice"),
        (b'{"a": NaN}', "`NaN` is no number"),
        (b'{"a": -Infinity}', "`-Infinity` is no number"),
        (b'{"a": 1e999}', "`1e999` is no number"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "limit"),
        (rb'{"a": "\ud800"}', "half of a surrogate pair"),
        (rb'{"\uDFFF": 1}', "half of a surrogate pair"),
        (b'{"a": "\xed\xa0\x80"}', "can't decode"),
        ('{"a": 1}'.encode("utf-16"), "can't decode"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[1]", "no JSON object"),
    ],
)
def test_hardening_43_json_that_readers_take_differently_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        manifest.load_object(content)


def test_hardening_43_text_of_every_kind_is_read() -> None:
    found = manifest.load_object(rb'{"a": "\ud83d\udd11 \\ud800", "b": 1e3, "c": -0.5}')
    assert found == {"a": "\U0001f511 \\ud800", "b": 1000.0, "c": -0.5}
