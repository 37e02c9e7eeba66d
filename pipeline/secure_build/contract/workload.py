"""The `workload` section, and the fragment of it that people paste into a section of their own.

`images` stays empty here: every image is named by digest, and the runtime needs no key for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.archive import Archive
from secure_build.contract.auths import contract_key
from secure_build.contract.edit import Edits
from secure_build.errors import UsageError
from secure_build.model import Credential
from secure_build.reference import Pinned, registry_name
from secure_build.secret import MASK
from secure_build.strict_yaml import Document

NO_KEYS = "# Every image is named by digest, so the runtime needs no key to check it.\n"


@dataclass(frozen=True, slots=True, repr=False)
class SecretText:
    """Contract text with its secrets, and the same text with each secret as `***`."""

    plain: str
    masked: str


def section(auths: Iterable[Credential], archive: Archive) -> SecretText:
    """The body of a `workload` section for a compose workload."""

    def body(masked: bool) -> str:
        data: dict[str, Any] = {"type": "workload"}
        if entries := _auths(auths, masked=masked):
            data["auths"] = entries
        data["compose"] = {"archive": archive.base64()}
        return text.dump(data)

    auths = list(auths)
    return SecretText(body(masked=False), body(masked=True))


def fragment(auths: Iterable[Credential], references: Mapping[str, Pinned]) -> SecretText:
    """`images` and `auths` to paste below `workload`, with the pinned references as comments."""
    auths = list(auths)
    listed = "".join(f"#   {name}: {pinned}\n" for name, pinned in references.items())

    def body(masked: bool) -> str:
        entries = _auths(auths, masked=masked)
        data: dict[str, Any] = {"images": {}, "auths": entries}
        return f"{NO_KEYS}{text.dump(data)}# Pinned references:\n{listed}"

    return SecretText(body(masked=False), body(masked=True))


def merge(content: bytes, name: str, auths: Iterable[Credential]) -> SecretText:
    """An existing plain workload with these `auths`, everything else byte for byte as it was.

    Takes a section (`type: workload` …) or a contract with the section in a literal block. Raises
    UsageError for anything else, encrypted sections among it.
    """
    auths = list(auths)
    return SecretText(_merge(content, name, auths, masked=False), _merge(content, name, auths, masked=True))


def _merge(content: bytes, name: str, auths: list[Credential], *, masked: bool) -> str:
    document = strict_yaml.load(content, name)
    outer = strict_yaml.find(document.root, "workload")
    if outer is None:
        return _merge_section(document, auths, masked=masked)
    value = outer.value
    if not isinstance(value, ScalarNode):
        raise UsageError(f"{document.where(value)}: `workload` must be text: put `|` behind the colon")
    if value.style != "|":
        raise UsageError(
            f"{document.where(value)}: `workload` is no literal block, so nothing can be merged into it",
            hint="an encrypted section cannot be changed; start from the plain one",
        )
    first = value.start_mark.line + 1
    lines = document.text.splitlines(keepends=True)
    count = len(value.value.splitlines())
    indented = lines[first : first + count]
    indent = len(indented[0]) - len(indented[0].lstrip(" "))

    def with_indent(section: str) -> str:
        return "".join(
            " " * indent + line if line.strip() else line for line in section.splitlines(keepends=True)
        )

    if with_indent(value.value) != "".join(indented):
        raise UsageError(
            f"{document.where(value)}: this block has blanks that a merge would lose",
            hint="remove trailing blanks and blank lines at its end",
        )
    inner = strict_yaml.load(value.value.encode(), f"{name} (workload)")
    merged = with_indent(_merge_section(inner, auths, masked=masked))
    return "".join([*lines[:first], merged, *lines[first + count :]])


def _merge_section(document: Document, auths: list[Credential], *, masked: bool) -> str:
    if not isinstance(document.root, MappingNode) or document.data.get("type") != "workload":
        raise UsageError(f"{document.name} is no plain workload section: `type: workload` is missing")
    if document.root.flow_style:
        raise UsageError(f"{document.name}: write the section in block style, one key per line")
    entries = _auths(auths, masked=masked)
    edits = Edits(document)
    found = strict_yaml.find(document.root, "auths")
    if not entries:
        return document.text
    if found is None:
        edits.add_entry(document.root, text.dump({"auths": entries}).splitlines())
    elif isinstance(found.value, MappingNode) and found.value.value and not found.value.flow_style:
        for key, entry in entries.items():
            _merge_login(document, edits, found.value, key, entry)
    elif isinstance(found.value, MappingNode) and not found.value.value:
        lines = text.dump(entries).splitlines()
        edits.replace_value(found.key, found.value, "".join(f"\n  {line}" for line in lines))
    else:
        raise UsageError(f"{document.where(found.key)}: write `auths` in block style, one key per line")
    merged = edits.apply()
    # What came out must be what went in, but for the logins.
    expected = dict(document.data) | {"auths": {**_without(document.data.get("auths"), entries), **entries}}
    if strict_yaml.load(merged.encode(), document.name).data != expected:
        raise UsageError(f"{document.name}: `auths` cannot be changed without changing something else")
    return merged


def _merge_login(
    document: Document, edits: Edits, mapping: MappingNode, key: str, entry: dict[str, str]
) -> None:
    existing = next(
        (found for found in strict_yaml.pairs(mapping) if _canonical(found[0].value) == _canonical(key)), None
    )
    if existing is None:
        edits.add_entry(mapping, text.dump({key: entry}).splitlines())
        return
    edits.replace_scalar(existing[0], text.scalar(key))
    for name, value in entry.items():
        edits.replace_scalar(_scalar(document, existing[1], name), text.scalar(value))


def _scalar(document: Document, login: Node, name: str) -> ScalarNode:
    found = strict_yaml.find(login, name)
    if found is None or not isinstance(found.value, ScalarNode):
        raise UsageError(f"{document.where(login)}: this login has no `{name}`")
    return found.value


def _without(auths: Any, entries: dict[str, dict[str, str]]) -> dict[str, Any]:
    replaced = {_canonical(key) for key in entries}
    return {key: value for key, value in (auths or {}).items() if _canonical(key) not in replaced}


def _canonical(key: str) -> str:
    """The registry behind a key of `auths`, also for the several spellings of Docker Hub."""
    try:
        return registry_name(key.removeprefix("https://").partition("/")[0])
    except UsageError:
        return key


def _auths(auths: Iterable[Credential], *, masked: bool) -> dict[str, dict[str, str]]:
    return {
        contract_key(login.registry): {
            "username": login.username,
            "password": MASK if masked else login.password.reveal(),
        }
        for login in sorted(auths, key=lambda login: login.registry)
    }
