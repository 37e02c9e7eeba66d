"""Pushing and pulling: `registry/client.py` against a registry that keeps the protocol, or breaks it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fakes.registry import FakeRegistry, Fault, SmallImage, small_image
from secure_build import manifest, stopping
from secure_build.errors import ServiceError
from secure_build.layout import DamagedError
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry import session
from secure_build.registry.client import NotFoundError, RemoteRegistry
from secure_build.registry.http import Answer, Transport

WRONG = "sha256:" + "0" * 64
BLOB = b"some bytes " * 1000
DESCRIPTOR = Descriptor("application/octet-stream", Digest.of(BLOB), len(BLOB))


@pytest.fixture
def remote(registry: FakeRegistry, transport: Transport) -> RemoteRegistry:
    return RemoteRegistry(registry.host, None, transport, push=True)


@pytest.fixture
def repository(registry: FakeRegistry) -> Repository:
    return Repository(registry.host, "acme/web")


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(stopping, "pause", made.append)
    return made


def chunks() -> Iterator[bytes]:
    yield BLOB[:5000]
    yield BLOB[5000:]


def push(remote: RemoteRegistry, repository: Repository, image: SmallImage) -> None:
    for blob, content in image.blobs.items():
        remote.put_blob(repository, blob, lambda content=content: iter([content]))  # type: ignore[misc]
    remote.put_manifest(repository, image.manifest)


# Reading


def test_a_tag_is_resolved_to_the_bytes_that_the_registry_keeps(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    digest = registry.add_image("acme/web", "1.0")
    assert remote.tagged(Reference(repository, "1.0")) == digest
    found = remote.resolve(Reference(repository, "1.0"))
    assert found.content == registry.manifests["acme/web", digest][1]
    assert remote.get_manifest(repository, found.descriptor) == found
    assert manifest.platform_of_config(remote.config(repository, found)).architecture == "s390x"


def test_an_index_has_members(registry: FakeRegistry, remote: RemoteRegistry, repository: Repository) -> None:
    registry.add_image("acme/web", "1.0", platforms=["linux/s390x", "linux/arm64/v8"])
    found = remote.resolve(Reference(repository, "1.0"))
    assert [str(member.platform) for member in found.members] == ["linux/arm64/v8", "linux/s390x"]


def test_what_is_absent_is_absent(remote: RemoteRegistry, repository: Repository) -> None:
    assert remote.tagged(Reference(repository, "1.0")) is None
    assert not remote.has_blob(repository, DESCRIPTOR)
    with pytest.raises(NotFoundError, match=r"`127.0.0.1:\d+/acme/web:1.0` does not exist") as raised:
        remote.resolve(Reference(repository, "1.0"))
    assert raised.value.exit_code == 2
    assert raised.value.hint


@pytest.mark.parametrize("header", [None, "sha512:" + "0" * 128, "sha256:short", "rubbish"])
def test_hardening_07_without_a_digest_header_the_digest_is_computed(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, header: str | None
) -> None:
    digest = registry.add_image("acme/web", "1.0")
    headers = {"Docker-Content-Digest": header}
    registry.faults += [Fault("HEAD", headers=headers), Fault("GET", headers=headers)]
    assert remote.tagged(Reference(repository, "1.0")) == digest


def test_hardening_07_content_that_is_not_what_the_header_says_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    digest = registry.add_image("acme/web", "1.0")
    registry.faults.append(Fault("GET", headers={"Docker-Content-Digest": WRONG}))
    with pytest.raises(ServiceError, match=f"with content whose digest is {digest}"):
        remote.resolve(Reference(repository, "1.0"))


def test_hardening_07_content_that_was_swapped_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    digest = registry.add_image("acme/web")
    other = small_image(layer=b"other").manifest
    # Once it forgets to lie in the header too.
    lie = {"Docker-Content-Digest": str(other.descriptor.digest)}
    registry.faults += [Fault("GET", body=other.content), Fault("GET", body=other.content, headers=lie)]
    for _ in range(2):
        with pytest.raises(ServiceError, match=f"with content whose digest is {other.descriptor.digest}"):
            remote.resolve(Reference(repository, digest=digest))


def test_hardening_07_a_manifest_with_bytes_behind_it_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    digest = registry.add_image("acme/web")
    registry.faults.append(Fault("GET", body=registry.manifests["acme/web", digest][1] + b"\n"))
    with pytest.raises(ServiceError, match="with content whose digest is"):
        remote.resolve(Reference(repository, digest=digest))


def test_hardening_11_a_manifest_that_is_too_large_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.faults.append(Fault("GET", status=200, body=b" " * (manifest.LARGEST + 1)))
    with pytest.raises(ServiceError, match="answered with more than 4194304 bytes"):
        remote.resolve(Reference(repository, "1.0"))


@pytest.mark.parametrize("media_type", ["application/json", "text/html", manifest.OCI_INDEX])
def test_hardening_07_another_content_type_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, media_type: str
) -> None:
    registry.add_image("acme/web", "1.0")
    registry.faults.append(Fault("GET", headers={"Content-Type": media_type}))
    with pytest.raises(ServiceError, match=re.escape(f"was served as `{media_type}`")):
        remote.resolve(Reference(repository, "1.0"))


def test_a_content_type_may_have_parameters(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.add_image("acme/web", "1.0")
    registry.faults.append(Fault("GET", headers={"Content-Type": f"{manifest.OCI_MANIFEST}; charset=utf-8"}))
    assert remote.resolve(Reference(repository, "1.0")).config


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 10_000_000])
def test_hardening_07_a_config_that_was_swapped_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, content: bytes
) -> None:
    image = small_image()
    registry.add("acme/web", image)
    registry.faults.append(Fault("GET", "/blobs/", body=content, times=5))
    # Each one kept, as a caller would keep them: none may keep a connection.
    failures = []
    for _ in range(5):
        with pytest.raises(DamagedError) as raised:
            remote.config(repository, image.manifest)
        failures.append(raised)


def test_a_config_that_says_it_is_large_is_not_asked_for(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    image = small_image().manifest
    assert image.config
    with pytest.raises(ServiceError, match="has 8388609 bytes"):
        remote.config(repository, replace(image, config=replace(image.config, size=(8 << 20) + 1)))
    assert registry.requests == []


def test_a_blob_of_another_size_does_not_count(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB[:-1]
    assert not remote.has_blob(repository, DESCRIPTOR)
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB
    assert remote.has_blob(repository, DESCRIPTOR)


def test_hardening_03_an_answer_whose_headers_break_off_does_not_count(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.faults.append(Fault("HEAD", status=200, drop="headers"))
    assert not remote.has_blob(repository, DESCRIPTOR)


# Redirects


def test_hardening_06_blobs_are_read_from_where_the_registry_says(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    image = small_image()
    registry.add("acme/web", image)
    config, layer = image.blobs
    with FakeRegistry() as store:
        registry.blob_store = store
        assert remote.config(repository, image.manifest) == image.blobs[config]
        assert remote.has_blob(repository, layer)
        assert [request.method for request in store.requests] == ["GET", "HEAD"]


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("file:///etc/passwd", "file:///etc/passwd"),
        ("http://169.254.169.254/latest?key=abc", r"http://169.254.169.254/latest\?\*\*\*"),
        ("gopher://127.0.0.1/", "gopher://127.0.0.1/"),
        ("http://[::1", r"\*\*\*"),
        ("https://", "https:"),
        ("", ""),
    ],
)
def test_hardening_06_a_location_that_is_no_address_to_trust_is_refused(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, location: str, shown: str
) -> None:
    says = f"points to `{shown}.*`, which is no HTTPS address"
    registry.faults.append(Fault("HEAD", status=307, headers={"Location": location}))
    with pytest.raises(ServiceError, match=says):
        remote.has_blob(repository, DESCRIPTOR)
    registry.faults.append(Fault("POST", headers={"Location": location}))
    with pytest.raises(ServiceError, match=says):
        remote.put_blob(repository, DESCRIPTOR, chunks)


def test_hardening_06_redirects_have_an_end(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.faults.append(Fault("HEAD", status=307, headers={"Location": "/v2/again"}, times=-1))
    with pytest.raises(ServiceError, match="redirects more than 5 times"):
        remote.has_blob(repository, DESCRIPTOR)
    assert len(registry.requests) == 5


# Writing


@pytest.mark.parametrize("absolute", [False, True])
def test_hardening_06_what_is_pushed_can_be_pulled_wherever_the_location_is(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, absolute: bool
) -> None:
    registry.absolute_locations = absolute
    image = small_image()
    push(remote, repository, image)
    assert registry.tags == {}
    remote.tag(Reference(repository, "1.0"), image.manifest)
    assert registry.tags == {("acme/web", "1.0"): image.manifest.descriptor.digest}
    assert remote.resolve(Reference(repository, "1.0")) == image.manifest
    media_type, content = registry.manifests["acme/web", image.manifest.descriptor.digest]
    assert (media_type, content) == (manifest.OCI_MANIFEST, image.manifest.content)
    assert registry.blobs == {("acme/web", blob.digest): content for blob, content in image.blobs.items()}


def test_an_upload_is_two_requests(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    remote.put_blob(repository, DESCRIPTOR, chunks)
    assert [request.method for request in registry.requests] == ["POST", "PUT"]
    assert registry.requests[1].headers["content-length"] == str(len(BLOB))
    assert "transfer-encoding" not in registry.requests[1].headers
    assert registry.blobs["acme/web", DESCRIPTOR.digest] == BLOB


def test_an_upload_is_never_whole_in_memory(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    """The first chunk has arrived at the registry before the last one is made."""
    first = b"x" * (32 << 20)
    last = b"y"
    arrived = []

    def slowly() -> Iterator[bytes]:
        yield first
        arrived.append(len(registry.requests))
        yield last

    descriptor = Descriptor("application/octet-stream", Digest.of(first + last), len(first + last))
    remote.put_blob(repository, descriptor, slowly)
    assert arrived == [2]


@pytest.mark.parametrize("received", [0, 1, len(BLOB) // 2, len(BLOB) - 1])
def test_hardening_03_an_upload_that_breaks_is_begun_anew(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, pauses: list[float], received: int
) -> None:
    registry.faults.append(Fault("PUT", read=received, drop="status", times=2))
    made = []

    def counted() -> Iterator[bytes]:
        made.append(True)
        yield BLOB

    remote.put_blob(repository, DESCRIPTOR, counted)
    assert registry.blobs["acme/web", DESCRIPTOR.digest] == BLOB
    assert len(made) == 3
    # Each attempt has a session of its own, and a look whether the one before came through.
    assert [request.method for request in registry.requests] == [
        *("POST", "PUT"),
        *("HEAD", "POST", "PUT"),
        *("HEAD", "POST", "PUT"),
    ]
    assert len({request.path for request in registry.asked("PUT")}) == 3
    assert pauses == [0.5, 1.0]


def test_hardening_03_an_upload_whose_answer_is_lost_is_not_sent_twice(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.faults.append(Fault("PUT", drop="status"))
    remote.put_blob(repository, DESCRIPTOR, chunks)
    assert [request.method for request in registry.requests] == ["POST", "PUT", "HEAD"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_hardening_02_an_upload_outlives_temporary_failures(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, method: str, status: int
) -> None:
    registry.faults.append(Fault(method, status=status, times=2))
    remote.put_blob(repository, DESCRIPTOR, chunks)
    assert registry.blobs["acme/web", DESCRIPTOR.digest] == BLOB
    assert len(registry.asked(method)) == 3


def test_hardening_01_an_upload_waits_as_long_as_the_registry_says(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, pauses: list[float]
) -> None:
    registry.faults.append(Fault("PUT", status=429, headers={"Retry-After": "9"}))
    remote.put_blob(repository, DESCRIPTOR, chunks)
    assert pauses == [9.0]


def test_hardening_02_an_upload_that_always_fails_is_named(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.faults.append(Fault("PUT", status=503, times=-1))
    what = f"cannot upload blob {DESCRIPTOR.digest} to `{repository}`: PUT http://.* answered 503"
    with pytest.raises(ServiceError, match=what):
        remote.put_blob(repository, DESCRIPTOR, chunks)
    assert len(registry.asked("PUT")) == 4
    registry.faults[:] = [Fault("PUT", read=100, drop="status", times=-1)]
    what = f"cannot upload blob {DESCRIPTOR.digest} to `{repository}`: PUT http://.* got no answer"
    with pytest.raises(ServiceError, match=what):
        remote.put_blob(repository, DESCRIPTOR, chunks)


@pytest.mark.parametrize("status", [400, 404, 405, 413, 416])
def test_an_upload_that_is_refused_is_not_tried_again(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, status: int
) -> None:
    for method in ("POST", "PUT"):
        registry.requests.clear()
        registry.faults.append(Fault(method, status=status))
        with pytest.raises(ServiceError, match=f"answered {status}"):
            remote.put_blob(repository, DESCRIPTOR, chunks)
        assert len(registry.asked(method)) == 1


def test_hardening_09_an_early_refusal_of_a_large_upload_is_told(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    body = b'{"errors": [{"code": "SIZE_INVALID", "message": "quota exceeded"}]}'
    registry.faults.append(Fault("PUT", status=413, read=1000, body=body))
    content = b"x" * (20 << 20)
    descriptor = Descriptor("application/octet-stream", Digest.of(content), len(content))
    with pytest.raises(ServiceError, match=r"answered 413 \(SIZE_INVALID: quota exceeded\)"):
        remote.put_blob(repository, descriptor, lambda: iter([content]))


def test_a_damaged_source_is_not_taken_for_a_broken_connection(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    begun = []

    def damaged() -> Iterator[bytes]:
        begun.append(True)
        yield BLOB[:100]
        raise DamagedError("the layout is damaged")

    with pytest.raises(DamagedError, match="the layout is damaged"):
        remote.put_blob(repository, DESCRIPTOR, damaged)
    assert len(begun) == 1
    assert registry.blobs == {}


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_hardening_02_manifest_requests_outlive_temporary_failures(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, method: str, status: int
) -> None:
    image = small_image()
    registry.add("acme/web", image)
    registry.faults.append(Fault(method, status=status, times=2))
    reference = Reference(repository, "1.0")
    remote.tag(reference, image.manifest)
    assert remote.tagged(reference) == image.manifest.descriptor.digest
    assert remote.resolve(reference) == image.manifest
    assert len(registry.requests) == 5


@pytest.mark.parametrize("method", ["HEAD", "GET", "PUT"])
def test_hardening_02_a_manifest_request_that_always_fails_is_named(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, method: str
) -> None:
    image = small_image()
    registry.add("acme/web", image)
    registry.faults.append(Fault(method, status=502, times=-1))
    reference = Reference(repository, "1.0")
    ask: dict[str, Callable[[], object]] = {
        "PUT": lambda: remote.tag(reference, image.manifest),
        "HEAD": lambda: remote.tagged(reference),
        "GET": lambda: remote.resolve(reference),
    }
    with pytest.raises(ServiceError, match=f"{method} {registry.url}/v2/acme/web/manifests/1.0 answered 502"):
        ask[method]()
    assert len(registry.asked(method)) == 4


def test_hardening_07_a_manifest_that_the_registry_stores_as_another_is_noticed(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    image = small_image()
    registry.add("acme/web", image)
    registry.faults.append(Fault("PUT", headers={"Docker-Content-Digest": WRONG}))
    with pytest.raises(ServiceError, match=f"stored `{repository}` .* as {WRONG}"):
        remote.put_manifest(repository, image.manifest)


def test_a_manifest_whose_blobs_are_absent_is_refused_by_name(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    with pytest.raises(ServiceError, match=r"cannot write .* answered 400 \(MANIFEST_BLOB_UNKNOWN"):
        remote.put_manifest(repository, small_image().manifest)
    assert registry.manifests == {}


def test_hardening_12_a_read_only_registry_is_named(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.read_only = True
    with pytest.raises(ServiceError, match=r"answered 405 \(UNSUPPORTED: the registry is read-only\)"):
        remote.put_blob(repository, DESCRIPTOR, chunks)


def test_connections_are_not_used_up_by_work_side_by_side(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    """More workers than connections, and answers of every kind."""
    image = small_image()
    registry.faults += [
        Fault("PUT", "/manifests/", status=503, times=3),
        Fault("PUT", "/blobs/", drop="status", times=3),
        Fault("HEAD", status=502, times=3),
        *(Fault("GET", f"/web-{number}/", body=b"x" * 100_000) for number in range(40)),
    ]

    def work(number: int) -> None:
        here = Repository(repository.registry, f"acme/web-{number}")
        push(remote, here, image)
        remote.tag(Reference(here, "1.0"), image.manifest)
        assert remote.tagged(Reference(here, "1.0"))
        with pytest.raises(ServiceError, match="with content whose digest is"):
            remote.resolve(Reference(here, "1.0"))

    stopping.side_by_side(work, range(40), jobs=32)
    assert len(registry.tags) == 40


# Docker Hub


def test_docker_hub_has_another_address_than_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Stub(Transport):
        def request(self, method: str, url: str, **_: object) -> Answer:
            asked.append((method, url))
            raise ServiceError("enough")

    reference = Reference.parse("alpine")
    with pytest.raises(ServiceError, match="enough"):
        RemoteRegistry(reference.repository.registry, None, Stub()).resolve(reference)
    assert asked == [("GET", "https://registry-1.docker.io/v2/library/alpine/manifests/latest")]


@pytest.mark.parametrize(
    ("registry", "scheme"),
    [
        ("us.icr.io", "https"),
        ("localhost:5000", "http"),
        ("127.0.0.1:5000", "http"),
        ("[::1]:5000", "http"),
        ("192.168.0.1:5000", "https"),
        ("localhost.example:5000", "https"),
    ],
)
def test_plain_http_is_for_this_machine_only(registry: str, scheme: str) -> None:
    assert RemoteRegistry(registry, None, Transport())._session.url == f"{scheme}://{registry}"


def test_a_port_that_is_the_default_makes_no_other_origin() -> None:
    assert session.origin("https://us.icr.io/v2/") == session.origin("https://US.icr.io:443/x")
    assert session.origin("https://us.icr.io/") != session.origin("http://us.icr.io/")
    assert session.origin("https://us.icr.io/") != session.origin("https://us.icr.io@evil.example/")
