"""How `verify` shows its result: a table that a person reads in ten seconds, and reports for CI.

Whatever is quoted comes from others, so secrets are masked and controls written out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from secure_build import files, markdown
from secure_build.contract.decision.model import Decision, Verified
from secure_build.errors import UsageError
from secure_build.model import Finding
from secure_build.report import json_text, shown
from secure_build.secret import mask
from secure_build.verify_document import document, summary
from secure_build.verify_reports import junit, sarif

_WIDTH = 80
_INDENT = " " * 10
# By the ending of a report's file.
_ENDINGS = {".json": "json", ".md": "markdown", ".sarif": "sarif", ".xml": "junit", ".txt": "text"}


def form_of(path: Path) -> str:
    """The form of a report, by the ending of its file; raises UsageError for another."""
    form = _ENDINGS.get(path.suffix)
    if form is None:
        known = ", ".join(f"`{ending}` ({form})" for ending, form in _ENDINGS.items())
        raise UsageError(f"`--report {path}`: its ending says nothing", hint=f"use one of {known}")
    return form


def strict(verified: Verified) -> Verified:
    """The same with warnings as failures."""

    def stricter(findings: Sequence[Finding]) -> tuple[Finding, ...]:
        return tuple(replace(one, level="fail") if one.level == "warn" else one for one in findings)

    return replace(verified, findings=stricter(verified.findings), evidence=stricter(verified.evidence))


def show_verified(verified: Verified, form: str, reports: Sequence[Path]) -> int:
    """Print the result and write the reports; returns the exit code."""
    # First, so that a report that cannot be written does not take the answer with it.
    print(render(verified, form), end="", flush=True)
    for path in reports:
        files.write(path, render(verified, form_of(path)).encode())
    levels = {finding.level for finding in verified.all_findings}
    return 1 if "fail" in levels else 5 if "unknown" in levels else 0


def render(verified: Verified, form: str) -> str:
    """The result as `text`, `json`, `markdown`, `sarif` or `junit`; ends with a newline."""
    return _FORMS[form](verified)


def _text(verified: Verified) -> str:
    lines = [f"{verified.name}, for {verified.target}", *([""] if verified.decisions else [])]
    for decision in verified.decisions:
        lines += _decision_lines(decision)
    named = [one for one in verified.findings if one.level != "pass"]
    if named:
        lines += ["", "around it"]
        lines += [line for finding in named for line in _finding_lines(finding)]
    if verified.evidence:
        lines += ["", "evidence, which no runtime checks"]
        lines += [line for finding in verified.evidence for line in _finding_lines(finding)]
    lines += ["", summary(verified)]
    return "".join(f"{shown(line).rstrip()}\n" for line in lines)


def _decision_lines(decision: Decision) -> Iterator[str]:
    container = decision.container
    yield f"{decision.verdict:<10}{container.what}"
    if container.written:
        yield f"{_INDENT}{_short(container.written)}"
    basis = "" if decision.basis == "documented" else f" ({decision.basis})"
    proves = f"; proves {decision.proves}" if decision.proves else ""
    code = f" [{decision.runtime_code}]" if decision.runtime_code else ""
    yield from _wrapped(f"{decision.why}{proves}{basis}{code}")
    if decision.verdict != "accepted":
        inside = f" ({container.inside} in the archive)" if container.inside else ""
        yield f"{_INDENT}at {container.where}{inside}"
        if decision.hint:
            yield from _wrapped(f"hint: {decision.hint}")


def _finding_lines(finding: Finding) -> Iterator[str]:
    where = f"{finding.where}: " if finding.where else ""
    code = f" [{finding.runtime_code}]" if finding.runtime_code else ""
    basis = "" if finding.basis == "documented" else f" ({finding.basis})"
    first, *rest = _wrapped(f"{where}{finding.what}: {finding.why}{basis}{code}")
    yield f"{finding.level:<10}{first.lstrip()}"
    yield from rest
    if finding.hint and finding.level != "pass":
        yield from _wrapped(f"hint: {finding.hint}")


def _wrapped(text: str) -> list[str]:
    """Lines with an indent; what has lines of its own keeps them."""
    lines = []
    # Masked first: a secret with a space in it may be cut by the end of a line.
    for line in mask(text).splitlines() or [""]:
        lines += textwrap.wrap(
            shown(line),
            _WIDTH,
            initial_indent=_INDENT,
            subsequent_indent=_INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _short(image: str) -> str:
    """An image for the table: of a digest, so much that people tell one from another."""
    name, at, digest = image.partition("@sha256:")
    return f"{name}{at}{digest[:12]}…" if at and len(digest) == 64 else image


def _json(verified: Verified) -> str:
    return json_text(document(verified))


_FORMS: Mapping[str, Callable[[Verified], str]] = {
    "text": _text,
    "json": _json,
    "markdown": lambda verified: markdown.text(markdown.verified(document(verified))),
    "sarif": sarif,
    "junit": junit,
}
