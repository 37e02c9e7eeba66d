"""Records of other jobs, joined into the record of this work folder.

Of a record only its claims are taken, and each is checked against bytes: every manifest and config
is read again, from the layout beside the record or, by digest, from the image's repository. Who signed
a record is checked where the config knows who must have, see `record_signature.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from secure_build import manifest, materials, record
from secure_build.attestations.provenance import SEVERAL_HOSTS
from secure_build.builders import joint_version
from secure_build.errors import RefusedError, ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import BuildRecord, Descriptor, Image, Invocation, Platform, Signature
from secure_build.reference import Digest, Repository
from secure_build.registry.client import RemoteRegistry
from secure_build.signers import StatementVerifier
from secure_build.steps import handover, record_signature, simple_signing
from secure_build.steps.build import joined
from secure_build.steps.job import RECORD_NAME, Job


@dataclass(frozen=True, slots=True)
class Given:
    """A record as it was named on the command line, the layouts where its bytes may be, and its folder."""

    name: str
    record: BuildRecord
    layouts: tuple[Layout, ...]
    folder: Path | None = None


def join(work: Job, verifiers: Sequence[StatementVerifier] = ()) -> None:
    """Write the record that the named records are together, with their bytes in this layout.

    Raises RefusedError for records that do not belong together, whose bytes are not what they say, or
    that somebody else signed.
    """
    own = work.record_path.resolve()
    places = [Path(name).resolve() for name in work.options.records]
    if places == [own]:
        return
    if own in places:
        raise UsageError(
            f"`{work.record_path}` is where the joined record goes, so it cannot be one of the parts",
            hint="join in another work folder: `--workdir DIR`",
        )
    given = [_read(work, name, verifiers) for name in work.options.records]
    for other in given[1:]:
        _require_equal(given[0], other, per_platform=isinstance(work.loaded.config.builder, Mapping))
    work.require_config(given[0].record, given[0].name)
    images = tuple(
        _join_image(work, name, parts)
        for name in work.loaded.config.built
        if (parts := [(one, image) for one in given for image in one.record.images if image.name == name])
    )
    first = given[0].record
    clean = all(one.record.built_from.clean for one in given)
    result = BuildRecord(first.tool, first.config, replace(first.built_from, clean=clean), images)
    record.write(work.record_path, _with_what_was_done(work, result))
    for image in images:
        work.report.step(
            f"{image.name}: {image.descriptor.digest} for {', '.join(map(str, image.platforms))}, "
            f"from {len(given)} record{'s' if len(given) > 1 else ''}"
        )


def _with_what_was_done(work: Job, joined: BuildRecord) -> BuildRecord:
    """What later steps wrote into the record of this folder stays, when it is of the same images."""
    last = work.last_record()
    if last is None:
        return joined
    joined = replace(joined, earlier=last.emitted)
    if (last.tool, last.config, last.source) != (joined.tool, joined.config, joined.source):
        return joined
    known = {image.pinned: image for image in last.images}
    images = tuple(_with_what_is_known(image, known.get(image.pinned)) for image in joined.images)
    return replace(last if images == last.images else joined, images=images)


def _with_what_is_known(image: Image, before: Image | None) -> Image:
    if before is None:
        return image
    return replace(
        image,
        published=image.published or before.published,
        signatures=image.signatures or before.signatures,
        enforced=image.enforced or before.enforced,
    )


def _read(work: Job, name: str, verifiers: Sequence[StatementVerifier]) -> Given:
    if handover.is_remote(name):
        found, content, bundles = handover.fetch(work, name)
        record_signature.require(name, content, bundles, verifiers, work.report)
        return Given(name, found, (work.layout,))
    path = Path(name)
    if path.is_dir():
        # The work folder of another job.
        path /= RECORD_NAME
    # In a capsule the record lies within the layout.
    beside = [path.parent / "layout", path.parent.parent]
    found, content = record.load(path)
    bundles = record_signature.bundles_beside(path)
    record_signature.require(str(path), content, bundles, verifiers, work.report)
    layouts = (work.layout, *(Layout(one) for one in beside if (one / "oci-layout").is_file()))
    return Given(name, found, layouts, path.parent)


def _require_equal(first: Given, other: Given, *, per_platform: bool) -> None:
    """Raise RefusedError for records of different things.

    Where the config names a builder `per_platform`, one is expected for equal platforms only.
    """

    def differ(what: str, one: object, two: object) -> None:
        if one != two:
            raise RefusedError(
                f"`{first.name}` and `{other.name}` cannot be joined: {what} is {one} and {two}",
                hint="build all of them from one commit, with one config, builder and secure-build",
            )

    differ("the version of secure-build", first.record.tool, other.record.tool)
    differ("the digest of the config", first.record.config, other.record.config)
    differ("the commit", first.record.built_from.commit, other.record.built_from.commit)
    differ("the folder of the config", first.record.built_from.subdir, other.record.built_from.subdir)
    for image in other.record.images:
        for before in first.record.images:
            if not per_platform or set(before.platforms) == set(image.platforms):
                differ("the builder", before.builder, image.builder)


def _join_image(work: Job, name: str, parts: Sequence[tuple[Given, Image]]) -> Image:
    wanted = work.loaded.config.built[name]
    members: dict[Platform, Descriptor] = {}
    origins: dict[Platform, str] = {}
    sparse = False
    for given, image in parts:
        reference = wanted.published(given.record.built_from.commit)
        if image.reference != reference:
            raise RefusedError(f"`{given.name}` has {name} as `{image.reference}`, not `{reference}`")
        taken = _Bytes(work, given, image)
        found = taken.members()
        for platform in found:
            if platform in origins:
                raise RefusedError(
                    f"`{origins[platform]}` and `{given.name}` both have {name} for {platform}",
                    hint="give one record for each platform of an image",
                )
            if platform not in wanted.build.platforms:
                raise RefusedError(f"`{given.name}` has {name} for {platform}, which the config does not")
            origins[platform] = given.name
        members |= found
        sparse = not taken.copy() or sparse
    _, first = parts[0]
    descriptor = first.descriptor if len(parts) == 1 else joined(list(members.values()), work.layout)
    inputs = {
        platform: listed
        for _, image in parts
        for platform, listed in materials.per_platform(image.materials or (), image.platforms).items()
    }
    made_by = {platform: image.builder for _, image in parts for platform in image.platforms}
    work.layout.name(first.reference, descriptor)
    return replace(
        first,
        descriptor=descriptor,
        builder=first.builder if len(parts) == 1 else joint_version(made_by),
        platforms=tuple(platform for platform in wanted.build.platforms if platform in members),
        materials=None if any(image.materials is None for _, image in parts) else materials.merged(inputs),
        published=first.published if len(parts) == 1 else None,
        sparse=sparse,
        reproducible=all(image.reproducible for _, image in parts),
        missing=tuple(platform for platform in wanted.build.platforms if platform not in members),
        # What was signed is another manifest than that of all parts.
        signatures=taken.signatures(work) if len(parts) == 1 else (),
        enforced=first.enforced if len(parts) == 1 else None,
        invocation=_joined_invocation([image for _, image in parts]),
    )


def _joined_invocation(parts: Sequence[Image]) -> Invocation | None:
    """From the first part's start to the last one's end, where they had it in common; None when unknown."""
    known = [part.invocation for part in parts if part.invocation is not None]
    if len(known) != len(parts):
        return None
    hosts, identities = {one.host for one in known}, {one.identity for one in known}
    return Invocation(
        hosts.pop() if len(hosts) == 1 else SEVERAL_HOSTS,
        identities.pop() if len(identities) == 1 else None,
        min(one.started for one in known),
        max(one.finished for one in known),
    )


class _Bytes:
    """The bytes of one image of a record: in a layout, or in its repository when it was put there."""

    def __init__(self, work: Job, given: Given, image: Image) -> None:
        self._given = given
        self._image = image
        self._own = work.layout
        self._repository: Repository = image.reference.repository
        host = self._repository.registry
        there = image.sparse or image.published == host
        self._registry: RemoteRegistry | None = work.own_reader(self._repository) if there else None

    def members(self) -> dict[Platform, Descriptor]:
        """The manifest of each platform; each says what it is in its own config."""
        what = f"`{self._given.name}`: {self._image.name}"
        root = self._manifest(self._image.descriptor)
        only = next(iter(self._image.platforms), None)
        listed = root.members or (replace(root.descriptor, platform=only),)
        found: dict[Platform, Descriptor] = {}
        for member in listed:
            content = self._manifest(member)
            if content.config is None or member.platform is None or member.platform in found:
                raise RefusedError(f"{what} has members that are no images for one platform each")
            platform = manifest.platform_of_config(b"".join(self._chunks(content.config)))
            wanted = member.platform
            if (platform.os, platform.architecture) != (wanted.os, wanted.architecture):
                raise RefusedError(f"{what} is said to be for {wanted}, and its config says {platform}")
            found[wanted] = member
        if set(found) != set(self._image.platforms):
            claimed = ", ".join(map(str, self._image.platforms))
            raise RefusedError(f"{what} is said to be for {claimed}, and is for {', '.join(map(str, found))}")
        return found

    def copy(self) -> bool:
        """Bring the image into the layout of this work folder; false when its layers stay elsewhere."""
        whole = True
        for content in self._all_manifests(self._image.descriptor):
            for blob in content.layers:
                if self._registry is None or any(layout.has(blob) for layout in self._given.layouts):
                    self._own.write_from(blob, lambda blob=blob: self._chunks(blob))  # type: ignore[misc]
                else:
                    whole = False
            if config := content.config:
                self._own.write_from(config, lambda config=config: self._chunks(config))  # type: ignore[misc]
            self._own.write(content.content, content.media_type)
        return whole

    def signatures(self, work: Job) -> tuple[Signature, ...]:
        """The signatures, brought into this work folder; what is nowhere is left out."""
        return tuple(filter(None, (self._signature(work, one) for one in self._image.signatures)))

    def _signature(self, work: Job, signature: Signature) -> Signature | None:
        if signature.kind == "rhs":
            folder = self._given.folder
            return simple_signing.bring(work, folder, self._image, signature) if folder else None
        # The server has what is signed with `dct`.
        return signature if signature.kind == "dct" or self._bring(Digest.parse(signature.kept)) else None

    def _bring(self, digest: Digest) -> bool:
        named = (layout.artifact(digest) for layout in self._given.layouts)
        try:
            content = next(filter(None, named), None) or self._manifest(
                Descriptor(manifest.OCI_MANIFEST, digest, 0)
            )
            for blob in content.blobs:
                self._own.write_from(blob, lambda blob=blob: self._chunks(blob))  # type: ignore[misc]
        except (ServiceError, UsageError):
            # It can be made anew, and what is signed does not change by it.
            return False
        self._own.write(content.content, content.media_type)
        return True

    def _all_manifests(self, root: Descriptor) -> Iterator[Manifest]:
        content = self._manifest(root)
        for member in content.members:
            yield from self._all_manifests(member)
        yield content

    def _manifest(self, descriptor: Descriptor) -> Manifest:
        if (layout := self._holder(descriptor)) is not None:
            return layout.manifest(descriptor)
        assert self._registry is not None
        return self._registry.get_manifest(self._repository, descriptor)

    def _chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        if (layout := self._holder(descriptor)) is not None:
            return layout.chunks(descriptor)
        assert self._registry is not None
        return self._registry.blob(self._repository, descriptor)

    def _holder(self, descriptor: Descriptor) -> Layout | None:
        """The layout that has it, None for the registry; raises UsageError when neither can."""
        layout = next((layout for layout in self._given.layouts if layout.has(descriptor)), None)
        if layout is None and self._registry is None:
            raise UsageError(
                f"`{self._given.name}` names {self._image.name} ({descriptor.digest}), "
                "and there is no layout beside it that has it",
                hint="hand the folder `layout` on with the record, or use `publish --by-digest`",
            )
        return layout
