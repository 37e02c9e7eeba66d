"""Markdown for the summaries of CI systems, of what `--output json` prints.

Names in it come from others: they are only text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from secure_build.report import shown

# GitHub takes summaries of one mebibyte.
_LARGEST = 900_000
_MARKS = re.compile(r"([\\`*_{}\[\]<>!|~])")


def text(lines: Sequence[str]) -> str:
    """The lines as one text, cut where GitHub would refuse it; ends with a newline."""
    kept, size = [], 0
    for number, line in enumerate(lines):
        size += len(line.encode()) + 1
        if size > _LARGEST:
            kept.append(f"\n… and {len(lines) - number} lines more")
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def verified(document: Mapping[str, Any]) -> list[str]:
    """What `verify` found: a table of the containers, the findings, and the evidence."""
    lines = [f"### verify: {cell(document['summary'])}", ""]
    lines += [f"Contract: {cell(document['name'])}, for {cell(document['target'])}", ""]
    if document["containers"]:
        lines += ["| container | image | verdict | why |", "|---|---|---|---|"]
    for one in document["containers"]:
        code = f" ({one['runtime-code']})" if "runtime-code" in one else ""
        hint = f"<br>{cell(one['hint'])}" if "hint" in one and one["verdict"] != "accepted" else ""
        row = " | ".join(cell(one[name]) for name in ("name", "image", "verdict"))
        lines.append(f"| {row} | {cell(one['why'])}{code}{hint} |")
    named = [one for one in document["findings"] if one["level"] != "pass"]
    lines += listed("Findings", named)
    return lines + listed("Evidence, which no runtime checks", document["evidence"])


def listed(title: str, findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """A paragraph with findings, none where there are none."""
    return ["", f"**{title}**", "", *map(_item, findings)] if findings else []


def _item(finding: Mapping[str, Any]) -> str:
    where = f"{cell(finding['where'])}: " if "where" in finding else ""
    code = f" ({finding['runtime-code']})" if "runtime-code" in finding else ""
    hint = f" — {cell(finding['hint'])}" if "hint" in finding and finding["level"] != "pass" else ""
    return f"- **{finding['level']}** {where}{cell(finding['what'])}: {cell(finding['why'])}{code}{hint}"


def cell(words: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    flat = " ".join(shown(line) for line in words.splitlines())
    # Entities, since a backslash before `<` or `&` does not stop every renderer.
    return _MARKS.sub(r"\\\1", flat).replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")
