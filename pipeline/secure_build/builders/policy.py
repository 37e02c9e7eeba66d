"""Pins: which digest an external input must have, whatever its name leads to now.

A pin's name is the one a builder reports (`Material.name`), its digest `sha256:…` of an image's
manifest or of a file, or `sha1:…` of a git commit.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from secure_build.errors import RefusedError
from secure_build.model import Material
from secure_build.reference import DOCKER_HUB, Reference

_COMMIT = "sha1:"
_IMAGE = "docker-image://"


def image_pins(pins: Mapping[str, str]) -> dict[Reference, str]:
    """The pins of images that are named by tag, with the image by digest that they lead to."""
    references = {
        Reference.parse(name): digest
        for name, digest in pins.items()
        if not digest.startswith(_COMMIT) and "://" not in name
    }
    return {
        reference: f"{reference.repository}@{digest}"
        for reference, digest in references.items()
        if reference.digest is None
    }


def source_policy(pins: Mapping[str, str]) -> bytes:
    """The pins as a BuildKit source policy (buildkit, docs/build-repro.md)."""
    return json.dumps({"rules": [_rule(name, digest) for name, digest in sorted(pins.items())]}).encode()


def _rule(name: str, digest: str) -> dict[str, Any]:
    updates: dict[str, Any]
    if digest.startswith(_COMMIT):
        identifier = _git_identifier(name)
        updates = {"identifier": at_commit(identifier, digest)}
    elif "://" in name:
        identifier, updates = name, {"attrs": {"http.checksum": digest}}
    else:
        identifier = f"{_IMAGE}{name}"
        updates = {"identifier": f"{_IMAGE}{name.partition('@')[0]}@{digest}"}
    # An exact match: addresses may hold characters that a pattern gives a meaning.
    return {
        "action": "CONVERT",
        "selector": {"identifier": identifier, "matchType": "EXACT"},
        "updates": updates,
    }


def _git_identifier(name: str) -> str:
    """What BuildKit's solver calls a repository: the same for every protocol that reaches it."""
    scheme, separator, rest = name.partition("://")
    if not separator:
        # user@host:path
        host, _, path = scheme.rpartition("@")[2].partition(":")
        return f"git://{host}/{path.lstrip('/')}"
    host, slash, path = rest.partition("/")
    return f"git://{host.rpartition('@')[2]}{slash}{path}"


def at_commit(name: str, digest: str) -> str:
    """A git address with the commit in the place of its branch or tag; a subfolder stays."""
    address, _, fragment = name.partition("#")
    _, colon, folder = fragment.partition(":")
    return f"{address}#{digest.removeprefix(_COMMIT)}{colon}{folder}"


def check_pins(pins: Mapping[str, str], materials: Iterable[Material]) -> None:
    """Raise RefusedError when a build used an input with another digest than it is pinned to."""
    for material in materials:
        wanted = pins.get(material.name, material.digest)
        if wanted != material.digest:
            raise RefusedError(
                f"the build used `{material.name}` with the digest {material.digest}, "
                f"but it is locked to {wanted}"
            )


def spellings(reference: Reference) -> list[str]:
    """Every way a Dockerfile may write an image that is named by tag."""
    repository = reference.repository
    names = [str(repository)]
    if repository.registry == DOCKER_HUB:
        names += [f"index.docker.io/{repository.path}", repository.path]
        short = repository.path.removeprefix("library/")
        if short != repository.path:
            names += [f"docker.io/{short}", f"index.docker.io/{short}", short]
    tagged = [f"{name}:{reference.tag or 'latest'}" for name in names]
    return tagged + (names if reference.tag in (None, "latest") else [])
