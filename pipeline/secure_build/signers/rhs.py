"""Red Hat simple signing: an OpenPGP key signs a digest and the name that an image is pulled by.

Rules: containers-signature(5) for what is signed, containers-policy.json(5) for whom it convinces. It
proves who signed; every image that was signed under a name is as good as every other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

from secure_build import __version__, manifest
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.reference import Digest, Pinned, Reference
from secure_build.signers.gpg import GpgKey, GpgVerifier

_TYPE = "atomic container signature"
_BEGIN = b"-----BEGIN PGP PUBLIC KEY BLOCK-----"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signature says: this digest is meant by this name."""

    digest: Digest
    name: Reference


def payload(pinned: Pinned, name: Reference) -> bytes:
    """The document that is signed (containers-signature(5)); equal input gives equal bytes."""
    if name.repository != pinned.repository or name.tag is None or name.digest is not None:
        raise UsageError(f"`{name}` is no tag of `{pinned.repository}`")
    document = {
        "critical": {
            "type": _TYPE,
            "image": {"docker-manifest-digest": str(pinned.digest)},
            "identity": {"docker-reference": str(name)},
        },
        "optional": {"creator": f"secure-build {__version__}"},
    }
    return json.dumps(document, separators=(",", ":")).encode()


def sign(key: GpgKey, pinned: Pinned, name: Reference) -> bytes:
    """The signature of a manifest under a name; raises UsageError when the key cannot sign."""
    return key.sign(payload(pinned, name))


def claim(verifier: GpgVerifier, signature: bytes) -> Claim:
    """What the key says in a signature; raises RefusedError for one that is not its own."""
    return _claim(verifier.verify(signature).content)


def _claim(content: bytes) -> Claim:
    try:
        document = manifest.load_object(content)
        critical, optional = document["critical"], document["optional"]
        if set(document) != {"critical", "optional"} or set(critical) != {"type", "image", "identity"}:
            raise ValueError
        # As their readers have it, who refuse everything else too.
        if type(optional.get("creator", "")) is not str or type(optional.get("timestamp", 0)) is not int:
            raise ValueError
        if critical["type"] != _TYPE or set(critical["image"]) != {"docker-manifest-digest"}:
            raise ValueError
        if set(critical["identity"]) != {"docker-reference"}:
            raise ValueError
        named = Reference.parse(critical["identity"]["docker-reference"])
        return Claim(Digest.parse(critical["image"]["docker-manifest-digest"]), named)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SecureBuildError):
        raise RefusedError("what is signed is no claim about an image") from None


def check(verifier: GpgVerifier, signature: bytes, pinned: Pinned, name: Reference | None) -> None:
    """Raise RefusedError unless the key signed this image under this name.

    The rule is `matchRepoDigestOrExact` of containers-policy.json(5): who pulls by a tag wants that
    very name signed; who pulls by digest (`name` is None) wants one of the same repository.
    """
    _check(claim(verifier, signature), pinned, name)


def check_own(verifier: GpgVerifier, signatures: Sequence[tuple[bytes, Pinned, Reference]]) -> None:
    """The same of many that were made here a moment ago, with one start of gpg."""
    made = verifier.verify_own([signature for signature, _, _ in signatures])
    for signed, (_, pinned, name) in zip(made, signatures, strict=True):
        _check(_claim(signed.content), pinned, name)


def _check(said: Claim, pinned: Pinned, name: Reference | None) -> None:
    if said.digest != pinned.digest:
        raise RefusedError(f"the signature is for {said.digest}, not for {pinned.digest}")
    if name is None and said.name.repository != pinned.repository:
        raise RefusedError(f"the signature is for `{said.name}`, not for `{pinned.repository}`")
    if name is not None and said.name != name:
        raise RefusedError(f"the signature is for `{said.name}`, not for `{name}`")


def public_key_text(armored: bytes) -> str:
    """`publicKey` of the contract: base64 of the armored key on one line (IBM's page "About the contract").

    Raises UsageError for what is not one armored public key.
    """
    if not armored.startswith(_BEGIN) or armored.count(b"-----BEGIN ") != 1:
        raise UsageError("this is not one armored OpenPGP public key")
    return base64.b64encode(armored).decode()
