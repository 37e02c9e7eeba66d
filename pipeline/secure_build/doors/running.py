"""One run of the command in this process, and everything it had to tell."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from secure_build import cli, twins
from secure_build.arguments import parse, parser
from secure_build.errors import SecureBuildError, UsageError
from secure_build.model import Finding
from secure_build.report import NORMAL, Report
from secure_build.steps import findings

# What the exit codes mean, in a word that a workflow can compare with.
_STATUS = {
    0: "done",
    1: "refused",
    2: "usage",
    3: "unsupported",
    4: "unavailable",
    5: "unknown",
    130: "interrupted",
    143: "interrupted",
}


class KeepingReport(Report):
    """A report that also keeps what it was told."""

    def __init__(self, level: int = NORMAL) -> None:
        super().__init__(level)
        self.findings: list[Finding] = []
        self.errors: list[SecureBuildError] = []

    def error(self, error: SecureBuildError) -> None:
        self.errors.append(error)
        super().error(error)

    def _show_finding(self, finding: Finding) -> None:
        self.findings.append(finding)
        super()._show_finding(finding)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: its exit code, the text that it printed, the same as plain data where it is JSON,
    and the findings and errors that it named."""

    command: str
    code: int
    text: str
    document: Mapping[str, Any]
    findings: tuple[Mapping[str, Any], ...]
    errors: tuple[SecureBuildError, ...]

    @property
    def status(self) -> str:
        return _STATUS.get(self.code, "bug")


def run(open_report: Callable[[int], KeepingReport], *, first: Callable[[argparse.Namespace], None]) -> Ended:
    """Run the verb that the environment names, for JSON; `first` raises what the machine lacks."""
    os.environ["SECURE_BUILD_OUTPUT"] = "json"
    kept: list[KeepingReport] = []

    def opened(level: int) -> KeepingReport:
        kept.append(open_report(level))
        return kept[-1]

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            _require_used(os.environ)
            first(parse([], os.environ))
            code = cli.main([], opened)
        except SecureBuildError as error:
            opened(NORMAL).error(error)
            code = error.exit_code
        except SystemExit as wrong:
            # The command line's parser has said why.
            code = wrong.code if isinstance(wrong.code, int) else UsageError.exit_code
    text = printed.getvalue()
    return Ended(
        " ".join(os.environ.get(twins.COMMAND, "").split()),
        code,
        text,
        _object(text),
        tuple(findings([one for report in kept for one in report.findings])),
        tuple(error for report in kept for error in report.errors),
    )


def _require_used(environment: Mapping[str, str]) -> None:
    """Raise UsageError for what is set and means nothing to the verb: a check that somebody relies on."""
    own = parser()
    if ignored := twins.unused(own, environment, twins.with_command(own, environment, [])):
        names = ", ".join(f"`{twins.flag(name)}`" for name in ignored)
        command = environment.get(twins.COMMAND)
        raise UsageError(f"`{command}` does not take {names}", hint="leave it out, or use another command")


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
