"""build: a commit's images into the layout, those that are as before left as they are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from secure_build import __version__, builders, ci, manifest, materials, record, stopping
from secure_build.builders import Builder, Built, Recipe, Surroundings
from secure_build.errors import RefusedError, SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.model import (
    BuilderVersion,
    BuildRecord,
    Descriptor,
    Image,
    Invocation,
    Material,
    Platform,
    Source,
)
from secure_build.reference import Repository
from secure_build.source import Checkout
from secure_build.steps.job import LARGEST_FILE, Job
from secure_build.steps.pins import locked_digest, not_locked
from secure_build.steps.recipes import recipes

Builders = Mapping[Platform, Builder]


def build(work: Job) -> BuildRecord:
    """Build what changed, write the record; images that are as before are kept as they are.

    With `locked`, whatever is not in the lock is refused: before anything is built where that can be
    known, else before the image has a name in the layout or a place in the record.
    """
    loaded = work.loaded
    wanted = work.selected()
    for image in loaded.config.used.values():
        locked_digest(work, image.use)
    checkout = work.checkout()
    source = checkout.source
    if not source.clean:
        work.report.step(f"the working tree differs; commit {source.commit} is built without the changes")
    if source.committed_at > datetime.now(UTC):
        # What a build step writes is then older than the commit, so its time is not rewritten.
        work.report.step(f"commit {source.commit} is dated in the future: its digest will not be repeatable")
    for path in (loaded.path, work.lock_path) if loaded.config.source.url is None else ():
        if path.exists() and not _is_committed(path, checkout):
            work.report.step(f"`{path}` is used as it is here, which is not as it is in the commit")
    old = previous(work, source)
    images = {image.name: image for image in old.images} if old else {}
    made: list[Image] = []

    def recorded() -> BuildRecord:
        known = images | {image.name: image for image in made}
        # When nothing was built, what later steps wrote into the record stays.
        fresh = replace(_without_images(work), source=source)
        result = replace(
            fresh if made or old is None else old,
            source=source,
            images=tuple(known[name] for name in loaded.config.built if name in known),
        )
        record.write(work.record_path, result)
        return result

    try:
        if wanted:
            _build_missing(work, checkout, wanted, images, made.append)
    except SecureBuildError:
        if made:
            # Those that are whole need not be built again when the failing one is mended.
            with contextlib.suppress(OSError):
                recorded()
        raise
    return recorded()


def _build_missing(
    work: Job,
    checkout: Checkout,
    wanted: Sequence[str],
    known: Mapping[str, Image],
    on_built: Callable[[Image], None],
) -> None:
    """Build those of the wanted images that are not there unchanged; each is handed over when it is whole."""
    targets = {name: work.platforms_of(name) for name in wanted}
    with opened_builders(work, targets) as by_platform:
        versions = {platform: builder.version for platform, builder in by_platform.items()}
        kept = [name for name in wanted if name in known and unchanged(work, known[name], versions)]
        for name in sorted(kept):
            work.report.step(f"{name}: unchanged, not built ({known[name].descriptor.digest})")
        missing = [name for name in wanted if name not in kept]
        with recipes(work, checkout, missing) as prepared:
            stopping.side_by_side(
                lambda name: on_built(_build_image(work, by_platform, name, prepared[name])),
                missing,
                jobs=work.options.jobs,
            )


def opened_builders(
    work: Job, targets: Mapping[str, Sequence[Platform]]
) -> contextlib.AbstractContextManager[Builders]:
    """The builders for these images and platforms, as the command line or the config names them."""
    every = dict.fromkeys(platform for platforms in targets.values() for platform in platforms)
    wanted = work.options.builder or work.loaded.config.builder
    surroundings = Surroundings(
        folder=work.options.workdir,
        logins=[login for host in work.loaded.config.registries if (login := work.login(host, "pull"))],
        push_login=work.push_login,
    )
    return builders.open_builders(wanted, every, surroundings)


def _is_committed(path: Path, checkout: Checkout) -> bool:
    place = checkout.locate(path.name, what="this file")
    return checkout.read(place, at_most=LARGEST_FILE) == path.read_bytes()


def previous(work: Job, source: Source) -> BuildRecord | None:
    """The last record, when it is of the same tool, config and commit, and of the same folder of it."""
    old = work.last_record()
    if old is None or old.source is None or (old.tool, old.config) != (__version__, work.loaded.digest):
        return None
    return old if (old.source.commit, old.source.subdir) == (source.commit, source.subdir) else None


def _without_images(work: Job) -> BuildRecord:
    """A record with what other images change nothing of: all sections but the workload."""
    last = work.record_or_new()
    sections = {name: known for name, known in last.sections.items() if name != "workload"}
    return BuildRecord(last.tool, last.config, sections=sections, earlier=last.emitted)


def unchanged(work: Job, image: Image, versions: Mapping[Platform, BuilderVersion]) -> bool:
    """Whether building again would give the same, and the bytes are still here."""
    wanted = work.loaded.config.built.get(image.name)
    commit = work.checkout().source.commit
    if wanted is None or image.materials is None or image.reference != wanted.published(commit):
        return False
    if image.sparse and work.options.to is not None:
        # Its layers are in the registry only, and a layout is to get them.
        return False
    platforms = work.platforms_of(image.name)
    held = _holds_sparse if image.sparse else Layout.holds_image
    if (
        set(image.platforms) != set(platforms)
        or image.builder != builders.joint_version({platform: versions[platform] for platform in platforms})
        or not held(work.layout, image.descriptor)
    ):
        return False
    taken = materials.per_platform(image.materials, platforms)
    same = all(_still(work, platform, material) for platform in platforms for material in taken[platform])
    if same:
        require_locked(work, image)
    return same


def require_locked(work: Job, image: Image) -> None:
    """Raise RefusedError when an image was made from something else than the lock says."""
    taken = materials.per_platform(image.materials or (), image.platforms)
    for platform in image.platforms:
        inputs = None if image.materials is None else taken[platform]
        _check_lock(work, image.name, platform, inputs, image.builder)


def version_of(by_platform: Builders, platforms: Sequence[Platform]) -> BuilderVersion:
    """What makes an image of these platforms."""
    return builders.joint_version({platform: by_platform[platform].version for platform in platforms})


def _holds_sparse(layout: Layout, descriptor: Descriptor) -> bool:
    """Whether manifests and configs are here; whether the registry has the layers, publishing finds out."""
    if not layout.has(descriptor):
        return False
    content = layout.manifest(descriptor)
    own = content.config is None or layout.has(content.config)
    return own and all(_holds_sparse(layout, member) for member in content.members)


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


def _build_image(work: Job, by_platform: Builders, name: str, recipe: Recipe) -> Image:
    wanted = work.loaded.config.built[name]
    platforms = work.platforms_of(name)
    pins = {platform: work.lock.pins(platform) for platform in platforms}
    host, started = ci.host(), datetime.now(UTC)
    made = make(work, by_platform, name, recipe, pins=pins, layout=work.layout)
    finished = datetime.now(UTC)
    for platform, built in made.items():
        _check_lock(work, name, platform, built.materials, by_platform[platform].version)
    descriptor = joined([built.descriptor for built in made.values()], work.layout)
    reference = wanted.published(work.checkout().source.commit)
    work.layout.name(reference, descriptor)
    work.report.step(f"{name}: built {descriptor.digest}")
    taken = {platform: built.materials for platform, built in made.items() if built.materials is not None}
    return Image(
        name=name,
        reference=reference,
        descriptor=descriptor,
        platforms=platforms,
        builder=version_of(by_platform, platforms),
        materials=materials.merged(taken) if len(taken) == len(made) else None,
        sparse=any(built.sparse for built in made.values()),
        reproducible=all(built.reproducible for built in made.values()),
        missing=tuple(platform for platform in wanted.build.platforms if platform not in made),
        invocation=Invocation(host.identity, host.invocation, started, finished),
    )


def make(
    work: Job,
    by_platform: Builders,
    name: str,
    recipe: Recipe,
    *,
    pins: Mapping[Platform, Mapping[str, str]],
    layout: Layout,
) -> dict[Platform, Built]:
    """Build one image for the platforms that `pins` names, into the layout."""
    made = {}
    for platform, pinned in pins.items():
        builder = by_platform[platform]
        doing = f"building for {platform} with {builder.version}"
        with work.report.task(name, doing) as task, layout.staging() as staging:
            try:
                built = builder.build(replace(recipe, platform=platform, pins=pinned), staging, task.line)
            except RefusedError as error:
                raise RefusedError(f"{name}: {error.message}", hint=error.hint) from None
        if built.sparse:
            assert recipe.push is not None
            _fetch(work, recipe.push, built.descriptor)
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


def _fetch(work: Job, repository: Repository, descriptor: Descriptor) -> None:
    """Take the manifest and config of what a builder pushed into the layout, checked by digest."""
    registry = work.own_reader(repository)
    found = registry.get_manifest(repository, descriptor)
    if found.config is None:
        raise ServiceError(
            f"`{repository}@{descriptor.digest}`, which a builder pushed, is no image manifest"
        )
    work.layout.write(registry.config(repository, found), found.config.media_type)
    work.layout.write(found.content, found.media_type)
