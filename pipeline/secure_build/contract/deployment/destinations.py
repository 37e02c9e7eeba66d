"""The hosts and TCP ports that a guest calls because of its contract, so that somebody can allow them.

What cannot be told from what is written becomes a sentence in its place. Nothing is asked or tried:
a registry may well send the guest on to other hosts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from secure_build.contract.deployment.ports import LAST, shown
from secure_build.contract.places import Grammar, Name
from secure_build.errors import UsageError

Purpose = Literal["logs", "images", "signatures", "volume keys"]
HTTPS = 443
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[?[0-9A-Fa-f:.]{2,}\]?")
_ADDRESS = re.compile(r"(.+):([0-9]{1,6})")


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and TCP port that the guest calls, and what for."""

    purpose: Purpose
    host: str
    port: int


def of_host(purpose: Purpose, host: Any, port: Any) -> Destination | str:
    """The host, when it is one."""
    if not isinstance(host, str) or not _HOST.fullmatch(host):
        return f"{purpose}: `{shown(host)}` is no host name"
    # `true` is a number to Python.
    if type(port) is not int or not 1 <= port <= LAST:
        return f"{purpose}: the port of `{shown(host)}`"
    return Destination(purpose, host, port)


def of_address(purpose: Purpose, address: Any) -> Destination | str:
    """The host and port of `host:port`."""
    return of_host(purpose, *_split(address))


def of_url(purpose: Purpose, url: str) -> Destination | str:
    """The host and port of a URL, whose user and password nobody sees."""
    try:
        parts = urlsplit(url)
        return of_host(purpose, parts.hostname, parts.port or HTTPS)
    except ValueError:
        return f"{purpose}: a URL that is none"


def of_image(image: Any, grammar: Grammar) -> Destination | str:
    """The registry of an image; `docker.io` for Docker Hub, whose hosts have other names."""
    try:
        name = Name.parse(str(image), grammar)
    except UsageError:
        name = None
    if name is None or name.registry is not None or name.reference is None:
        return f"the registry of image `{shown(image)}`"
    host, port = _split(name.reference.repository.registry)
    return of_host("images", host, port or HTTPS)


def _split(address: Any) -> tuple[Any, int | None]:
    found = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    return (found[1], int(found[2])) if found else (address, None)
