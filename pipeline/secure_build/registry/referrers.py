"""What refers to an image: lists of referrers, and the index that stands in where no list is kept.

Parsing and making only (distribution-spec v1.1, Listing Referrers and Referrers Tag Schema). The
fallback index is never filtered by `artifactType`: cosign writes another one there than it
registers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from secure_build.errors import SecureBuildError, ServiceError
from secure_build.manifest import OCI_INDEX, Manifest, artifact_type, load_object
from secure_build.model import Descriptor
from secure_build.reference import Digest

# Tags that cosign gives to what it keeps of an image (cosign, specs/SIGNATURE_SPEC.md).
COSIGN_SUFFIXES = ("sig", "att", "sbom")
_MOST = 2048
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,]*\brel="?next"?')


@dataclass(frozen=True, slots=True)
class Referrer:
    """A manifest that names another one as its subject."""

    descriptor: Descriptor
    artifact_type: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)


def fallback_tag(digest: Digest) -> str:
    """The tag under which the referrers of a manifest are listed where a registry keeps no list."""
    return f"sha256-{digest.hexadecimal}"


def parse(content: bytes) -> list[Referrer]:
    """The referrers that an index lists; raises ServiceError when it is none."""
    try:
        document = load_object(content)
        entries = document.get("manifests")
        entries = [] if entries is None else entries
        if document.get("mediaType", OCI_INDEX) != OCI_INDEX or not isinstance(entries, list):
            raise ValueError("it is no OCI index")
        if len(entries) > _MOST:
            raise ValueError(f"it has more than {_MOST} entries")
        return [_referrer(entry) for entry in entries]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SecureBuildError) as error:
        raise ServiceError(f"a list of referrers cannot be read: {error}") from None


def subject_of(content: Manifest) -> Digest | None:
    """The digest of the manifest that this one refers to, if any; raises ServiceError."""
    try:
        subject = load_object(content.content).get("subject")
        return Digest.parse(subject["digest"]) if subject is not None else None
    except (ValueError, KeyError, TypeError, SecureBuildError) as error:
        raise ServiceError(f"the subject of {content.descriptor.digest} cannot be read: {error}") from None


def referrer_of(content: Manifest) -> Referrer:
    """How a manifest is to be listed."""
    annotations = load_object(content.content).get("annotations")
    return Referrer(content.descriptor, artifact_type(content), _texts(annotations))


def index_of(referrers: Iterable[Referrer]) -> bytes:
    """An index that lists these; equal lists give equal bytes."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [_entry(one) for one in referrers]}
    return json.dumps(document, separators=(",", ":")).encode()


def next_page(link: str | None) -> str | None:
    """The address of the next page in a Link header (RFC 8288)."""
    found = _NEXT.search(link or "")
    return found[1] if found else None


def _referrer(entry: Mapping[str, Any]) -> Referrer:
    size, annotations = entry["size"], entry.get("annotations") or {}
    if type(size) is not int or size < 0:
        raise ValueError(f"`{size}` is no size")
    if not isinstance(annotations, dict):
        raise TypeError("`annotations` is no object")
    descriptor = Descriptor(str(entry["mediaType"]), Digest.parse(entry["digest"]), size)
    return Referrer(descriptor, str(entry.get("artifactType") or ""), _texts(annotations))


def _texts(annotations: Any) -> dict[str, str]:
    """The annotations that are texts, as all should be."""
    named = annotations.items() if isinstance(annotations, dict) else ()
    return {name: text for name, text in named if isinstance(text, str)}


def _entry(referrer: Referrer) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "mediaType": referrer.descriptor.media_type,
        "digest": str(referrer.descriptor.digest),
        "size": referrer.descriptor.size,
    }
    if referrer.artifact_type:
        entry["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        entry["annotations"] = dict(referrer.annotations)
    return entry
