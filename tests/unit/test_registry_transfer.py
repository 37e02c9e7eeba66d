"""Putting images: from a layout, from a registry, in an order that is safe to break."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry, Fault, SmallImage, small_image
from secure_build import manifest, stopping
from secure_build.errors import ServiceError
from secure_build.layout import DamagedError, Layout
from secure_build.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, Manifest
from secure_build.model import BuilderVersion, Descriptor, Image, Material, Platform
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry.client import MissingBlobsError, NotFoundError, RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.registry.referrers import fallback_tag
from secure_build.steps.mirror import Copied, copy_image
from secure_build.steps.publish import send_image
from secure_build.steps.transfer import Holders, Upload

IMAGE = small_image(layer=b"the layer " * 1000)
LAYER, CONFIG = IMAGE.manifest.layers[0], IMAGE.manifest.config
assert CONFIG


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "pause", lambda _: None)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.create(tmp_path / "layout")


@pytest.fixture
def remote(registry: FakeRegistry, transport: Transport) -> RemoteRegistry:
    return RemoteRegistry(registry.host, None, transport, push=True)


@pytest.fixture
def other() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


def keep(layout: Layout, image: SmallImage, *, without: Sequence[Descriptor] = ()) -> Descriptor:
    for blob, content in image.blobs.items():
        if blob not in without:
            layout.write(content, blob.media_type)
    return layout.write(image.manifest.content, OCI_MANIFEST)


def index_of(layout: Layout, *images: SmallImage) -> Descriptor:
    members = []
    for image in images:
        found = keep(layout, image)
        assert image.manifest.config
        platform = manifest.platform_of_config(image.blobs[image.manifest.config])
        members.append(Descriptor(found.media_type, found.digest, found.size, platform))
    index = manifest.index_of(members)
    return layout.write(index.content, OCI_INDEX)


def built(
    registry: FakeRegistry, descriptor: Descriptor, name: str = "acme/web:1", bases: Sequence[str] = ()
) -> Image:
    materials = tuple(Material("image", f"{base}:1", str(Digest.of(base.encode()))) for base in bases)
    reference = Reference.parse(f"{registry.host}/{name}")
    return Image(name, reference, descriptor, (), BuilderVersion("fake", "1"), materials)


def methods(registry: FakeRegistry) -> list[str]:
    kinds = {"blobs": "blob", "manifests": "manifest"}
    found = []
    for request in registry.requests:
        parts = request.path.split("/")
        kind = next(kinds[part] for part in parts if part in kinds)
        tag = kind == "manifest" and ":" not in parts[-1]
        found.append(f"{request.method} {'tag' if tag else kind}")
    return found


# The order


def test_hardening_19_the_tag_comes_last(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    upload = send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert upload == Upload(blobs=2, bytes=sum(blob.size for blob in IMAGE.blobs))
    assert methods(registry) == [
        "HEAD tag",
        *("HEAD blob", "POST blob", "PUT blob"),
        # Not asked for: its layer was missing, so it is too.
        *("POST blob", "PUT blob"),
        "PUT manifest",
        "GET manifest",
        "PUT tag",
        "HEAD tag",
    ]


def test_members_come_before_their_index(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    index = index_of(layout, IMAGE, small_image("linux/amd64", layer=b"amd64"))
    send_image(layout, built(registry, index), remote, jobs=4)
    put = [request.path.rpartition("/")[2] for request in registry.asked("PUT", "/manifests/")]
    assert put[-2:] == [str(index.digest), "1"]
    assert registry.tags == {("acme/web", "1"): index.digest}


def test_hardening_12_a_registry_that_ends_before_the_tag_shows_nothing(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    image = built(registry, keep(layout, IMAGE))
    before = registry.add_image("acme/web", "1")
    for path in ("/blobs/", "/manifests/sha256", "/manifests/1$"):
        registry.faults[:] = [Fault("PUT", path, status=405, times=-1)]
        with pytest.raises(ServiceError, match="answered 405"):
            send_image(layout, image, remote, jobs=2)
        assert registry.tags == {("acme/web", "1"): before}
    registry.faults.clear()
    registry.read_only = True
    with pytest.raises(ServiceError, match="the registry is read-only"):
        send_image(layout, image, remote, jobs=2)
    assert registry.tags == {("acme/web", "1"): before}


def test_hardening_07_what_is_read_back_must_be_what_was_sent(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.faults.append(Fault("GET", "/manifests/", body=b"{}"))
    with pytest.raises(ServiceError, match="with content whose digest is"):
        send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert registry.tags == {}


def test_hardening_07_what_is_read_back_must_be_of_the_type_that_was_sent(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    """The bytes of a manifest need not tell it, and a runtime goes by what the registry says."""
    keep(layout, IMAGE)
    document = json.loads(IMAGE.manifest.content)
    del document["mediaType"]
    descriptor = layout.write(json.dumps(document).encode(), OCI_MANIFEST)
    registry.faults.append(Fault("GET", "/manifests/", headers={"Content-Type": DOCKER_MANIFEST}))
    with pytest.raises(ServiceError, match=re.escape(f"as `{DOCKER_MANIFEST}`, but")):
        send_image(layout, built(registry, descriptor), remote, jobs=1)
    assert registry.tags == {}


def test_hardening_13_the_second_time_nothing_is_written(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    image = built(registry, keep(layout, IMAGE))
    send_image(layout, image, remote, jobs=2)
    registry.requests.clear()
    assert send_image(layout, image, remote, jobs=2) == Upload(unchanged=True)
    assert methods(registry) == ["HEAD tag"]


def test_hardening_13_another_tag_sends_no_blob(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    descriptor = keep(layout, IMAGE)
    send_image(layout, built(registry, descriptor), remote, jobs=2)
    registry.requests.clear()
    assert send_image(layout, built(registry, descriptor, "acme/web:2"), remote, jobs=2) == Upload()
    assert [kind for kind in methods(registry) if "blob" in kind] == ["HEAD blob", "HEAD blob"]


def test_hardening_17_a_tag_that_moved_is_told(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    image = built(registry, keep(layout, IMAGE))
    somebody = registry.add_image("acme/web", "1")
    assert send_image(layout, image, remote, jobs=2).moved_from == somebody
    assert registry.tags["acme/web", "1"] == image.descriptor.digest
    # Once right behind us.
    registry.tags["acme/web", "1"] = somebody
    registry.faults.append(
        Fault("HEAD", "/manifests/1$", skip=1, headers={"Docker-Content-Digest": str(somebody)})
    )
    with pytest.raises(ServiceError, match=f"names {somebody} right after it was set") as raised:
        send_image(layout, image, remote, jobs=2)
    assert raised.value.hint
    assert "pinned by digest are not affected" in raised.value.hint


# Blobs that a registry says it has


@pytest.mark.parametrize(("status", "code"), [(404, "BLOB_UNKNOWN"), (400, "MANIFEST_BLOB_UNKNOWN")])
def test_hardening_08_blobs_that_were_there_and_are_not_are_sent_once(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout, status: int, code: str
) -> None:
    registry.blobs["acme/web", LAYER.digest] = IMAGE.blobs[LAYER]
    body = json.dumps({"errors": [{"code": code, "message": "unknown"}]}).encode()
    registry.faults.append(Fault("PUT", "/manifests/", status=status, body=body))
    upload = send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert upload.blobs == 2
    assert registry.tags == {("acme/web", "1"): IMAGE.manifest.descriptor.digest}
    assert len(registry.asked("PUT", "/manifests/sha256")) == 2


def test_hardening_08_a_registry_that_never_finds_them_is_named(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.add("acme/web", IMAGE)
    body = b'{"errors": [{"code": "BLOB_UNKNOWN"}]}'
    registry.faults.append(Fault("PUT", "/manifests/", status=404, body=body, times=-1))
    with pytest.raises(MissingBlobsError, match=r"answered 404 \(BLOB_UNKNOWN\)"):
        send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert len(registry.asked("PUT", "/manifests/")) == 1 + 4
    assert len(registry.asked("PUT", "/uploads/")) == 2


def test_hardening_08_what_was_sent_is_not_sent_again(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    body = b'{"errors": [{"code": "BLOB_UNKNOWN"}]}'
    registry.faults.append(Fault("PUT", "/manifests/", status=404, body=body, times=-1))
    with pytest.raises(MissingBlobsError):
        send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert len(registry.asked("PUT", "/manifests/")) == 1 + 4
    assert len(registry.asked("PUT", "/uploads/")) == 2


@pytest.mark.parametrize("path", ["/manifests/sha256", "/manifests/1"])
def test_blobs_that_are_not_seen_for_a_moment_are_waited_for(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout, path: str
) -> None:
    body = b'{"errors": [{"code": "MANIFEST_BLOB_UNKNOWN"}]}'
    registry.faults.append(Fault("PUT", path, status=400, body=body, times=2))
    send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert registry.tags == {("acme/web", "1"): IMAGE.manifest.descriptor.digest}
    assert len(registry.asked("PUT", path)) == 3
    assert len(registry.asked("PUT", "/uploads/")) == 2


def test_hardening_08_other_refusals_are_final(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.add("acme/web", IMAGE)
    body = b'{"errors": [{"code": "MANIFEST_INVALID"}]}'
    registry.faults.append(Fault("PUT", "/manifests/", status=400, body=body, times=-1))
    with pytest.raises(ServiceError, match="MANIFEST_INVALID"):
        send_image(layout, built(registry, keep(layout, IMAGE)), remote, jobs=1)
    assert len(registry.asked("PUT")) == 1


# Sparse layouts


def test_layers_may_be_in_the_registry_only(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.blobs["acme/web", LAYER.digest] = IMAGE.blobs[LAYER]
    descriptor = keep(layout, IMAGE, without=[LAYER])
    upload = send_image(layout, built(registry, descriptor), remote, jobs=1)
    assert upload.blobs == 1
    assert registry.tags == {("acme/web", "1"): descriptor.digest}
    assert methods(registry)[-4:] == ["PUT manifest", "GET manifest", "PUT tag", "HEAD tag"]


def test_a_layer_that_is_nowhere_is_named(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    descriptor = keep(layout, IMAGE, without=[LAYER])
    with pytest.raises(
        ServiceError, match=f"^blob {LAYER.digest} is neither in the layout nor in `{registry.host}/acme/web`"
    ) as raised:
        send_image(layout, built(registry, descriptor), remote, jobs=1)
    assert raised.value.hint
    assert registry.writes == []


def test_hardening_08_a_layer_that_is_lost_and_not_in_the_layout_is_named(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.blobs["acme/web", LAYER.digest] = IMAGE.blobs[LAYER]
    registry.lost_blobs.add(LAYER.digest)
    descriptor = keep(layout, IMAGE, without=[LAYER])
    with pytest.raises(ServiceError, match="is neither in the layout nor in"):
        send_image(layout, built(registry, descriptor), remote, jobs=1)
    assert registry.tags == {}


def test_a_layer_of_the_base_only_is_mounted(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.blobs["base/busybox", LAYER.digest] = IMAGE.blobs[LAYER]
    image = built(registry, keep(layout, IMAGE), bases=[f"{registry.host}/base/busybox", "quay.io/other"])
    upload = send_image(layout, image, remote, jobs=1)
    assert (upload.blobs, upload.mounted) == (1, 1)
    assert len(registry.asked("PUT", "/uploads/")) == 1


def test_of_several_bases_the_one_that_has_it_is_asked(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.blobs["base/second", LAYER.digest] = IMAGE.blobs[LAYER]
    registry.faults.append(Fault("HEAD", "/base/first/", status=403, times=-1))
    bases = [f"{registry.host}/base/{name}" for name in ("first", "second")]
    upload = send_image(layout, built(registry, keep(layout, IMAGE), bases=bases), remote, jobs=1)
    assert upload.mounted == 1
    assert [request.status for request in registry.asked("POST", "mount=")] == [201]


# Several images of one run


def test_what_images_share_is_sent_once(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    images = [
        built(registry, keep(layout, small_image(platform, layer=IMAGE.blobs[LAYER])), f"acme/{number}:1")
        for number, platform in enumerate(["linux/s390x", "linux/amd64", "linux/arm64", "linux/riscv64"])
    ]
    holders = Holders()
    uploads = stopping.side_by_side(
        lambda image: send_image(layout, image, remote, jobs=2, holders=holders), images, jobs=4
    )
    assert sum(upload.mounted for upload in uploads) == 3
    assert sum(upload.blobs for upload in uploads) == 5
    assert len(registry.tags) == 4


def test_images_of_one_repository_share_without_a_mount(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    images = [
        built(registry, keep(layout, small_image(platform, layer=IMAGE.blobs[LAYER])), f"acme/web:{number}")
        for number, platform in enumerate(["linux/s390x", "linux/amd64"])
    ]
    holders = Holders()
    for _ in range(2):
        stopping.side_by_side(
            lambda image: send_image(layout, image, remote, jobs=2, holders=holders), images, jobs=2
        )
    assert registry.asked("POST", "mount=") == []
    assert len(registry.asked("PUT", "/uploads/")) == 3


def test_progress_ends_at_the_sum_of_all_blobs(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    registry.blobs["base/busybox", LAYER.digest] = IMAGE.blobs[LAYER]
    total = sum(blob.size for blob in IMAGE.blobs)
    descriptor = keep(layout, IMAGE)
    counts: list[int] = []

    def send(name: str, bases: Sequence[str] = ()) -> int:
        counts.clear()
        send_image(layout, built(registry, descriptor, name, bases), remote, jobs=2, advance=counts.append)
        return sum(counts)

    registry.faults.append(Fault("PUT", "/uploads/", read=1000, drop="status"))
    assert send("acme/sent:1") == total
    assert min(counts) < 0
    assert send("acme/sent:2") == total
    assert send("acme/mounted:1", [f"{registry.host}/base/busybox"]) == total


def test_hardening_11_an_index_in_an_index_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    inner = index_of(layout, IMAGE, small_image("linux/amd64"))
    outer = manifest.index_of([Descriptor(OCI_INDEX, inner.digest, inner.size, Platform("linux", "s390x"))])
    descriptor = layout.write(outer.content, OCI_INDEX)
    with pytest.raises(ServiceError, match=f"lists another index, {inner.digest}"):
        send_image(layout, built(registry, descriptor), remote, jobs=1)
    assert registry.writes == []


def test_a_damaged_layout_is_noticed_before_the_tag(
    registry: FakeRegistry, remote: RemoteRegistry, layout: Layout
) -> None:
    descriptor = keep(layout, IMAGE)
    path = layout.directory / "blobs" / "sha256" / LAYER.digest.hexadecimal
    path.write_bytes(b"x" * LAYER.size)
    with pytest.raises(DamagedError):
        send_image(layout, built(registry, descriptor), remote, jobs=1)
    assert registry.tags == {}


# From registry to registry


def referring(registry: FakeRegistry, path: str, subject: Digest, note: str = "sbom") -> Digest:
    """Put an artifact there that refers to something, with a blob of its own."""
    config = b"{}"
    layer = note.encode()
    registry.blobs[path, Digest.of(config)] = config
    registry.blobs[path, Digest.of(layer)] = layer
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/spdx+json",
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": str(Digest.of(config)),
            "size": len(config),
        },
        "layers": [{"mediaType": "text/plain", "digest": str(Digest.of(layer)), "size": len(layer)}],
        "subject": {"mediaType": OCI_MANIFEST, "digest": str(subject), "size": 1},
    }
    content: Manifest = manifest.parse(json.dumps(document).encode(), OCI_MANIFEST)
    return registry._add_manifest(path, content)


def copy(
    source: FakeRegistry,
    digest: Digest,
    destination: FakeRegistry,
    transport: Transport,
    name: str = "mirror/busybox:1",
) -> Copied:
    here = Repository(source.host, "base/busybox")
    clients = [RemoteRegistry(one.host, None, transport, push=True) for one in (source, destination)]
    return copy_image(
        clients[0], Reference(here).pin(digest), clients[1], Reference.parse(f"{destination.host}/{name}")
    )


def test_what_is_said_of_an_image_is_asked_for_side_by_side(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = registry.add_image("base/busybox", "1", platforms=["linux/amd64", "linux/s390x"])
    ask, three = RemoteRegistry.tagged, threading.Barrier(3)

    def together(self: RemoteRegistry, reference: Reference) -> Digest | None:
        if self.registry == registry.host:
            three.wait(timeout=5)
        return ask(self, reference)

    monkeypatch.setattr(RemoteRegistry, "tagged", together)
    copy(registry, digest, other, transport)
    assert len(registry.asked("HEAD", r"\.(sig|att|sbom)$")) == 9


def test_an_image_is_copied_whole(registry: FakeRegistry, other: FakeRegistry, transport: Transport) -> None:
    digest = registry.add_image("base/busybox", "1", platforms=["linux/amd64", "linux/s390x"])
    copied = copy(registry, digest, other, transport)
    assert copied.image.blobs == 4
    assert other.tags == {("mirror/busybox", "1"): digest}
    kept = {(kind, content) for _, (kind, content) in registry.manifests.items()}
    assert {(kind, content) for _, (kind, content) in other.manifests.items()} == kept
    assert registry.writes == []


def test_hardening_17_a_copy_is_of_the_digest_whatever_the_tag_says(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    digest = registry.add_image("base/busybox", "1")
    registry.tags["base/busybox", "1"] = registry.add("base/busybox", small_image(layer=b"moved"))
    copy(registry, digest, other, transport)
    assert other.tags == {("mirror/busybox", "1"): digest}


def test_the_second_copy_writes_nothing(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    digest = registry.add_image("base/busybox", "1", platforms=["linux/amd64", "linux/s390x"])
    registry.add("base/busybox", small_image(layer=b"signature"))
    registry.tags["base/busybox", f"{fallback_tag(digest)}.sig"] = small_image(
        layer=b"signature"
    ).manifest.descriptor.digest
    registry.lists_referrers = True
    referring(registry, "base/busybox", digest)
    first = copy(registry, digest, other, transport)
    other.requests.clear()
    second = copy(registry, digest, other, transport)
    assert other.writes == []
    assert second.image == Upload(unchanged=True)
    assert (second.evidence, second.kept) == (first.evidence, ())
    assert len(second.evidence) == 2


def test_on_one_registry_a_copy_moves_no_blob(registry: FakeRegistry, transport: Transport) -> None:
    digest = registry.add_image("base/busybox", "1")
    copied = copy(registry, digest, registry, transport)
    assert (copied.image.blobs, copied.image.mounted) == (0, 2)
    assert registry.asked("GET", "/blobs/") == []
    assert registry.tags["mirror/busybox", "1"] == digest


@pytest.mark.parametrize("lists", [True, False])
def test_evidence_comes_along_before_the_tag(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport, lists: bool
) -> None:
    """Signatures of the index and of a member, an SBOM, and what is said of the SBOM."""
    other.lists_referrers = lists
    registry.lists_referrers = True
    digest = registry.add_image("base/busybox", "1", platforms=["linux/amd64", "linux/s390x"])
    member = small_image("linux/s390x", layer=b"linux/s390x").manifest.descriptor.digest
    evidence = set()
    for subject, suffix in ((digest, "sig"), (member, "att")):
        signature = small_image(layer=f"{suffix} of {subject}".encode())
        registry.tags["base/busybox", f"{fallback_tag(subject)}.{suffix}"] = registry.add(
            "base/busybox", signature
        )
        evidence.add(signature.manifest.descriptor.digest)
    sbom = referring(registry, "base/busybox", digest)
    evidence |= {sbom, referring(registry, "base/busybox", sbom, note="signature of the sbom")}
    copied = copy(registry, digest, other, transport)
    assert set(copied.evidence) == evidence
    assert copied.kept == ()
    assert {found for _, found in other.manifests} >= evidence | {digest, member}
    assert str(other.asked("PUT")[-1]) == "PUT /v2/mirror/busybox/manifests/1 201"
    client = RemoteRegistry(other.host, None, transport)
    found = client.referrers(Repository(other.host, "mirror/busybox"), digest)
    assert {one.descriptor.digest for one in found} == {sbom}
    assert ((("mirror/busybox", fallback_tag(digest))) in other.tags) is not lists


def test_a_config_that_artifacts_share_is_sent_once(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    registry.lists_referrers = True
    digest = registry.add_image("base/busybox", "1")
    for note in ("one", "two", "three"):
        referring(registry, "base/busybox", digest, note=note)
    assert len(copy(registry, digest, other, transport).evidence) == 3
    # The image's two blobs, the empty config, and a layer of each artifact.
    assert len(other.asked("PUT", "/uploads/")) == 2 + 1 + 3
    # Nor when it is there from another time.
    other.requests.clear()
    referring(registry, "base/busybox", digest, note="four")
    copy(registry, digest, other, transport)
    assert len(other.asked("PUT", "/uploads/")) == 1


def test_signatures_that_are_there_are_left_alone(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    digest = registry.add_image("base/busybox", "1")
    tag = f"{fallback_tag(digest)}.sig"
    registry.tags["base/busybox", tag] = registry.add("base/busybox", small_image(layer=b"theirs"))
    ours = other.tags["mirror/busybox", tag] = other.add("mirror/busybox", small_image(layer=b"ours"))
    copied = copy(registry, digest, other, transport)
    assert copied.kept == (tag,)
    assert copied.evidence == ()
    assert other.tags["mirror/busybox", tag] == ours


def test_a_copy_of_damaged_content_has_no_tag(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    digest = registry.add("base/busybox", IMAGE)
    registry.blobs["base/busybox", LAYER.digest] = b"x" * LAYER.size
    with pytest.raises(DamagedError):
        copy(registry, digest, other, transport)
    assert other.tags == {}
    assert ("mirror/busybox", LAYER.digest) not in other.blobs


def test_an_image_that_does_not_exist_is_not_copied(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    with pytest.raises(NotFoundError):
        copy(registry, Digest.of(b"nothing"), other, transport)
    assert other.writes == []


def test_hardening_03_a_copy_outlives_broken_transfers(
    registry: FakeRegistry, other: FakeRegistry, transport: Transport
) -> None:
    digest = registry.add("base/busybox", IMAGE)
    registry.faults.append(Fault("GET", "/blobs/", drop="body", times=2))
    other.faults.append(Fault("PUT", "/uploads/", read=500, drop="status"))
    copy(registry, digest, other, transport)
    assert other.blobs["mirror/busybox", LAYER.digest] == IMAGE.blobs[LAYER]
