"""build: a commit's images into the layout, those that are as before left as they are."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from secure_build import __version__, builders, manifest, record, stopping
from secure_build.builders import Builder, Recipe, Surroundings
from secure_build.config import BuiltImage, Loaded
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.model import BuildRecord, Image, Material, Platform
from secure_build.reference import Digest
from secure_build.source import Checkout
from secure_build.steps.job import LARGEST_FILE, Job


def build(work: Job) -> BuildRecord:
    """Build what changed, write the record; images that are as before are kept as they are."""
    loaded = work.loaded
    wanted = work.selected()
    checkout = work.checkout()
    source = checkout.source
    if not source.clean:
        work.report.step(f"the working tree differs; commit {source.commit} is built without the changes")
    if source.committed_at > datetime.now(UTC):
        # What a build step writes is then older than the commit, so its time is not rewritten.
        work.report.step(f"commit {source.commit} is dated in the future: its digest will not be repeatable")
    if loaded.config.source.url is None and not _is_committed(loaded, checkout):
        work.report.step(f"`{loaded.path}` is used as it is here, which is not as it is in the commit")
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
    options, loaded = work.options, work.loaded
    surroundings = Surroundings(
        folder=options.workdir,
        logins=[login for host in loaded.config.registries if (login := work.login(host, "pull"))],
    )
    wanted_builder = options.builder or loaded.config.builder
    # One builder for each platform comes next.
    assert not isinstance(wanted_builder, dict)
    with builders.open_builder(wanted_builder, surroundings) as builder:
        kept = {name for name in wanted if name in previous and _unchanged(work, previous[name], builder)}
        for name in sorted(kept):
            work.report.step(f"{name}: unchanged, not built ({previous[name].descriptor.digest})")
        missing = [name for name in wanted if name not in kept]
        with _exports(work, checkout, missing) as exports:
            return stopping.side_by_side(
                lambda name: _build_image(work, builder, name, exports[name]), missing, jobs=options.jobs
            )


def _is_committed(loaded: Loaded, checkout: Checkout) -> bool:
    place = checkout.locate(loaded.path.name, what="the config")
    content = checkout.read(place, at_most=LARGEST_FILE)
    return content is not None and Digest.of(content) == loaded.digest


def _previous(work: Job, commit: str) -> BuildRecord | None:
    """The last record, when it is of the same tool, config and commit."""
    old = work.last_record()
    same = old and (old.tool, old.config, old.source.commit) == (__version__, work.loaded.digest, commit)
    return old if same else None


def platforms_of(work: Job, image: BuiltImage, name: str) -> tuple[Platform, ...]:
    """The platforms that this run builds the image for."""
    asked = work.options.platform
    if asked is None:
        return image.build.platforms
    if asked not in image.build.platforms:
        raise UsageError(
            f"{name} is not built for {asked}", hint=f"add it under `images: {name}: build: platforms:`"
        )
    return (asked,)


def _unchanged(work: Job, image: Image, builder: Builder) -> bool:
    """Whether building again would give the same, and the bytes are still here."""
    wanted = work.loaded.config.built.get(image.name)
    return (
        wanted is not None
        and image.reference == wanted.image
        and image.builder == builder.version
        and set(image.platforms) == set(platforms_of(work, wanted, image.name))
        and work.layout.holds_image(image.descriptor)
        and image.materials is not None
        and all(_still(work, material) for material in image.materials)
    )


def _still(work: Job, material: Material) -> bool:
    """Whether the tag that a build pulled still names the same digest."""
    if material.kind != "image":
        return False
    if material.reference.digest is not None:
        return True
    try:
        found = work.reader(material.reference.repository.registry).tagged(material.reference)
        return str(found) == material.digest
    except SecureBuildError:
        # The build will say what is wrong with this base, in the words of the builder.
        return False


@contextlib.contextmanager
def _exports(
    work: Job, checkout: Checkout, names: Sequence[str]
) -> Iterator[dict[str, tuple[Path, Path, int]]]:
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


def _build_image(work: Job, builder: Builder, name: str, export: tuple[Path, Path, int]) -> Image:
    wanted = work.loaded.config.built[name]
    context, dockerfile, epoch = export
    platforms = platforms_of(work, wanted, name)
    layout = work.layout
    members = []
    materials: set[Material] | None = set()
    for platform in platforms:
        work.report.step(f"{name}: building for {platform} with {builder.version}")
        recipe = Recipe(context, dockerfile, platform, epoch, wanted.build.args, wanted.build.target)
        with layout.staging() as staging:
            built = builder.build(recipe, staging, lambda line: work.report.detail(f"{name}: {line}"))
        member = layout.manifest(built.descriptor)
        found = manifest.platform_of_config(layout.config(member))
        if (found.os, found.architecture) != (platform.os, platform.architecture):
            raise RefusedError(f"{name}: asked for {platform}, {builder.version} made an image for {found}")
        members.append(replace(built.descriptor, platform=platform))
        materials = None if materials is None or built.materials is None else materials | set(built.materials)
    descriptor = replace(members[0], platform=None)
    if len(members) > 1:
        index = manifest.index_of(members)
        descriptor = layout.write(index.content, index.media_type)
    layout.name(wanted.image, descriptor)
    work.report.step(f"{name}: built {descriptor.digest}")
    return Image(
        name=name,
        reference=wanted.image,
        descriptor=descriptor,
        platforms=platforms,
        builder=builder.version,
        materials=None if materials is None else tuple(sorted(materials)),
    )
