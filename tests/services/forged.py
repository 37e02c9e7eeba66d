"""Trust data of Notary v1 that no real server would make: expired, or with keys that do not fit.

Everything is signed with keys of our own, the server's parts too, so that only what a test makes wrong
is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from services.serving import Serving

NOW = datetime.now(UTC)
PAST, FUTURE = NOW - timedelta(days=2), NOW + timedelta(days=300)
_ROLES = ("root", "targets", "snapshot", "timestamp", "targets/releases")


@dataclass
class Trust:
    """What is to be said of one repository, and when each role, and the root certificate, expires."""

    repository: str
    targets: Mapping[str, tuple[str, int]]
    expires: dict[str, datetime] = field(default_factory=dict)
    certificate_expires: datetime = FUTURE
    name: str = ""
    releases: Mapping[str, tuple[str, int]] | None = None

    def __post_init__(self) -> None:
        self._keys = {role: ec.generate_private_key(ec.SECP256R1()) for role in _ROLES}

    @property
    def certificate(self) -> bytes:
        if not hasattr(self, "_certificate"):
            self._certificate = _certificate(
                self._keys["root"], self.name or self.repository, self.certificate_expires
            )
        return self._certificate

    def documents(self) -> dict[str, bytes]:
        """By role."""
        found = {"root": self._root(), "targets": self._targets()}
        if self.releases is not None:
            found["targets/releases"] = self._sign(
                "targets/releases",
                {"_type": "Targets", "targets": _entries(self.releases), "delegations": _NO_ONE},
            )
        found["snapshot"] = self._sign("snapshot", {"_type": "Snapshot", "meta": _meta(found)})
        timestamp = {"_type": "Timestamp", "meta": _meta({"snapshot": found["snapshot"]})}
        return found | {"timestamp": self._sign("timestamp", timestamp)}

    def _root(self) -> bytes:
        keys = {role: _public(self._keys[role]) for role in ("targets", "snapshot", "timestamp")}
        keys["root"] = _tuf_key("ecdsa-x509", self.certificate)
        return self._sign(
            "root",
            {
                "_type": "Root",
                "consistent_snapshot": False,
                "keys": {_identifier(key): key for key in keys.values()},
                "roles": {role: {"keyids": [_identifier(key)], "threshold": 1} for role, key in keys.items()},
            },
        )

    def _targets(self) -> bytes:
        delegations: dict[str, Any] = _NO_ONE
        if self.releases is not None:
            key = _public(self._keys["targets/releases"])
            name = _identifier(key)
            role = {"name": "targets/releases", "keyids": [name], "paths": [""], "threshold": 1}
            delegations = {"keys": {name: key}, "roles": [role]}
        content = {"_type": "Targets", "targets": _entries(self.targets), "delegations": delegations}
        return self._sign("targets", content)

    def _sign(self, role: str, signed: dict[str, Any]) -> bytes:
        expires = f"{self.expires.get(role, FUTURE):%Y-%m-%dT%H:%M:%SZ}"
        signed = {**signed, "version": 1, "expires": expires}
        key = self._keys[role]
        r, s = decode_dss_signature(key.sign(_canonical(signed), ec.ECDSA(hashes.SHA256())))
        public = _tuf_key("ecdsa-x509", self.certificate) if role == "root" else _public(key)
        signature = {
            "keyid": _identifier(public),
            "method": "ecdsa",
            "sig": base64.b64encode(r.to_bytes(32) + s.to_bytes(32)).decode(),
        }
        return _canonical({"signed": signed, "signatures": [signature]})


class ForgedServer(Serving):
    """Serves trust data as it is given, for as many repositories as there are."""

    def __init__(self, *trusts: Trust) -> None:
        served = {trust.repository: trust.documents() for trust in trusts}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository, _, path = self.path.removeprefix("/v2/").partition("/_trust/tuf/")
                # A name has the hash of its content in it, or has not.
                body = served.get(repository, {}).get(path.partition(".")[0]) if path else b"{}"
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://{self.host}"


_NO_ONE: dict[str, Any] = {"keys": {}, "roles": []}


def _entries(targets: Mapping[str, tuple[str, int]]) -> dict[str, Any]:
    """Of digests in hexadecimal, and sizes."""
    return {
        tag: {"hashes": {"sha256": base64.b64encode(bytes.fromhex(digest)).decode()}, "length": size}
        for tag, (digest, size) in targets.items()
    }


def _meta(documents: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        role: {
            "hashes": {"sha256": base64.b64encode(hashlib.sha256(content).digest()).decode()},
            "length": len(content),
        }
        for role, content in documents.items()
    }


def _certificate(key: ec.EllipticCurvePrivateKey, name: str, expires: datetime) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(expires)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.PEM)


def _public(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
    return _tuf_key("ecdsa", key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def _tuf_key(kind: str, public: bytes) -> dict[str, Any]:
    return {"keytype": kind, "keyval": {"private": None, "public": base64.b64encode(public).decode()}}


def _identifier(key: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(key)).hexdigest()


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
