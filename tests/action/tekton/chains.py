"""What Tekton Chains takes for an artifact, by the names of results ("Type hinting" in its own words)."""

from __future__ import annotations

import re
from collections.abc import Mapping

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def subjects(results: Mapping[str, str]) -> dict[str, str]:
    """Repository and digest of each image that it would sign."""
    found: dict[str, str] = {}
    for name, value in results.items():
        if name.endswith("IMAGE_URL"):
            digest = results.get(name.removesuffix("IMAGE_URL") + "IMAGE_DIGEST", "").strip()
            if value.strip() and _DIGEST.fullmatch(digest):
                found[_repository(value.strip())] = digest
    for one in re.split(r"[,\n]", results.get("IMAGES", "")):
        repository, _, digest = one.strip().partition("@")
        if repository and _DIGEST.fullmatch(digest):
            found[_repository(repository)] = digest
    return found


def material(results: Mapping[str, str]) -> tuple[str, str] | None:
    """The git repository and commit that it would name as the source."""
    url, commit = (results.get(f"CHAINS-GIT_{what}", "").strip() for what in ("URL", "COMMIT"))
    return (f"git+{url.removesuffix('.git')}.git", commit) if url and commit else None


def _repository(reference: str) -> str:
    """Without the tag; a colon before a slash is of a port."""
    head, slash, last = reference.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}"
