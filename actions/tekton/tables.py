"""Writes the tables of the READMEs here and of `docs/tekton.md` from the documents that they are about.

    python actions/tekton/tables.py

A table stands between `<!-- NAME of FILE -->` and `<!-- end -->`, with FILE from this folder on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CATALOG = Path(__file__).resolve().parent
DOCUMENTATION = CATALOG.parents[1] / "docs" / "tekton.md"
_TABLE = re.compile(r"(<!-- (params|workspaces|results) of (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
_HEADS = {
    "params": ("param", "default", "meaning"),
    "workspaces": ("workspace", "", "meaning"),
    "results": ("result", "meaning"),
}


def filled(text: str) -> str:
    """The text with its tables as they should be."""
    return _TABLE.sub(lambda found: found[1] + _table(found[2], found[3]) + found[4], text)


def texts() -> Iterator[Path]:
    """The files that have tables."""
    yield DOCUMENTATION
    yield from sorted(CATALOG.glob("*/*/0.1/README.md"))


def _table(kind: str, file: str) -> str:
    spec = yaml.safe_load((CATALOG / file).read_text())["spec"]
    rows = [_HEADS[kind], tuple("---" for _ in _HEADS[kind]), *(_row(kind, one) for one in spec[kind])]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(kind: str, one: dict[str, Any]) -> tuple[str, ...]:
    meaning = one["description"].replace("|", "\\|")
    if kind == "params":
        default = one.get("default")
        shown = "required" if default is None else f"`{default}`" if default else ""
        return f"`{one['name']}`", shown, meaning
    if kind == "workspaces":
        return f"`{one['name']}`", "optional" if one.get("optional") else "required", meaning
    return f"`{one['name']}`", meaning


if __name__ == "__main__":
    for path in texts():
        path.write_text(filled(path.read_text()))
