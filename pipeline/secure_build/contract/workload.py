"""The `workload` section, and the fragment of it that people paste into a section of their own.

`images` stays empty here: every image is named by digest, and the runtime needs no key for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from yaml.nodes import MappingNode, ScalarNode

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.archive import Archive
from secure_build.contract.auths import contract_key, registry_of
from secure_build.contract.edit import Edits
from secure_build.contract.text import SecretText
from secure_build.errors import UsageError
from secure_build.model import Credential, Finding
from secure_build.reference import Pinned
from secure_build.secret import Secret
from secure_build.strict_yaml import Document

NO_KEYS = "# Every image is named by digest, so the runtime needs no key to check it.\n"


@dataclass(frozen=True, slots=True)
class Packed:
    """What stands in the section: `compose`, `play` or `confidential-containers` with its content.

    `archive` is the one in it, if any; `pods` are those of `ccco`, pinned, which are no part of it.
    """

    body: dict[str, Any]
    archive: Archive | None = None
    pods: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def section(auths: Iterable[Credential], content: Mapping[str, Any]) -> SecretText:
    """The body of a `workload` section; `content` is all that stands in it besides logins."""
    logins = entries(auths)
    return text.dump_secret({"type": "workload"} | ({"auths": logins} if logins else {}) | dict(content))


def fragment(auths: Iterable[Credential], references: Mapping[str, Pinned]) -> SecretText:
    """`images` and `auths` to paste below `workload`, with the pinned references as comments."""
    listed = "".join(f"#   {name}: {pinned}\n" for name, pinned in references.items())
    made = text.dump_secret({"images": {}, "auths": entries(auths)})
    plain, masked = (f"{NO_KEYS}{body}# Pinned references:\n{listed}" for body in (made.plain, made.masked))
    return SecretText(plain, masked)


def merge(content: bytes, name: str, auths: Iterable[Credential]) -> str:
    """An existing plain workload with these `auths`, everything else byte for byte as it was.

    Takes a section (`type: workload` …) or a contract with the section in a literal block. What
    comes back may hold secrets of its author: it is for a file, never for showing. Raises UsageError
    for anything else, encrypted sections among it.
    """
    logins = {
        key: {name: value.reveal() if isinstance(value, Secret) else value for name, value in login.items()}
        for key, login in entries(auths).items()
    }
    document = strict_yaml.load(content, name)
    place = _Place.of(document)
    section = strict_yaml.load(place.take(document.text).encode(), name)
    merged = strict_yaml.load(_merge(section, logins).encode(), name)
    plain = place.put(document.text, merged.text)
    back = strict_yaml.load(plain.encode(), name)
    # What came out must be what went in, but for the logins.
    kept = _without(section.data.get("auths"), logins)
    expected = section.data | ({"auths": kept | logins} if logins else {})
    found = strict_yaml.load(_Place.of(back).take(plain).encode(), name)
    if found.data != expected or _around(back) != _around(document):
        raise UsageError(
            f"{name}: `auths` cannot be changed without changing something else",
            hint="write the logins out, without anchors and with `username` and `password` only",
        )
    return plain


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a document's text the section stands, and how far it is indented there."""

    start: int
    end: int
    depth: int

    @classmethod
    def of(cls, document: Document) -> _Place:
        """The literal block under `workload`, or else the whole document."""
        workload = strict_yaml.find(document.root, "workload")
        if workload is None:
            return cls(0, len(document.text), 0)
        node = workload.value
        if not isinstance(node, ScalarNode):
            raise UsageError(f"{document.where(node)}: `workload` must be text: put `|` behind the colon")
        start = document.text.find("\n", node.start_mark.index) + 1
        lines = document.text[start : node.end_mark.index].rstrip()
        newline = document.text.find("\n", start + len(lines)) + 1
        if node.style != "|" or not lines:
            raise UsageError(
                f"{document.where(node)}: `workload` is no literal block, so nothing can be merged into it",
                hint="an encrypted section cannot be changed; start from the plain one",
            )
        first = lines.lstrip("\r\n")
        # Empty lines at its end are left where they are.
        place = cls(start, newline or len(document.text), len(first) - len(first.lstrip(" ")))
        if place.put(document.text, place.take(document.text)) != document.text:
            raise UsageError(
                f"{document.where(node)}: this block has blanks that a merge would lose",
                hint="remove the blanks in its empty lines",
            )
        return place

    def take(self, whole: str) -> str:
        """The section's text, after as many empty lines as there are lines before it."""
        section = re.sub(rf"(?m)^ {{{self.depth}}}", "", whole[self.start : self.end])
        return "\n" * whole.count("\n", 0, self.start) + section

    def put(self, whole: str, section: str) -> str:
        """The whole text with another section, of the form that `take` gives."""
        section = section[whole.count("\n", 0, self.start) :]
        return whole[: self.start] + text.indented(section, self.depth) + whole[self.end :]


def _around(document: Document) -> dict[str, Any] | None:
    """What stands beside the section in a contract."""
    return document.data | {"workload": None} if "workload" in document.data else None


def _merge(section: Document, logins: dict[str, dict[str, str]]) -> str:
    root = section.root
    if not isinstance(root, MappingNode) or section.data.get("type") != "workload":
        raise UsageError(
            f"{section.where(root)}: this is no plain workload section: `type: workload` is missing"
        )
    if root.flow_style:
        raise UsageError(f"{section.where(root)}: write the section in block style, one key per line")
    found = strict_yaml.find(root, "auths")
    edits = Edits(section)
    if not logins:
        return section.text
    if found is None:
        edits.add_entry(root, text.dump({"auths": logins}).splitlines())
    elif not section.data["auths"]:
        column = found.key.start_mark.column
        edits.replace_entry(found.key, found.value, "auths:")
        edits.add_lines(found.key, found.value, text.indented(text.dump(logins), column + 2).splitlines())
    elif isinstance(found.value, MappingNode) and not found.value.flow_style:
        for key, login in logins.items():
            _merge_login(section, edits, found.value, key, login)
    else:
        raise UsageError(f"{section.where(found.key)}: write `auths` in block style, one key per line")
    return edits.apply()


def _merge_login(
    section: Document, edits: Edits, auths: MappingNode, key: str, login: dict[str, str]
) -> None:
    same = [entry for entry in strict_yaml.pairs(auths) if registry_of(entry[0].value) == registry_of(key)]
    if not same:
        edits.add_entry(auths, text.dump({key: login}).splitlines())
        return
    written, existing = same[0]
    if len(same) > 1:
        raise UsageError(f"{section.where(same[1][0])}: `auths` has a second login for the same registry")
    if written.value != key:
        edits.replace_scalar(written, text.scalar(key))
    for name, value in login.items():
        found = strict_yaml.find(existing, name)
        if found is None:
            raise UsageError(f"{section.where(written)}: this login has no `{name}`")
        edits.replace_value(found.key, found.value, text.scalar(value))


def _without(auths: Any, logins: dict[str, dict[str, str]]) -> dict[str, Any]:
    replaced = {registry_of(key) for key in logins}
    return {key: value for key, value in (auths or {}).items() if registry_of(key) not in replaced}


def entries(auths: Iterable[Credential]) -> dict[str, dict[str, str | Secret]]:
    """What stands under `auths` for these logins, by the contract's name of each registry."""
    return {
        contract_key(login.registry): {
            "username": login.username,
            "password": login.password,
        }
        for login in sorted(auths, key=lambda login: login.registry)
    }
