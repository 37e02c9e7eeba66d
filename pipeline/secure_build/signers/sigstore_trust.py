"""Whom keyless signatures are trusted by: an instance of sigstore, and what it says of a bundle.

This and `keyless.py` are the only modules that use sigstore's library, which is imported when it is
needed: that takes half a second. Nothing is signed here.
"""

from __future__ import annotations

import json
import logging
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from cryptography import x509

from secure_build import manifest
from secure_build.attestations.statement import PAYLOAD_TYPE
from secure_build.errors import MachineError, RefusedError, UsageError
from secure_build.registry.http import Transport
from secure_build.secret import mask
from secure_build.signers.fulcio import Identity, identity_of

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig

Instance = Literal["production", "staging"]
_REPOSITORIES: dict[Instance, str] = {
    "production": "https://tuf-repo-cdn.sigstore.dev",
    "staging": "https://tuf-repo-cdn.sigstage.dev",
}
_ROOT, _SERVICES = "trusted_root.json", "signing_config.v0.2.json"
_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"

# It would print its own warnings, where there is a message or nothing to say.
logging.getLogger("sigstore").addHandler(logging.NullHandler())


class Trust:
    """One instance of sigstore: by which keys it is trusted, and where its services are."""

    def __init__(self, config: bytes) -> None:
        """The instance of a trust config; raises UsageError when that cannot be used."""
        need_library()
        from sigstore.models import ClientTrustConfig
        from sigstore.verify import Verifier

        try:
            self.config: ClientTrustConfig = ClientTrustConfig.from_json(config.decode())
            self._verifier = Verifier(trusted_root=self.config.trusted_root)
        except Exception as error:  # noqa: BLE001 - whatever is wrong in it, it is the file's
            raise UsageError(
                f"the trust config of sigstore cannot be used: {why(error)}",
                hint=f"it must be of the type `{_TRUST_CONFIG}`",
            ) from None

    def verify(self, bundle: bytes, wanted: Identity | None = None) -> tuple[Identity, bytes]:
        """Who signed the statement in a bundle, and the statement; makes no connection.

        Raises RefusedError when it does not verify, or is by somebody else than who is wanted. Without
        `wanted` whoever signed will do, and it is the caller who decides what that is worth.
        """
        from sigstore.models import Bundle

        policy = _Policy(wanted)
        try:
            kind, payload = self._verifier.verify_dsse(Bundle.from_json(_complete(bundle)), policy)
            found = policy.found
            assert found is not None
        except Exception as error:  # noqa: BLE001 - a stranger's bundle may break any parser on the way
            raise RefusedError(f"the keyless signature does not verify: {why(error)}") from None
        if kind != PAYLOAD_TYPE:
            raise RefusedError(f"what is signed is no in-toto statement but `{kind[:80]}`")
        return found, payload


def embedded(instance: Instance) -> Trust:
    """An instance as sigstore's library knows it: no connection, and as old as the library."""
    need_library()
    return _joined(_shipped(instance, _ROOT), _shipped(instance, _SERVICES))


def fetched(instance: Instance, folder: Path, transport: Transport) -> Trust:
    """An instance as it is today, by its TUF repository, of which `folder` keeps a copy.

    Raises ServiceError when it cannot be had, or does not verify, and MachineError when it cannot be
    kept.
    """
    need_library()
    from secure_build.signers import sigstore_tuf

    root = _shipped(instance, "root.json")
    return _joined(*sigstore_tuf.fetch(_REPOSITORIES[instance], root, (_ROOT, _SERVICES), folder, transport))


class _Policy:
    """Exactly who is wanted, or whoever it is; afterwards `found` says who."""

    def __init__(self, wanted: Identity | None) -> None:
        self._wanted = wanted
        self.found: Identity | None = None

    def verify(self, certificate: x509.Certificate) -> None:
        self.found = identity_of(certificate)
        if self._wanted not in (None, self.found):
            raise ValueError(f"it is by {self.found}, not by {self._wanted}")


def _complete(bundle: bytes) -> bytes:
    """The bundle with what JSON of Protocol Buffers leaves out: zeros and empty lists."""
    document = manifest.load_object(bundle)
    for entry in document["verificationMaterial"].get("tlogEntries", []):
        entry.setdefault("logIndex", "0")
        if proof := entry.get("inclusionProof"):
            proof.setdefault("logIndex", "0")
            proof.setdefault("hashes", [])
    return json.dumps(document).encode()


def _joined(root: bytes, services: bytes) -> Trust:
    parts: dict[str, Any] = {"trustedRoot": json.loads(root), "signingConfig": json.loads(services)}
    return Trust(json.dumps({"mediaType": _TRUST_CONFIG, **parts}).encode())


def _shipped(instance: Instance, name: str) -> bytes:
    """A file about an instance that comes with sigstore's library."""
    folder = quote(_REPOSITORIES[instance], safe="")
    return resources.files("sigstore._store").joinpath(folder, name).read_bytes()


def need_library() -> None:
    """Raise MachineError where the library is missing."""
    try:
        import sigstore  # noqa: F401
    except ImportError:
        raise MachineError(
            "keyless signatures need the Python package `sigstore`, which is not on this machine",
            hint="there is none for s390x: sign and verify on another machine, or sign with a key",
        ) from None


def why(error: BaseException) -> str:
    """The reason in one line, or its kind where it says nothing."""
    text = " ".join(str(error).split())
    return mask(text or type(error).__name__)[:300]
