"""Rekor v1: entries for a transparency log, made through its HTTP interface.

What comes back is believed only as far as the log's public key signs it, see `log_entry.py`. Logs of
the second version, which promise nothing, are not written to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from secure_build import manifest
from secure_build.errors import RefusedError, ServiceError
from secure_build.registry.http import Answer, Transport, redacted
from secure_build.signers import log_entry
from secure_build.signers.cosign_key import PublicKey
from secure_build.signers.log_entry import LogEntry

_ENTRIES = "/api/v1/log/entries"
# Rekor takes entries of up to 100 kB by default, operators may allow more.
_LARGEST = 16 << 20


@dataclass(frozen=True, slots=True)
class Rekor:
    """A log at a base address, and the key that it signs with."""

    url: str
    key: PublicKey
    transport: Transport

    def enter_content(self, content: bytes, signature: bytes, key: PublicKey) -> LogEntry:
        """The entry of a signature; raises ServiceError without one, RefusedError for a wrong one."""
        entry = self._enter(log_entry.hashed(content, signature, key))
        if not log_entry.is_of_content(entry.body, content, signature, key):
            raise self._of_another()
        return entry

    def enter_envelope(
        self, envelope: Mapping[str, Any], payload: bytes, signature: bytes, key: PublicKey
    ) -> LogEntry:
        """The same for a DSSE envelope with one signature."""
        entry = self._enter(log_entry.proposed_envelope(envelope, key))
        if not log_entry.is_of_envelope(entry.body, payload, signature, key):
            raise self._of_another()
        return entry

    def _enter(self, proposed: Mapping[str, Any]) -> LogEntry:
        body = json.dumps(proposed, separators=(",", ":")).encode()
        address = self.url.rstrip("/") + _ENTRIES
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Content-Length": str(len(body)),
        }
        answer = self.transport.request("POST", address, headers=headers, body=lambda: iter((body,)))
        if answer.status == 409:
            # An earlier attempt was answered and the answer lost: the entry is there, and is compared.
            answer.close()
            answer = self._get(urljoin(address, answer.headers.get("Location", "")))
        if answer.status not in (200, 201):
            raise ServiceError(
                answer.explained("the transparency log took no entry"),
                hint="check `rekor: url:`; without `rekor:` signatures are made without a log",
            )
        try:
            (document,) = manifest.load_object(answer.body(_LARGEST)).values()
            entry = LogEntry.from_answer(document)
        except (ValueError, RecursionError):
            raise ServiceError(f"{redacted(address)} answered with something that is no log entry") from None
        entry.check(self.key, included=True)
        return entry

    def _get(self, address: str) -> Answer:
        own, named = urlsplit(self.url), urlsplit(address)
        if (own.scheme, own.netloc) != (named.scheme, named.netloc) or _ENTRIES + "/" not in named.path:
            raise ServiceError(f"{redacted(self.url)} has the entry already and does not say where")
        return self.transport.request("GET", address, headers={"Accept": "application/json"})

    def _of_another(self) -> RefusedError:
        return RefusedError(f"{redacted(self.url)} answered with the entry of another signature")
