"""What refers to an image: the registry's list, the fallback tag, and both at once."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from fakes.registry import FakeRegistry, Fault, SmallImage, small_image
from secure_build import manifest, stopping
from secure_build.errors import ServiceError
from secure_build.manifest import OCI_INDEX, OCI_MANIFEST, Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry import referrers
from secure_build.registry.client import AccessError, RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.registry.referrers import Referrer, fallback_tag, index_of, next_page, referrer_of

EMPTY = b"{}"
EMPTY_DESCRIPTOR = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(EMPTY), len(EMPTY))
IMAGE = small_image()
SUBJECT = IMAGE.manifest.descriptor
TAG = fallback_tag(SUBJECT.digest)


@pytest.fixture
def repository(registry: FakeRegistry) -> Repository:
    return Repository(registry.host, "acme/web")


@pytest.fixture
def remote(registry: FakeRegistry, transport: Transport) -> RemoteRegistry:
    registry.add("acme/web", IMAGE)
    registry.blobs["acme/web", EMPTY_DESCRIPTOR.digest] = EMPTY
    return RemoteRegistry(registry.host, None, transport, push=True)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    made: list[float] = []
    monkeypatch.setattr(stopping, "pause", made.append)
    return made


def document(descriptor: Descriptor) -> dict[str, object]:
    return {
        "mediaType": descriptor.media_type,
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }


def artifact(kind: str, *, subject: Descriptor | None = SUBJECT, note: str = "") -> Manifest:
    """An artifact manifest of this type that refers to the image."""
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": kind,
        "config": document(EMPTY_DESCRIPTOR),
        "layers": [document(EMPTY_DESCRIPTOR)],
        **({"subject": document(subject)} if subject else {}),
        "annotations": {"note": note},
    }
    return manifest.parse(json.dumps(content).encode(), OCI_MANIFEST)


SBOM, SIGNATURE = artifact("application/spdx+json"), artifact("application/vnd.dev.sigstore.bundle.v0.3+json")


def keep(registry: FakeRegistry, content: Manifest) -> None:
    registry.manifests["acme/web", content.descriptor.digest] = (content.media_type, content.content)


def keep_index(registry: FakeRegistry, listed: Sequence[Referrer]) -> None:
    """Put an index under the fallback tag."""
    content = manifest.parse(index_of(listed), OCI_INDEX)
    keep(registry, content)
    registry.tags["acme/web", TAG] = content.descriptor.digest


def digests(found: Sequence[Referrer]) -> set[Digest]:
    return {referrer.descriptor.digest for referrer in found}


def listed_by_tag(registry: FakeRegistry) -> list[Referrer]:
    return referrers.parse(registry.manifests["acme/web", registry.tags["acme/web", TAG]][1])


# Reading


def test_hardening_10_the_list_of_the_registry(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.lists_referrers = True
    for content in (SBOM, SIGNATURE):
        keep(registry, content)
    found = remote.referrers(repository, SUBJECT.digest)
    assert {one.artifact_type for one in found} == {
        "application/spdx+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
    }
    assert digests(found) == {SBOM.descriptor.digest, SIGNATURE.descriptor.digest}


def test_hardening_10_an_empty_list(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.lists_referrers = True
    assert remote.referrers(repository, SUBJECT.digest) == ()
    registry.faults.append(Fault("GET", "/referrers/", status=200, body=b'{"manifests": null}'))
    assert remote.referrers(repository, SUBJECT.digest) == ()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_hardening_10_several_pages(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, size: int
) -> None:
    registry.lists_referrers, registry.referrers_per_page = True, size
    contents = [artifact("application/x", note=str(number)) for number in range(5)]
    for content in contents:
        keep(registry, content)
    found = remote.referrers(repository, SUBJECT.digest)
    assert digests(found) == {content.descriptor.digest for content in contents}
    assert len(registry.asked("GET", "/referrers/")) == -(-5 // size)


def test_pages_have_an_end(registry: FakeRegistry, remote: RemoteRegistry, repository: Repository) -> None:
    registry.lists_referrers = True
    link = {"Link": f'</v2/acme/web/referrers/{SUBJECT.digest}?from=0>; rel="next"'}
    registry.faults.append(Fault("GET", "/referrers/", headers=link, times=-1))
    with pytest.raises(ServiceError, match="lists more than 64 pages"):
        remote.referrers(repository, SUBJECT.digest)


@pytest.mark.parametrize("link", ["http://127.0.0.1:1/v2/", "https://elsewhere.example/v2/", "http://[::1"])
def test_a_next_page_elsewhere_is_not_asked_for(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, link: str
) -> None:
    registry.lists_referrers = True
    registry.faults.append(Fault("GET", "/referrers/", headers={"Link": f'<{link}>; rel="next"'}))
    with pytest.raises(ServiceError, match="which is not its own"):
        remote.referrers(repository, SUBJECT.digest)


@pytest.mark.parametrize("status", [400, 404, 405, 406])
def test_hardening_10_without_a_list_the_fallback_tag_counts(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, status: int
) -> None:
    """404 by the specification, 400 from Quay, 406 from Artifactory."""
    keep_index(registry, [referrer_of(SBOM)])
    registry.faults.append(Fault("GET", "/referrers/", status=status))
    assert remote.referrers(repository, SUBJECT.digest) == (referrer_of(SBOM),)


def test_a_list_that_leads_to_a_web_page_is_none(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    """GHCR redirects to github.com, which answers too many requests."""
    keep_index(registry, [referrer_of(SBOM)])
    with FakeRegistry() as web:
        registry.faults.append(
            Fault("GET", "/referrers/", status=303, headers={"Location": f"{web.url}/packages"})
        )
        assert digests(remote.referrers(repository, SUBJECT.digest)) == {SBOM.descriptor.digest}
        assert web.requests == []


def test_hardening_10_the_fallback_is_not_filtered(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    """The type in the index may be another one than in the manifest, as with cosign's."""
    wrong = Referrer(SIGNATURE.descriptor, "application/vnd.oci.image.manifest.v1+json", {"a": "b"})
    keep_index(registry, [wrong])
    assert remote.referrers(repository, SUBJECT.digest) == (wrong,)


def test_hardening_10_a_list_and_a_fallback_that_disagree_are_joined(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.lists_referrers = True
    keep(registry, SBOM)
    keep_index(registry, [referrer_of(SIGNATURE), Referrer(SBOM.descriptor, "another/type")])
    found = {one.descriptor.digest: one for one in remote.referrers(repository, SUBJECT.digest)}
    assert set(found) == {SBOM.descriptor.digest, SIGNATURE.descriptor.digest}
    assert found[SBOM.descriptor.digest].artifact_type == "application/spdx+json"


def test_hardening_10_what_was_just_written_may_take_a_moment(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, pauses: list[float]
) -> None:
    registry.lists_referrers = True
    keep(registry, SBOM)
    nothing = index_of([])
    registry.faults.append(Fault("GET", "/referrers/", body=nothing, times=2))
    found = remote.referrers(repository, SUBJECT.digest, expected=[SBOM.descriptor.digest])
    assert digests(found) == {SBOM.descriptor.digest}
    assert pauses == [0.2, 0.5]
    registry.faults.append(Fault("GET", "/referrers/", body=nothing, times=-1))
    assert remote.referrers(repository, SUBJECT.digest, expected=[SBOM.descriptor.digest]) == ()
    assert len(pauses) == 5


def test_another_thing_under_the_fallback_tag_lists_nothing(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.tags["acme/web", TAG] = SUBJECT.digest
    assert remote.referrers(repository, SUBJECT.digest) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"manifests": {}}',
        b'{"manifests": [5]}',
        b'{"manifests": [{}]}',
        b'{"manifests": [], "manifests": []}',
        b'{"mediaType": "text/html", "manifests": []}',
        b'{"manifests": [{"mediaType": "a", "digest": "sha512:0", "size": 1}]}',
        b'{"manifests": [{"mediaType": "a", "digest": "sha256:%s", "size": -1}]}' % (b"0" * 64),
        b'{"manifests": [{"mediaType":"a","digest":"sha256:%s","size":1,"annotations":5}]}' % (b"0" * 64),
        b'{"manifests": [' + b"1," * 3000 + b"1]}",
        b"[" * 50_000,
    ],
)
def test_a_list_that_cannot_be_read_is_not_an_empty_one(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, body: bytes
) -> None:
    registry.faults.append(Fault("GET", "/referrers/", status=200, body=body))
    with pytest.raises(ServiceError, match="a list of referrers cannot be read"):
        remote.referrers(repository, SUBJECT.digest)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_list_that_was_refused_is_not_an_empty_one(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository, status: int
) -> None:
    headers = {"WWW-Authenticate": "Basic"}
    registry.faults.append(Fault("GET", "/referrers/", status=status, headers=headers, times=-1))
    with pytest.raises((AccessError, ServiceError), match=r"what refers to|asks for a login"):
        remote.referrers(repository, SUBJECT.digest)


@pytest.mark.parametrize(
    ("link", "found"),
    [
        ('</v2/a?n=1>; rel="next"', "/v2/a?n=1"),
        ("</v2/a>;rel=next", "/v2/a"),
        ('</first>; rel="first", </second>; rel="next"', "/second"),
        ('</first>; rel="first"', None),
        ("", None),
        (None, None),
    ],
)
def test_next_page(link: str | None, found: str | None) -> None:
    assert next_page(link) == found


# Writing


def test_hardening_10_what_a_registry_lists_needs_no_fallback(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.lists_referrers = True
    remote.put_manifest(repository, SBOM)
    assert digests(remote.referrers(repository, SUBJECT.digest)) == {SBOM.descriptor.digest}
    assert registry.tags == {}
    assert len(registry.writes) == 1


def test_hardening_10_where_no_list_is_kept_the_fallback_grows(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    for content in (SBOM, SIGNATURE, SBOM):
        remote.put_manifest(repository, content)
    assert listed_by_tag(registry) == [referrer_of(SBOM), referrer_of(SIGNATURE)]
    assert digests(remote.referrers(repository, SUBJECT.digest)) == {
        SBOM.descriptor.digest,
        SIGNATURE.descriptor.digest,
    }


def test_what_others_listed_is_kept(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    other = Referrer(SIGNATURE.descriptor, "cosign/wrote", {"dev.sigstore.bundle.content": "dsse"})
    keep(registry, SIGNATURE)
    keep_index(registry, [other])
    remote.put_manifest(repository, SBOM)
    assert listed_by_tag(registry) == [other, referrer_of(SBOM)]


def test_an_index_that_somebody_replaces_at_the_same_time_is_written_again(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    # The first look afterwards finds what another client has written meanwhile.
    theirs = index_of([referrer_of(SIGNATURE)])
    registry.manifests["acme/web", Digest.of(theirs)] = (OCI_INDEX, theirs)
    answers = {"Docker-Content-Digest": str(Digest.of(theirs)), "Content-Type": OCI_INDEX}
    registry.faults.append(Fault("GET", f"/{TAG}$", skip=1, headers=answers, body=theirs))
    registry.manifests["acme/web", SIGNATURE.descriptor.digest] = (OCI_MANIFEST, SIGNATURE.content)
    remote.put_manifest(repository, SBOM)
    assert listed_by_tag(registry) == [referrer_of(SIGNATURE), referrer_of(SBOM)]
    assert len(registry.asked("PUT", f"/{TAG}$")) == 2


def test_another_thing_under_the_fallback_tag_is_not_overwritten(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    registry.tags["acme/web", TAG] = SUBJECT.digest
    with pytest.raises(ServiceError, match="is no index of referrers"):
        remote.put_manifest(repository, SBOM)
    assert registry.tags["acme/web", TAG] == SUBJECT.digest


@pytest.mark.parametrize("subject", ['"text"', "{}", '{"digest": "sha512:0"}', "[]", "5"])
def test_a_subject_that_is_none_is_refused(subject: str) -> None:
    content = SBOM.content.replace(json.dumps(document(SUBJECT)).encode(), subject.encode())
    with pytest.raises(ServiceError, match=r"the subject of .* cannot be read"):
        referrers.subject_of(manifest.parse(content, OCI_MANIFEST))


def test_an_image_without_a_subject_is_just_put(
    registry: FakeRegistry, remote: RemoteRegistry, repository: Repository
) -> None:
    image: SmallImage = small_image(layer=b"other")
    registry.add("acme/web", image)
    remote.put_manifest(repository, image.manifest)
    remote.tag(Reference(repository, "1"), image.manifest)
    assert registry.asked("GET") == []
