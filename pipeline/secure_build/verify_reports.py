"""Reports of `verify` for CI: Markdown for summaries, SARIF for code views, JUnit for lists of tests.

Names in them come from others: in each form they are only text.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from secure_build import __version__
from secure_build.contract.decision.model import Verified
from secure_build.model import Finding
from secure_build.report import shown

# GitHub takes summaries of one mebibyte.
_LARGEST_MARKDOWN = 900_000
_MARKS = re.compile(r"([\\`*_{}\[\]<>()#+!|~-])")
_PLACE = re.compile(r"(.+?):([0-9]+)")
_SARIF_LEVELS = {"fail": "error", "warn": "warning", "unknown": "warning", "deferred": "note", "pass": "none"}
# What XML 1.0 cannot hold, in no way.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def markdown(verified: Verified, summary: str) -> str:
    """A summary with a table of the containers; cut where GitHub would refuse it."""
    lines = [f"### verify: {_cell(summary)}", "", f"{_cell(verified.name)}, for {_cell(verified.target)}", ""]
    if verified.decisions:
        lines += ["| container | image | verdict | why |", "|---|---|---|---|"]
    for decision in verified.decisions:
        code = f" ({decision.runtime_code})" if decision.runtime_code else ""
        hint = f"<br>{_cell(decision.hint)}" if decision.hint and decision.verdict != "accepted" else ""
        cells = (decision.container.what, decision.container.written, decision.verdict)
        row = " | ".join(map(_cell, cells))
        lines.append(f"| {row} | {_cell(decision.why)}{code}{hint} |")
    for title, findings in (
        ("Findings", [one for one in verified.findings if one.level != "pass"]),
        ("Evidence, which no runtime checks", verified.evidence),
    ):
        if findings:
            lines += ["", f"**{title}**", ""]
            lines += map(_item, findings)
    return _cut(lines)


def _item(finding: Finding) -> str:
    where = f"{_cell(finding.where)}: " if finding.where else ""
    code = f" ({finding.runtime_code})" if finding.runtime_code else ""
    hint = f" — {_cell(finding.hint)}" if finding.hint and finding.level != "pass" else ""
    return f"- **{finding.level}** {where}{_cell(finding.what)}: {_cell(finding.why)}{code}{hint}"


def _cell(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    flat = " ".join(shown(line) for line in text.splitlines())
    # Entities, since a backslash before `<` or `&` does not stop every renderer.
    return _MARKS.sub(r"\\\1", flat).replace("&", "&amp;").replace("\\<", "&lt;").replace("\\>", "&gt;")


def _cut(lines: Sequence[str]) -> str:
    kept, size = [], 0
    for number, line in enumerate(lines):
        size += len(line.encode()) + 1
        if size > _LARGEST_MARKDOWN:
            kept.append(f"\n… and {len(lines) - number} lines more")
            break
        kept.append(line)
    return "\n".join(kept) + "\n"


def sarif(verified: Verified) -> str:
    """SARIF 2.1.0 with a result for everything that did not pass."""
    findings = [one for one in verified.all_findings if one.level != "pass"]
    checks = sorted({one.check for one in findings})
    driver = {
        "name": "secure-build",
        "version": __version__,
        "rules": [
            {
                "id": check,
                "shortDescription": {"text": f"verify: {check}"},
                "help": {"text": "See docs/verify.md of secure-build."},
            }
            for check in checks
        ],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(one, checks.index(one.check)) for one in findings],
        "properties": {"name": shown(verified.name), "target": verified.target, "verdict": verified.verdict},
    }
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _result(finding: Finding, rule: int) -> dict[str, Any]:
    properties: dict[str, str] = {"level": finding.level, "basis": finding.basis}
    if finding.runtime_code:
        properties["runtime-code"] = finding.runtime_code
    result: dict[str, Any] = {
        "ruleId": finding.check,
        "ruleIndex": rule,
        "level": _SARIF_LEVELS[finding.level],
        "message": {"text": _message(finding)},
        # Without the line: a finding that moves is the same one.
        "partialFingerprints": {"finding/v1": hashlib.sha256(_identity(finding).encode()).hexdigest()},
        "properties": properties,
    }
    if finding.where and (location := _location(finding.where)):
        result["locations"] = [location]
    return result


def _identity(finding: Finding) -> str:
    path = (finding.where or "").rpartition(":")[0]
    return "\0".join((finding.check, path, shown(finding.what), finding.level))


def _location(where: str) -> dict[str, Any] | None:
    place = _PLACE.fullmatch(where)
    path, line = (place[1], int(place[2])) if place else (where, None)
    if not re.fullmatch(r"[^\s:]+", path):
        # Not a file's name, but words.
        return None
    physical: dict[str, Any] = {"artifactLocation": {"uri": quote(path.removeprefix("./"))}}
    if line:
        physical["region"] = {"startLine": line}
    return {"physicalLocation": physical}


def _message(finding: Finding) -> str:
    code = f" ({finding.runtime_code})" if finding.runtime_code else ""
    hint = f"\n{finding.hint}" if finding.hint else ""
    text = f"{finding.what}: {finding.why}{code}{hint}"
    return "\n".join(shown(line) for line in text.splitlines())


def junit(verified: Verified) -> str:
    """JUnit XML: a test for each container, and one for every other finding that did not pass."""
    cases: list[tuple[str, Finding]] = [("containers", one.finding) for one in verified.decisions]
    cases += [("contract", one) for one in verified.findings if one.level != "pass"]
    cases += [("evidence", one) for one in verified.evidence]
    levels = [finding.level for _, finding in cases]
    suite = {
        "name": f"verify {shown(verified.name)} for {verified.target}",
        "tests": str(len(cases)),
        "failures": str(levels.count("fail")),
        "errors": str(levels.count("unknown")),
        "skipped": str(levels.count("deferred")),
    }
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<testsuites>", f"  <testsuite{_attributes(suite)}>"]
    for group, finding in cases:
        lines += _case(group, finding)
    return "\n".join([*lines, "  </testsuite>", "</testsuites>"]) + "\n"


def _case(group: str, finding: Finding) -> Iterator[str]:
    place = _PLACE.fullmatch(finding.where or "")
    named = {
        "classname": f"verify.{group}.{finding.check}",
        "name": f"{finding.check}: {shown(finding.what)}",
    }
    if place:
        named |= {"file": place[1], "line": place[2]}
    word = {"fail": "failure", "unknown": "error", "deferred": "skipped"}.get(finding.level)
    if word is None and finding.level == "pass":
        yield f"    <testcase{_attributes(named)}/>"
        return
    yield f"    <testcase{_attributes(named)}>"
    where = f"{finding.where}: " if finding.where else ""
    message = {"message": f"{where}{_message(finding)}"}
    if word is None:
        yield f"      <system-out>{_escaped('warning: ' + message['message'])}</system-out>"
    else:
        kind = {} if word == "skipped" else {"type": finding.runtime_code or finding.check}
        yield f"      <{word}{_attributes(message | kind)}/>"
    yield "    </testcase>"


def _attributes(values: dict[str, str]) -> str:
    written = (f" {name}={quoteattr(_NO_XML.sub('�', value))}" for name, value in values.items())
    return "".join(written)


def _escaped(text: str) -> str:
    return html.escape(_NO_XML.sub("�", text), quote=False)
