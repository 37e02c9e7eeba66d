"""How sigstore's library speaks HTTP: through our Transport.

By itself it would wait for ever, follow redirects, take logins from `.netrc` in place of the token, and
report failures in many ways. Importing this imports `requests`, so do it late.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import BaseAdapter

from secure_build import manifest
from secure_build.address import check_encrypted
from secure_build.errors import ServiceError
from secure_build.registry.http import Answer, Transport
from secure_build.secret import mask

_LARGEST = 4 << 20
# Of what `requests` puts in, that Transport decides on.
_OWN_HEADERS = frozenset({"accept-encoding", "connection"})


class ServiceRefusedError(ServiceError):
    """One of sigstore's services answered with an error status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class AlreadyLoggedError(ServiceError):
    """The log has exactly this entry and does not hand it out; it would take a new signature."""


def mount(session: requests.Session, transport: Transport) -> None:
    """Let the session send all its requests through the transport."""
    session.trust_env = False
    for scheme in ("https://", "http://"):
        session.mount(scheme, _Adapter(transport))


class _Adapter(BaseAdapter):
    """What a session of `requests` sends with. Any answer but success raises ServiceError."""

    def __init__(self, transport: Transport) -> None:
        super().__init__()
        self._transport = transport

    def send(self, request: requests.PreparedRequest, *_: object, **__: object) -> requests.Response:
        assert request.method is not None
        assert request.url is not None
        check_encrypted(request.url)
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        assert isinstance(body, bytes)
        headers = {name: str(value) for name, value in request.headers.items()}
        answer = self._transport.request(
            request.method,
            request.url,
            headers={name: value for name, value in headers.items() if name.lower() not in _OWN_HEADERS},
            body=(lambda: iter((body,))) if body else None,
        )
        if answer.status == 409:
            answer = self._logged(request.url, answer)
        if answer.status not in (200, 201):
            raise ServiceRefusedError(_explained(answer), answer.status)
        response = requests.Response()
        response.status_code, response.url, response.request = answer.status, request.url, request
        response.headers.update(answer.headers)
        response.raw = io.BytesIO(answer.body(_LARGEST))
        return response

    def _logged(self, url: str, answer: Answer) -> Answer:
        """The entry that the log has already, since an answer was lost on its way to us."""
        place = urljoin(url, answer.headers.get("Location", ""))
        explanation = _explained(answer)
        if place == url or urlsplit(place)[:2] != urlsplit(url)[:2]:
            raise AlreadyLoggedError(explanation)
        return self._transport.request("GET", place, headers={"Accept": "application/json"})

    def close(self) -> None:
        """The transport is somebody else's to close."""


def _explained(answer: Answer) -> str:
    """A sentence on a failure, with the service's own words in one line."""
    name = urlsplit(answer.url).netloc + urlsplit(answer.url).path
    sentence = f"{answer.method} {name} answered {answer.status}"
    try:
        document: Mapping[str, Any] = manifest.load_object(answer.body(_LARGEST))
        words = " ".join(str(document["message"]).split())
    except (ServiceError, ValueError, KeyError, RecursionError):
        return sentence
    return f"{sentence} ({mask(words)[:300]})"
