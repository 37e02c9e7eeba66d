"""A signer of statements with a key of its own: ECDSA in a DSSE envelope, in a sigstore bundle."""

from __future__ import annotations

import base64
import json
import threading
from dataclasses import dataclass, field
from typing import Literal

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from secure_build.attestations import statement
from secure_build.attestations.artifact import BUNDLE
from secure_build.errors import RefusedError


@dataclass
class KeySigner:
    """`signed` has every statement that this signer was given."""

    kind: Literal["cosign", "keyless"] = "cosign"
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    signed: list[bytes] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._public = SSlibKey.from_crypto(self.key.public_key())
        self._signer = CryptoSigner(self.key, self._public)

    @property
    def signer(self) -> str:
        return f"sha256:{self._public.keyid}"

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, content: bytes) -> bytes:
        with self._lock:
            self.signed.append(content)
        envelope = Envelope(content, statement.PAYLOAD_TYPE, {})
        envelope.sign(self._signer)
        written = envelope.to_dict()
        written["signatures"] = [{"sig": one["sig"]} for one in written["signatures"]]
        material = (
            {"publicKey": {"hint": self._public.keyid}}
            if self.kind == "cosign"
            else {"certificate": {"rawBytes": base64.b64encode(self._public.keyid.encode()).decode()}}
        )
        return json.dumps(
            {"mediaType": BUNDLE, "verificationMaterial": material, "dsseEnvelope": written}
        ).encode()

    def verify(self, bundle: bytes) -> bytes:
        try:
            written = json.loads(bundle)["dsseEnvelope"]
            for one in written["signatures"]:
                one["keyid"] = self._public.keyid
            envelope = Envelope.from_dict(written)
            envelope.verify([self._public], 1)
        except (UnverifiedSignatureError, VerificationError, ValueError, KeyError, TypeError):
            raise RefusedError("the signature is not by this key") from None
        if envelope.payload_type != statement.PAYLOAD_TYPE:
            raise RefusedError("what is signed is no statement")
        return envelope.payload
