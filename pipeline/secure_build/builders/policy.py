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
    """The pins as a BuildKit source policy (buildkit, docs/build-repro.md).

    Its kind of match is the one that is used when none is named: the others are read differently,
    or not at all, by different versions.
    """
    rules = [rule for name, digest in sorted(pins.items()) for rule in _rules(name, digest)]
    return json.dumps({"rules": rules}).encode()


def _rules(name: str, digest: str) -> list[dict[str, Any]]:
    if digest.startswith(_COMMIT):
        repository = _git_identifier(name)
        separator = "" if "#" in repository else "#"
        # A subfolder follows the branch, and is not part of the reported name.
        return [
            _rule(_literal(repository), _verbatim(at_commit(repository, digest))),
            _rule(
                f"{_literal(repository)}{separator}:*", f"{_verbatim(at_commit(repository, digest))}:${{1}}"
            ),
        ]
    if "://" in name:
        return [_rule(_literal(name), _verbatim(name), {"http.checksum": digest})]
    image = f"{_IMAGE}{name}"
    return [_rule(image, f"{image.partition('@')[0]}@{digest}")]


def _rule(selected: str, used: str, attributes: dict[str, str] | None = None) -> dict[str, Any]:
    updates = {"identifier": used, **({"attrs": attributes} if attributes else {})}
    return {"action": "CONVERT", "selector": {"identifier": selected}, "updates": updates}


def _literal(identifier: str) -> str:
    return identifier.replace("\\", r"\\").replace("*", r"\*")


def _verbatim(identifier: str) -> str:
    return identifier.replace("$", "$$")


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
    """A git address with the commit in the place of its branch or tag."""
    return f"{name.partition('#')[0]}#{digest.removeprefix(_COMMIT)}"


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
