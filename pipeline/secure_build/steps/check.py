"""build --check: whether building again gives the recorded digest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from secure_build import materials, stopping
from secure_build.builders import Built, Recipe
from secure_build.differences import HINTS, differences
from secure_build.errors import UsageError
from secure_build.layout import Layout
from secure_build.model import BuildRecord, Finding, Image, Platform
from secure_build.steps.build import Builders, joined, make, opened_builders, version_of
from secure_build.steps.job import Job
from secure_build.steps.recipes import recipes


def check(work: Job) -> BuildRecord:
    """Build the recorded images again from scratch and compare; nothing that is kept is changed.

    Returns the record with a finding for each image, which is not written. Raises UsageError when
    another commit is checked out than the recorded one.
    """
    current = work.current_record()
    wanted = work.selected()
    images = {image.name: image for image in current.images if image.name in wanted}
    if absent := [name for name in wanted if name not in images]:
        raise UsageError(f"`{absent[0]}` has not been built", hint="run `secure-build build` first")
    checkout = work.checkout(commit=current.built_from.commit)
    work.require_commit(current, checkout)
    with (
        opened_builders(work, {name: images[name].platforms for name in wanted}) as by_platform,
        tempfile.TemporaryDirectory(prefix=".again-", dir=work.options.workdir) as folder,
    ):
        findings = {name: found for name in wanted if (found := _not_checkable(images[name], by_platform))}
        rest = [name for name in wanted if name not in findings]
        layout = Layout.create(Path(folder) / "layout")
        with recipes(work, checkout, rest) as prepared:
            made = stopping.side_by_side(
                lambda name: _compare(work, by_platform, images[name], prepared[name], layout),
                rest,
                jobs=work.options.jobs,
            )
    findings |= dict(zip(rest, made, strict=True))
    result = replace(current, findings=tuple(findings[name] for name in wanted))
    for finding in result.findings:
        work.report.finding(finding)
        if finding.level == "pass":
            work.report.step(f"{finding.what}: {finding.why}")
    return result


def _not_checkable(image: Image, by_platform: Builders) -> Finding | None:
    """Why building again would show nothing; None when it would."""
    if not image.reproducible:
        why = "it is recorded as not reproducible: what it was built from depends on more than its inputs"
    elif image.builder != (here := version_of(by_platform, image.platforms)):
        why = f"it was built with {image.builder}, and here is {here}"
    else:
        return None
    return Finding(check="reproducible", level="unknown", what=f"{image.name}: not checkable", why=why)


def _compare(work: Job, by_platform: Builders, image: Image, recipe: Recipe, layout: Layout) -> Finding:
    # As `build` does it, so that an input that has moved since is seen; but all of it comes here,
    # whatever the builder pushed before.
    pins = {platform: work.lock.pins(platform) for platform in image.platforms}
    made = make(work, by_platform, image.name, replace(recipe, push=None), pins=pins, layout=layout)
    again = joined([built.descriptor for built in made.values()], layout)
    recorded = image.descriptor.digest
    if again.digest == recorded:
        return Finding(
            check="reproducible",
            level="pass",
            what=f"{image.name}: {recorded}",
            why="building it again gave the same digest",
        )
    if moved := _moved(image, made):
        return Finding(
            check="reproducible",
            level="unknown",
            what=f"{image.name}: not checkable",
            why=f"it was built from another `{moved}` than there is now",
            hint="lock it: `secure-build lock`",
        )
    found = differences(work.layout, image.descriptor, layout, again)
    kinds = {one.kind for one in found}
    return Finding(
        check="reproducible",
        level="fail",
        what=f"{image.name}: recorded as {recorded}",
        why="\n  ".join([f"building it again with {image.builder} gave {again.digest}", *map(str, found)]),
        hint=next(hint for kind, hint in HINTS.items() if kind in kinds),
    )


def _moved(image: Image, made: Mapping[Platform, Built]) -> str | None:
    """The name of an input that is another than recorded; None when all are the same or nobody knows."""
    recorded = materials.per_platform(image.materials or (), image.platforms)
    for platform, built in made.items():
        before = {material.name: material.digest for material in recorded[platform]}
        for material in built.materials or ():
            if before.get(material.name, material.digest) != material.digest:
                return material.name
    return None
