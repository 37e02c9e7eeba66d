"""cosign's classic signatures: a document that names an image, signed with a key.

This is what every version of cosign reads, and what IBM's recipe for confidential containers makes.
How it is kept is `attestations/classic.py`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_build.attestations.classic import Signed, check_payload, payload
from secure_build.attestations.encoding import decoded, encoded
from secure_build.errors import RefusedError
from secure_build.reference import Pinned
from secure_build.signers import log_entry
from secure_build.signers.cosign_key import Key, PublicKey
from secure_build.signers.log_entry import LogEntry
from secure_build.signers.rekor import Rekor


@dataclass(frozen=True, slots=True)
class ClassicVerifier:
    """Tells whether a key has signed an image; with the key of a log, whether the log knows of it."""

    key: PublicKey
    log: PublicKey | None = None

    def verify(self, signed: Signed, image: Pinned) -> None:
        """Raise RefusedError unless this is the key's signature of this image."""
        try:
            signature = decoded(signed.signature)
        except ValueError:
            raise RefusedError("the signature is no base64") from None
        if not self.key.verifies(signature, signed.payload):
            raise RefusedError(f"the image is not signed by the key {self.key.digest}")
        if self.log is not None:
            self._check_entry(signed, signature, self.log)
        check_payload(signed.payload, image)

    def accepts(self, signed: Signed, image: Pinned) -> bool:
        try:
            self.verify(signed, image)
        except RefusedError:
            return False
        return True

    def _check_entry(self, signed: Signed, signature: bytes, log: PublicKey) -> None:
        if signed.log is None:
            raise RefusedError("the signature has no entry of a transparency log, and one is demanded")
        try:
            entry = LogEntry.from_annotation(signed.log)
        except ValueError:
            raise RefusedError("the signature has no entry of a log that can be read") from None
        if not log_entry.is_of_content(entry.body, signed.payload, signature, self.key):
            raise RefusedError("the log entry is of another signature")
        # cosign keeps no proof here, but the promise alone.
        entry.check(log, included=False)


@dataclass(frozen=True, slots=True)
class ClassicSigner:
    """Signs images with a key and, where a log is given, enters the signatures there."""

    key: Key
    rekor: Rekor | None = None

    @property
    def verifier(self) -> ClassicVerifier:
        """Demands what is made here."""
        return ClassicVerifier(self.key.public, self.rekor.key if self.rekor else None)

    def sign(self, image: Pinned) -> Signed:
        """A new signature. Raises ServiceError and RefusedError when the log or the key's command fails."""
        content = payload(image)
        signature = self.key.sign(content)
        log = None
        if self.rekor is not None:
            log = self.rekor.enter_content(content, signature, self.key.public).annotation()
        return Signed(content, encoded(signature), log)
