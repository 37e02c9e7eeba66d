"""build: a commit's images into the layout, those that are as before left as they are."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from secure_build import __version__, builders, manifest, materials, record, stopping
from secure_build.builders import Builder, Built, Recipe, Surroundings
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.layout import Layout
from secure_build.model import BuilderVersion, BuildRecord, Descriptor, Image, Material, Platform
from secure_build.source import Checkout
from secure_build.steps.job import LARGEST_FILE, Job
from secure_build.steps.pins import locked_digest, not_locked

Exports = Mapping[str, tuple[Path, Path, int]]


def build(work: Job) -> BuildRecord:
    """Build what changed, write the record; images that are as before are kept as they are.

    With `locked`, whatever is not in the lock is refused: before anything is built where that can be
    known, else before the image has a name in the layout or a place in the record.
    """
    options, loaded = work.options, work.loaded
    wanted = work.selected()
    for image in loaded.config.used.values():
        locked_digest(work, image.use)
    with Checkout.open(loaded.directory, allow_dirty=options.allow_dirty) as checkout:
        source = checkout.source
        if not source.clean:
            work.report.step(f"the working tree differs; commit {source.commit} is built without the changes")
        if source.committed_at > datetime.now(UTC):
            # What a build step writes is then older than the commit, so its time is not rewritten.
            work.report.step(
                f"commit {source.commit} is dated in the future: its digest will not be repeatable"
            )
        for path in (loaded.path, work.lock_path):
            if path.exists() and not _is_committed(path, checkout):
                work.report.step(f"`{path}` is used as it is here, which is not as it is in the commit")
        old = _previous(work, source.commit)
        images = {image.name: image for image in old.images} if old else {}
        made = _build_missing(work, checkout, wanted, images) if wanted else []
    images |= {image.name: image for image in made}
    # When nothing was built, what later steps wrote into the record stays.
    fresh = BuildRecord(tool=__version__, config=loaded.digest, source=source)
    result = replace(
        fresh if made or old is None else old,
        source=source,
        images=tuple(images[name] for name in loaded.config.built if name in images),
    )
    record.write(work.record_path, result)
    return result


def _build_missing(
    work: Job, checkout: Checkout, wanted: Sequence[str], previous: Mapping[str, Image]
) -> list[Image]:
    """Build those of the wanted images that are not there unchanged."""
    with opened_builder(work) as builder:
        kept = [name for name in wanted if name in previous and _unchanged(work, previous[name], builder)]
        for name in sorted(kept):
            work.report.step(f"{name}: unchanged, not built ({previous[name].descriptor.digest})")
        missing = [name for name in wanted if name not in kept]
        with exports(work, checkout, missing) as exported:
            return stopping.side_by_side(
                lambda name: _build_image(work, builder, name, exported), missing, jobs=work.options.jobs
            )


def opened_builder(work: Job) -> contextlib.AbstractContextManager[Builder]:
    """The builder that the command line or the config names."""
    options, loaded = work.options, work.loaded
    surroundings = Surroundings(
        folder=options.workdir,
        logins=[login for host in loaded.config.registries if (login := work.login(host, "pull"))],
    )
    wanted = options.builder or loaded.config.builder
    # One builder for each platform comes next.
    assert not isinstance(wanted, dict)
    return builders.open_builder(wanted, surroundings)


def _is_committed(path: Path, checkout: Checkout) -> bool:
    place = checkout.locate(path.name, what="this file")
    return checkout.read(place, at_most=LARGEST_FILE) == path.read_bytes()


def _previous(work: Job, commit: str) -> BuildRecord | None:
    """The last record, when it is of the same tool, config and commit."""
    old = work.last_record()
    same = old and (old.tool, old.config, old.source.commit) == (__version__, work.loaded.digest, commit)
    return old if same else None


def _unchanged(work: Job, image: Image, builder: Builder) -> bool:
    """Whether building again would give the same, and the bytes are still here."""
    wanted = work.loaded.config.built.get(image.name)
    if (
        wanted is None
        or image.materials is None
        or image.reference != wanted.image
        or image.builder != builder.version
        or set(image.platforms) != set(work.platforms_of(image.name))
        or not work.layout.holds_image(image.descriptor)
    ):
        return False
    taken = materials.per_platform(image.materials, image.platforms)
    same = all(_still(work, platform, material) for platform in taken for material in taken[platform])
    if same:
        for platform in taken:
            _check_lock(work, image.name, platform, taken[platform], builder.version)
    return same


def _still(work: Job, platform: Platform, material: Material) -> bool:
    """Whether a build would take the same again: what is locked, else what the tag names now."""
    if material.is_fixed:
        return True
    locked = work.lock.digest(material.kind, material.name, platform)
    if locked is not None or work.options.locked:
        return locked in (None, material.digest)
    if material.kind != "image":
        return False
    try:
        found = work.reader(material.reference.repository).tagged(material.reference)
        return str(found) == material.digest
    except SecureBuildError:
        # The build will say what is wrong with this base, in the words of the builder.
        return False


def _check_lock(
    work: Job, name: str, platform: Platform, taken: Sequence[Material] | None, builder: BuilderVersion
) -> None:
    """Raise RefusedError for a build that took something else than the lock says.

    With `locked`, also for one that took something the lock does not know, or does not say.
    """
    if taken is None and work.options.locked:
        raise RefusedError(
            f"{name}: {builder} does not say what it pulled, so nobody can tell whether it was as locked",
            hint="use another builder: `--builder buildx` or `--builder buildah`",
        )
    for material in taken or ():
        locked = work.lock.digest(material.kind, material.name, platform)
        if locked is None and work.options.locked and not material.is_fixed:
            raise not_locked(work, f"{name}: `{material.name}` for {platform}")
        if locked not in (None, material.digest):
            raise RefusedError(
                f"{name}: `{material.name}` for {platform} is {locked} in `{work.lock_path}`, "
                f"and {builder} took {material.digest}",
                hint="`secure-build lock --update` takes what it is now into the lock",
            )


@contextlib.contextmanager
def exports(work: Job, checkout: Checkout, names: Sequence[str]) -> Iterator[Exports]:
    """For each image its context and Dockerfile, exported from the commit, and the commit's time."""
    with tempfile.TemporaryDirectory(prefix=".context-", dir=work.options.workdir) as folder:
        exported: dict[PurePosixPath, Path] = {}
        result = {}
        for name in names:
            recipe = work.loaded.config.built[name].build
            context = checkout.locate(recipe.context, what=f"{name}: the context")
            dockerfile = checkout.locate(
                str(PurePosixPath(recipe.context) / recipe.dockerfile), what=f"{name}: the Dockerfile"
            )
            if not checkout.is_directory(context):
                raise UsageError(f"{name}: the commit has no folder `{context}` to build in")
            content = checkout.read(dockerfile, at_most=LARGEST_FILE)
            if content is None:
                raise UsageError(
                    f"{name}: the commit has no file `{dockerfile}`",
                    hint="add and commit it, or set `dockerfile:`, which is relative to `context:`",
                )
            if context not in exported:
                exported[context] = Path(folder) / f"{len(exported)}"
                checkout.export(context, exported[context])
            # A copy of its own: the Dockerfile may lie outside the context, or be a link.
            own = Path(folder) / f"{name}.Dockerfile"
            own.write_bytes(content)
            ignored = checkout.read(
                dockerfile.with_name(f"{dockerfile.name}.dockerignore"), at_most=LARGEST_FILE
            )
            if ignored is not None:
                own.with_name(f"{own.name}.dockerignore").write_bytes(ignored)
            result[name] = (exported[context], own, int(checkout.source.committed_at.timestamp()))
        yield result


def _build_image(work: Job, builder: Builder, name: str, exported: Exports) -> Image:
    wanted = work.loaded.config.built[name]
    pins = {platform: work.lock.pins(platform) for platform in work.platforms_of(name)}
    made = make(work, builder, name, exported, pins=pins, layout=work.layout)
    for platform, built in made.items():
        _check_lock(work, name, platform, built.materials, builder.version)
    descriptor = joined([built.descriptor for built in made.values()], work.layout)
    work.layout.name(wanted.image, descriptor)
    work.report.step(f"{name}: built {descriptor.digest}")
    taken = {platform: built.materials for platform, built in made.items() if built.materials is not None}
    return Image(
        name=name,
        reference=wanted.image,
        descriptor=descriptor,
        platforms=tuple(made),
        builder=builder.version,
        materials=materials.merged(taken) if len(taken) == len(made) else None,
        sparse=any(built.sparse for built in made.values()),
        reproducible=all(built.reproducible for built in made.values()),
        missing=tuple(platform for platform in wanted.build.platforms if platform not in made),
    )


def make(
    work: Job,
    builder: Builder,
    name: str,
    exported: Exports,
    *,
    pins: Mapping[Platform, Mapping[str, str]],
    layout: Layout,
) -> dict[Platform, Built]:
    """Build one image for the platforms that `pins` names, into the layout."""
    wanted = work.loaded.config.built[name]
    context, dockerfile, epoch = exported[name]
    made = {}
    for platform, pinned in pins.items():
        work.report.step(f"{name}: building for {platform} with {builder.version}")
        recipe = Recipe(
            context, dockerfile, platform, epoch, wanted.build.args, wanted.build.target, pins=pinned
        )
        with layout.staging() as staging:
            built = builder.build(recipe, staging, lambda line: work.report.detail(f"{name}: {line}"))
        found = manifest.platform_of_config(layout.config(layout.manifest(built.descriptor)))
        if (found.os, found.architecture) != (platform.os, platform.architecture):
            raise RefusedError(f"{name}: asked for {platform}, {builder.version} made an image for {found}")
        made[platform] = replace(built, descriptor=replace(built.descriptor, platform=platform))
    return made


def joined(members: Sequence[Descriptor], layout: Layout) -> Descriptor:
    """The image that consists of these manifests: the only one, or an index of them."""
    if len(members) == 1:
        return replace(members[0], platform=None)
    index = manifest.index_of(members)
    return layout.write(index.content, index.media_type)
