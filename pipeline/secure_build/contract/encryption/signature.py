"""`envWorkloadSignature` and `signingKey`: one workload and one env, bound to each other.

Rules: IBM's pages "About the contract" (sections on signature and contract expiry). The signature says
that workload and env were paired by the holder of the key in the env. It does not say who that is:
whoever can encrypt can make an env with another key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import Certificate

from secure_build.contract.encryption import key_material
from secure_build.contract.encryption.token import Token
from secure_build.errors import RefusedError


def digest(workload: str, env: str) -> bytes:
    """What is signed: SHA-256 of the two values as they stand in the contract, nothing between them."""
    return hashlib.sha256(workload.encode() + env.encode()).digest()


def sign(workload: Token, env: Token, key: RSAPrivateKey) -> str:
    """The signature as one line of base64.

    Only tokens are signed: which bytes of a plain section count, IBM's pages and tools disagree about.
    """
    return sign_with(
        workload, env, key.public_key(), lambda value: key.sign(value, PKCS1v15(), Prehashed(SHA256()))
    )


def sign_with(workload: Token, env: Token, key: RSAPublicKey, signer: Callable[[bytes], bytes]) -> str:
    """Like `sign`, by whoever keeps the private key of `key`: `signer` gets the SHA-256 digest and
    returns its RSASSA-PKCS1-v1_5 signature (RFC 8017, section 8.2). Raises RefusedError for another."""
    texts = str(workload), str(env)
    signature = base64.b64encode(signer(digest(*texts))).decode()
    if not verify(*texts, signature, key):
        raise RefusedError(
            "the signature that was made does not fit the public key",
            hint="sign with the private key of `signingKey`, by PKCS #1 v1.5 with SHA-256",
        )
    return signature


def verify(workload: str, env: str, signature: str, key: RSAPublicKey) -> bool:
    """Whether `signature` is the one of these two values, as they stand in the contract, by this key.

    Like the contract's schema it takes white space between groups of base64, and none inside a group.
    """
    groups = signature.split()
    if any(len(group) % 4 for group in groups):
        return False
    try:
        content = base64.b64decode("".join(groups), validate=True)
        key.verify(content, digest(workload, env), PKCS1v15(), Prehashed(SHA256()))
    except (ValueError, InvalidSignature):
        return False
    return True


def signing_key_text(signer: Certificate | RSAPublicKey) -> str:
    """The value of `signingKey`: base64 of the PEM, on one line."""
    if isinstance(signer, Certificate):
        pem = signer.public_bytes(Encoding.PEM)
    else:
        pem = key_material.spki_pem(signer).encode()
    return base64.b64encode(pem).decode()
