"""An attestation record: what a machine measured as it started, signed by a key that only its image has.

The form is that of IBM's page "Confidential computing with LinuxONE: attestation": the image's version,
lines for people, and entries of a SHA-256 and a name. Until `is_signed` a record is a claim of whoever
brings it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from secure_build import strict_yaml
from secure_build.contract.deployment import expected
from secure_build.contract.deployment.expected import Line
from secure_build.errors import UsageError
from secure_build.reference import Digest

LARGEST = 1 << 20
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)+")
_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class AttestationRecord:
    """The entries of a record in their order, and the version of the image where it names one."""

    version: str | None
    lines: tuple[Line, ...]

    def digests(self, name: str) -> tuple[Digest, ...]:
        """What it says of a name; mostly one."""
        return tuple(line.digest for line in self.lines if line.name == name)


def parse(content: bytes, name: str) -> AttestationRecord:
    """Raises UsageError for what holds no entry."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"`{name}` is no attestation record: it is not text") from None
    lines = tuple(expected.parse(text))
    if not lines:
        raise UsageError(
            f"`{name}` is no attestation record: no line of it is a SHA-256 and a name",
            hint="give `se-checksums.txt`, or `se-checksums.txt.enc` with the key that opens it",
        )
    first = text.partition("\n")[0].strip()
    return AttestationRecord(first if _VERSION.fullmatch(first) else None, lines)


def is_signed(content: bytes, signature: bytes, key: RSAPublicKey) -> bool:
    """Whether `se-signature.bin` is of these bytes, which are those of the record once it is decrypted."""
    try:
        key.verify(signature, content, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True


# By version of the image and name of the entry.
Known = Mapping[str, Mapping[str, Digest]]


def known_values(content: bytes, name: str) -> Known:
    """The published hashes of images, as somebody noted them: YAML, `version: {name: SHA-256}`.

    Raises UsageError for anything else.
    """
    data = strict_yaml.load(content, name, largest=LARGEST).data
    if not isinstance(data, dict) or not all(isinstance(one, dict) for one in data.values()):
        raise UsageError(f"`{name}` does not hold `VERSION: {{NAME: SHA-256}}`", hint=_KNOWN_HINT)
    return {str(version): _digests(values, f"{name}: {version}") for version, values in data.items()}


_KNOWN_HINT = 'such as `"26.7.1": {baseimage: 3b1f…}`, with the version in quotes'


def _digests(values: Mapping[str, Any], where: str) -> dict[str, Digest]:
    for name, value in values.items():
        if not isinstance(value, str) or not _HEXADECIMAL.fullmatch(value):
            raise UsageError(f"`{where}: {name}` is no SHA-256 of 64 hexadecimal digits", hint=_KNOWN_HINT)
    return {name: Digest(f"sha256:{value}") for name, value in values.items()}
