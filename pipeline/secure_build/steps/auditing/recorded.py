"""What an audit requires, as far as the build record alone tells: for the audit, and long before it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

from secure_build.attestations import provenance, sbom
from secure_build.config import Requirement
from secure_build.model import BuildRecord, Image, Level


class Told(NamedTuple):
    """Whether something that is required holds, and why."""

    level: Level
    why: str


def tell(requirement: Requirement, built: BuildRecord) -> Told | None:
    """What the record says of one requirement; None for what is not in records."""
    check = _CHECKS.get(requirement)
    return check(built) if check else None


def _clean(built: BuildRecord) -> Told:
    if built.source is None:
        return Told("unknown", "the build record has no images, and so no commit")
    if built.source.clean:
        return Told("pass", f"built was commit {built.source.commit} as it is")
    return Told("fail", "the working tree differed from the commit that was built")


def _sboms(built: BuildRecord) -> Told:
    def lacks(image: Image) -> bool:
        # About the members of an index, of which each platform has one.
        return len(_subjects(image, sbom.PREDICATES.values())) < len(image.platforms)

    return _all(built, lacks, "has a signed SBOM for each platform", "has no signed SBOM for each platform")


def _provenances(built: BuildRecord) -> Told:
    def lacks(image: Image) -> bool:
        return str(image.descriptor.digest) not in _subjects(image, [provenance.PREDICATE])

    return _all(built, lacks, "has signed provenance", "has no signed provenance")


def _reproducible(built: BuildRecord) -> Told:
    def lacks(image: Image) -> bool:
        return not image.reproducible

    return _all(built, lacks, "was built reproducibly", "was not built reproducibly")


def _subjects(image: Image, predicates: Collection[str]) -> set[str]:
    return {str(one.image.digest) for one in image.signatures if one.predicate in predicates}


def _all(built: BuildRecord, lacks: Callable[[Image], bool], good: str, bad: str) -> Told:
    named = [image.name for image in built.images if lacks(image)]
    if named:
        return Told("fail", f"{', '.join(named)} {bad}")
    if not built.images:
        return Told("pass", "the build record has no image that was built")
    return Told(
        "pass", f"each of {len(built.images)} {good}" if len(built.images) > 1 else f"the image {good}"
    )


_CHECKS: Mapping[Requirement, Callable[[BuildRecord], Told]] = {
    "clean-source": _clean,
    "sbom": _sboms,
    "provenance": _provenances,
    "reproducible": _reproducible,
}


def early(required: Collection[Requirement], built: BuildRecord) -> Iterator[tuple[Requirement, str]]:
    """What an audit of this build will not find as it is required, and why."""
    for requirement in required:
        told = tell(requirement, built)
        if told is not None and told.level == "fail":
            yield requirement, told.why
