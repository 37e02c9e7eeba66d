"""The values in what `--output json` prints that others ask for by name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# Name and meaning; documents are made of them.
VALUES = {
    "image": "The image by digest, `registry/repository@sha256:…`, where there is one only.",
    "digest": "Its digest, `sha256:…`.",
    "images": "All images as JSON: a list of `name`, `reference`, `digest`, `pinned`, `platforms`.",
    "images-section": "The contract's `images` and `auths`, passwords as `***`, with the reference of every "
    "image; from `run` and `contract images`.",
    "images-section-path": "The file that has them with the passwords, for its owner only.",
    "workload": "File with the workload section: the encrypted one, or the plain one where there is no "
    "certificate.",
    "contract": "File with the whole contract, where the config has both sections.",
    "expected-attestation": "What the attestation record will show: `HASH NAME`, one a line.",
    "record": "The build record: a file, or with `by-digest` or `hand-on` `registry/repository@sha256:…`.",
}
_OF_AN_IMAGE = ("name", "reference", "digest", "pinned", "platforms")


def values(document: Mapping[str, Any]) -> dict[str, str]:
    """Each of `VALUES` as text, empty where there is none. No secret is among them: none is printed."""
    images = [{name: image[name] for name in _OF_AN_IMAGE} for image in _built(document)]
    single = images[0] if len(images) == 1 else {}
    workload = _part(document, "workload")
    # `contract images` prints nothing but the fragment.
    fragment = document.get("images-section") or (document if "references" in document else {})
    lines = document.get("expected-attestation", [])
    found = {
        "image": single.get("pinned"),
        "digest": single.get("digest"),
        "images": json.dumps(images, separators=(",", ":")) if images else None,
        "images-section": fragment.get("masked", "").rstrip("\n"),
        "images-section-path": fragment.get("path"),
        "workload": workload.get("encrypted") or workload.get("path"),
        "contract": _part(document, "contract").get("path"),
        "expected-attestation": "\n".join(f"{line['sha256']} {line['name']}" for line in lines),
        "record": document.get("handed-on") or document.get("record"),
    }
    return {name: found[name] or "" for name in VALUES}


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A part of the document; what `plan` calls so is text."""
    part = document.get(name)
    return part if isinstance(part, dict) else {}


def _built(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images of the build record; what `contract images` calls so is the contract's."""
    return document["images"] if "record" in document else []
