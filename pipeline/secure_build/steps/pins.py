"""Which digest each image of a workload has: built here, or resolved at its registry.

Every one of them must be made for the guest's platform, or nothing is written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from secure_build import manifest, stopping
from secure_build.config import Loaded
from secure_build.contract.places import Place
from secure_build.errors import RefusedError, UsageError
from secure_build.manifest import Manifest
from secure_build.model import GUEST, BuildRecord, Finding, Image, Platform, UsedImage
from secure_build.reference import Digest, Pinned, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.steps.job import Job

_ANY = Digest.of(b"")


@dataclass(frozen=True, slots=True)
class Pins:
    """What is written at each place, and what that rests on.

    `pulled` are the images that the guest pulls from registries known here; one whose registry the
    deployer chooses is not among them. `own` are those that were built.
    """

    texts: dict[Place, str]
    own: tuple[Image, ...]
    pulled: frozenset[Pinned]
    used: tuple[UsedImage, ...]
    findings: tuple[Finding, ...]


def pin_places(work: Job, current: BuildRecord, places: Sequence[Place]) -> Pins:
    """For each place its image by digest: one that was built, or one of somebody else, resolved."""
    built = {image.name: image for image in current.images}
    pins: dict[Place, Pinned] = {}
    own: dict[Place, Image] = {}
    foreign: dict[Place, Reference] = {}
    for place in places:
        name = own_image(work.loaded, place)
        if name is None:
            if reference := foreign_image(work.loaded, place):
                foreign[place] = reference
        elif name in built:
            require_guest(built[name].platforms, f"{place.where}: {name} ({built[name].reference})")
            pins[place], own[place] = built[name].pinned, built[name]
        else:
            raise UsageError(
                f"{place.where}: image `{name}` has not been built", hint="run `secure-build build`"
            )
    declared = [image.use for image in work.loaded.config.used.values()]
    used = resolve_all(work, [*foreign.values(), *declared])
    pins |= {place: used[reference].pinned for place, reference in foreign.items()}
    return Pins(
        texts={place: _text(work, place, pins.get(place), own.get(place)) for place in places},
        own=tuple(dict.fromkeys(own.values())),
        pulled=frozenset(image for place in places if (image := _pulled(place, pins.get(place)))),
        used=tuple(sorted(used.values(), key=lambda image: str(image.reference))),
        findings=tuple(_unknown(place) for place in places if place not in pins),
    )


def check_places(work: Job, places: Sequence[Place], *, there: Collection[str]) -> None:
    """Find before anything is built what would refuse an image afterwards.

    `there` are the images that have been built, or are to be built now.
    """
    foreign = [image.use for image in work.loaded.config.used.values()]
    foreign += filter(None, (check_place(work, place, there=there) for place in places))
    resolve_all(work, foreign)


def check_place(work: Job, place: Place, *, there: Collection[str]) -> Reference | None:
    """The same for one place; returns somebody else's image, which is still to be resolved."""
    name = own_image(work.loaded, place)
    if name is None:
        return foreign_image(work.loaded, place)
    if name not in there:
        raise UsageError(
            f"{place.where}: image `{name}` has not been built, and is not to be built now",
            hint=f"name it as well, or run `secure-build build {name}` first",
        )
    platforms = work.platforms_of(name)
    require_guest(platforms, f"{place.where}: {name} ({work.loaded.config.built[name].image})")
    return None


def registries_of(work: Job, places: Sequence[Place]) -> set[str]:
    """The registries that the guest would pull from, once `check_place` has nothing to say."""
    built, found = work.loaded.config.built, set()
    for place in places:
        name = own_image(work.loaded, place)
        reference = built[name].image if name else foreign_image(work.loaded, place)
        if reference is None:
            continue
        used = None if name else work.resolved.get(reference)
        pinned = used.pinned if used else reference.pin(_ANY)
        if pulled := _pulled(place, pinned):
            found.add(pulled.repository.registry)
    return found


def own_image(loaded: Loaded, place: Place) -> str | None:
    """The name of the config's image that a place means; None for somebody else's image.

    Raises UsageError when the image is built by compose but not by the config, and when the place
    names another tag than the one that is built.
    """
    built = loaded.config.built
    name = place.name
    if name is None:
        names = [place.alias] if place.alias in built else []
    elif name.reference is not None:
        if name.reference.digest is not None and not place.builds:
            return None
        tag, repository = name.reference.tag, name.reference.repository
        same = [key for key, image in built.items() if image.image.repository == repository]
        names = [key for key in same if tag in (None, built[key].image.tag)]
        _require_one(loaded, place, same, names)
    else:
        same = [key for key, image in built.items() if name.is_of(image.image)]
        names = [key for key in same if name.has_tag_of(built[key].image)]
        _require_one(loaded, place, same, names)
    if not names and place.builds:
        raise UsageError(
            f"{place.where}: {place.what} is built by compose, "
            f"but `{loaded.path.name}` does not build its image",
            hint=f"add it under `images:`, and put its name under `image:` of {place.what}",
        )
    return names[0] if names else None


def foreign_image(loaded: Loaded, place: Place) -> Reference | None:
    """The reference of somebody else's image, to be resolved; for a copy (`mirror`), of what is copied.

    Where the deployer chooses the registry it is the config's image of that name or digest; None
    when there is none and the place has a digest of its own. Raises UsageError when it has not.
    """
    name = place.name
    assert name is not None
    used = loaded.config.used.values()
    if name.reference is not None or name.rest is None:
        return next((image.use for image in used if image.mirror == name.reference), name.reference)
    if name.rest.digest is not None:
        return next((image.use for image in used if image.use.digest == name.rest.digest), None)
    same = [
        image.use
        for image in used
        if any(name.is_of(known) and name.has_tag_of(known) for known in (image.use, image.mirror) if known)
    ]
    if len(same) != 1:
        what = "names no image that" if not same else "could be several images that"
        raise UsageError(
            f"{place.where}: {place.what}: `{name.written}` {what} `{loaded.path.name}` knows",
            hint=f"add its digest (`{name.registry}/{name.rest.repository.path}@sha256:…`), "
            "or the one image under `images:` with the same path and tag",
        )
    return same[0]


def _require_one(loaded: Loaded, place: Place, same: list[str], names: list[str]) -> None:
    if len(names) > 1 or (same and not names):
        built = loaded.config.built
        known = ", ".join(f"`{built[name].image}`" for name in same)
        written = place.name and (place.name.reference or place.name.written)
        raise UsageError(
            f"{place.where}: {place.what} uses `{written}`, and `{loaded.path.name}` builds {known}",
            hint="write the same tag in both, or pin another image by digest",
        )


def named(work: Job, image: Image, where: str) -> Pinned | Reference:
    """What the contract names an image by: its tag where the runtime is to check a signature, else its
    digest. Raises UsageError for one that is not signed yet."""
    wanted = work.loaded.config.built[image.name]
    if wanted.enforce != "digest" and (image.enforced is None or image.enforced.by != wanted.enforce):
        verb = "publish" if wanted.enforce == "dct" else "sign"
        raise UsageError(
            f"{where}: {image.name} is not signed with `{wanted.enforce}` yet",
            hint=f"run `secure-build {verb}`",
        )
    return image.reference if wanted.by_tag else image.pinned


def _text(work: Job, place: Place, pinned: Pinned | None, own: Image | None) -> str:
    """What is written at a place: the digest, or the tag where the runtime is to check its signature."""
    if own is not None and (reference := named(work, own, place.where)) != pinned:
        if place.name is not None and place.name.registry is not None:
            raise UsageError(
                f"{place.where}: {place.what} leaves the registry to the deployer, and the signature of "
                f"{own.name} is for `{own.reference}` only",
                hint="write the registry out, or use `enforce: digest`",
            )
        return str(reference)
    if place.name is None:
        return str(pinned)
    return place.name.pinned(pinned)


def _pulled(place: Place, image: Pinned | None) -> Pinned | None:
    """What the guest pulls for a place; None when the deployer chooses from where."""
    if image is None or place.name is None or place.name.registry is None:
        return image
    return place.name.reference.pin(image.digest) if place.name.reference else None


def _unknown(place: Place) -> Finding:
    assert place.name is not None
    return Finding(
        check="platform",
        level="unknown",
        what=f"{place.what}: `{place.name.written}`",
        why=f"without its registry nothing says that the image is made for {GUEST}",
        hint="name the same digest under `images:`, as `use: registry/name@sha256:…`",
        where=place.where,
    )


def resolve_all(work: Job, references: Sequence[Reference]) -> dict[Reference, UsedImage]:
    """Digest and platforms of third-party images, asked side by side; each must run on the guest.

    What the build record knows of a digest is not asked for again: whether it is still there, the pull as
    the guest tells.
    """
    distinct = [one for one in dict.fromkeys(references) if one not in work.resolved]
    if distinct:
        before, mirrors = _recorded(work), _mirrors(work)
        stopping.side_by_side(
            lambda reference: _resolve(work, reference, before, mirrors),
            distinct,
            jobs=work.options.requests,
        )
    return {reference: work.resolved[reference] for reference in references}


def resolve(work: Job, reference: Reference) -> UsedImage:
    """The same for one image, asked for whatever is known; not twice in one invocation."""
    before = _recorded(work) if work.options.offline else {}
    return work.resolved.get(reference) or _resolve(work, reference, before, _mirrors(work))


def _resolve(
    work: Job,
    reference: Reference,
    before: Mapping[Reference, UsedImage],
    mirrors: Mapping[Reference, Reference],
) -> UsedImage:
    known = before.get(reference)
    if work.options.offline:
        if known is None:
            raise UsageError(
                f"what `{reference}` is cannot be asked with `--offline`, and the build record does not say",
                hint="leave `--offline` out once",
            )
        return work.resolved.setdefault(reference, known)
    locked = locked_digest(work, reference)
    if known is not None and known.digest == (reference.digest or locked):
        digest, platforms = known.digest, known.platforms
    else:
        registry = work.reader(reference.repository)
        wanted = Reference(reference.repository, digest=locked) if locked else reference.tagged()
        content = registry.resolve(wanted)
        digest = content.descriptor.digest
        if known is not None and known.digest == digest:
            platforms = known.platforms
        else:
            platforms = _remote_platforms(registry, reference, content)
    require_guest(platforms, f"`{reference}`")
    work.report.step(f"{reference}: {'locked at' if locked else 'resolved to'} {digest}")
    found = UsedImage(reference, digest, platforms, mirrors.get(reference))
    return work.resolved.setdefault(reference, found)


def _mirrors(work: Job) -> dict[Reference, Reference]:
    """Where the config has images copied to, by what is copied."""
    return {image.use: image.mirror for image in work.loaded.config.used.values() if image.mirror}


def _recorded(work: Job) -> dict[Reference, UsedImage]:
    """What the build record says of images of others."""
    last = work.last_record()
    return {image.reference: image for image in (last.used if last else ())}


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
    """The platforms an image claims; for the guest's, its own config must say so too.

    Raises RefusedError when two members claim to be the guest's: which of them runs is anybody's guess.
    """
    claimed = tuple(member.platform for member in found.members if member.platform)
    guests = {member.digest: member for member in found.members if member.platform == GUEST}
    if len(guests) > 1:
        raise RefusedError(
            f"`{reference}` lists {GUEST} {len(guests)} times: {', '.join(map(str, guests))}",
            hint="pin the one that is meant by its own digest",
        )
    guest = next(iter(guests.values()), None)
    if found.config is None and guest is None:
        return claimed
    image = registry.get_manifest(reference.repository, guest) if guest else found
    if image.config is None:
        raise RefusedError(f"`{reference}` lists another index for {GUEST}, and no image")
    own = manifest.platform_of_config(registry.config(reference.repository, image))
    if guest is None:
        return (own,)
    return tuple(platform for platform in claimed if platform != GUEST or own == GUEST)


def is_for_guest(platforms: Sequence[Platform]) -> bool:
    """Whether the guest can run one of them."""
    guest = (GUEST.os, GUEST.architecture)
    return any((platform.os, platform.architecture) == guest for platform in platforms)


def require_guest(platforms: Sequence[Platform], what: str) -> None:
    if not is_for_guest(platforms):
        raise RefusedError(
            f"{what} is not made for {GUEST}, but for {', '.join(map(str, platforms)) or 'no platform'}",
            hint=f"the guest cannot run it; build it, or choose one, for {GUEST}",
        )
