"""plan: what `run` would do, what it would be worth to the runtime, and what is missing.

Leaves registries, layout and record as they are. What cannot be found out is said to be unknown.
Every check goes on after one that fails, so that all that is missing is seen at once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from secure_build import builders, model, secret, stopping
from secure_build.builders import Surroundings
from secure_build.builders.programs import run_here
from secure_build.config import BuiltImage, UsedImage
from secure_build.contract import enforcement
from secure_build.contract.enforcement import Way, Worth
from secure_build.contract.places import Place
from secure_build.errors import SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.model import (
    BuilderName,
    BuilderVersion,
    Finding,
    Image,
    Level,
    Material,
    Platform,
    Source,
)
from secure_build.reference import Reference, Repository
from secure_build.registry import Registry
from secure_build.registry.client import PushRight
from secure_build.steps import transfer
from secure_build.steps.assemble import check_files
from secure_build.steps.build import previous, unchanged
from secure_build.steps.content_trust import check_destination, trust_findings
from secure_build.steps.contract import built_or
from secure_build.steps.delivery import check_logins, try_logins
from secure_build.steps.descriptors import read_pinnable
from secure_build.steps.disclosed import disclosed
from secure_build.steps.emission import certificate_of
from secure_build.steps.env import check_env
from secure_build.steps.job import Job, layout_directory
from secure_build.steps.keys import keys
from secure_build.steps.pins import check_place, registries_of, resolve
from secure_build.steps.planned import Plan, PlannedImage, Write, shared, writes_of
from secure_build.steps.recipes import find
from secure_build.steps.simple_signing import store_of
from secure_build.steps.transfer import RemoteSource

_T = TypeVar("_T")
# In which order findings are shown, whichever of the threads comes first.
_CHECKS = (
    "secret",
    "source",
    "builder",
    "platform",
    "lock",
    "image",
    "registry",
    "push",
    "runtime",
    "signing",
    "workload",
)


def plan(work: Job) -> Plan:
    """What `run` would do now; problems are findings, so this raises only when nothing can be said."""
    return _Planner(work).plan()


class _Planner:
    """Collects findings while it looks.

    Images are looked at side by side, and what is done for one of them begins no threads of its own:
    a failure there would stop all others.
    """

    def __init__(self, work: Job) -> None:
        self._work = work
        self._config = work.loaded.config
        self._findings: list[Finding] = []

    def plan(self) -> Plan:
        source = self._source() if self._config.images else None
        if all(map(self._platforms, self._work.selected())):
            self._try("platform", "`run`", self._work.require_whole)
        versions = self._builders()
        last = previous(self._work, source) if source else None
        known = {image.name: image for image in last.images} if last else {}
        built = self._each(
            lambda name: self._built(name, source, versions, known.get(name)), self._work.selected()
        )
        used = self._each(lambda name: self._used(name, self._config.used[name]), self._config.used)
        images = (*shared(built, everywhere=bool(self._work.options.to)), *used)
        building = {image.name for image in built if image.doing == "build"}
        self._secrets(building)
        for name in sorted(building) if source else ():
            self._try("source", name, functools.partial(find, self._work, self._work.checkout(), name))
        if not self._work.options.to:
            self._push_rights(images)
        workload = self._config.workload
        named = str(self._work.options.workdir / "workload.yaml") if workload else None
        logins = self._logins()
        if logins and not self._work.options.to:
            self._try("runtime", "the logins for the guest", lambda: try_logins(self._work))
        if source and workload:
            pulled = self._pulled()
            logins = tuple(name for name in logins if name in pulled)
        self._signing(images)
        disclosed = self._sections()
        return Plan(source, images, self._locked(images), named, logins, self._sorted_findings(), disclosed)

    def _each(self, act: Callable[[str], PlannedImage], names: Collection[str]) -> list[PlannedImage]:
        return stopping.side_by_side(act, list(names), jobs=self._work.options.requests)

    # What must be here

    def _secrets(self, building: Collection[str]) -> None:
        """The secrets that this run needs: of the images, those that are to be built."""
        images = {name: image for name, image in self._config.images.items() if name in building}
        registries = self._config.registries
        if self._work.options.to:
            registries = {
                host: access.model_copy(update={"push": None}) for host, access in registries.items()
            }
        needed = self._config.model_copy(update={"images": images, "registries": registries})
        for name in sorted(needed.secret_names):
            self._try("secret", f"the secret `{name}`", functools.partial(secret.look_up, name))

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
                self._check_programs(platform, found)
        return versions

    def _check_programs(self, platform: Platform, builder: BuilderVersion) -> None:
        """buildah runs the steps on this machine; of the other builders only they know where."""
        if builder.name == "buildah" and run_here(platform) is False:
            self._find(
                "platform",
                f"building for {platform}",
                "warn",
                "this machine does not run programs of that platform, so a step with `RUN` would fail",
                "install `qemu-user-static`, on Debian with `binfmt-support`",
            )

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
        self,
        name: str,
        source: Source | None,
        versions: Mapping[Platform, BuilderVersion],
        last: Image | None,
    ) -> PlannedImage:
        wanted = self._config.built[name]
        platforms = self._platforms(name)
        keeps = last is not None and self._keeps(last, versions)
        reference = wanted.published(source.commit) if source else wanted.image
        made = PlannedImage(
            name=name,
            reference=reference,
            platforms=platforms,
            doing="keep" if keeps else "build",
            builders=tuple(dict.fromkeys(versions[one] for one in platforms if one in versions)),
            pinned=last.pinned if last and keeps else None,
            materials=last.materials if last and keeps else None,
            reproducible=wanted.build.cache is None and "engine" not in {v.name for v in versions.values()},
            worth=self._worth(wanted, reference),
            signatures=wanted.signatures,
            statements=self._statements(),
            writes=None,
        )
        if last is None or not keeps:
            return made
        return replace(made, writes=self._try("registry", f"`{reference}`", lambda: self._writes(last)))

    def _statements(self) -> tuple[str, ...]:
        said = self._config.attestations
        if not self._config.signing.attests:
            return ()
        return (*(("provenance",) if said.provenance else ()), *said.sbom)

    def _worth(self, wanted: BuiltImage, reference: Reference) -> tuple[Worth, ...]:
        """Every choice, the config's own first."""
        workload = self._config.workload
        by_signature: dict[str, Way] = {"rhs": "play", "dct": "compose", "cosign": "pods"}
        way = workload.way if workload else by_signature.get(wanted.enforce, "compose")
        found = enforcement.worth(self._config.target, way, reference)
        return tuple(sorted(found, key=lambda one: one.choice != wanted.enforce))

    def _locked(self, images: Sequence[PlannedImage]) -> tuple[Material, ...]:
        """What builds are held to by the lock; which of them takes what, only a build tells."""
        platforms = {one for image in images if image.doing == "build" for one in image.platforms}
        found = {
            Material(one.kind, one.name, digest)
            for one, digest in self._work.lock.digests.items()
            if one.platform in platforms and one.kind != "used"
        }
        return tuple(sorted(found))

    def _writes(self, image: Image) -> tuple[Write, ...]:
        """What publishing would put where the image's reference says; nothing when it is there."""
        repository = image.reference.repository
        destination = self._destination(repository)
        if destination.tagged(image.reference) == image.descriptor.digest:
            return ()
        layout = self._work.layout
        manifests = transfer.manifests_of(layout, layout.manifest(image.descriptor))
        return writes_of(
            image.reference, manifests, transfer.missing(layout, manifests, destination, repository)
        )

    def _destination(self, repository: Repository) -> Registry:
        """Where an image would go; a layout that is not there is not made."""
        to = self._work.options.to
        return Layout.at(layout_directory(to)) if to else self._work.writer(repository)

    def _used(self, name: str, wanted: UsedImage) -> PlannedImage:
        mirror = wanted.mirror if self._work.mirrors else None
        made = PlannedImage(name, wanted.mirror or wanted.use, (), "mirror" if mirror else "use")
        what = f"`{wanted.use}`"
        found = self._try("image", what, lambda: resolve(self._work, wanted.use))
        if found is None:
            return replace(made, writes=None if mirror else ())
        made = replace(made, pinned=found.pinned, platforms=found.platforms)
        if mirror is None:
            return made
        return replace(
            made, writes=self._try("registry", f"`{mirror}`", lambda: self._mirrored(found, mirror))
        )

    def _mirrored(self, image: model.UsedImage, mirror: Reference) -> tuple[Write, ...]:
        """What copying an image would put; what is said of it, its evidence, comes on top."""
        destination = self._work.writer(mirror.repository)
        if destination.tagged(mirror) == image.digest:
            return ()
        source = RemoteSource(self._work.reader(image.reference.repository), image.reference.repository)
        root = source.registry.resolve(Reference(image.reference.repository, digest=image.digest))
        manifests = transfer.manifests_of(source, root)
        return writes_of(
            mirror, manifests, transfer.missing(source, manifests, destination, mirror.repository)
        )

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
        """The registries that have a `runtime` login which may go into a contract."""
        registries = self._config.registries
        what = "the logins for the guest"
        logins = self._try("runtime", what, lambda: check_logins(self._work, registries)) or {}
        return tuple(name for name, login in logins.items() if login)

    def _pulled(self) -> set[str]:
        """The registries that the guest would pull from; each image of the workload is looked at."""
        work = self._work
        described = self._try("workload", "the workload", lambda: read_pinnable(work, work.checkout()))
        if described is None:
            return set()
        there = built_or(work, work.selected())

        def look(place: Place) -> set[str]:
            # What the config names has been looked at.
            reference = check_place(work, place, there=there)
            if reference and reference not in {image.use for image in self._config.used.values()}:
                resolve(work, reference)
            return registries_of(work, [place])

        def try_to_look(place: Place) -> set[str] | None:
            return self._try("workload", place.what, lambda: look(place))

        found = stopping.side_by_side(try_to_look, described.places, jobs=work.options.requests)
        return set().union(*filter(None, found))

    def _sections(self) -> tuple[str, ...]:
        """What is said of the certificate, the env section and the keys; returns what is disclosed."""
        work = self._work
        if trust := self._try("certificate", "the encryption certificate", lambda: certificate_of(work)):
            self._findings += trust[1]
        self._findings += self._try("env", "the env section", lambda: check_env(work)) or ()
        self._try("contract", "the contract", lambda: check_files(work))
        return self._try("disclosure", "what the auditor will read", lambda: disclosed(work)) or ()

    def _signing(self, images: Sequence[PlannedImage]) -> None:
        """What is said of keys, of where signatures go, and of tags that are signed to be enforced."""
        work, config = self._work, self._config
        self._try("signing", "the keys to sign with", keys(work).check)
        self._try("signing", "where images go", lambda: check_destination(work))
        if config.signing.dct is not None:
            from secure_build.signers.dct import server_findings

            self._findings += server_findings(config.signing.dct.server)
        for image in images:
            built = config.built.get(image.name)
            if built is None:
                continue
            repository = image.reference.repository
            if "rhs" in built.signatures and not work.options.to:
                what = f"OpenPGP signatures of `{repository}`"
                self._try("signing", what, functools.partial(store_of, work, repository))
            if "dct" in built.signatures and not work.options.to:
                what = f"trust data of `{repository}`"
                found = self._try("signing", what, functools.partial(trust_findings, work, repository))
                self._findings += found or ()
            if built.reuse_tag:
                self._find(
                    "signing",
                    f"{image.name}: `{image.reference}`",
                    "warn",
                    "the tag is used again, so the runtime takes every image that was ever signed under it",
                    "leave `reuse-tag` out, unless a new build is to run without a new contract",
                )

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

    def _sorted_findings(self) -> tuple[Finding, ...]:
        """In a fixed order; what one check found out is not said again by another that it stops."""
        found: list[Finding] = []
        for one in sorted(set(self._findings), key=_order):
            if not any(before.why == one.why and before.check != one.check for before in found):
                found.append(one)
        return tuple(found)


_RIGHTS: dict[PushRight, tuple[Level, str, str | None]] = {
    "granted": ("pass", "the token service grants it", None),
    "refused": ("fail", "the registry does not allow it to this login", "ask for the right to push"),
    "unknown": (
        "unknown",
        "this registry does not tell before something is pushed",
        "`--probe-push` opens an upload and cancels it",
    ),
}


def _order(finding: Finding) -> tuple[int, str, str]:
    known = _CHECKS.index(finding.check) if finding.check in _CHECKS else len(_CHECKS)
    return known, finding.check, finding.what
