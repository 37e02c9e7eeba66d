"""Which digest each image of a workload has: built here, or resolved at its registry.

Every one of them must be made for the guest's platform, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Sequence

from secure_build import manifest, stopping
from secure_build.config import Loaded
from secure_build.contract.compose import ComposeFile, Service
from secure_build.errors import RefusedError, UsageError
from secure_build.manifest import Manifest
from secure_build.model import GUEST, BuildRecord, Platform, UsedImage
from secure_build.reference import Digest, Pinned, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.steps.job import Job


def pin_services(
    work: Job, current: BuildRecord, file: ComposeFile
) -> tuple[dict[str, Pinned], list[UsedImage]]:
    """For each service the pinned image: one that was built, or one of somebody else, resolved."""
    built = {image.name: image for image in current.images}
    pins: dict[str, Pinned] = {}
    foreign: dict[str, Reference] = {}
    for service in file.services:
        name = own_image(work.loaded, service)
        if name is None:
            assert service.image is not None
            foreign[service.name] = service.image
        elif name in built:
            require_guest(built[name].platforms, f"{service.where}: {name} ({built[name].reference})")
            pins[service.name] = built[name].pinned
        else:
            raise UsageError(
                f"{service.where}: image `{name}` has not been built", hint="run `secure-build build`"
            )
    declared = [image.use for image in work.loaded.config.used.values()]
    used = resolve_all(work, [*foreign.values(), *declared])
    pins |= {name: used[reference].pinned for name, reference in foreign.items()}
    return pins, sorted(used.values(), key=lambda image: str(image.reference))


def own_image(loaded: Loaded, service: Service) -> str | None:
    """The name of the config's image that a service means; None for somebody else's image.

    Raises UsageError when the service is built by compose but not by the config, and when it names
    another tag than the one that is built.
    """
    built = loaded.config.built
    if service.image is None:
        names = [service.name] if service.name in built else []
    elif service.image.digest is not None and not service.builds:
        return None
    else:
        tag, repository = service.image.tag, service.image.repository
        same = [name for name, image in built.items() if image.image.repository == repository]
        names = [name for name in same if tag in (None, built[name].image.tag)]
        if len(names) > 1 or (same and not names):
            known = ", ".join(f"`{built[name].image}`" for name in same)
            raise UsageError(
                f"{service.where}: service `{service.name}` uses `{service.image}`, "
                f"and `{loaded.path.name}` builds {known}",
                hint="write the same tag in both, or pin another image by digest",
            )
    if not names and service.builds:
        raise UsageError(
            f"{service.where}: service `{service.name}` is built by compose, "
            f"but `{loaded.path.name}` does not build its image",
            hint=f"add it under `images:`, and put its name under `image:` of service `{service.name}`",
        )
    return names[0] if names else None


def resolve_all(work: Job, references: Sequence[Reference]) -> dict[Reference, UsedImage]:
    """Digest and platforms of third-party images, asked side by side; each must run on the guest."""
    missing = [reference for reference in dict.fromkeys(references) if reference not in work.resolved]

    def resolve(reference: Reference) -> UsedImage:
        registry = work.reader(reference.repository.registry)
        locked = locked_digest(work, reference)
        wanted = Reference(reference.repository, digest=locked) if locked else reference.tagged()
        found = registry.resolve(wanted)
        platforms = _remote_platforms(registry, reference, found)
        require_guest(platforms, f"`{reference}`")
        how = "locked at" if locked else "resolved to"
        work.report.step(f"{reference}: {how} {found.descriptor.digest}")
        return UsedImage(reference, found.descriptor.digest, platforms)

    found = stopping.side_by_side(resolve, missing, jobs=work.options.jobs)
    work.resolved.update(zip(missing, found, strict=True))
    return {reference: work.resolved[reference] for reference in references}


def locked_digest(work: Job, reference: Reference) -> Digest | None:
    """What the lock says of an image that the workload uses, None when it says nothing.

    Raises RefusedError when it says nothing although nothing else is to be used.
    """
    if reference.digest is not None:
        return None
    locked = work.lock.digest("used", str(reference.tagged()), GUEST)
    if locked is None and work.options.locked:
        raise not_locked(work, f"`{reference}`")
    return Digest.parse(locked) if locked else None


def not_locked(work: Job, what: str) -> RefusedError:
    return RefusedError(
        f"{what} is not in `{work.lock_path}`", hint="run `secure-build lock` and commit what it writes"
    )


def _remote_platforms(
    registry: RemoteRegistry, reference: Reference, found: Manifest
) -> tuple[Platform, ...]:
    """The platforms an image claims; for the guest's, its own config must say so too."""
    claimed = tuple(member.platform for member in found.members if member.platform)
    guest = next((member for member in found.members if member.platform == GUEST), None)
    if found.members and guest is None:
        return claimed
    image = registry.get_manifest(reference.repository, guest) if guest else found
    own = manifest.platform_of_config(registry.config(reference.repository, image))
    if guest is None:
        return (own,)
    return tuple(platform for platform in claimed if platform != GUEST or own == GUEST)


def require_guest(platforms: Sequence[Platform], what: str) -> None:
    if not any(
        (platform.os, platform.architecture) == (GUEST.os, GUEST.architecture) for platform in platforms
    ):
        raise RefusedError(
            f"{what} is not made for {GUEST}, but for {', '.join(map(str, platforms)) or 'no platform'}",
            hint=f"the guest cannot run it; build it, or choose one, for {GUEST}",
        )
