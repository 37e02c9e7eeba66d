"""The lines that a runtime's attestation record will have for a contract, known before it starts.

A line is the SHA-256 of a value as it was delivered, before decryption, and its name (IBM's page
"Confidential computing with LinuxONE: attestation"). Whether a record is genuine is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from secure_build.contract.encryption.token import looks_like_token
from secure_build.reference import Digest

# In the order of the record.
SECTIONS = ("workload", "env", "attestationPublicKey", "envWorkloadSignature")
_LINE = re.compile(r"([0-9a-f]{64}) (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Expected:
    """A line to look for; `basis` says whether IBM documents what is hashed, or it is inferred."""

    name: str
    digest: Digest
    basis: Literal["documented", "inferred"]


@dataclass(frozen=True, slots=True)
class Line:
    """An entry of an attestation record, sections by their name of today (`contract:workload`)."""

    name: str
    digest: Digest


def of_sections(values: Mapping[str, str]) -> list[Expected]:
    """The lines for the values of a contract's top-level keys, exactly as a YAML reader gives them.

    Documented is what a token and a signature give; for a plain section it is inferred that the text
    is hashed as it stands, its last newline included. Other keys have no line.
    """
    return [
        Expected(
            f"contract:{name}",
            Digest.of(values[name].encode()),
            "documented" if name == "envWorkloadSignature" or _is_token(values[name]) else "inferred",
        )
        for name in SECTIONS
        if name in values
    ]


def _is_token(value: str) -> bool:
    # With a line break around it, it is hashed as other text.
    return looks_like_token(value) and value.split() == [value]


def of_files(files: Mapping[PurePosixPath, bytes]) -> list[Expected]:
    """The lines for files of the disk `cidata`; inferred, since a host may write that disk anew."""
    return [Expected(str(path), Digest.of(content), "inferred") for path, content in files.items()]


def text(expected: Iterable[Expected]) -> str:
    """The lines as they stand in a record, each inferred one after a line that says so."""
    return "".join(
        ("# inferred\n" if line.basis == "inferred" else "") + f"{line.digest.hexadecimal} {line.name}\n"
        for line in expected
    )


def parse(record: str) -> list[Line]:
    """The entries of a decrypted attestation record, or of what `text` wrote; any other line is passed over.

    A list, since two entries may have one digest, and a name may stand twice. Older images leave
    `contract:` out, or put a space behind it.
    """
    found = [_LINE.fullmatch(line.rstrip()) for line in record.split("\n")]
    return [Line(_name(entry[2]), Digest(f"sha256:{entry[1]}")) for entry in found if entry]


def _name(written: str) -> str:
    name = written.strip()
    section = name.removeprefix("contract:").strip()
    return f"contract:{section}" if section in SECTIONS else name
