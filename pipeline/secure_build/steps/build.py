"""build: a commit's images into the layout, those that are as before left as they are."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from secure_build import __version__, builders, files, manifest, record, secret, stopping
from secure_build.builders import Builder, Recipe, Surroundings
from secure_build.config import BuiltImage, Loaded, SecretFile, SecretName
from secure_build.errors import RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.model import (
    GUEST,
    BuilderVersion,
    BuildRecord,
    Credential,
    Descriptor,
    Image,
    Material,
    Platform,
)
from secure_build.reference import Digest, Repository
from secure_build.registry.auth import docker_config_credential
from secure_build.registry.client import RemoteRegistry
from secure_build.source import Checkout
from secure_build.steps.job import LARGEST_FILE, Job

# What BuildKit takes at most.
_LARGEST_SECRET = 500 * 1024


def build(work: Job) -> BuildRecord:
    """Build what changed, write the record; images that are as before are kept as they are."""
    options, loaded = work.options, work.loaded
    wanted = work.selected()
    with Checkout.open(loaded.directory, allow_dirty=options.allow_dirty) as checkout:
        source = checkout.source
        if not source.clean:
            work.report.step(f"the working tree differs; commit {source.commit} is built without the changes")
        if source.committed_at > datetime.now(UTC):
            # What a build step writes is then older than the commit, so its time is not rewritten.
            work.report.step(
                f"commit {source.commit} is dated in the future: its digest will not be repeatable"
            )
        if not _is_committed(loaded, checkout):
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
    targets = {name: platforms_of(work, loaded.config.built[name], name) for name in wanted}
    every = dict.fromkeys(platform for platforms in targets.values() for platform in platforms)
    wanted_builder = options.builder or loaded.config.builder
    surroundings = Surroundings(
        folder=options.workdir,
        logins=[login for host in loaded.config.registries if (login := work.login(host, "pull"))],
        push_login=lambda registry: _push_login(work, registry),
    )
    with builders.open_builders(wanted_builder, every, surroundings) as by_platform:
        kept = {name for name in wanted if name in previous and _unchanged(work, previous[name], by_platform)}
        for name in sorted(kept):
            work.report.step(f"{name}: unchanged, not built ({previous[name].descriptor.digest})")
        missing = [name for name in wanted if name not in kept]
        with _exports(work, checkout, missing) as exports, _secrets(work, missing) as secrets:
            return stopping.side_by_side(
                lambda name: _build_image(
                    work, by_platform, name, replace(exports[name], secrets=secrets[name])
                ),
                missing,
                jobs=options.jobs,
            )


def _push_login(work: Job, registry: str) -> Credential | None:
    return work.login(registry, "push") or docker_config_credential(registry)


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


def _unchanged(work: Job, image: Image, by_platform: Mapping[Platform, Builder]) -> bool:
    """Whether building again would give the same, and the bytes are still here."""
    wanted = work.loaded.config.built.get(image.name)
    if wanted is None:
        return False
    platforms = platforms_of(work, wanted, image.name)
    return (
        image.reference == wanted.image
        and image.builder == _version(by_platform, platforms)
        and set(image.platforms) == set(platforms)
        and (
            _holds_sparse(work, image.descriptor)
            if image.sparse
            else work.layout.holds_image(image.descriptor)
        )
        and image.materials is not None
        and all(_still(work, material) for material in image.materials)
    )


def _version(by_platform: Mapping[Platform, Builder], platforms: Sequence[Platform]) -> BuilderVersion:
    return builders.joint_version({platform: by_platform[platform].version for platform in platforms})


def _holds_sparse(work: Job, descriptor: Descriptor) -> bool:
    """Whether manifests and configs are here; whether the registry has the layers, publishing finds out."""
    if not work.layout.has(descriptor):
        return False
    content = work.layout.manifest(descriptor)
    own = content.config is None or work.layout.has(content.config)
    return own and all(_holds_sparse(work, member) for member in content.members)


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
def _exports(work: Job, checkout: Checkout, names: Sequence[str]) -> Iterator[dict[str, Recipe]]:
    """For each image its recipe, for no platform yet, with the folders exported from the commit."""
    with tempfile.TemporaryDirectory(prefix=".context-", dir=work.options.workdir) as folder:
        exported: dict[PurePosixPath, Path] = {}

        def export(place: PurePosixPath) -> Path:
            if place not in exported:
                exported[place] = Path(folder) / f"{len(exported)}"
                checkout.export(place, exported[place])
            return exported[place]

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
            # A copy of its own: the Dockerfile may lie outside the context, or be a link.
            own = Path(folder) / f"{name}.Dockerfile"
            own.write_bytes(content)
            ignored = checkout.read(
                dockerfile.with_name(f"{dockerfile.name}.dockerignore"), at_most=LARGEST_FILE
            )
            if ignored is not None:
                own.with_name(f"{own.name}.dockerignore").write_bytes(ignored)
            contexts: dict[str, Path | str] = {}
            for other, where in recipe.contexts.items():
                contexts[other] = where
                if "://" not in where:
                    place = checkout.locate(where, what=f"{name}: the context `{other}`")
                    if not checkout.is_directory(place):
                        raise UsageError(
                            f"{name}: the commit has no folder `{place}` for the context `{other}`"
                        )
                    contexts[other] = export(place)
            cache = recipe.cache
            result[name] = Recipe(
                context=export(context),
                dockerfile=own,
                platform=GUEST,
                epoch=int(checkout.source.committed_at.timestamp()),
                arguments=recipe.args,
                target=recipe.target,
                contexts=contexts,
                cache_from=cache.from_ if cache else (),
                cache_to=cache.to if cache else None,
                push=work.loaded.config.built[name].image.repository if work.options.to is None else None,
            )
        yield result


@contextlib.contextmanager
def _secrets(work: Job, names: Sequence[str]) -> Iterator[dict[str, dict[str, Path]]]:
    """For each image the files with its build secrets, by id, for their owner only; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix=".secrets-", dir=work.options.workdir) as folder:
        result: dict[str, dict[str, Path]] = {}
        for name in names:
            result[name] = {}
            for identity, named in work.loaded.config.built[name].build.secrets.items():
                result[name][identity] = Path(folder) / f"{name}-{identity}"
                files.write(result[name][identity], _secret(work, named), mode=files.PRIVATE)
        yield result


def _secret(work: Job, named: SecretName | SecretFile) -> bytes:
    """The content of a build secret; the masker hides it from here on, in what steps print too."""
    if isinstance(named, SecretName):
        return secret.look_up(named.secret).reveal().encode()
    path = work.loaded.directory / named.file
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_SECRET + 1)
    except OSError as error:
        raise UsageError(f"cannot read the build secret `{path}`: {error.strerror}") from None
    if len(content) > _LARGEST_SECRET:
        raise UsageError(f"the build secret `{path}` is larger than {_LARGEST_SECRET} bytes")
    secret.Secret(content.decode(errors="replace")).reveal()
    return content


def _build_image(work: Job, by_platform: Mapping[Platform, Builder], name: str, recipe: Recipe) -> Image:
    wanted = work.loaded.config.built[name]
    platforms = platforms_of(work, wanted, name)
    layout = work.layout
    made = []
    for platform in platforms:
        builder = by_platform[platform]
        work.report.step(f"{name}: building for {platform} with {builder.version}")
        with layout.staging() as staging:
            built = builder.build(
                replace(recipe, platform=platform),
                staging,
                lambda line: work.report.detail(f"{name}: {line}"),
            )
        if built.sparse:
            _fetch(work, wanted.image.repository, built.descriptor)
        member = layout.manifest(built.descriptor)
        found = manifest.platform_of_config(layout.config(member))
        if (found.os, found.architecture) != (platform.os, platform.architecture):
            raise RefusedError(f"{name}: asked for {platform}, {builder.version} made an image for {found}")
        made.append(replace(built, descriptor=replace(built.descriptor, platform=platform)))
    descriptor = replace(made[0].descriptor, platform=None)
    if len(made) > 1:
        index = manifest.index_of([built.descriptor for built in made])
        descriptor = layout.write(index.content, index.media_type)
    layout.name(wanted.image, descriptor)
    work.report.step(f"{name}: built {descriptor.digest}")
    unknown = any(built.materials is None for built in made)
    return Image(
        name=name,
        reference=wanted.image,
        descriptor=descriptor,
        platforms=platforms,
        builder=_version(by_platform, platforms),
        materials=None
        if unknown
        else tuple(sorted({item for built in made for item in built.materials or ()})),
        sparse=any(built.sparse for built in made),
        reproducible=all(built.reproducible for built in made),
    )


def _fetch(work: Job, repository: Repository, descriptor: Descriptor) -> None:
    """Take the manifest and config of what a builder pushed into the layout, checked by digest."""
    registry = RemoteRegistry(repository.registry, _push_login(work, repository.registry), work.transport)
    found = registry.get_manifest(repository, descriptor)
    if found.config is None:
        raise ServiceError(
            f"`{repository}@{descriptor.digest}`, which a builder pushed, is no image manifest"
        )
    work.layout.write(registry.config(repository, found), found.config.media_type)
    work.layout.write(found.content, found.media_type)
