"""Keys and logins merged into somebody's own plain workload section, which stays what it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from yaml.nodes import MappingNode, ScalarNode

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.auths import registry_of
from secure_build.contract.edit import Edits
from secure_build.contract.images import Images
from secure_build.contract.workload import entries
from secure_build.errors import UsageError
from secure_build.model import Credential
from secure_build.secret import Secret
from secure_build.strict_yaml import Document


def merge(content: bytes, name: str, auths: Iterable[Credential], images: Images) -> str:
    """An existing plain workload with these `auths` and `images`, all else byte for byte as it was.

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
    merged = strict_yaml.load(_merge_images(merged, images).encode(), name)
    plain = place.put(document.text, merged.text)
    back = strict_yaml.load(plain.encode(), name)
    # What came out must be what went in, but for the logins.
    kept = _without(section.data.get("auths"), logins)
    expected = section.data | ({"auths": kept | logins} if logins else {})
    expected |= {"images": _overlaid(section.data.get("images"), images)} if images else {}
    found = strict_yaml.load(_Place.of(back).take(plain).encode(), name)
    if found.data != expected or _around(back) != _around(document):
        raise UsageError(
            f"{name}: `auths` and `images` cannot be changed without changing something else",
            hint="write logins and keys out, without anchors and with nothing else in them",
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


def _merge_images(section: Document, images: Images) -> str:
    edits = Edits(section)
    assert isinstance(section.root, MappingNode)
    _overlay(section, edits, section.root, {"images": images} if images else {})
    return edits.apply()


def _overlay(section: Document, edits: Edits, mapping: MappingNode, data: Mapping[str, Any]) -> None:
    """Put what `data` has into a block mapping, at every depth; what it does not have stays."""
    for key, value in data.items():
        found = strict_yaml.find(mapping, key)
        if found is None:
            edits.add_entry(mapping, text.dump({key: value}).splitlines())
        elif isinstance(value, str):
            edits.replace_value(found.key, found.value, text.scalar(value))
        elif not found.value.value:
            column = found.key.start_mark.column
            edits.replace_entry(found.key, found.value, f"{found.key.value}:")
            edits.add_lines(found.key, found.value, text.indented(text.dump(value), column + 2).splitlines())
        elif isinstance(found.value, MappingNode) and not found.value.flow_style:
            _overlay(section, edits, found.value, value)
        else:
            raise UsageError(f"{section.where(found.key)}: write `{key}` in block style, one key per line")


def _overlaid(there: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(there or {})
    for key, value in data.items():
        result[key] = _overlaid(result.get(key), value) if isinstance(value, Mapping) else value
    return result
