"""What the tests of keyless signatures have in common."""

from __future__ import annotations

from typing import Any

from secure_build.attestations import statement
from secure_build.reference import Digest
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers.fulcio import Identity
from secure_build.signers.keyless import KeylessSigner
from secure_build.signers.sigstore_trust import Trust
from services.sigstore import GITHUB, GITHUB_IDENTITY, LocalSigstore

WE = Identity(GITHUB_IDENTITY, GITHUB)


def about(content: bytes = b"an image", kind: str = statement.SIGNATURE) -> bytes:
    return statement.statement(kind, {}, [("host/app", Digest.of(content))])


def trust(sigstore: LocalSigstore) -> Trust:
    return Trust(sigstore.files.trust_config.read_bytes())


def signer_of(sigstore: LocalSigstore, transport: Transport, **claims: Any) -> KeylessSigner:
    return KeylessSigner(trust(sigstore), lambda: Secret(sigstore.token(**claims)), transport)
