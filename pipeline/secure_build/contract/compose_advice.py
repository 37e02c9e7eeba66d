"""What of a compose file the runtime ignores, or what cannot work there, although it can be pinned.

Each finding says what it rests on: IBM's documentation, or what is certain from how the guest
starts (`docker compose up` on one file, in a fresh machine, with the contract's variables).
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator
from typing import Any

from secure_build.contract import interpolation
from secure_build.contract.advice import listed, mapping, warning
from secure_build.contract.compose import ComposeFile, sources
from secure_build.model import Finding
from secure_build.strict_yaml import Document, Path

_finding = functools.partial(warning, "compose")
_SWARM_ONLY = ("endpoint_mode", "mode", "placement", "rollback_config", "update_config")


def findings(file: ComposeFile, variables: Collection[str] = ()) -> list[Finding]:
    """All of it, in the order of the file's parts; `variables` are those that the contract has."""
    document = file.document
    found = [finding for place in file.places for finding in place.findings()]
    found += [
        _finding(document, place.path, place.what, "only newer versions of docker compose know images here")
        for place in file.places
        # Deeper than in the service itself.
        if len(place.path) > 2
    ]
    found += _several(document)
    for name in document.data["services"]:
        found += _service(document, name)
    for kind in ("networks", "volumes", "configs", "secrets"):
        found += _top_level(document, kind)
    found += _variable_paths(document)
    found += _variables(document, variables)
    return found


def _several(document: Document) -> Iterator[Finding]:
    count = sum(_copies(body) for body in document.data["services"].values())
    if count > 1:
        yield _finding(
            document,
            ("services",),
            f"the file starts {count} containers",
            "IBM supports one container with compose",
            hint="describe the containers as a pod instead: `workload: {play: …}`",
            basis="documented",
        )


def _copies(body: dict[str, Any]) -> int:
    count = mapping(body.get("deploy")).get("replicas", body.get("scale", 1))
    return count if isinstance(count, int) else 1


def _service(document: Document, name: str) -> Iterator[Finding]:
    body = document.data["services"][name]
    path: Path = ("services", name)
    what = f"service `{name}`"
    if body.get("profiles"):
        yield _finding(
            document,
            (*path, "profiles"),
            f"{what} is in a profile",
            "it starts only when the contract's variables have `COMPOSE_PROFILES`",
        )
    for key in _SWARM_ONLY:
        if key in mapping(body.get("deploy")):
            yield _finding(
                document, (*path, "deploy", key), f"`deploy: {key}` of {what}", "only Docker Swarm reads it"
            )
    for index, port in enumerate(listed(body.get("ports"))):
        if _is_unpublished(port):
            yield _finding(
                document,
                (*path, "ports", index),
                f"port {mapping(port).get('target', port)} of {what}",
                "without a host port it gets another one at each start",
                hint="write `host:container`",
            )
    outside = [entry for entry in listed(body.get("volumes_from")) if str(entry).startswith("container:")]
    outside += [
        value
        for key in ("network_mode", "ipc", "pid")
        if (value := str(body.get(key, ""))).startswith("container:")
    ]
    if outside or body.get("external_links"):
        yield _finding(
            document, path, f"{what} uses a container of somebody else", "the guest runs only this workload"
        )
    if body.get("use_api_socket") or "/var/run/docker.sock" in str(body.get("volumes")):
        yield _finding(
            document,
            path,
            f"{what} reaches the container engine",
            "who is in it can start any image, pinned or not",
            hint="leave the engine's socket out",
        )


def _is_unpublished(port: Any) -> bool:
    if isinstance(port, dict):
        return "target" in port and "published" not in port
    return ":" not in str(port) and "$" not in str(port)


def _top_level(document: Document, kind: str) -> Iterator[Finding]:
    for name, entry in mapping(document.data.get(kind)).items():
        if mapping(entry).get("external"):
            yield _finding(
                document,
                (kind, name),
                f"`{name}` of `{kind}` is external",
                "nobody makes it in the guest before the workload starts",
                hint="leave `external` out",
            )
        if kind in ("configs", "secrets") and "environment" in mapping(entry):
            yield _finding(
                document,
                (kind, name, "environment"),
                f"`{name}` of `{kind}` comes from a variable",
                "it is there only when the contract's variables have it",
            )


def _variable_paths(document: Document) -> Iterator[Finding]:
    for written, path in sources(document):
        if "$" in written:
            yield _finding(
                document,
                path,
                f"`{written}` has a variable",
                "it names a path of the guest, so nothing of the commit goes into the archive for it",
                hint="write the path out when the file is in the commit",
            )


def _variables(document: Document, known: Collection[str]) -> Iterator[Finding]:
    services = document.data["services"]
    read = {name: {**body, "build": None} for name, body in services.items()}
    others = {key: value for key, value in document.data.items() if not key.startswith("x-")}
    data = {**others, "services": read}
    for path, text in interpolation.texts(data):
        if not interpolation.is_valid(text):
            yield _finding(
                document,
                path,
                f"`{'.'.join(map(str, path))}` has a `$` that begins no variable",
                "docker compose refuses such a file",
                hint="for the character itself write `$$`",
            )
    if names := [name for name in interpolation.required(data) if name not in known]:
        listing = ", ".join(f"`{name}`" for name in names)
        yield _finding(
            document,
            (),
            f"variables without a default: {listing}",
            "the guest takes them from the contract's variables only, and what is missing becomes empty",
            hint="the contract's `env` or `workload` section must have them under `env`",
            basis="documented",
        )
