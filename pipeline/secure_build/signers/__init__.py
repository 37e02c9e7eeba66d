"""Signers: pinned → signature, and signature → who signed it. One module for each kind.

What is signed is a digest that was computed here; no signer takes a tag for one. `rhs` and `dct` sign a
name beside the digest, `cosign` and `keyless` sign statements, by which images are signed as well.
Whether a runtime looks at a signature is not asked here.
"""

from __future__ import annotations

from typing import Protocol

from secure_build.errors import RefusedError
from secure_build.model import SignatureKind


class StatementVerifier(Protocol):
    """Tells who signed a statement: one key, or one identity."""

    @property
    def kind(self) -> SignatureKind: ...

    @property
    def signer(self) -> str:
        """Who, as the build record has it: the key's SHA-256, or identity and issuer."""

    def verify(self, bundle: bytes) -> bytes:
        """The statement in a sigstore bundle that this signer made.

        What it is about is the caller's to check, see `attestations/statement.py`. Raises RefusedError
        for every other bundle.
        """


class StatementSigner(StatementVerifier, Protocol):
    """Signs in-toto statements into sigstore bundles (v0.3). Threads may share one."""

    def sign(self, statement: bytes) -> bytes:
        """The bundle, JSON. Raises ServiceError when a service of the signer's fails."""


def signs(verifier: StatementVerifier, bundle: bytes, statement: bytes) -> bool:
    """Whether a bundle that is there has this statement with a good signature, so that it can stay."""
    try:
        return verifier.verify(bundle) == statement
    except RefusedError:
        return False
