"""The verbs as functions; the only package that composes the parts.

Each step reads the build record that the one before it wrote and writes its own, so that each is
usable alone, in another job or on another day. `run.py` is all of them in order. Each verb is imported
from its own module, so that nothing is loaded for another one; here is only how results are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secure_build import secret
from secure_build.model import BuildRecord, Finding


def summary(result: BuildRecord) -> dict[str, Any]:
    """What a run has to show, as plain data."""
    return {
        "source": result.source
        and {"url": result.source.url, "commit": result.source.commit, "clean": result.source.clean},
        "images": [
            {
                "name": image.name,
                "reference": str(image.reference),
                "digest": str(image.descriptor.digest),
                "pinned": str(image.pinned),
                "platforms": [str(platform) for platform in image.platforms],
                "missing": [str(platform) for platform in image.missing],
                "published": image.published,
                "enforce": image.enforced.by if image.enforced else "digest",
                "signatures": sorted({one.kind for one in image.signatures if not one.predicate}),
            }
            for image in result.images
        ],
        "used": [{"reference": str(image.reference), "pinned": str(image.pinned)} for image in result.used],
        "findings": findings(result.findings),
    }


def findings(listed: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as plain data, masked, since they quote others; what is not known of one is left out."""
    return [
        {
            name.replace("_", "-"): secret.mask(value)
            for name in ("check", "level", "what", "why", "basis", "hint", "where", "runtime_code")
            if (value := getattr(finding, name)) is not None
        }
        for finding in listed
    ]
