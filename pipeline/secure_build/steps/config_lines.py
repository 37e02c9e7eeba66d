"""Where in the config a line of a section comes from that was made of it: people mend the config.

What has no place of its own is said of the nearest thing above it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from yaml.nodes import MappingNode, Node, SequenceNode

from secure_build import strict_yaml
from secure_build.config import Loaded
from secure_build.contract.advice import mapping
from secure_build.contract.auths import registry_of
from secure_build.contract.document import SectionText
from secure_build.model import Finding
from secure_build.strict_yaml import Path

_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def located(loaded: Loaded, section: SectionText, findings: Iterable[Finding]) -> list[Finding]:
    """The findings with places in the config instead of such in the section."""
    lines = sorted(_lines(section), key=lambda one: one[0])
    return [replace(one, where=_where(loaded, section, lines, one.where)) for one in findings]


def place(loaded: Loaded, section: SectionText, where: str) -> str:
    """The same for one place."""
    return _where(loaded, section, sorted(_lines(section), key=lambda one: one[0]), where) or where


def _where(
    loaded: Loaded, section: SectionText, lines: list[tuple[int, Path]], where: str | None
) -> str | None:
    if where is None or where.partition(":")[0] != section.name:
        return where
    line = int(where.rpartition(":")[2]) if where.rpartition(":")[2].isdecimal() else 1
    path: Path = max((one for one in lines if one[0] <= line), default=(1, ()), key=lambda one: one[0])[1]
    return loaded.where(*_config_path(loaded, section.section, tuple(map(str, path))))


def _lines(section: SectionText) -> Iterator[tuple[int, Path]]:
    """The line of every key of the section, with the path to it."""
    document = section.document
    return _of(document.root, ()) if document is not None else iter(())


def _of(node: Node, path: Path) -> Iterator[tuple[int, Path]]:
    if isinstance(node, MappingNode):
        for key, value in strict_yaml.items(node):
            yield key.start_mark.line + 1, (*path, key.value)
            yield from _of(value, (*path, key.value))
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            yield from _of(value, (*path, index))


def _config_path(loaded: Loaded, section: str, path: tuple[str, ...]) -> tuple[str, ...]:
    if section == "workload" and path[:1] == ("auths",) and path[1:]:
        hosts = mapping(loaded.document.data.get("registries"))
        named = next((host for host in hosts if registry_of(host) == registry_of(path[1])), path[1])
        return ("registries", named, "runtime", *path[2:])
    if section == "workload" and path[:1] == ("images",):
        return ("signing", *path[1:2])
    if path[:1] == ("signingKey",):
        return ("encrypt", "signing-key")
    # The volumes and variables of people keep their names.
    depth = 2 if path[:1] in (("volumes",), ("env",), ("auths",)) else 0
    return (section, *path[:depth], *(_CAPITAL.sub("-", part).lower() for part in path[depth:]))
