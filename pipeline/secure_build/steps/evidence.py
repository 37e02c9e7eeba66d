"""Signatures and statements on their way beside the published image: written, read back, then the tag.

What is published was verified where it was signed; here it is verified once more with the keys that are
at hand, since records and layouts come from other jobs too.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from secure_build.attestations import artifact, classic, publication, statement
from secure_build.attestations.classic import Signed
from secure_build.errors import RefusedError, ServiceError, UsageError
from secure_build.manifest import Manifest
from secure_build.model import Image, Signature
from secure_build.reference import Digest, Pinned
from secure_build.registry import Registry
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.referrers import subject_of
from secure_build.signers import StatementVerifier
from secure_build.steps import transfer
from secure_build.steps.content_trust import sign_tag
from secure_build.steps.job import Job
from secure_build.steps.keys import keys
from secure_build.steps.simple_signing import publish_simply


@dataclass(frozen=True, slots=True)
class _Kept:
    """A signature that is an artifact in the layout."""

    signature: Signature
    content: Manifest

    @property
    def is_bundle(self) -> bool:
        return artifact.bundle_of(self.content) is not None


def put_evidence(
    work: Job,
    image: Image,
    destination: Registry,
    verifiers: Sequence[StatementVerifier],
    before: Digest | None,
) -> Image:
    """Put what is signed and said of an image beside it, where the image is, and read back what is new.

    `before` is what the image's tag names until now. What comes back is the image with what is signed
    at this moment only. Raises UsageError for what is not in the layout, RefusedError for what is not
    as it was signed, and ServiceError when something else comes back.
    """
    if not image.signatures and not work.loaded.config.built[image.name].signatures:
        return image
    repository, layout = image.reference.repository, work.layout
    own = {one.descriptor.digest for one in transfer.manifests_of(layout, layout.manifest(image.descriptor))}
    signing = work.loaded.config.signing
    for signature in image.signatures:
        if signature.image.repository != repository or signature.image.digest not in own:
            raise RefusedError(f"the record of {image.name} has a signature of {signature.image}")
        if getattr(signing, signature.kind) is None:
            raise RefusedError(
                f"the record of {image.name} has a signature of the kind `{signature.kind}`, "
                f"and the config does not sign so"
            )
    kept = [_kept(work, image, one) for one in image.signatures if one.kept.startswith("sha256:")]
    bundles = [one for one in kept if one.is_bundle]
    classics = [one for one in kept if not one.is_bundle]
    for one in bundles:
        _verify(work, one, verifiers)
    accepting = _classic_verifier(work, image)
    new = publication.publish_bundles(layout, [one.content for one in bundles], destination, repository)
    for one in classics:
        pinned = one.signature.image
        is_good = accepting(pinned)
        if not any(map(is_good, classic.signatures(one.content, layout.read))):
            raise RefusedError(f"{one.signature.kept} is no signature of {pinned} by the key of {image.name}")
        publication.publish_classic(layout, one.content, destination, pinned, is_good=is_good)
    if isinstance(destination, RemoteRegistry):
        _read_back([one for one in bundles if one.content.descriptor.digest in new], destination)
        for one in classics:
            _read_back_classic(one, destination, accepting(one.signature.image))
        publish_simply(work, image, before)
        if not work.options.by_digest:
            return sign_tag(work, image)
    return image


def _kept(work: Job, image: Image, signature: Signature) -> _Kept:
    content = work.layout.artifact(Digest.parse(signature.kept))
    if content is None:
        raise UsageError(
            f"a signature of {image.name} ({signature.kept}) is not in `{work.layout.directory}`",
            hint="run `secure-build sign`",
        )
    return _Kept(signature, content)


def _verify(work: Job, one: _Kept, verifiers: Sequence[StatementVerifier]) -> None:
    """Raise RefusedError unless a bundle says what the record has of it, by whom the config names.

    Whose key or identity is not here cannot be checked, and was where it was signed.
    """
    signature = one.signature
    if subject_of(one.content) != signature.image.digest:
        raise RefusedError(f"{signature.kept} is beside another image than {signature.image}")
    bundle = artifact.read(work.layout, Digest.parse(signature.kept))
    assert bundle is not None
    for verifier in verifiers:
        if verifier.kind == signature.kind:
            payload = verifier.verify(bundle)
            statement.predicate(payload, predicate_type=signature.predicate, subject=signature.image.digest)


def _read_back(bundles: Sequence[_Kept], registry: RemoteRegistry) -> None:
    by_subject: dict[Pinned, list[_Kept]] = {}
    for one in bundles:
        by_subject.setdefault(one.signature.image, []).append(one)
    for image, group in by_subject.items():
        wanted = {one.content.descriptor.digest for one in group}
        listed = registry.referrers(image.repository, image.digest, expected=wanted)
        if lost := wanted - {one.descriptor.digest for one in listed}:
            raise ServiceError(
                f"{registry} does not list {min(lost)} beside `{image}` right after it was put there",
                hint="somebody else may write there at the same time: try again",
            )
        for one in group:
            found = registry.get_manifest(image.repository, one.content.descriptor)
            blob = artifact.bundle_of(found)
            if found != one.content or blob is None:
                raise ServiceError(f"{registry} gives another signature of `{image}` back than was sent")
            for _ in registry.blob(image.repository, blob):
                # It is compared with its digest on the way.
                pass


def _classic_verifier(work: Job, image: Image) -> Callable[[Pinned], Callable[[Signed], bool]]:
    """For a manifest, what tells whether a signature of it is by the key that the contract will have.

    A log entry is asked for where the config names a log.
    """
    from secure_build.signers import cosign_key
    from secure_build.signers.classic import ClassicVerifier

    if image.enforced is None or image.enforced.by != "cosign":
        return lambda _: lambda _: False
    public = base64.b64decode(image.enforced.public_key)
    key = cosign_key.public_key(public, f"the key of {image.name}")
    verifier = ClassicVerifier(key, keys(work).log)
    return lambda pinned: lambda signed: verifier.accepts(signed, pinned)


def _read_back_classic(one: _Kept, registry: RemoteRegistry, is_good: Callable[[Signed], bool]) -> None:
    image = one.signature.image
    if not any(map(is_good, publication.read_classic(registry, image))):
        raise ServiceError(
            f"{registry} gives no signature of `{image}` back right after it was put there",
            hint="somebody else may sign at the same time: try again",
        )
