"""One run of the command in this process, and everything it had to tell."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from secure_build import cli, twins
from secure_build.arguments import parser
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


class Entry(cli.Door):
    """A door that keeps what is told, and takes no flag that the verb does not know."""

    def __init__(self) -> None:
        self.reports: list[KeepingReport] = []

    def new_report(self, level: int) -> KeepingReport:
        """A report in the form of this door."""
        return KeepingReport(level)

    def bring(self) -> None:
        """Turn what the CI system gives into what the command reads."""

    def open_report(self, level: int) -> KeepingReport:
        self.reports.append(self.new_report(level))
        return self.reports[-1]

    def prepare(self) -> None:
        os.environ["SECURE_BUILD_OUTPUT"] = "json"
        self.bring()
        _require_used(os.environ)


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


def run(entry: Entry) -> Ended:
    """Run the verb that the environment names, for JSON."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            code = cli.main([], entry)
        except SystemExit as wrong:
            # No verb, or help.
            code = wrong.code if isinstance(wrong.code, int) else UsageError.exit_code
    text = printed.getvalue()
    return Ended(
        " ".join(os.environ.get(twins.COMMAND, "").split()),
        code,
        text,
        _object(text),
        tuple(findings([one for report in entry.reports for one in report.findings])),
        tuple(error for report in entry.reports for error in report.errors),
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
