"""plan: what `run` would do, what it would be worth to the runtime, and what is missing.

Leaves registries, layout and record as they are. What cannot be found out is said to be unknown.
Every check goes on after one that fails, so that all that is missing is seen at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from secure_build import builders, model, secret, stopping
from secure_build.builders import Surroundings
from secure_build.config import UsedImage
from secure_build.contract import enforcement
from secure_build.contract.enforcement import Worth
from secure_build.errors import SecureBuildError, ServiceError
from secure_build.manifest import Manifest
from secure_build.model import (
    BuilderName,
    BuilderVersion,
    Descriptor,
    Finding,
    Image,
    Level,
    Material,
    Platform,
    Source,
)
from secure_build.reference import Pinned, Reference, Repository
from secure_build.registry.client import PushRight
from secure_build.steps import transfer
from secure_build.steps.build import previous, unchanged
from secure_build.steps.contract import check_workload
from secure_build.steps.delivery import check_logins
from secure_build.steps.job import Job
from secure_build.steps.pins import resolve_all
from secure_build.steps.publish import destinations_of
from secure_build.steps.transfer import RemoteSource

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Write:
    """Something that `run` would put into a registry; `size` is in bytes.

    `name` is the digest of a blob or manifest, or the tag.
    """

    kind: Literal["blob", "manifest", "tag"]
    repository: str
    name: str
    size: int

    @property
    def requests(self) -> int:
        """A blob is announced and sent; where the registry takes it over from elsewhere, one is enough."""
        return 2 if self.kind == "blob" else 1


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image. `writes` is None when only the build will tell its content."""

    name: str
    reference: Reference
    platforms: tuple[Platform, ...]
    doing: Literal["build", "keep", "use", "mirror"]
    builders: tuple[BuilderVersion, ...] = ()
    pinned: Pinned | None = None
    materials: tuple[Material, ...] | None = None
    reproducible: bool = True
    worth: tuple[Worth, ...] = ()
    writes: tuple[Write, ...] | None = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What `run` would do."""

    source: Source | None
    images: tuple[PlannedImage, ...]
    contract: str | None
    logins: tuple[str, ...]
    findings: tuple[Finding, ...]


def plan(work: Job) -> Plan:
    """What `run` would do now; problems are findings, so this raises only when nothing can be said."""
    return _Planner(work).plan()


class _Planner:
    """Collects findings while it looks."""

    def __init__(self, work: Job) -> None:
        self._work = work
        self._config = work.loaded.config
        self._findings: list[Finding] = []

    def plan(self) -> Plan:
        self._secrets()
        source = self._source()
        versions = self._builders()
        last = previous(self._work, source) if source else None
        known = {image.name: image for image in last.images} if last else {}
        built = self._each(lambda name: self._built(name, versions, known.get(name)), self._work.selected())
        used = self._each(lambda name: self._used(name, self._config.used[name]), self._config.used)
        images = (*built, *used)
        if not self._work.options.to:
            self._push_rights(images)
        workload = self._config.workload
        named = str(self._work.options.workdir / "workload.yaml") if workload else None
        if source and workload:
            selected = self._work.selected()
            self._try("workload", "the workload", lambda: check_workload(self._work, selected=selected))
        return Plan(source, images, named, self._logins(), tuple(dict.fromkeys(self._findings)))

    def _each(self, act: Callable[[str], PlannedImage], names: Collection[str]) -> list[PlannedImage]:
        return stopping.side_by_side(act, list(names), jobs=self._work.options.jobs)

    # What must be here

    def _secrets(self) -> None:
        for name in sorted(self._config.secret_names):
            if not secret.is_known(name):
                self._find(
                    "secret",
                    f"the secret `{name}`",
                    "fail",
                    "it is not set",
                    f"set the environment variable `{name}`, or put a file of that name into "
                    "the folder `$SECURE_BUILD_SECRETS`",
                )

    def _source(self) -> Source | None:
        checkout = self._try("source", "the source", self._work.checkout)
        return checkout.source if checkout else None

    def _builders(self) -> dict[Platform, BuilderVersion]:
        """The version of the builder for each platform, for those that work."""
        versions: dict[Platform, BuilderVersion] = {}
        wanted = self._work.options.builder or self._config.builder
        platforms = {one for name in self._work.selected() for one in self._platforms(name)}
        for platform in sorted(platforms):
            found = self._try(
                "builder", f"a builder for {platform}", functools.partial(self._version, wanted, platform)
            )
            if found:
                versions[platform] = found
        return versions

    def _version(
        self, wanted: BuilderName | Mapping[Platform, BuilderName] | None, platform: Platform
    ) -> BuilderVersion:
        nothing = Surroundings(self._work.options.workdir, ())
        with builders.open_builders(wanted, [platform], nothing) as opened:
            return opened[platform].version

    def _platforms(self, name: str) -> tuple[Platform, ...]:
        return self._try("platform", name, lambda: self._work.platforms_of(name)) or ()

    # What would be done

    def _keeps(self, image: Image, versions: Mapping[Platform, BuilderVersion]) -> bool:
        """Whether an image that was built before would not be built again."""
        if not set(self._platforms(image.name)) <= set(versions):
            return False
        return bool(self._try("lock", image.name, lambda: unchanged(self._work, image, versions)))

    def _built(
        self, name: str, versions: Mapping[Platform, BuilderVersion], last: Image | None
    ) -> PlannedImage:
        wanted = self._config.built[name]
        platforms = self._platforms(name)
        workload = self._config.workload
        keeps = last is not None and self._keeps(last, versions)
        made = PlannedImage(
            name=name,
            reference=wanted.image,
            platforms=platforms,
            doing="keep" if keeps else "build",
            builders=tuple(dict.fromkeys(versions[one] for one in platforms if one in versions)),
            pinned=last.pinned if last and keeps else None,
            materials=last.materials if last and keeps else self._locked(platforms),
            reproducible=wanted.build.cache is None and "engine" not in {v.name for v in versions.values()},
            worth=enforcement.worth(
                self._config.target, "play" if workload and workload.play else "compose", wanted.image
            ),
            writes=None,
        )
        if last is None or not keeps:
            return made
        return replace(made, writes=self._try("registry", f"`{wanted.image}`", lambda: self._writes(last)))

    def _locked(self, platforms: Sequence[Platform]) -> tuple[Material, ...] | None:
        """What the lock says that the builders take; None without a lock, as only a build tells."""
        found = {
            Material(one.kind, one.name, digest)
            for one, digest in self._work.lock.digests.items()
            if one.platform in platforms and one.kind != "used"
        }
        return tuple(sorted(found)) or None

    def _writes(self, image: Image) -> tuple[Write, ...]:
        """What publishing would put where the image's reference says; nothing when it is there."""
        repository = image.reference.repository
        destination = destinations_of(self._work, [repository])[repository]
        if destination.tagged(image.reference) == image.descriptor.digest:
            return ()
        layout, jobs = self._work.layout, self._work.options.jobs
        manifests = transfer.manifests_of(layout, layout.manifest(image.descriptor), jobs=jobs)
        blobs = transfer.missing(manifests, destination, repository, jobs=jobs)
        return _writes_of(image.reference, manifests, blobs)

    def _used(self, name: str, wanted: UsedImage) -> PlannedImage:
        made = PlannedImage(name, wanted.mirror or wanted.use, (), "mirror" if wanted.mirror else "use")
        what = f"`{wanted.use}`"
        found = self._try("image", what, lambda: resolve_all(self._work, [wanted.use])[wanted.use])
        if found is None:
            return replace(made, writes=None if wanted.mirror else ())
        made = replace(made, pinned=found.pinned, platforms=found.platforms)
        mirror = wanted.mirror
        if mirror is None:
            return made
        return replace(made, writes=self._try("registry", what, lambda: self._mirrored(found, mirror)))

    def _mirrored(self, image: model.UsedImage, mirror: Reference) -> tuple[Write, ...]:
        """What copying an image would put; what is said of it, its evidence, comes on top."""
        destination = destinations_of(self._work, [mirror.repository])[mirror.repository]
        if destination.tagged(mirror) == image.digest:
            return ()
        jobs = self._work.options.jobs
        source = RemoteSource(self._work.reader(image.reference.repository), image.reference.repository)
        root = source.registry.resolve(Reference(image.reference.repository, digest=image.digest))
        manifests = transfer.manifests_of(source, root, jobs=jobs)
        blobs = transfer.missing(manifests, destination, mirror.repository, jobs=jobs)
        return _writes_of(mirror, manifests, blobs)

    def _push_rights(self, images: Sequence[PlannedImage]) -> None:
        """Whether the logins may publish, for each repository that is to be written."""
        repositories = {
            image.reference.repository for image in images if image.doing != "use" and image.writes != ()
        }
        for repository in sorted(repositories):
            what = f"pushing to `{repository}`"
            if right := self._try("push", what, functools.partial(self._right, repository)):
                self._find("push", what, *_RIGHTS[right])

    def _right(self, repository: Repository) -> PushRight:
        return self._work.writer(repository).push_right(repository, probe=self._work.options.probe_push)

    def _logins(self) -> tuple[str, ...]:
        """The registries whose `runtime` login would go into the contract."""
        registries = self._config.registries
        what = "the logins for the guest"
        logins = self._try("runtime", what, lambda: check_logins(self._work, registries)) or {}
        return tuple(name for name, login in logins.items() if login)

    # Findings

    def _try(self, check: str, what: str, act: Callable[[], _T]) -> _T | None:
        """What `act` returns. An error is a finding: of what is refused or missing a failure, of a
        silent service unknown; then None is returned."""
        try:
            return act()
        except SecureBuildError as error:
            level: Level = "unknown" if isinstance(error, ServiceError) else "fail"
            self._find(check, what, level, error.message, error.hint)
            return None

    def _find(self, check: str, what: str, level: Level, why: str, hint: str | None = None) -> None:
        self._findings.append(Finding(check, level, what, why, hint=hint))


_RIGHTS: dict[PushRight, tuple[Level, str, str | None]] = {
    "granted": ("pass", "the token service grants it", None),
    "refused": ("fail", "the registry does not allow it to this login", "ask for the right to push"),
    "unknown": (
        "unknown",
        "this registry does not tell before something is pushed",
        "`--probe-push` opens an upload and cancels it",
    ),
}


def _writes_of(
    reference: Reference, manifests: Sequence[Manifest], blobs: Sequence[Descriptor]
) -> tuple[Write, ...]:
    """Blobs, then manifests, then the tag, which is the last manifest once more."""
    where = str(reference.repository)
    return (
        *(Write("blob", where, str(blob.digest), blob.size) for blob in blobs),
        *(Write("manifest", where, str(one.descriptor.digest), len(one.content)) for one in manifests),
        Write("tag", where, reference.tag or "latest", len(manifests[-1].content)),
    )
