"""Contract files: a whole contract, or one section of it, read without changing a character of it.

What is signed, hashed and attested is each section's text as YAML gives it, so that text is kept.
Nothing is decrypted here, and nothing is checked but the shape; see `checks/`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel
from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build import strict_yaml
from secure_build.contract import masking
from secure_build.contract.encryption.token import looks_like_token
from secure_build.errors import UsageError
from secure_build.mistakes import unknown_key
from secure_build.reference import Digest
from secure_build.strict_yaml import Document

# Two sections of 5 MB, encrypted, and what stands around them.
LARGEST = 16 << 20
SECTIONS: tuple[Literal["workload", "env"], ...] = ("workload", "env")
KEYS = (*SECTIONS, "attestationPublicKey", "envWorkloadSignature", "boot")
SectionName = Literal["workload", "env", "attestationPublicKey"]
# A whole line with a token that takes PyYAML long: it looks at plain text letter by letter, in Python.
_LONG_TOKEN = re.compile(
    rb"^(workload|env|attestationPublicKey): "
    rb"([A-Za-z][A-Za-z0-9-]*\.[A-Za-z0-9+/]+={0,2}\.[A-Za-z0-9+/]{10000,}={0,2})(?=\r?$)",
    re.MULTILINE,
)
_SHORT = "token"


@dataclass(frozen=True, repr=False)
class SectionText:
    """One section as it stands in a contract: text or a token.

    `name` is the file's, `line` the one (counted from 1) on which the section's own text begins.
    """

    name: str
    section: SectionName
    value: str
    line: int

    @property
    def is_token(self) -> bool:
        return looks_like_token(self.value)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the value, as the attestation record has it."""
        return Digest.of(self.value.encode())

    @functools.cached_property
    def document(self) -> Document | None:
        """The section read, its places those of the file; None for a token.

        Raises UsageError for what is not YAML.
        """
        if self.is_token:
            return None
        return strict_yaml.load((self._before + self.value).encode(), self.name, largest=2 * LARGEST)

    def masked(self, model: type[BaseModel]) -> str:
        """The text with its secrets as `***`; a token is as it is."""
        if self.document is None:
            return self.value
        return masking.masked(self.document, model).removeprefix(self._before)

    @property
    def _before(self) -> str:
        """As many empty lines as there are lines before the section in its file."""
        return "\n" * (self.line - 1)


@dataclass(frozen=True, repr=False)
class Contract:
    """A contract file. `lines` says on which line each of its keys stands, `size` how many bytes it has."""

    name: str
    workload: SectionText
    env: SectionText
    attestation_public_key: SectionText | None
    signature: str | None
    boot: str | None
    lines: Mapping[str, int]
    size: int

    @classmethod
    def parse(cls, content: bytes, name: str) -> Contract:
        """Raises UsageError for unknown and missing keys, and for sections that are not text."""
        document = _load(content, name)
        entries = _entries(document)
        for key in SECTIONS:
            if key not in entries:
                raise UsageError(f"{name}:1: this contract has no `{key}`")
        texts = {key: _text(document, key, node) for key, (_, node) in entries.items()}
        attestation = entries.get("attestationPublicKey")
        return cls(
            name=name,
            workload=_section(document, "workload", entries["workload"][1]),
            env=_section(document, "env", entries["env"][1]),
            attestation_public_key=attestation and _section(document, "attestationPublicKey", attestation[1]),
            signature=texts.get("envWorkloadSignature"),
            boot=texts.get("boot"),
            lines={key: node.start_mark.line + 1 for key, (node, _) in entries.items()},
            size=len(content),
        )

    @property
    def values(self) -> dict[str, str]:
        """The values by their keys, as they stand in the contract."""
        key = self.attestation_public_key
        found = {
            "workload": self.workload.value,
            "env": self.env.value,
            "attestationPublicKey": key.value if key else None,
            "envWorkloadSignature": self.signature,
            "boot": self.boot,
        }
        return {key: value for key, value in found.items() if value is not None}

    def where(self, key: str) -> str:
        """File and line of a key, for messages."""
        return f"{self.name}:{self.lines.get(key, 1)}"


def read_section(content: bytes, name: str, expected: SectionName) -> SectionText:
    """The section of a file that holds a token, the section's own text, or a contract with it.

    Raises UsageError for anything else, another section among it.
    """
    token = content[: LARGEST + 1].decode(errors="replace").strip()
    # A key such as `contract-basic.x:` is no token.
    if len(content) <= LARGEST and len(token.split()) == 1 and looks_like_token(token):
        return SectionText(name, expected, token, 1)
    document = _load(content, name)
    if isinstance(document.data, dict) and "type" in document.data:
        found = document.data["type"]
        if found in SECTIONS and found != expected:
            raise UsageError(
                f"{name}:{document.line(('type',))}: this is the `{found}` section, not `{expected}`"
            )
        return SectionText(name, expected, document.text.replace("\r\n", "\n"), 1)
    entries = _entries(document)
    if expected not in entries:
        raise UsageError(f"{name}:1: there is no `{expected}` section in this file")
    return _section(document, expected, entries[expected][1])


def _load(content: bytes, name: str) -> Document:
    """The document in `content`, with long tokens kept from the YAML reader where that is the same."""
    tokens = {
        content.count(b"\n", 0, found.start()): (found[1].decode(), found[2].decode())
        for found in _LONG_TOKEN.finditer(content)
    }
    if not tokens or len(content) > LARGEST:
        return strict_yaml.load(content, name, largest=LARGEST)
    short = strict_yaml.load(_LONG_TOKEN.sub(rf"\1: {_SHORT}".encode(), content), name)
    entries = strict_yaml.items(short.root) if isinstance(short.root, MappingNode) else []
    nodes = {key.start_mark.line: (key, value) for key, value in entries}
    for line, (written, _) in tokens.items():
        key, value = nodes.get(line, (None, None))
        # Else the line is part of a longer text.
        if key is None or (key.value, value and value.value) != (written, _SHORT):
            return strict_yaml.load(content, name, largest=LARGEST)
    for line, (written, token) in tokens.items():
        nodes[line][1].value = short.data[written] = token
    return replace(short, text=content.decode())


def _entries(document: Document) -> dict[str, tuple[ScalarNode, Node]]:
    """Keys and values of a contract; raises UsageError for what is none."""
    if not isinstance(document.root, MappingNode):
        raise UsageError(
            f"{document.name}:1: this is neither a contract nor a section of one",
            hint="a contract has the keys `workload` and `env`; a section begins with `type:`",
        )
    entries = {key.value: (key, value) for key, value in strict_yaml.items(document.root)}
    for key, (node, _) in entries.items():
        if key not in KEYS:
            raise UsageError(f"{document.where(node)}: {key}: {unknown_key(key, list(KEYS))}")
    return entries


def _text(document: Document, key: str, node: Node) -> str:
    if isinstance(node, ScalarNode) and strict_yaml.is_text(node):
        return str(node.value)
    hint = None
    if isinstance(node, MappingNode):
        hint = f"put `|` behind the colon: `{key}: |`"
    where = f"{document.name}:{document.line((key,))}"
    raise UsageError(f"{where}: `{key}` must be text; the runtime says HPL05000E", hint=hint)


def _section(document: Document, section: SectionName, node: Node) -> SectionText:
    value = _text(document, section, node)
    assert isinstance(node, ScalarNode)
    first = node.start_mark.line + (2 if node.style in ("|", ">") else 1)
    return SectionText(document.name, section, value, first)
