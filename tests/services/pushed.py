"""What was put into a registry, as its log tells it, and as a plan says beforehand."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Protocol

_BLOB = re.compile(r"^/v2/(.+)/blobs/uploads/.*[?&](?:digest|mount)=sha256(?::|%3A)(\w+)")
_MANIFEST = re.compile(r"^/v2/(.+)/manifests/(.+)$")
# Kind, repository with its registry, and digest or tag.
Put = tuple[str, str, str]


class Logged(Protocol):
    """One line of a log."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def status(self) -> int | None: ...


def pushed(host: str, requests: Iterable[Logged]) -> set[Put]:
    """What a registry has got by these requests."""
    found: set[Put] = set()
    for request in requests:
        blob, manifest = _BLOB.search(request.path), _MANIFEST.search(request.path)
        if blob and request.status == 201:
            found.add(("blob", f"{host}/{blob[1]}", f"sha256:{blob[2]}"))
        elif manifest and request.method == "PUT" and request.status == 201:
            kind = "manifest" if manifest[2].startswith("sha256:") else "tag"
            found.add((kind, f"{host}/{manifest[1]}", manifest[2]))
    return found


def planned(plan: dict[str, Any]) -> set[Put]:
    """The same from the JSON of `secure-build plan`."""
    return {
        (write["kind"], write["repository"], write["name"])
        for image in plan["images"]
        for write in image["writes"] or ()
    }
