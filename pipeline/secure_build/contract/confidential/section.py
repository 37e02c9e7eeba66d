"""What `ccco` adds to the contract's sections: the policy, cosign's keys, keys for sealed secrets, hosts.

Names are those of IBM's published contract schema for confidential containers. Keys are read here,
and only to refuse what the guest could not use: nothing is signed or opened with them.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_build.errors import UsageError
from secure_build.model import Finding
from secure_build.reference import Repository
from secure_build.secret import Secret

_HOST = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class SealedSecrets:
    """The keys for OpenShift's sealed secrets, PEM: whom they must come from, and what opens them."""

    verification_key: str
    decryption_key: Secret

    def content(self) -> dict[str, str | Secret]:
        """What stands under `secret`; raises UsageError when a key is none that the guest can use."""
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        public = _public_key(self.verification_key.encode(), "the key that verifies sealed secrets")
        if not isinstance(public, rsa.RSAPublicKey):
            raise UsageError("the key that verifies sealed secrets must be an RSA key")
        try:
            private = serialization.load_pem_private_key(self.decryption_key.reveal().encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            private = None
        if not isinstance(private, rsa.RSAPrivateKey):
            # Why it cannot be read might say what is in it.
            raise UsageError(
                "the key that opens sealed secrets must be an RSA private key, PEM, without passphrase"
            )
        return {"verificationKey": self.verification_key, "decryptionKey": self.decryption_key}


def content(
    policy: str, cosign: Mapping[Repository, bytes] | None = None, secret: SealedSecrets | None = None
) -> dict[str, Any]:
    """What stands under `confidential-containers` of the workload section.

    `cosign` has the public key (PEM) for each repository. Raises UsageError for a key that is none.
    """
    result: dict[str, Any] = {"regoValidator": {"policy": _base64(policy.encode())}}
    if cosign:
        keys = {
            str(repository): {"publicKey": _cosign_key(repository, cosign[repository])}
            for repository in sorted(cosign)
        }
        result["config"] = {"cosign": keys}
    if secret:
        result["secret"] = secret.content()
    return result


def cosign_findings(cosign: Mapping[Repository, bytes]) -> list[Finding]:
    """What is not known of the guest's check of cosign's signatures."""
    return [
        Finding(
            check="cosign",
            level="warn",
            what=f"the cosign key for `{repository}`",
            why="by which name the guest finds the key for an image is not documented; "
            "the repository without tag or digest is used here. The policy names every image by digest, "
            "so what may run does not rest on it",
            basis="inferred",
        )
        for repository in sorted(cosign)
    ]


def host_attestation(hosts: Mapping[str, tuple[str, bytes]]) -> dict[str, dict[str, str]]:
    """`host-attestation` of the env section: description and host key document (a certificate) by name.

    Raises UsageError for a name that the schema does not take, or a document that is no certificate.
    """
    from cryptography import x509

    from secure_build.contract.certificates.pem import MALFORMED

    for name, (_, document) in hosts.items():
        if not _HOST.fullmatch(name):
            raise UsageError(f"`{name}` is no name of a host: use letters, digits, `_` and `-`")
        try:
            x509.load_pem_x509_certificate(document)
        except MALFORMED:
            raise UsageError(
                f"the host key document of `{name}` is no certificate (PEM)",
                hint="take the `.crt` file that belongs to the machine's serial number",
            ) from None
    return {
        name: {"description": description or name, "host-key-doc": _base64(document)}
        for name, (description, document) in hosts.items()
    }


def _cosign_key(repository: Repository, pem: bytes) -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    what = f"the cosign key for `{repository}`"
    key = _public_key(pem, what)
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError(
            f"{what} must be an ECDSA key on the curve P-256",
            hint="take `cosign.pub` of `cosign generate-key-pair`",
        )
    # Written anew, so that nothing which stood beside the key goes into the contract.
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return _base64(key.public_bytes(serialization.Encoding.PEM, form))


def _public_key(pem: bytes, what: str) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        return serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(
            f"{what} is no public key: it must begin with `-----BEGIN PUBLIC KEY-----`"
        ) from None


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
