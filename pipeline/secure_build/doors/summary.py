"""The summary of a command for CI systems: how it ended, and what it would print as Markdown."""

from __future__ import annotations

from secure_build.doors.running import Ended
from secure_build.markdown import cell, text
from secure_build.summary import body, indented


def summary(ended: Ended) -> str:
    """The summary of one command; ends with a newline."""
    lines = [f"## secure-build {cell(ended.command)}: {ended.status}", ""]
    for error in ended.errors:
        first, *rest = error.message.splitlines() or [""]
        lines += [f"**error**: {cell(first)}", "", *indented(rest), ""]
        if error.hint:
            lines += ["What helps:", "", *indented(error.hint.splitlines()), ""]
    return text([*lines, *body(ended.document, ended.findings)])
