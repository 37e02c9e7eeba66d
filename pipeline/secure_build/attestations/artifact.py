"""Sigstore bundles as OCI artifacts: a manifest whose subject is what the bundle is about.

The form is that of cosign 3 (sigstore bundle v0.3 in an OCI 1.1 artifact). Readers differ in what
they look at, so all of it is written; reading goes by the layer's type alone, since cosign puts
another artifact type into the index of referrers than into the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_build import manifest
from secure_build.attestations.encoding import decoded
from secure_build.errors import ServiceError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import Descriptor, SignatureKind
from secure_build.reference import Digest

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
# With the spelling before, which readers still take.
MEDIA_TYPES = (BUNDLE, "application/vnd.dev.sigstore.bundle+json;version=0.3")
_CONTENT = "dev.sigstore.bundle.content"
PREDICATE_TYPE = "dev.sigstore.bundle.predicateType"
# The most that a bundle may have; an SBOM of a large image has some megabytes.
LARGEST = 64 << 20


def write(layout: Layout, bundle: bytes, predicate_type: str, subject: Descriptor) -> Manifest:
    """Keep a bundle in the layout as an artifact about `subject`; equal input gives equal bytes.

    Raises ServiceError for one that is too large to be read again.
    """
    _check_size(len(bundle))
    content = manifest.artifact_of(
        BUNDLE,
        BUNDLE,
        bundle,
        subject=subject,
        annotations={_CONTENT: "dsse-envelope", PREDICATE_TYPE: predicate_type},
    )
    layout.write(manifest.EMPTY, manifest.EMPTY_TYPE)
    layout.write(bundle, BUNDLE)
    layout.write(content.content, content.media_type)
    return content


def bundle_of(content: Manifest) -> Descriptor | None:
    """The blob with the bundle; None for an artifact of another kind.

    Raises ServiceError for a bundle that is too large to be one.
    """
    if len(content.layers) != 1 or content.layers[0].media_type not in MEDIA_TYPES:
        return None
    _check_size(content.layers[0].size)
    return content.layers[0]


def read(layout: Layout, digest: Digest) -> bytes | None:
    """The bundle of the artifact with this digest; None when it is not in the layout, or is no bundle.

    Raises ServiceError for one that is damaged or too large.
    """
    content = layout.artifact(digest)
    blob = bundle_of(content) if content is not None else None
    return layout.read(blob, at_most=LARGEST) if blob is not None else None


@dataclass(frozen=True, slots=True)
class Claim:
    """What a bundle says by its own word: how it is signed, and which statement."""

    kind: SignatureKind
    payload: bytes


def claim(bundle: bytes) -> Claim | None:
    """What nobody has checked in a bundle; None for what is no bundle of a statement.

    Keys are named, identities have certificates (sigstore bundle, `verificationMaterial`).
    """
    try:
        document = manifest.load_object(bundle)
        kind: SignatureKind = "cosign" if "publicKey" in document["verificationMaterial"] else "keyless"
        return Claim(kind, decoded(document["dsseEnvelope"]["payload"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise ServiceError(f"a bundle has {size} bytes; the limit is {LARGEST}")
