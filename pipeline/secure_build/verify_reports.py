"""Reports of `verify` for CI: SARIF for code views, JUnit for lists of tests.

Names in them come from others: in each form they are only text.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from secure_build import __version__
from secure_build.contract.decision.model import Verified
from secure_build.model import Finding
from secure_build.report import json_text, shown

_PLACE = re.compile(r"(.+?):([0-9]{1,9})")
_SARIF_LEVELS = {"fail": "error", "warn": "warning", "unknown": "warning", "deferred": "note", "pass": "none"}
# What XML 1.0 cannot hold, in no way.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


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
        "results": [_result(one, checks.index(one.check), verified.name) for one in findings],
        "properties": {"name": shown(verified.name), "target": verified.target, "verdict": verified.verdict},
    }
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [run],
    }
    return json_text(document)


def _result(finding: Finding, rule: int, contract: str) -> dict[str, Any]:
    properties: dict[str, str] = {"level": finding.level, "basis": finding.basis}
    if finding.runtime_code:
        properties["runtime-code"] = finding.runtime_code
    return {
        "ruleId": finding.check,
        "ruleIndex": rule,
        "level": _SARIF_LEVELS[finding.level],
        "message": {"text": _message(finding)},
        # Without the line: a finding that moves is the same one.
        "partialFingerprints": {"finding/v1": hashlib.sha256(_identity(finding).encode()).hexdigest()},
        "locations": [_location(finding.where or "", contract)],
        "properties": properties,
    }


def _identity(finding: Finding) -> str:
    path = (finding.where or "").rpartition(":")[0]
    return "\0".join((finding.check, shown(path), shown(finding.what), finding.level))


def _location(where: str, contract: str) -> dict[str, Any]:
    """The place of a finding; the contract's first line for one without.

    GitHub's page "SARIF support for code scanning" requires a file and a line of each result; it takes
    none of a report in which one has neither.
    """
    place = _PLACE.fullmatch(where)
    path, line = (place[1], max(int(place[2]), 1)) if place else (where, 1)
    if not re.fullmatch(r"[^\s:]+", path):
        # Not a file's name, but words.
        path, line = contract, 1
    uri = quote(shown(path.removeprefix("./")))
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}


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
    root = ElementTree.Element("testsuites")
    suite = _element(
        root,
        "testsuite",
        name=f"verify {verified.name} for {verified.target}",
        tests=str(len(cases)),
        failures=str(levels.count("fail")),
        errors=str(levels.count("unknown")),
        skipped=str(levels.count("deferred")),
    )
    for group, finding in cases:
        _case(suite, group, finding)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(suite: ElementTree.Element, group: str, finding: Finding) -> None:
    place = _PLACE.fullmatch(finding.where or "")
    where = {"file": place[1], "line": place[2]} if place else {}
    name = f"{finding.check}: {finding.what}"
    case = _element(suite, "testcase", classname=f"verify.{group}.{finding.check}", name=name, **where)
    message = f"{finding.where}: {_message(finding)}" if finding.where else _message(finding)
    if finding.level == "warn":
        ElementTree.SubElement(case, "system-out").text = _xml(f"warning: {message}")
    elif finding.level == "deferred":
        _element(case, "skipped", message=message)
    elif finding.level in ("fail", "unknown"):
        word = "failure" if finding.level == "fail" else "error"
        _element(case, word, message=message, type=finding.runtime_code or finding.check)


def _element(above: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    written = {name: _xml(value) for name, value in attributes.items()}
    return ElementTree.SubElement(above, tag, written)


def _xml(text: str) -> str:
    """Text as it may be shown, without what XML cannot hold."""
    return _NO_XML.sub("\ufffd", "\n".join(map(shown, text.splitlines())))
