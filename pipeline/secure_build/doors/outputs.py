"""The values that a run hands to the steps after it: by name, as text, empty where there is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from secure_build.doors.running import Ended

# Name and meaning; documents are made of them.
OUTPUTS = {
    "status": "How it ended: `done`, `refused` (exit code 1), `usage` (2), `unsupported` (3), "
    "`unavailable` (4), `unknown` (5), `interrupted` or `bug`.",
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
    "record": "The build record: a file, or with `by-digest` `registry/repository@sha256:…`.",
}
_OF_AN_IMAGE = ("name", "reference", "digest", "pinned", "platforms")


def outputs(ended: Ended) -> dict[str, str]:
    """A value for each of `OUTPUTS`. No secret is among them: the command prints none."""
    document = ended.document
    images = [{name: image[name] for name in _OF_AN_IMAGE} for image in _built(document)]
    single = images[0] if len(images) == 1 else {}
    workload = document.get("workload", {})
    # What `plan` says of it is only where it will be.
    contract = document.get("contract", {}) if "record" in document else {}
    # `contract images` prints nothing but the fragment.
    fragment = document.get("images-section") or (document if "references" in document else {})
    lines = document.get("expected-attestation", [])
    values = {
        "status": ended.status,
        "image": single.get("pinned"),
        "digest": single.get("digest"),
        "images": json.dumps(images, separators=(",", ":")) if images else None,
        "images-section": fragment.get("masked", "").rstrip("\n"),
        "images-section-path": fragment.get("path"),
        "workload": workload.get("encrypted") or workload.get("path"),
        "contract": contract.get("path"),
        "expected-attestation": "\n".join(f"{line['sha256']} {line['name']}" for line in lines),
        "record": document.get("record"),
    }
    return {name: values[name] or "" for name in OUTPUTS}


def _built(document: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The images of the build record; what `contract images` calls so is the contract's."""
    return document["images"] if "record" in document else []
