"""A signer of statements that counts, of either kind: cosign's, with a key of its own."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec

from secure_build.signers.cosign import CosignSigner
from secure_build.signers.cosign_key import FileKey


@dataclass
class KeySigner:
    """`signed` has every statement that it was given. As `keyless` its bundles look like such ones."""

    kind: Literal["cosign", "keyless"] = "cosign"
    signed: list[bytes] = field(default_factory=list)
    _key: CosignSigner = field(
        default_factory=lambda: CosignSigner(FileKey(ec.generate_private_key(ec.SECP256R1())))
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def signer(self) -> str:
        return self._key.signer

    def sign(self, statement: bytes) -> bytes:
        with self._lock:
            self.signed.append(statement)
        bundle = json.loads(self._key.sign(statement))
        if self.kind == "keyless":
            bundle["verificationMaterial"] = {"certificate": {"rawBytes": "AA=="}}
        return json.dumps(bundle).encode()

    def verify(self, bundle: bytes) -> bytes:
        return self._key.verify(bundle)
