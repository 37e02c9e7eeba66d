"""An image that an audit follows to its bytes, and what is said beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from secure_build import manifest
from secure_build.attestations import artifact, provenance, publication, sbom, statement
from secure_build.errors import RefusedError, SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import Descriptor, Image, Platform, SignatureKind
from secure_build.reference import Digest, Pinned, Reference
from secure_build.registry.reader import Reader
from secure_build.signers import StatementVerifier

# What SBOMs are called, by the type of their statements.
FORMATS = {predicate_type: kind for kind, predicate_type in sbom.PREDICATES.items()}
_TYPES = {statement.SIGNATURE, provenance.PREDICATE, *FORMATS}


@dataclass(frozen=True, slots=True)
class Said:
    """A statement about one manifest; `predicate` is None where nobody is to be believed, for `why`.

    `is_open`: nobody here can tell.
    """

    kind: SignatureKind
    predicate_type: str
    subject: Digest
    signer: str
    predicate: dict[str, Any] | None
    why: str = ""
    is_open: bool = False


@dataclass(slots=True)
class Followed:
    """One image; `lack` is why its bytes could not be had, or are not what they should be, and `unread` the
    same of something that is said beside it.

    `manifests` are its own and those in it, with the platforms that the configs say; `size` is that of
    configs and layers, in bytes.
    """

    pinned: Pinned
    image: Image | None
    place: str = "nowhere"
    manifests: dict[Digest, Platform | None] = field(default_factory=dict)
    size: int = 0
    said: tuple[Said, ...] = ()
    lack: SecureBuildError | None = None
    unread: ServiceError | None = None

    @property
    def platforms(self) -> list[Platform]:
        return [one for one in self.manifests.values() if one is not None]


def in_layout(
    followed: Followed, top: Descriptor, layout: Layout, known: Sequence[StatementVerifier]
) -> None:
    """Hash the image in a layout, and what the build record keeps there about it."""
    followed.place = str(layout)
    _hash(followed, layout.manifest(top), layout.manifest, layout.chunks)
    kept = followed.image.signatures if followed.image is not None else ()

    def beside(subject: Digest) -> Iterator[bytes]:
        for one in kept:
            if one.image.digest == subject and one.predicate in _TYPES:
                try:
                    bundle = artifact.read(layout, Digest.parse(one.kept))
                except ServiceError as error:
                    followed.unread = error
                    continue
                if bundle is not None:
                    yield bundle

    followed.said = tuple(_read(followed, beside, known))


def at_registry(followed: Followed, reader: Reader, known: Sequence[StatementVerifier]) -> None:
    """Hash the image at its registry, and read what is said beside it."""
    repository = followed.pinned.repository
    followed.place = f"`{repository}`"
    _hash(
        followed,
        reader.resolve(Reference(repository, digest=followed.pinned.digest)),
        lambda member: reader.get_manifest(repository, member),
        lambda blob: reader.blob(repository, blob),
    )

    def beside(subject: Digest) -> Iterator[bytes]:
        try:
            yield from (one.content for one in publication.read_bundles(reader, repository, subject))
        except ServiceError as error:
            followed.unread = error

    if followed.image is not None:
        followed.said = tuple(_read(followed, beside, known))


def _hash(
    followed: Followed,
    content: Manifest,
    read: Callable[[Descriptor], Manifest],
    chunks: Callable[[Descriptor], Iterable[bytes]],
) -> None:
    """Read a manifest and everything that it names; raises ServiceError for what cannot be read."""
    followed.manifests[content.descriptor.digest] = None
    for member in content.members:
        inner = read(member)
        if inner.members:
            raise ServiceError(f"{member.digest} is an index in an index")
        _hash(followed, inner, read, chunks)
    for blob in content.blobs:
        followed.size += blob.size
        if blob == content.config:
            config = b"".join(chunks(blob))
            followed.manifests[content.descriptor.digest] = manifest.platform_of_config(config)
        else:
            for _ in chunks(blob):
                pass


def _read(
    followed: Followed, beside: Callable[[Digest], Iterator[bytes]], known: Sequence[StatementVerifier]
) -> Iterator[Said]:
    for subject in followed.manifests:
        for bundle in beside(subject):
            claimed = artifact.claim(bundle)
            predicate_type = (statement.type_of(claimed.payload) if claimed else None) or ""
            if claimed is not None and predicate_type in _TYPES:
                yield _judged(bundle, claimed.kind, predicate_type, subject, known)


def _judged(
    bundle: bytes,
    kind: SignatureKind,
    predicate_type: str,
    subject: Digest,
    known: Sequence[StatementVerifier],
) -> Said:
    verifier = next((one for one in known if one.kind == kind), None)
    if verifier is None:
        return Said(kind, predicate_type, subject, "", None, "whose key or identity was not given", True)
    try:
        payload = verifier.verify(bundle)
        predicate = statement.predicate(payload, predicate_type=predicate_type, subject=subject)
    except RefusedError as error:
        return Said(kind, predicate_type, subject, "", None, error.message)
    return Said(kind, predicate_type, subject, verifier.signer, predicate)
