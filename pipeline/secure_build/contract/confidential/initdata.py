"""Init data: how the contract travels to the guest in an annotation of its pod.

A small TOML document with the contract as one literal text, gzip-compressed, in base64 (IBM's page
"Creating initdata"; Confidential Containers, "Initdata specification"). Kata binds its SHA-384 to the
guest. Also here: the `boot` section of bare metal, which stands behind what is signed.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tomllib
import zlib
from dataclasses import dataclass

from secure_build.errors import UsageError

# Bytes of TOML. A contract has some tens of thousands; an annotation at most 256 KiB, compressed.
LARGEST = 4 << 20
_CONTRACT = "contract.yaml"
# What literal texts of TOML cannot hold; a carriage return would be lost with some readers.
_UNTEXT = re.compile(r"'''|[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_ALGORITHMS = ("sha256", "sha384", "sha512")
# How a header of IBM Secure Execution begins ("IBMSecEx").
_SE_MAGIC = b"IBMSecEx"


@dataclass(frozen=True, slots=True)
class Initdata:
    """The contract, the TOML document around it, and the name of the hash that the guest takes of that."""

    contract: str
    toml: bytes
    algorithm: str = "sha384"

    @property
    def digest(self) -> str:
        """The hash of the TOML document in hexadecimal digits."""
        return hashlib.new(self.algorithm, self.toml).hexdigest()

    def annotation(self) -> str:
        """The value of the annotation: one line, the same each time."""
        buffer = io.BytesIO()
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as file:
            file.write(self.toml)
        return base64.b64encode(buffer.getvalue()).decode()


def initdata(contract: str) -> Initdata:
    """The init data with this contract; raises UsageError when TOML cannot hold it as it is."""
    if odd := _UNTEXT.search(contract):
        what = "three single quotes" if odd[0] == "'''" else f"the character U+{ord(odd[0]):04X}"
        line = contract.count("\n", 0, odd.start()) + 1
        raise UsageError(
            f"line {line} of the contract has {what}, which init data cannot hold",
            hint="encrypt the section that it stands in",
        )
    if contract.startswith("\n") or not contract.endswith("\n"):
        # A reader would drop the first, and a quote at the end would run into those around the text.
        raise UsageError("a contract for init data begins with a key and ends with a newline")
    toml = f"\nalgorithm = \"sha384\"\nversion = \"0.1.0\"\n\n[data]\n\"{_CONTRACT}\" = '''{contract}'''\n"
    return Initdata(contract, toml.encode())


def read_initdata(text: str) -> Initdata:
    """The init data in an annotation, whoever wrote it; raises UsageError when it has no contract."""
    try:
        toml = _unpacked(base64.b64decode(text, validate=True))
        document = tomllib.loads(toml.decode())
        algorithm, contract = document["algorithm"], document["data"][_CONTRACT]
    except (tomllib.TOMLDecodeError, RecursionError):
        raise UsageError("this is no init data: it is not TOML") from None
    except (KeyError, TypeError):
        raise UsageError(f"this init data has no `algorithm` or no `data` with `{_CONTRACT}`") from None
    except (ValueError, zlib.error):
        raise UsageError("this is no init data: it must be base64 of gzip of TOML text") from None
    if algorithm not in _ALGORITHMS or not isinstance(contract, str):
        raise UsageError(f"this init data has no known `algorithm` or a `{_CONTRACT}` that is no text")
    return Initdata(contract, toml, algorithm)


def boot_section(sehdr: bytes) -> str:
    """The `boot` section for bare metal: the Secure Execution header of the guest's image, on one line.

    It stands in the contract behind `workload`, `env` and the signature, which does not cover it.
    Raises UsageError when the bytes are no such header.
    """
    if not sehdr.startswith(_SE_MAGIC):
        raise UsageError(
            "this is no Secure Execution header: it does not begin with `IBMSecEx`",
            hint="take `se-hdr.bin` as `pvextract-hdr` writes it",
        )
    return f"sehdr: {base64.b64encode(sehdr).decode()}\n"


def _unpacked(compressed: bytes) -> bytes:
    """One gzip member with nothing behind it, and bounded: little can stand for very much."""
    reader = zlib.decompressobj(wbits=31)
    content = reader.decompress(compressed, LARGEST + 1)
    if len(content) > LARGEST:
        raise UsageError(f"this init data has more than {LARGEST} bytes")
    if not reader.eof or reader.unused_data:
        raise zlib.error
    return content
