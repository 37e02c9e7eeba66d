"""cosign's classic signatures as OCI content: a manifest under a tag made from the image's digest.

Each layer is a signed document that names the image, its signature in an annotation (cosign,
specs/SIGNATURE_SPEC.md). Whoever signs adds a layer; nobody takes one away. Whether a signature is
good is `signers/classic.py`'s business.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secure_build import manifest
from secure_build.errors import RefusedError, SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import Descriptor
from secure_build.reference import DOCKER_HUB, Digest, Pinned, Reference, Repository

MEDIA_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
# A document names one image; annotations of cosign's may be in it.
LARGEST = 1 << 20
_SIGNATURE = "dev.cosignproject.cosign/signature"
_LOG = "dev.sigstore.cosign/bundle"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_TYPE = "cosign container image signature"


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed document, its signature (base64) and, where there is one, its log entry (JSON)."""

    payload: bytes
    signature: str
    log: str | None = None


def payload(image: Pinned) -> bytes:
    """The document that says: this digest, under this repository's name."""
    repository = image.repository
    # As cosign's registry library calls Docker Hub.
    registry = "index.docker.io" if repository.registry == DOCKER_HUB else repository.registry
    return _json(
        {
            "critical": {
                "identity": {"docker-reference": f"{registry}/{repository.path}"},
                "image": {"docker-manifest-digest": str(image.digest)},
                "type": _TYPE,
            },
            "optional": None,
        }
    )


def check_payload(content: bytes, image: Pinned) -> None:
    """Raise RefusedError unless a document, whose signature has been verified, names this image.

    Unlike cosign it must name the image's repository too. A tag in the name is not looked at.
    """
    try:
        critical = manifest.load_object(content)["critical"]
        named = Reference.parse(critical["identity"]["docker-reference"]).repository
        digest = Digest.parse(critical["image"]["docker-manifest-digest"])
        if critical["type"] != _TYPE:
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SecureBuildError):
        raise RefusedError("what is signed is no document of cosign's about an image") from None
    if digest != image.digest:
        raise RefusedError(f"the signature is for {digest}, not for {image.digest}")
    if named != image.repository:
        raise RefusedError(f"the signature is for `{named}`, not for `{image.repository}`")


def tag(repository: Repository, digest: Digest) -> Reference:
    """Where the signatures of a manifest are."""
    return Reference(repository, f"sha256-{digest.hexadecimal}.sig")


def write(layout: Layout, signed: Signed) -> Manifest:
    """Keep a signature in the layout, as a manifest with it alone; equal input gives equal bytes."""
    layer = layout.write(signed.payload, MEDIA_TYPE)
    annotations = {_SIGNATURE: signed.signature} | ({_LOG: signed.log} if signed.log else {})
    entry = {
        "mediaType": layer.media_type,
        "size": layer.size,
        "digest": str(layer.digest),
        "annotations": annotations,
    }
    content, config = _manifest({"schemaVersion": 2, "mediaType": manifest.OCI_MANIFEST}, [entry])
    layout.write(config, _CONFIG_TYPE)
    layout.write(content.content, content.media_type)
    return content


def signatures(content: Manifest, read: Callable[[Descriptor], bytes]) -> list[Signed]:
    """The signatures in a manifest; `read` gives the bytes of a layer. Other layers are passed over."""
    if content.config is None:
        # An index, which holds no signatures.
        return []
    found = []
    for layer, entry in zip(content.layers, _layers(content), strict=True):
        annotations = entry.get("annotations")
        if layer.media_type != MEDIA_TYPE or layer.size > LARGEST or not isinstance(annotations, dict):
            continue
        signature, log = annotations.get(_SIGNATURE), annotations.get(_LOG)
        if isinstance(signature, str) and isinstance(log, str | None):
            found.append(Signed(read(layer), signature, log))
    return found


def merge(existing: Manifest, own: Manifest) -> tuple[Manifest, bytes]:
    """What others have there with our layers after theirs, and its config.

    All that is theirs stays as it is: layers, annotations, order. Raises ServiceError for what cannot
    be added to.
    """
    if existing.config is None:
        raise ServiceError(f"{existing.descriptor.digest} is an index, so no signature is added to it")
    kept = _layers(existing)
    added = [layer for layer in _layers(own) if layer not in kept]
    return _manifest(manifest.load_object(existing.content), [*kept, *added])


def _manifest(document: dict[str, Any], layers: list[dict[str, Any]]) -> tuple[Manifest, bytes]:
    # Tools that take it for an image want to find as many entries as layers.
    config = _json(
        {
            "architecture": "",
            "os": "",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
    )
    described = {"mediaType": _CONFIG_TYPE, "size": len(config), "digest": str(Digest.of(config))}
    content = _json({**document, "config": described, "layers": layers})
    return manifest.parse(content, document.get("mediaType", manifest.OCI_MANIFEST)), config


def _layers(content: Manifest) -> list[dict[str, Any]]:
    layers: list[dict[str, Any]] = manifest.load_object(content.content)["layers"]
    return layers


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
