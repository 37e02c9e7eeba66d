"""Statements signed with a key: sigstore bundles (v0.3) as `cosign` 3 writes and reads them.

An image itself is signed by such a statement too; the older way is in `classic.py`. Bundles with a
certificate are `keyless.py`'s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from secure_build import manifest
from secure_build.attestations.artifact import BUNDLE, MEDIA_TYPES
from secure_build.attestations.encoding import decoded, encoded
from secure_build.attestations.statement import PAYLOAD_TYPE
from secure_build.errors import RefusedError
from secure_build.signers import log_entry
from secure_build.signers.cosign_key import Key, PublicKey
from secure_build.signers.log_entry import LogEntry
from secure_build.signers.rekor import Rekor


@dataclass(frozen=True, slots=True)
class CosignVerifier:
    """Tells whether a key has signed; with the key of a log, whether the log knows of it."""

    key: PublicKey
    log: PublicKey | None = None

    @property
    def kind(self) -> Literal["cosign"]:
        return "cosign"

    @property
    def signer(self) -> str:
        return str(self.key.digest)

    def verify(self, bundle: bytes) -> bytes:
        """See `StatementVerifier`. The bundle's `hint` is not looked at: nobody has signed it."""
        payload, signature, entries = _parts(bundle)
        if not self.key.verifies(signature, _signed(payload)):
            raise RefusedError(f"the bundle is not signed by the key {self.key.digest}")
        if self.log is not None:
            self._check_entry(entries, payload, signature, self.log)
        return payload

    def _check_entry(self, entries: list[Any], payload: bytes, signature: bytes, log: PublicKey) -> None:
        if not entries:
            raise RefusedError("the bundle has no entry of a transparency log, and one is demanded")
        try:
            (found,) = entries
            entry = LogEntry.from_bundle(found)
        except (ValueError, TypeError):
            raise RefusedError("the bundle has no entry of a log that can be read") from None
        if not log_entry.is_of_envelope(entry.body, payload, signature, self.key):
            raise RefusedError("the log entry in the bundle is of another signature")
        entry.check(log, included=True)


@dataclass(frozen=True, slots=True)
class CosignSigner:
    """Signs statements with a key and, where a log is given, enters them there."""

    key: Key
    rekor: Rekor | None = None

    @property
    def kind(self) -> Literal["cosign"]:
        return "cosign"

    @property
    def signer(self) -> str:
        return str(self.key.public.digest)

    @property
    def verifier(self) -> CosignVerifier:
        """Demands what is made here."""
        return CosignVerifier(self.key.public, self.rekor.key if self.rekor else None)

    def verify(self, bundle: bytes) -> bytes:
        return self.verifier.verify(bundle)

    def sign(self, statement: bytes) -> bytes:
        """The bundle. Raises ServiceError and RefusedError when the log or the key's command fails."""
        signature = self.key.sign(_signed(statement))
        envelope = {
            "payload": encoded(statement),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": encoded(signature)}],
        }
        public = self.key.public
        hint = encoded(bytes.fromhex(public.digest.hexadecimal))
        material: dict[str, Any] = {"publicKey": {"hint": hint}}
        if self.rekor is not None:
            entry = self.rekor.enter_envelope(envelope, statement, signature, public)
            material["tlogEntries"] = [entry.bundle()]
        document = {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": envelope}
        return json.dumps(document, separators=(",", ":")).encode()


def _parts(bundle: bytes) -> tuple[bytes, bytes, list[Any]]:
    """Payload, signature and log entries of a bundle; raises RefusedError for what has not one of each."""
    try:
        document = manifest.load_object(bundle)
        if document["mediaType"] not in MEDIA_TYPES:
            raise RefusedError("the bundle is of a version that is not known here")
        if "dsseEnvelope" not in document:
            raise RefusedError("the bundle signs no statement, but bytes of some kind")
        envelope = document["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD_TYPE:
            raise RefusedError("what is signed is no in-toto statement")
        signatures, entries = envelope["signatures"], document["verificationMaterial"].get("tlogEntries", [])
        if not isinstance(signatures, list) or len(signatures) != 1:
            raise RefusedError("the bundle must have one signature")
        if not isinstance(entries, list):
            raise TypeError
        return decoded(envelope["payload"]), decoded(signatures[0]["sig"]), entries
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RefusedError("this is no sigstore bundle") from None


def _signed(payload: bytes) -> bytes:
    """What is signed of a statement: DSSE's pre-authentication encoding."""
    from securesystemslib.dsse import Envelope

    return bytes(Envelope(payload, PAYLOAD_TYPE, {}).pae())
