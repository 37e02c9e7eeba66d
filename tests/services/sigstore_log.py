"""Rekor for tests: a log that grows, with proofs (RFC 6962), by both versions of its interface."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from services import sigstore_keys as keys
from services.sigstore_keys import Refused


@dataclass(frozen=True, slots=True)
class Answer:
    """Of an HTTP server; what is no bytes is JSON."""

    status: int
    content: bytes | dict[str, Any]
    media_type: str = "application/json"
    headers: Mapping[str, str] | None = None


class Log:
    """Entries in a Merkle tree (RFC 6962), in the forms of both versions of its interface."""

    def __init__(self, host: str, *, empty: bool = False) -> None:
        self.key = keys.new()
        self._host = host
        self._lock = threading.Lock()
        # JSON of Protocol Buffers leaves zeros and empty lists out, so that the first entry of a log
        # makes bundles that not everybody reads. No real log is that young.
        self._leaves = [] if empty else [_leaf(b"the first")]
        self._entries: dict[str, dict[str, Any]] = {}

    def add_v1(self, proposed: dict[str, Any], now: datetime) -> Answer:
        """The new entry, or where the equal one is that the log has already."""
        body = keys.canonical(_canonical(proposed))
        with self._lock:
            uuid = f"{1:016x}{_leaf(body).hex()}"
            location = f"/api/v1/log/entries/{uuid}"
            if uuid in self._entries:
                message = f"an equivalent entry already exists in the transparency log with UUID {uuid}"
                return Answer(409, {"code": 409, "message": message}, headers={"Location": location})
            self._leaves.append(_leaf(body))
            self._entries[uuid] = {
                "body": keys.text(body),
                "integratedTime": int(now.timestamp()),
                "logID": keys.digest(self.key).hex(),
                "logIndex": len(self._leaves) - 1,
            }
            # cosign finds the entry in the answer by this header.
            headers = {"ETag": uuid, "Location": location}
            return Answer(201, {uuid: self._proven(self._entries[uuid])}, headers=headers)

    def get_v1(self, *, uuid: str = "", index: int = -1) -> Answer:
        with self._lock:
            for one, entry in self._entries.items():
                if one == uuid or entry["logIndex"] == index:
                    return Answer(200, {one: self._proven(entry)})
        return Answer(404, {"code": 404, "message": "no such entry"})

    def add_v2(self, proposed: dict[str, Any]) -> Answer:
        request = proposed["hashedRekordRequestV002"]
        verifier = request["signature"]["verifier"]
        if "x509Certificate" in verifier:
            raw = base64.b64decode(verifier["x509Certificate"]["rawBytes"])
            key: Any = x509.load_der_x509_certificate(raw).public_key()
        else:
            key = serialization.load_der_public_key(base64.b64decode(verifier["publicKey"]["rawBytes"]))
        digest = base64.b64decode(request["digest"])
        keys.check(key, request["signature"]["content"], digest, keys.PREHASHED)
        data = {"algorithm": "SHA2_256", "digest": request["digest"]}
        spec = {"hashedRekordV002": {"data": data, "signature": request["signature"]}}
        body = keys.canonical({"apiVersion": "0.0.2", "kind": "hashedrekord", "spec": spec})
        with self._lock:
            if _leaf(body) in self._leaves:
                message = "an equivalent entry already exists in the transparency log"
                index = self._leaves.index(_leaf(body))
                return Answer(409, {"code": 6, "message": message}, headers={"x-log-index": str(index)})
            self._leaves.append(_leaf(body))
            index, size, root = len(self._leaves) - 1, len(self._leaves), _root(self._leaves)
            path = _path(index, self._leaves)
        # Of this version the origin is the name of the host alone.
        name = self._host.partition(":")[0]
        return Answer(
            201,
            {
                "logIndex": str(index),
                "logId": {"keyId": keys.text(keys.digest(self.key))},
                "kindVersion": {"kind": "hashedrekord", "version": "0.0.2"},
                "inclusionProof": {
                    "logIndex": str(index),
                    "rootHash": keys.text(root),
                    "treeSize": str(size),
                    "hashes": [keys.text(one) for one in path],
                    "checkpoint": {"envelope": self._checkpoint(name, name, size, root)},
                },
                "canonicalizedBody": keys.text(body),
            },
        )

    def _proven(self, entry: dict[str, Any]) -> dict[str, Any]:
        size, root = len(self._leaves), _root(self._leaves)
        more = f"Timestamp: {time.time_ns()}\n"
        proof = {
            "checkpoint": self._checkpoint(f"{self._host} - 1", self._host, size, root, more),
            "hashes": [one.hex() for one in _path(entry["logIndex"], self._leaves)],
            "logIndex": entry["logIndex"],
            "rootHash": root.hex(),
            "treeSize": size,
        }
        promise = keys.text(self.key.sign(keys.canonical(entry), keys.SHA256))
        return {**entry, "verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}

    def _checkpoint(self, origin: str, name: str, size: int, root: bytes, more: str = "") -> str:
        note = f"{origin}\n{size}\n{keys.text(root)}\n{more}"
        signature = keys.digest(self.key)[:4] + self.key.sign(note.encode(), keys.SHA256)
        return f"{note}\n\N{EM DASH} {name} {keys.text(signature)}\n"


def _canonical(proposed: dict[str, Any]) -> dict[str, Any]:
    """What Rekor v1 keeps of a proposed entry, after its signatures were checked."""
    spec = proposed["spec"]
    if proposed["kind"] == "hashedrekord":
        signature, value = spec["signature"], spec["data"]["hash"]["value"]
        key = keys.read(signature["publicKey"]["content"])
        keys.check(key, signature["content"], bytes.fromhex(value), keys.PREHASHED)
        public = {"content": signature["publicKey"]["content"]}
        kept: dict[str, Any] = {
            "data": {"hash": {"algorithm": "sha256", "value": value}},
            "signature": {"content": signature["content"], "publicKey": public},
        }
    elif proposed["kind"] == "dsse":
        text, verifiers = spec["proposedContent"]["envelope"], spec["proposedContent"]["verifiers"]
        envelope = json.loads(text)
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
        signatures = [
            {"signature": one["sig"], "verifier": verifier}
            for one, verifier in zip(envelope["signatures"], verifiers, strict=True)
        ]
        for one in signatures:
            keys.check(keys.read(one["verifier"]), one["signature"], signed)
        kept = {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(text.encode()).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": signatures,
        }
    else:
        raise Refused(f"unknown kind {proposed['kind']}")
    return {"apiVersion": proposed["apiVersion"], "kind": proposed["kind"], "spec": kept}


def _leaf(content: bytes) -> bytes:
    return hashlib.sha256(b"\0" + content).digest()


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    left = _left(leaves)
    return hashlib.sha256(b"\1" + _root(leaves[:left]) + _root(leaves[left:])).digest()


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    left = _left(leaves)
    if index < left:
        return [*_path(index, leaves[:left]), _root(leaves[left:])]
    return [*_path(index - left, leaves[left:]), _root(leaves[:left])]


def _left(leaves: list[bytes]) -> int:
    """How many leaves are in the left half: the largest power of two that is less than all."""
    return 1 << (len(leaves) - 1).bit_length() - 1
