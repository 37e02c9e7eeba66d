"""Signatures and statements beside an image in a registry: bundles as referrers, classic ones by tag.

Requests are few, and what is there is not written again. What was written is looked at by reading it,
as whoever verifies does; the readers give everything, so that disagreement shows.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from secure_build.attestations import artifact, classic
from secure_build.attestations.classic import Signed
from secure_build.errors import ServiceError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Pinned, Repository
from secure_build.registry import Registry
from secure_build.registry.reader import Reader
from secure_build.registry.referrers import Referrer, subject_of


@dataclass(frozen=True, slots=True)
class KeptBundle:
    """A bundle and the digest of the manifest that it was found by."""

    manifest: Digest
    content: bytes


def publish_bundles(
    layout: Layout, bundles: Sequence[Manifest], registry: Registry, repository: Repository
) -> set[Digest]:
    """Put the layout's bundles beside what they are about, which must be there; returns which are new there.

    For each subject this is one request to look, three for each bundle (five for the first of a
    repository), and where the registry keeps no lists of referrers another to look, once, and one to
    list them all. Somebody else may list something at the same moment: read afterwards.
    """

    def subject(one: Manifest) -> Digest:
        found = subject_of(one)
        assert found is not None, "a bundle is about something"
        return found

    return {
        new.descriptor.digest
        for digest, group in groupby(sorted(bundles, key=subject), subject)
        for new in registry.attach(repository, digest, list(group), layout.chunks)
    }


def read_bundles(
    reader: Reader,
    repository: Repository,
    subject: Digest,
    *,
    predicate_types: Collection[str] | None = None,
    layout: Layout | None = None,
) -> Iterator[KeptBundle]:
    """The bundles about a manifest, each read when it is asked for; nobody has checked them.

    With `predicate_types` those come first that are said to be of these types, and those that are said to
    be of another one are left out; nobody has signed that either. What is listed and whole in `layout` comes
    first, and from there. One that cannot be read hides no other: ServiceError is raised for it at the end.
    """
    unread: ServiceError | None = None
    for listed in reader.referrers_by_turns(repository, subject):
        ordered = _ordered(listed, predicate_types)
        if layout is not None:
            ordered.sort(key=lambda one: not layout.has(one.descriptor))
        for one in ordered:
            try:
                bundle = _here(layout, one.descriptor) or _fetched(reader, repository, one.descriptor)
            except ServiceError as error:
                unread = unread or error
                continue
            if bundle is not None:
                yield KeptBundle(one.descriptor.digest, bundle)
    if unread is not None:
        raise unread


def publish_classic(
    layout: Layout,
    own: Manifest,
    registry: Registry,
    image: Pinned,
    *,
    is_good: Callable[[Signed], bool] = lambda _: False,
) -> None:
    """Put the layout's classic signature (`classic.write`) under the image's tag, after those of others.

    Nothing is written when it is there, or another one of the same document that `is_good`: the
    signature of an earlier run. At most six requests. Somebody else may sign at the same moment: read
    afterwards.
    """
    reference = classic.tag(image.repository, image.digest)
    existing = registry.find(reference)
    target, config = own, None
    if existing is not None:
        (layer,) = own.layers
        there = [one for one in existing.layers if one.digest == layer.digest]
        if there and any(map(is_good, classic.signatures(existing, functools.partial(_only, layout, layer)))):
            return
        target, config = classic.merge(existing, own)
        if len(target.layers) == len(existing.layers):
            return
    for blob in own.layers:
        registry.put_blob(image.repository, blob, functools.partial(layout.chunks, blob))
    assert target.config is not None
    if config is None:
        config = layout.read(target.config)
    registry.put_blob(image.repository, target.config, functools.partial(_once, config))
    registry.tag(reference, target)


def read_classic(reader: Reader, image: Pinned) -> list[Signed]:
    """The classic signatures of an image; nobody has checked them."""
    found = reader.find(classic.tag(image.repository, image.digest))
    if found is None:
        return []
    return classic.signatures(found, lambda layer: b"".join(reader.blob(image.repository, layer)))


def _ordered(listed: Sequence[Referrer], predicate_types: Collection[str] | None) -> list[Referrer]:
    """Those worth reading, the most promising first. cosign lists its own without a type."""
    if predicate_types is None:
        return list(listed)
    named = [one.annotations.get(artifact.PREDICATE_TYPE) for one in listed]
    sure = [one for one, name in zip(listed, named, strict=True) if name in predicate_types]
    return sure + [one for one, name in zip(listed, named, strict=True) if name is None]


def _here(layout: Layout | None, descriptor: Descriptor) -> bytes | None:
    """A bundle's bytes, where they are here; what is damaged is none."""
    try:
        return artifact.read(layout, descriptor.digest) if layout else None
    except ServiceError:
        return None


def _fetched(reader: Reader, repository: Repository, descriptor: Descriptor) -> bytes | None:
    """The same from its repository; None for what is no bundle."""
    blob = artifact.bundle_of(reader.get_manifest(repository, descriptor))
    return None if blob is None else b"".join(reader.blob(repository, blob))


def _only(layout: Layout, own: Descriptor, layer: Descriptor) -> bytes:
    """The bytes of our own document, and of others nothing that anybody has signed."""
    return layout.read(own) if layer.digest == own.digest else b""


def _once(content: bytes) -> Iterator[bytes]:
    yield content
