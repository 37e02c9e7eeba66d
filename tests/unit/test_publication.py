"""Signatures in a registry: few requests, nothing twice, nothing of others lost, and all of it read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.cosign import key
from fakes.registry import FakeRegistry, Fault, small_image
from secure_build import manifest
from secure_build.attestations import artifact, classic, publication
from secure_build.attestations.statement import SIGNATURE
from secure_build.errors import ServiceError
from secure_build.layout import Layout
from secure_build.manifest import OCI_INDEX, Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Pinned, Reference, Repository
from secure_build.registry import referrers
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.registry.referrers import Referrer, fallback_tag
from secure_build.signers.classic import ClassicSigner, ClassicVerifier

SUBJECT = small_image().manifest.descriptor
PROVENANCE = "https://slsa.dev/provenance/v1"


class Place:
    """A layout and a repository with the image that everything is about."""

    def __init__(self, registry: FakeRegistry, transport: Transport, folder: Path) -> None:
        self.registry = registry
        self.layout = Layout.create(folder / "layout")
        self.repository = Repository(registry.host, "acme/web")
        self.client = RemoteRegistry(registry.host, None, transport, push=True)
        self.image = Pinned(self.repository, SUBJECT.digest)
        registry.add("acme/web", small_image())

    def bundle(self, content: bytes, kind: str = SIGNATURE) -> Manifest:
        return artifact.write(self.layout, content, kind, SUBJECT)

    def publish(self, *bundles: Manifest) -> None:
        publication.publish_bundles(self.layout, bundles, self.client, self.repository)

    def read(self, kind: str | None = None) -> Iterator[publication.KeptBundle]:
        return publication.read_bundles(
            self.client, self.repository, SUBJECT.digest, predicate_types={kind} if kind else None
        )

    def contents(self, kind: str | None = None) -> list[bytes]:
        return [one.content for one in self.read(kind)]

    def sign(self, name: str, *, is_good: bool = False) -> Manifest:
        """Publish a new classic signature by the key of this name; returns our own manifest."""
        kept = classic.write(self.layout, ClassicSigner(key(name)).sign(self.image))
        verifier = ClassicVerifier(key(name).public)
        accepts = (lambda signed: verifier.accepts(signed, self.image)) if is_good else (lambda _: False)
        publication.publish_classic(self.layout, kept, self.client, self.image, is_good=accepts)
        return kept

    def keep_by_tag(self, *listed: Referrer) -> None:
        """Let the fallback tag list these."""
        index = manifest.parse(referrers.index_of(listed), OCI_INDEX)
        self.registry._add_manifest("acme/web", index)
        self.registry.tags["acme/web", fallback_tag(SUBJECT.digest)] = index.descriptor.digest

    @property
    def under_tag(self) -> Manifest:
        found = self.client.find(classic.tag(self.repository, SUBJECT.digest))
        assert found is not None
        return found

    def counted(self) -> int:
        """How many requests there were since this was asked last."""
        number = len(self.registry.requests)
        self.registry.requests.clear()
        return number


@pytest.fixture
def place(registry: FakeRegistry, transport: Transport, tmp_path: Path) -> Place:
    return Place(registry, transport, tmp_path)


# Bundles


def test_requests_for_bundles_where_no_lists_are_kept(place: Place) -> None:
    """The registry is asked for its list once; the rest is what every bundle costs."""
    first, second = place.bundle(b"first"), place.bundle(b"second")
    place.publish(first)
    assert place.counted() == 1 + 8
    place.publish(second)
    assert place.counted() == 5
    assert next(place.read()).content == b"first"
    assert place.counted() == 3
    place.publish(first, second)
    assert (place.counted(), place.contents()) == (1, [b"first", b"second"])


def test_requests_for_bundles_where_lists_are_kept(place: Place) -> None:
    place.registry.lists_referrers = True
    place.publish(place.bundle(b"first"))
    assert place.counted() == 7
    second = place.bundle(b"second")
    place.publish(second)
    assert place.counted() == 4
    assert next(place.read()).content in (b"first", b"second")
    assert place.counted() == 3
    place.publish(second)
    assert place.counted() == 1
    assert place.registry.tags == {}


def test_bundles_of_one_subject_are_listed_together(place: Place) -> None:
    place.publish(*(place.bundle(b"%d" % number) for number in range(4)))
    puts = [str(one) for one in place.registry.asked("PUT", "/manifests/sha256-")]
    assert len(puts) == 1
    assert sorted(place.contents()) == [b"0", b"1", b"2", b"3"]


def test_bundles_go_to_another_layout_too(place: Place, tmp_path: Path) -> None:
    bundle, other = place.bundle(b"first"), Layout.create(tmp_path / "other")
    publication.publish_bundles(place.layout, [bundle], other, place.repository)
    blob = artifact.bundle_of(other.manifest(bundle.descriptor))
    assert blob is not None
    assert other.read(blob) == b"first"


def test_what_is_already_listed_stays(place: Place) -> None:
    kept = place.bundle(b"theirs")
    theirs = Referrer(kept.descriptor, "cosign/wrote", {"a": "b"})
    place.registry._add_manifest("acme/web", kept)
    place.keep_by_tag(theirs)
    place.publish(place.bundle(b"ours"))
    content = place.client.find(Reference(place.repository, fallback_tag(SUBJECT.digest)))
    assert content is not None
    assert referrers.parse(content.content)[0] == theirs


def test_a_registry_that_lists_only_what_it_is_told_gets_the_tag(place: Place) -> None:
    """One that answers with a list, but does not say that it took the subject."""
    place.registry.lists_referrers = True
    place.registry.faults.append(Fault("PUT", "/manifests/", times=-1, headers={"OCI-Subject": None}))
    place.publish(place.bundle(b"ours"))
    assert ("acme/web", fallback_tag(SUBJECT.digest)) in place.registry.tags


def test_hardening_10_a_list_and_a_tag_that_disagree_are_both_read(place: Place) -> None:
    listed, tagged = place.bundle(b"listed"), place.bundle(b"tagged")
    place.publish(tagged)
    # A younger client of a registry that has learned to list: what is under the tag alone counts too.
    del place.registry.manifests["acme/web", tagged.descriptor.digest]
    place.registry.lists_referrers = True
    place.client._may_list = True
    place.publish(listed)
    place.registry._add_manifest("acme/web", _without_subject(tagged))
    place.keep_by_tag(
        referrers.referrer_of(listed), Referrer(_without_subject(tagged).descriptor, "application/x")
    )
    assert place.contents() == [b"listed", b"tagged"]


def test_a_type_is_only_a_hint(place: Place) -> None:
    place.publish(
        place.bundle(b"provenance", PROVENANCE), place.bundle(b"signature"), place.bundle(b"another", "other")
    )
    by_cosign = artifact.write(place.layout, b"cosign's", SIGNATURE, SUBJECT)
    place.publish(by_cosign)
    listed = [
        one for turn in place.client.referrers_by_turns(place.repository, SUBJECT.digest) for one in turn
    ]
    untold = [
        Referrer(one.descriptor) if one.descriptor.digest == by_cosign.descriptor.digest else one
        for one in listed
    ]
    place.keep_by_tag(*untold)
    assert place.contents(PROVENANCE) == [b"provenance", b"cosign's"]
    assert place.contents(SIGNATURE) == [b"signature", b"cosign's"]
    assert len(place.contents()) == 4


def test_one_that_cannot_be_read_hides_no_other(place: Place) -> None:
    gone = Descriptor(manifest.OCI_MANIFEST, Digest.of(b"gone"), 4)
    bundle = place.bundle(b"ours")
    place.publish(bundle)
    place.keep_by_tag(Referrer(gone), referrers.referrer_of(bundle))
    found = place.read()
    assert next(found).content == b"ours"
    with pytest.raises(ServiceError, match="does not exist"):
        next(found)


def test_other_artifacts_are_passed_over(place: Place) -> None:
    other = manifest.artifact_of("application/spdx+json", "application/spdx+json", b"{}", subject=SUBJECT)
    place.layout.write(b"{}", "application/spdx+json")
    place.publish(other)
    assert place.contents() == []


def test_another_image_under_the_tag_is_not_overwritten(place: Place) -> None:
    place.registry.tags["acme/web", fallback_tag(SUBJECT.digest)] = SUBJECT.digest
    with pytest.raises(ServiceError, match="is no index of referrers"):
        place.publish(place.bundle(b"ours"))


# The classic form


def test_requests_for_classic_signatures(place: Place) -> None:
    place.sign("own")
    assert place.counted() == 6
    (signed,) = publication.read_classic(place.client, place.image)
    assert ClassicVerifier(key("own").public).accepts(signed, place.image)
    assert place.counted() == 2
    place.sign("other")
    assert place.counted() == 6


def test_a_classic_signature_that_is_there_is_not_made_twice(place: Place) -> None:
    own = place.sign("own")
    place.counted()
    publication.publish_classic(place.layout, own, place.client, place.image)
    place.sign("own", is_good=True)
    assert place.counted() == 2
    place.sign("own")
    assert len(place.under_tag.layers) == 2


def test_signatures_of_others_stay_as_they_are(place: Place) -> None:
    place.sign("others")
    document = json.loads(place.under_tag.content)
    document["layers"].append(
        {**document["layers"][0], "mediaType": "application/x", "annotations": {"ü": "<&>"}, "more": [1]}
    )
    document["annotations"] = {"theirs": "too"}
    theirs = manifest.parse(json.dumps(document, indent=3).encode(), manifest.OCI_MANIFEST)
    reference = classic.tag(place.repository, SUBJECT.digest)
    place.client.tag(reference, theirs)
    own = place.sign("own")
    after = json.loads(place.under_tag.content)
    assert after["layers"][:2] == document["layers"]
    assert after["layers"][2] == json.loads(own.content)["layers"][0]
    assert after["annotations"] == {"theirs": "too"}
    config = json.loads(place.client.config(place.repository, place.under_tag))
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in after["layers"]]
    verifiers = [ClassicVerifier(key(name).public) for name in ("others", "own")]
    found = publication.read_classic(place.client, place.image)
    assert [one.accepts(signed, place.image) for one, signed in zip(verifiers, found, strict=True)] == [
        True
    ] * 2


def test_an_index_under_the_tag_is_not_added_to(place: Place) -> None:
    index = manifest.index_of([])
    place.registry._add_manifest("acme/web", index)
    reference = classic.tag(place.repository, SUBJECT.digest)
    place.registry.tags["acme/web", reference.tag or ""] = index.descriptor.digest
    with pytest.raises(ServiceError, match="is an index, so no signature is added"):
        place.sign("own")


def test_without_a_classic_signature_there_is_none(place: Place) -> None:
    assert publication.read_classic(place.client, place.image) == []


def test_a_classic_signature_goes_to_another_layout_too(place: Place, tmp_path: Path) -> None:
    other = Layout.create(tmp_path / "other")
    own = classic.write(place.layout, ClassicSigner(key("own")).sign(place.image))
    for _ in range(2):
        publication.publish_classic(place.layout, own, other, place.image)
    found = other.find(classic.tag(place.repository, SUBJECT.digest))
    assert found == own


def _without_subject(content: Manifest) -> Manifest:
    document = json.loads(content.content)
    del document["subject"]
    return manifest.parse(json.dumps(document).encode(), content.media_type)
