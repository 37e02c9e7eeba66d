"""An entry of a transparency log (Rekor v1): its three spellings, and whether the log stands behind it.

What an entry must say is the caller's to know. The log's promise to take it in (the signed entry
timestamp) is what cosign keeps with classic signatures. Bundles also prove that it was taken in: by a
path to the root of the log's Merkle tree (RFC 9162, section 2.1.3) and a checkpoint, in which the log
signs that root. No library of ours checks such a path without a certificate beside it, so it is done
here. Both rest on the log's key alone: whether the log shows others the same tree is not asked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_build import manifest
from secure_build.attestations.encoding import decoded, encoded
from secure_build.errors import RefusedError
from secure_build.signers.cosign_key import PublicKey

_VERSION = "0.0.1"
_MOST_DIGITS = 18
# A tree with more leaves than a path of this length leads to would not fit into 64 bits.
_LONGEST_PATH = 64
_SIGNED_BY = "\N{EM DASH} "
_READING_ERRORS = (ValueError, KeyError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class Inclusion:
    """The way from an entry to the root of a tree of `size` leaves, and the log's word on that root."""

    index: int
    size: int
    root: bytes
    path: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """What the log keeps (`body`, canonical JSON), since when (seconds since 1970), and where.

    `log` is the SHA-256 of the log's public key, `promise` the signed entry timestamp.
    """

    body: bytes
    time: int
    index: int
    log: bytes
    promise: bytes
    inclusion: Inclusion | None

    @classmethod
    def from_answer(cls, document: Mapping[str, Any]) -> LogEntry:
        """As the log's interface gives it; raises ValueError."""
        try:
            verification = document["verification"]
            proof = verification["inclusionProof"]
            inclusion = Inclusion(
                _number(proof["logIndex"]),
                _number(proof["treeSize"]),
                bytes.fromhex(proof["rootHash"]),
                tuple(map(bytes.fromhex, proof["hashes"])),
                str(proof["checkpoint"]),
            )
            return cls._of(document, verification["signedEntryTimestamp"], inclusion)
        except _READING_ERRORS:
            raise ValueError("it is no entry of a log") from None

    @classmethod
    def from_annotation(cls, text: str) -> LogEntry:
        """As cosign writes it beside a classic signature; raises ValueError."""
        try:
            document = manifest.load_object(text.encode())
            return cls._of(document["Payload"], document["SignedEntryTimestamp"], None)
        except _READING_ERRORS:
            raise ValueError("it is no entry of a log") from None

    @classmethod
    def from_bundle(cls, document: Mapping[str, Any]) -> LogEntry:
        """As a sigstore bundle has it, in proto3's JSON; raises ValueError."""
        try:
            proof = document["inclusionProof"]
            inclusion = Inclusion(
                _number(proof.get("logIndex", "0")),
                _number(proof["treeSize"]),
                decoded(proof["rootHash"]),
                tuple(map(decoded, proof.get("hashes", ()))),
                str(proof["checkpoint"]["envelope"]),
            )
            return cls(
                decoded(document["canonicalizedBody"]),
                _number(document["integratedTime"]),
                _number(document.get("logIndex", "0")),
                decoded(document["logId"]["keyId"]),
                decoded(document["inclusionPromise"]["signedEntryTimestamp"]),
                inclusion,
            )
        except _READING_ERRORS:
            raise ValueError("it is no entry of a log") from None

    @classmethod
    def _of(cls, payload: Mapping[str, Any], promise: str, inclusion: Inclusion | None) -> LogEntry:
        return cls(
            decoded(payload["body"]),
            _number(payload["integratedTime"]),
            _number(payload["logIndex"]),
            bytes.fromhex(payload["logID"]),
            decoded(promise),
            inclusion,
        )

    def annotation(self) -> str:
        document = {"SignedEntryTimestamp": encoded(self.promise), "Payload": self._promised()}
        return json.dumps(document, separators=(",", ":"))

    def bundle(self) -> dict[str, Any]:
        assert self.inclusion is not None
        kind = manifest.load_object(self.body)
        proof = {
            "logIndex": str(self.inclusion.index),
            "rootHash": encoded(self.inclusion.root),
            "treeSize": str(self.inclusion.size),
            "hashes": [encoded(one) for one in self.inclusion.path],
            "checkpoint": {"envelope": self.inclusion.checkpoint},
        }
        return {
            "logIndex": str(self.index),
            "logId": {"keyId": encoded(self.log)},
            "kindVersion": {"kind": kind["kind"], "version": kind["apiVersion"]},
            "integratedTime": str(self.time),
            "inclusionPromise": {"signedEntryTimestamp": encoded(self.promise)},
            "inclusionProof": proof,
            "canonicalizedBody": encoded(self.body),
        }

    def check(self, log: PublicKey, *, included: bool) -> None:
        """Raise RefusedError unless the log stands behind the entry, and with `included` has taken it in."""
        promised = json.dumps(self._promised(), separators=(",", ":"), sort_keys=True).encode()
        if self.log.hex() != log.digest.hexadecimal or not log.verifies(self.promise, promised):
            raise RefusedError("the entry in the transparency log is not signed by the log's key")
        if included:
            self._check_inclusion(log)

    def _promised(self) -> dict[str, Any]:
        """What the log signs when it takes an entry, in canonical form (RFC 8785)."""
        return {
            "body": encoded(self.body),
            "integratedTime": self.time,
            "logIndex": self.index,
            "logID": self.log.hex(),
        }

    def _check_inclusion(self, log: PublicKey) -> None:
        proof = self.inclusion
        if proof is None or root_by_path(self.body, proof.index, proof.size, proof.path) != proof.root:
            raise RefusedError("nothing proves that the transparency log has taken the entry in")
        if _signed_root(proof.checkpoint, log) != (proof.size, proof.root):
            raise RefusedError("the transparency log has not signed the tree that the entry is to be in")


def hashed(content: bytes, signature: bytes, key: PublicKey) -> dict[str, Any]:
    """What the log keeps of a signature of some content (kind `hashedrekord`); the same is proposed."""
    return {
        "apiVersion": _VERSION,
        "kind": "hashedrekord",
        "spec": {
            "data": {"hash": _hash(content)},
            "signature": {"content": encoded(signature), "publicKey": {"content": encoded(key.pem)}},
        },
    }


def proposed_envelope(envelope: Mapping[str, Any], key: PublicKey) -> dict[str, Any]:
    """What is proposed to the log of a DSSE envelope (kind `dsse`)."""
    content = {"envelope": json.dumps(envelope, separators=(",", ":")), "verifiers": [encoded(key.pem)]}
    return {"apiVersion": _VERSION, "kind": "dsse", "spec": {"proposedContent": content}}


def is_of_content(body: bytes, content: bytes, signature: bytes, key: PublicKey) -> bool:
    """Whether a log's entry is of this signature of this content by this key, and nothing else."""
    return _document(body) == hashed(content, signature, key)


def is_of_envelope(body: bytes, payload: bytes, signature: bytes, key: PublicKey) -> bool:
    """The same of the envelope with this payload.

    The hash of the envelope itself is not compared: an envelope has no canonical form.
    """
    document = _document(body)
    if isinstance(spec := document.get("spec"), dict):
        spec.pop("envelopeHash", None)
    signatures = [{"signature": encoded(signature), "verifier": encoded(key.pem)}]
    return document == {
        "apiVersion": _VERSION,
        "kind": "dsse",
        "spec": {"payloadHash": _hash(payload), "signatures": signatures},
    }


def root_by_path(body: bytes, index: int, size: int, path: tuple[bytes, ...]) -> bytes | None:
    """The root of a tree of `size` leaves in which this leaf is at `index` (RFC 9162, section 2.1.3.2)."""
    if not 0 <= index < size or len(path) > _LONGEST_PATH:
        return None
    node, position, last = hashlib.sha256(b"\0" + body).digest(), index, size - 1
    for one in path:
        if last == 0:
            return None
        if position & 1 or position == last:
            node = hashlib.sha256(b"\1" + one + node).digest()
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + one).digest()
        position, last = position >> 1, last >> 1
    return node if last == 0 else None


def _signed_root(checkpoint: str, log: PublicKey) -> tuple[int, bytes] | None:
    """Size and root in a checkpoint (C2SP: signed-note, tlog-checkpoint) that the log has signed."""
    text, _, signatures = checkpoint.rpartition("\n\n")
    note = text + "\n"
    try:
        _, size, root, *_ = text.split("\n")
        for line in signatures.splitlines():
            if line.startswith(_SIGNED_BY):
                content = decoded(line.rpartition(" ")[2])
                hint, signature = content[:4], content[4:]
                if hint == bytes.fromhex(log.digest.hexadecimal[:8]) and log.verifies(
                    signature, note.encode()
                ):
                    return _number(size), decoded(root)
    except ValueError:
        pass
    return None


def _document(body: bytes) -> dict[str, Any]:
    try:
        return manifest.load_object(body)
    except (ValueError, RecursionError):
        return {}


def _hash(content: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(content).hexdigest()}


def _number(value: Any) -> int:
    """A natural number, in digits as proto3's JSON has it or plain; raises ValueError."""
    text = str(value) if type(value) is int else value
    if not isinstance(text, str) or not (text.isascii() and text.isdigit()) or len(text) > _MOST_DIGITS:
        raise ValueError("it is no number")
    return int(text)
