"""What builds took from outside, per platform and all together.

The build record names an input once; only where its digest differs between platforms does it name
it once for each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from secure_build.model import Material, Platform

PerPlatform = Mapping[Platform, Iterable[Material]]


def merged(inputs: PerPlatform) -> tuple[Material, ...]:
    """The inputs of builds for several platforms as the record keeps them, sorted."""
    found: dict[tuple[str, str], set[Material]] = defaultdict(set)
    for platform, materials in inputs.items():
        for material in materials:
            found[material.kind, material.name].add(replace(material, platform=platform))
    result: set[Material] = set()
    for same in found.values():
        one = len({material.digest for material in same}) == 1
        result |= {replace(material, platform=None) for material in same} if one else same
    return tuple(sorted(result, key=_order))


def per_platform(
    materials: Iterable[Material], platforms: Iterable[Platform]
) -> dict[Platform, tuple[Material, ...]]:
    """The inputs of each platform's build, from what `merged` made of them.

    What has one digest counts for every platform, also for one whose build did not take it.
    """
    listed = tuple(materials)
    return {
        platform: tuple(
            replace(material, platform=None) for material in listed if material.platform in (None, platform)
        )
        for platform in platforms
    }


def _order(material: Material) -> tuple[str, ...]:
    return (material.kind, material.name, str(material.platform), material.digest)
