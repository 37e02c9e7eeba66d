"""Provenance: from which commit and inputs an image was built, and by what (slsa.dev/provenance/v1).

Said is what the build record and the config know, and nothing that is a secret: build secrets and
arguments that look like tokens are told by name, addresses without login and query. What is not known
is left out. docs/attestations.md defines the build type and the parameters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from secure_build.model import Image, Material, Platform, Source
from secure_build.reference import Digest, Reference

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:x-secure-build:build:v1"
# The host of an image in a record of before hosts were kept.
UNKNOWN_HOST = "urn:x-secure-build:host:unknown"
# That of one whose platforms were built on different ones.
SEVERAL_HOSTS = "urn:x-secure-build:host:several"

_SERVED = frozenset({"https", "http", "ssh", "git"})
# As git(1) takes it for SSH: `user@host:path`.
_SHORT = re.compile(r"[^@/]+@([^@:/]+):(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Parameters:
    """How the config wants an image built.

    `hidden` names the arguments whose values are not told; of build secrets only ids come here at all.
    """

    context: str
    dockerfile: str
    platforms: tuple[Platform, ...]
    target: str | None = None
    arguments: Mapping[str, str] | None = None
    hidden: Collection[str] = ()
    secrets: Collection[str] = ()
    contexts: Mapping[str, str] | None = None
    cache_from: tuple[Reference, ...] = ()
    cache_to: Reference | None = None


def predicate(
    image: Image, source: Source, parameters: Parameters, *, config: Digest, tool: str
) -> dict[str, Any]:
    """The predicate for an image; `config` is the digest of the config's bytes, `tool` our version."""
    invocation = image.invocation
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _known(
                source=_known(repository=_address(source.url), ref=source.ref, directory=source.subdir),
                config={"sha256": config.hexadecimal},
                image={"name": image.name, "reference": str(image.reference)},
                build=_build(parameters),
            ),
            "internalParameters": {
                "workingTree": "clean" if source.clean else "dirty",
                "materials": "unknown" if image.materials is None else "reported",
                "reproducible": image.reproducible,
            },
            "resolvedDependencies": [
                *_sources(source),
                *(_material(material) for material in image.materials or ()),
            ],
        },
        "runDetails": _known(
            builder={
                "id": invocation.host if invocation else UNKNOWN_HOST,
                "version": {"secure-build": tool, image.builder.name: image.builder.version},
            },
            metadata=invocation
            and _known(
                invocationId=invocation.identity,
                startedOn=_moment(invocation.started),
                finishedOn=_moment(invocation.finished),
            ),
        ),
    }


def disagreement(said: Mapping[str, Any], image: Image, source: Source) -> str | None:
    """In what provenance says otherwise than the record: commit, repository or builder; None in nothing."""
    definition, details = _part(said, "buildDefinition"), _part(said, "runDetails")
    dependencies = definition.get("resolvedDependencies")
    listed = dependencies if isinstance(dependencies, list) else []
    built = next((one for one in listed if isinstance(one, dict) and one.get("name") == "source"), {})
    expected, invocation = _sources(source)[0], image.invocation
    for what, found, wanted in (
        ("commit", _part(built, "digest").get("gitCommit"), source.commit),
        ("source", built.get("uri"), expected.get("uri")),
        (
            "repository",
            _part(_part(definition, "externalParameters"), "source").get("repository"),
            _address(source.url),
        ),
        ("host", _part(details, "builder").get("id"), invocation.host if invocation else UNKNOWN_HOST),
        (
            "builder",
            _part(_part(details, "builder"), "version").get(image.builder.name),
            image.builder.version,
        ),
    ):
        if found != wanted:
            return f"its {what} is `{str(found)[:200]}`, and in the build record `{wanted}`"
    return None


def _part(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _build(parameters: Parameters) -> dict[str, Any]:
    arguments = parameters.arguments or {}
    cache = _known(
        **{"from": [str(one) for one in parameters.cache_from]},
        to=parameters.cache_to and str(parameters.cache_to),
    )
    return _known(
        context=parameters.context,
        dockerfile=parameters.dockerfile,
        platforms=[str(platform) for platform in parameters.platforms],
        target=parameters.target,
        args={name: value for name, value in sorted(arguments.items()) if name not in parameters.hidden},
        hiddenArgs=sorted(set(parameters.hidden) & arguments.keys()),
        secrets=sorted(parameters.secrets),
        contexts=dict(sorted((parameters.contexts or {}).items())),
        cache=cache,
    )


def _sources(source: Source) -> list[dict[str, Any]]:
    """The commit, then those of submodules, under the paths that they have in it."""
    commits = [(source.url, source.commit, "source")]
    commits += [(one.url, one.commit, f"source/{one.path}") for one in source.submodules]
    return [
        _known(uri=_git(url, commit), digest={"gitCommit": commit}, name=name)
        for url, commit, name in commits
    ]


def _material(material: Material) -> dict[str, Any]:
    algorithm, _, value = material.digest.partition(":")
    if material.kind == "image":
        uri: str | None = f"oci://{material.name}"
    elif material.kind == "git":
        uri, algorithm = _git(material.name, value), "gitCommit"
    else:
        uri = _address(material.name)
    platform = {"platform": str(material.platform)} if material.platform else None
    return _known(uri=uri, digest={algorithm: value}, annotations=platform)


def _git(url: str | None, commit: str) -> str | None:
    address = _address(url)
    return address and f"git+{address}@{commit}"


def _address(url: str | None) -> str | None:
    """The address without login, query and fragment, which can hold tokens; None for one of a machine."""
    if found := _SHORT.fullmatch(url or ""):
        url = f"ssh://{found[1]}/{found[2].lstrip('/')}"
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    server = parts.netloc.rpartition("@")[2]
    if parts.scheme not in _SERVED or not server:
        return None
    return urlunsplit((parts.scheme, server, parts.path, "", ""))


def _moment(time: datetime) -> str:
    """As the in-toto attestation framework wants it: RFC 3339 in UTC, in whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _known(**values: Any) -> dict[str, Any]:
    """Without what is not known, and what is empty, which readers take for the same."""
    return {name: value for name, value in values.items() if value not in (None, "", [], {})}
