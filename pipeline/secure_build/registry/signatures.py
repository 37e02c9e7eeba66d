"""OpenPGP signatures kept by the registry itself, through its extension for them.

The extension is OpenShift's ("Image signatures", its API extension of the registry), which IBM Cloud
Container Registry has too. A registry says in every answer that it has it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from secure_build import manifest
from secure_build.errors import ServiceError
from secure_build.model import Credential
from secure_build.reference import Pinned
from secure_build.registry.http import Transport
from secure_build.registry.session import Session
from secure_build.registry.tokens import scope_of

_SUPPORTED = "X-Registry-Supports-Signatures"
_TYPE, _VERSION = "atomic", 2
_LARGEST = 4 << 20


class SignatureExtension:
    """The extension of one registry, with one login or none; with `push` also to write to."""

    def __init__(
        self, registry: str, credential: Credential | None, transport: Transport, *, push: bool = False
    ) -> None:
        self.registry = registry
        self._session = Session(registry, credential, transport)
        self._actions = "pull,push" if push else "pull"

    def __str__(self) -> str:
        return f"the signatures of {self.registry}"

    def is_there(self) -> bool:
        """Whether the registry keeps signatures; one request, without a login, as those who pull ask it.

        Raises ServiceError when it does not answer as a registry.
        """
        answer = self._session.transport.request("GET", f"{self._session.url}/v2/")
        if answer.status not in (200, 401):
            raise ServiceError(answer.explained(f"cannot ask {self.registry} whether it keeps signatures"))
        answer.close()
        return answer.headers.get(_SUPPORTED) == "1"

    def read(self, image: Pinned) -> list[bytes]:
        """The signatures of a manifest; nobody has checked them."""
        return self.find(image) or []

    def find(self, image: Pinned) -> list[bytes] | None:
        """The same; None where the registry has none and does not say that it keeps any."""
        answer = self._session.request("GET", self._path(image), self._scopes(image))
        if answer.status == 404:
            answer.close()
            return [] if answer.headers.get(_SUPPORTED) == "1" else None
        what = f"cannot read the signatures of `{image}`"
        if answer.status != 200:
            raise self._session.failure(answer, what)
        try:
            listed = manifest.load_object(answer.body(_LARGEST)).get("signatures") or []
            known = [one for one in listed if (one["schemaVersion"], one["type"]) == (_VERSION, _TYPE)]
            return [_content(one) for one in known]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ServiceError(f"{what}: {self.registry} answered with something else") from None

    def add(self, image: Pinned, signature: bytes) -> None:
        """Put a signature there; one that is there already is not put again."""
        document = {
            "schemaVersion": _VERSION,
            # Any name that no other signature of this image has.
            "name": f"{image.digest}@{hashlib.sha256(signature).hexdigest()[:32]}",
            "type": _TYPE,
            "content": base64.b64encode(signature).decode(),
        }
        body = json.dumps(document, separators=(",", ":")).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        answer = self._session.request(
            "PUT", self._path(image), self._scopes(image), headers=headers, body=lambda: iter((body,))
        )
        # 409: it was put by an attempt whose answer was lost; whoever reads it back sees it.
        if answer.status not in (200, 201, 409):
            raise self._session.failure(answer, f"cannot put a signature beside `{image}`")
        answer.close()

    def _path(self, image: Pinned) -> str:
        return f"/extensions/v2/{image.repository.path}/signatures/{image.digest}"

    def _scopes(self, image: Pinned) -> tuple[str, ...]:
        return (scope_of(image.repository, self._actions),)


def _content(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["content"], validate=True)
