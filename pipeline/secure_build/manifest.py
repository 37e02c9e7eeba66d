"""OCI image manifests and indexes: raw bytes beside what was parsed from them.

The bytes are kept and never serialised anew, so a digest never drifts. Docker's schema 2 types are
read the same way. Made here are only an index that joins several platforms, the manifest of an image
that comes from an engine without one, and the manifest of an artifact.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from secure_build.errors import SecureBuildError, ServiceError, UsageError
from secure_build.model import Descriptor, Platform
from secure_build.reference import Digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
MEDIA_TYPES = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)
# The limit that the distribution specification asks registries to accept.
LARGEST = 4 << 20
# The config of what is no image (image-spec v1.1, manifest.md, "Guidance for an Empty Descriptor").
EMPTY = b"{}"
EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_MOST_ENTRIES = 2048
_HALF = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest or an index: `members` for an index, `config` and `layers` for a manifest."""

    media_type: str
    content: bytes
    members: tuple[Descriptor, ...]
    config: Descriptor | None
    layers: tuple[Descriptor, ...]

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, Digest.of(self.content), len(self.content))

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers) if self.config else ()


def parse(content: bytes, media_type: str) -> Manifest:
    """The manifest or index in `content`; raises ServiceError when it is neither."""
    try:
        document = load_object(content)
        inner = document.get("mediaType", media_type)
        if inner != media_type:
            raise ValueError(f"it says `{inner}` of itself but was served as `{media_type}`")
        if media_type in (OCI_INDEX, DOCKER_INDEX):
            members = tuple(_descriptor(entry) for entry in _entries(document, "manifests"))
            return Manifest(media_type, content, members, None, ())
        if media_type in (OCI_MANIFEST, DOCKER_MANIFEST):
            layers = tuple(_descriptor(entry) for entry in _entries(document, "layers"))
            return Manifest(media_type, content, (), _descriptor(document["config"]), layers)
        raise ValueError(f"`{media_type}` is no image manifest")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SecureBuildError) as error:
        why = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise ServiceError(f"manifest {Digest.of(content)} cannot be read: {why}") from None


def platform_of_config(content: bytes) -> Platform:
    """The platform that an image config names; raises ServiceError when it names none."""
    try:
        document = load_object(content)
        variant = document.get("variant") or ""
        return Platform.parse("/".join(filter(None, (document["os"], document["architecture"], variant))))
    except (ValueError, KeyError, TypeError, RecursionError, UsageError):
        raise ServiceError(f"image config {Digest.of(content)} names no platform") from None


def command_of_config(content: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`Entrypoint` and `Cmd` of an image config, empty where it has none; raises ServiceError for others."""
    try:
        settings = load_object(content).get("config") or {}
        found = [settings.get(key) or [] for key in ("Entrypoint", "Cmd")]
        if any(not isinstance(part, str) for parts in found for part in parts):
            raise TypeError
        return tuple(found[0]), tuple(found[1])
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ServiceError(f"image config {Digest.of(content)} has a command that cannot be read") from None


def index_of(members: Sequence[Descriptor]) -> Manifest:
    """An index of these manifests, ordered by platform: equal members give equal bytes."""
    ordered = sorted(members, key=lambda member: str(member.platform))
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {
                "mediaType": member.media_type,
                "digest": str(member.digest),
                "size": member.size,
                "platform": _platform_document(member.platform),
            }
            for member in ordered
        ],
    }
    return parse(json.dumps(document, separators=(",", ":")).encode(), OCI_INDEX)


def artifact_of(
    artifact_type: str,
    media_type: str,
    content: bytes,
    *,
    subject: Descriptor | None = None,
    annotations: Mapping[str, str] | None = None,
    further: Sequence[Descriptor] = (),
) -> Manifest:
    """The manifest of an artifact that consists of one blob (image-spec v1.1, manifest.md).

    `subject` is the manifest that it is about, `further` are blobs that go with the one.
    """
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": artifact_type,
        "config": {"mediaType": EMPTY_TYPE, "digest": str(Digest.of(EMPTY)), "size": len(EMPTY)},
        "layers": [
            _entry(Descriptor(media_type, Digest.of(content), len(content))),
            *(_entry(blob) for blob in further),
        ],
    }
    if subject is not None:
        document["subject"] = _entry(subject)
    if annotations:
        document["annotations"] = dict(annotations)
    return parse(json.dumps(document, separators=(",", ":")).encode(), OCI_MANIFEST)


def artifact_type(content: Manifest) -> str:
    """What kind of artifact a manifest is; an image has the type of its config."""
    named = load_object(content.content).get("artifactType")
    return str(named or (content.config.media_type if content.config else ""))


def image_of(config: Descriptor, layers: Sequence[Descriptor]) -> Manifest:
    """A manifest of this config and these layers, for an image that has none."""
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _entry(config),
        "layers": [_entry(layer) for layer in layers],
    }
    return parse(json.dumps(document, separators=(",", ":")).encode(), OCI_MANIFEST)


def _entry(blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}


def load_object(content: bytes) -> dict[str, Any]:
    """A JSON object in UTF-8, each key once; raises ValueError.

    Refused is what RFC 8259 lets through, and readers take differently or not at all: numbers that are
    none or have no end, halves of surrogate pairs, and more depth than this program reads.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("a key stands twice in one JSON object")
        return result

    text = content.decode()
    try:
        document = json.loads(
            text, object_pairs_hook=unique, parse_constant=_finite_number, parse_float=_finite_number
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    if _HALF.search(text):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("a text in it has half of a surrogate pair") from None
    return document


def _finite_number(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError(f"`{written[:20]}` is no number")
    return number


def _entries(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = document[name]
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        raise ValueError(f"`{name}` is no list of at most {_MOST_ENTRIES} entries")
    return cast(list[dict[str, Any]], entries)


def _descriptor(entry: dict[str, Any]) -> Descriptor:
    size = entry["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(f"`{size}` is no size")
    named = entry.get("platform")
    platform = None
    if named is not None:
        parts = (named["os"], named["architecture"], named.get("variant"))
        platform = Platform.parse("/".join(filter(None, parts)))
    return Descriptor(str(entry["mediaType"]), Digest.parse(entry["digest"]), size, platform)


def _platform_document(platform: Platform | None) -> dict[str, str]:
    if platform is None:
        raise ValueError("a member of an index needs a platform")
    document = {"architecture": platform.architecture, "os": platform.os}
    return document | ({"variant": platform.variant} if platform.variant else {})
