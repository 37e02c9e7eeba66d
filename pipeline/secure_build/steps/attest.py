"""What is said of the built images, signed: that they are ours, their provenance, and what is in them.

Provenance is one statement about the index and all of its members, an SBOM one about a member. Each
is kept in the layout as an artifact about every manifest that it is about, so that whoever has one of
them finds it. What is there and verifies is not made again.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secure_build import secret, stopping
from secure_build.attestations import artifact, provenance, sbom, statement
from secure_build.config import Build
from secure_build.errors import RefusedError, ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import BuildRecord, Descriptor, Image, Signature, SignatureKind
from secure_build.reference import Digest, Pinned
from secure_build.signers import StatementSigner
from secure_build.steps.job import Job
from secure_build.steps.transfer import RemoteSource


def attest(
    work: Job, images: Sequence[Image], signers: Sequence[StatementSigner]
) -> dict[str, tuple[Signature, ...]]:
    """For each image, by name, the signatures of all statements about it, by all of these signers.

    Those that the image's record, the layout and the signer agree on are kept as they are. Without
    signers there are no statements. Raises UsageError for an image whose layers are needed and cannot
    be had.
    """
    if not signers:
        return {image.name: () for image in images}
    current = work.current_record()

    def signatures(image: Image) -> tuple[Signature, ...]:
        return _attest(work, current, image, signers)

    found = stopping.side_by_side(signatures, images, jobs=work.options.jobs)
    return {image.name: made for image, made in zip(images, found, strict=True)}


@dataclass(frozen=True, slots=True)
class Said:
    """A statement to be: of which type, about which manifests, and signed by which kinds of signer."""

    predicate_type: str
    subjects: tuple[Descriptor, ...]
    kinds: frozenset[SignatureKind]


def _attest(
    work: Job, current: BuildRecord, image: Image, signers: Sequence[StatementSigner]
) -> tuple[Signature, ...]:
    kinds = frozenset(signer.kind for signer in signers)
    wanted = promised(work, image, work.layout.manifest(image.descriptor), kinds)
    pairs = [(said, signer) for said in wanted for signer in signers if signer.kind in said.kinds]
    done = {
        (said, signer.kind): known
        for said, signer in pairs
        if (known := _kept(work.layout, image, said, signer)) is not None
    }
    missing = list(dict.fromkeys(said for said, signer in pairs if (said, signer.kind) not in done))
    for said, predicate in _predicates(work, current, image, missing):
        repository = image.reference.repository
        subjects = [(str(repository), subject.digest) for subject in said.subjects]
        content = statement.statement(said.predicate_type, predicate, subjects)
        for signer in signers:
            if signer.kind in said.kinds and (said, signer.kind) not in done:
                bundle = signer.sign(content)
                done[said, signer.kind] = tuple(
                    Signature(
                        signer.kind,
                        Pinned(repository, subject.digest),
                        signer.signer,
                        str(
                            artifact.write(
                                work.layout, bundle, said.predicate_type, subject
                            ).descriptor.digest
                        ),
                        said.predicate_type,
                    )
                    for subject in said.subjects
                )
    if missing:
        by = " and ".join(signer.kind for signer in signers)
        work.report.step(
            f"{image.name}: {len(missing)} of {len(wanted)} statements signed with {by}: "
            "evidence for people and other tools, no runtime checks it"
        )
    else:
        work.report.step(f"{image.name}: unchanged, its {len(wanted)} statements are kept")
    return tuple(one for said, signer in pairs for one in done[said, signer.kind])


def promised(work: Job, image: Image, content: Manifest, kinds: frozenset[SignatureKind]) -> list[Said]:
    """The image's own signatures, and what is said of it: the first by those that the config names for
    it, the others by all of `kinds`. `content` is what the image's descriptor names."""
    config = work.loaded.config.attestations
    listed = {member.digest: member for member in content.members}
    every = (image.descriptor, *listed.values())
    signing = kinds & set(work.loaded.config.built[image.name].sign)
    signatures = [Said(statement.SIGNATURE, (one,), signing) for one in every if signing]
    provenances = [Said(provenance.PREDICATE, every, kinds)]
    members = list(listed.values()) or [image.descriptor]
    sboms = [Said(sbom.PREDICATES[kind], (member,), kinds) for member in members for kind in config.sbom]
    return [*signatures, *(provenances if config.provenance else ()), *sboms]


def _kept(layout: Layout, image: Image, said: Said, signer: StatementSigner) -> tuple[Signature, ...] | None:
    """The signatures of a statement that was made before; None when one lacks, or is not as it should be."""
    found = []
    for subject in said.subjects:
        pinned = Pinned(image.reference.repository, subject.digest)
        signature = next(
            (
                known
                for known in image.signatures
                if (known.kind, known.signer) == (signer.kind, signer.signer)
                and (known.predicate, known.image) == (said.predicate_type, pinned)
            ),
            None,
        )
        try:
            bundle = artifact.read(layout, Digest.parse(signature.kept)) if signature else None
            if signature is None or bundle is None:
                return None
            payload = signer.verify(bundle)
            for one in said.subjects:
                statement.predicate(payload, predicate_type=said.predicate_type, subject=one.digest)
        except (RefusedError, ServiceError, UsageError):
            # What is not as it was written is made anew.
            return None
        found.append(signature)
    return tuple(found)


def _predicates(
    work: Job, current: BuildRecord, image: Image, missing: Collection[Said]
) -> Iterator[tuple[Said, dict[str, Any]]]:
    """What is said in each of these statements; a manifest is read once for all of its formats."""
    formats = {predicate_type: kind for kind, predicate_type in sbom.PREDICATES.items()}
    members: dict[Descriptor, list[Said]] = {}
    for said in missing:
        if said.predicate_type == statement.SIGNATURE:
            yield said, {}
        elif said.predicate_type in formats:
            members.setdefault(said.subjects[0], []).append(said)
        else:
            built = work.loaded.config.built[image.name]
            parameters = _parameters(built.build)
            yield (
                said,
                provenance.predicate(
                    image, current.built_from, parameters, config=current.config, tool=current.tool
                ),
            )
    for member, listed in members.items():
        kinds = [formats[said.predicate_type] for said in listed]
        doing = f"listing what is in it{f' for {member.platform}' if member.platform else ''}"
        pinned = Pinned(image.reference.repository, member.digest)
        with work.report.task(image.name, doing), _alone(work, image, member) as layout:
            documents = sbom.generate(layout, pinned, kinds, folder=work.options.workdir)
        for said, kind in zip(listed, kinds, strict=True):
            yield said, documents[kind]


def _parameters(build: Build) -> provenance.Parameters:
    """What the config asks for, without what is or may be secret."""
    # Once it is known to be a secret, a value is none to be told, whatever the config says of it.
    revealed = {name for name, value in build.args.items() if secret.mask(value) != value}
    return provenance.Parameters(
        context=build.context,
        dockerfile=build.dockerfile,
        platforms=build.platforms,
        target=build.target,
        arguments=build.args,
        hidden={*build.allow_token_args, *revealed},
        secrets=tuple(build.secrets),
        contexts=build.contexts,
        cache_from=build.cache.from_ if build.cache else (),
        cache_to=build.cache.to if build.cache else None,
    )


@contextlib.contextmanager
def _alone(work: Job, image: Image, member: Descriptor) -> Iterator[Layout]:
    """A layout that lists this manifest only; layers that are in the image's repository are fetched."""
    if work.layout.holds_image(member):
        with work.layout.staging() as staging:
            staging.name(image.reference, member)
            yield staging
        return
    repository = image.reference.repository
    if work.options.offline:
        raise UsageError(
            f"the layers of {image.name} are in `{repository}`, and `--offline` reads no registry",
            hint="leave `--offline` out, or write `attestations: {sbom: []}`",
        )
    remote = RemoteSource(work.own_reader(repository), repository)
    with tempfile.TemporaryDirectory(prefix=".sbom-", dir=work.options.workdir) as folder:
        fetched = Layout.create(Path(folder) / "layout")
        content = work.layout.manifest(member)
        for blob in content.blobs:
            source = work.layout if work.layout.has(blob) else remote
            fetched.write_from(blob, lambda blob=blob, source=source: source.chunks(blob))  # type: ignore[misc]
        fetched.write(content.content, content.media_type)
        fetched.name(image.reference, member)
        yield fetched
