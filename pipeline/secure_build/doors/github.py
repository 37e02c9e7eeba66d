"""The door of GitHub Actions: `action.yml` sets the environment, and this runs the command.

Findings become annotations, stages groups, and secrets are masked before anybody can print them. While the
command runs, the runner takes no commands from the log but ours: a build may print what it likes. See
"Workflow commands for GitHub Actions", GitHub Docs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from secure_build import secret
from secure_build.doors.outputs import outputs
from secure_build.doors.running import Ended, Entry, KeepingReport, run
from secure_build.doors.summary import summary
from secure_build.errors import MachineError, SecureBuildError, UsageError
from secure_build.model import Finding
from secure_build.report import NORMAL, shown

_LEVELS = {"fail": "error", "warn": "warning", "unknown": "warning", "deferred": "notice"}
_TITLE = "secure-build"
_BUILDER_HINT = """\
take a runner with Docker, or install buildah in a step before this one:
- run: sudo apt-get update && sudo apt-get install --yes buildah"""
_PLACED = re.compile(r"(.+?:[0-9]+): (.+)")
# Outputs of one job are a mebibyte at most.
_LARGEST = 900_000


class Commands:
    """Commands to the runner; between them it is told to take none.

    Whoever writes to the log holds `lock`, so that nothing gets between a command and the next stop.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._token = ""

    def say(self, name: str, value: str = "", **properties: str) -> None:
        listed = ",".join(f"{key}={_property(text)}" for key, text in properties.items() if text)
        self._raw([f"::{name}{' ' if listed else ''}{listed}::{_data(value)}"])

    def mask(self, values: list[str]) -> None:
        # The runner masks lines, and each line of a secret is told by itself.
        self._raw([f"::add-mask::{_data(value)}" for value in values if len(value.splitlines()) == 1])

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """As long as this lasts, only what is said here is a command."""
        self._stop()
        try:
            yield
        finally:
            self._resume()

    def _raw(self, commands: list[str]) -> None:
        with self.lock:
            was_stopped = bool(self._token)
            if was_stopped:
                self._resume()
            print("\n".join(commands), file=sys.stderr, flush=True)
            if was_stopped:
                self._stop()

    def _stop(self) -> None:
        self._token = secrets.token_hex(16)
        print(f"::stop-commands::{self._token}", file=sys.stderr, flush=True)

    def _resume(self) -> None:
        print(f"::{self._token}::", file=sys.stderr, flush=True)
        self._token = ""


class GitHubReport(KeepingReport):
    """Lines as elsewhere, with findings and errors as annotations."""

    def __init__(self, level: int, commands: Commands) -> None:
        super().__init__(level)
        self._lock = commands.lock
        self._commands = commands
        self._is_open = False

    def error(self, error: SecureBuildError) -> None:
        self.errors.append(error)
        self._end_group()
        found = [_PLACED.fullmatch(line) for line in error.message.splitlines()]
        if not all(found):
            self._annotate("error", error.message, error.hint)
            return
        # Mistakes, each of which begins with its place.
        for number, one in enumerate(found, 1):
            assert one is not None
            self._annotate("error", one[2], error.hint if number == len(found) else None, one[1])

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        with self._lock:
            self._commands.say("group", f"{_TITLE}: {name}")
            self._is_open = True
        try:
            yield
        finally:
            self._end_group()

    @contextlib.contextmanager
    def _shown(self) -> Iterator[None]:
        """No display, be there a terminal or not: the runner must see each command on a line of its own."""
        yield None

    def _show_finding(self, finding: Finding) -> None:
        self.findings.append(finding)
        code = f" [{finding.runtime_code}]" if finding.runtime_code else ""
        text = f"{finding.what}: {finding.why}{code}"
        self._annotate(_LEVELS[finding.level], text, finding.hint, finding.where)

    def _annotate(self, kind: str, text: str, hint: str | None, where: str | None = None) -> None:
        file, line = _place(where)
        lines = [*(f"{where}: {text}" if where and not file else text).splitlines()]
        lines += [
            f"hint: {one}" if not number else one for number, one in enumerate((hint or "").splitlines())
        ]
        self._commands.say(kind, "\n".join(map(shown, lines)), title=_TITLE, file=shown(file), line=line)

    def _end_group(self) -> None:
        with self._lock:
            if self._is_open:
                self._commands.say("endgroup")
                self._is_open = False


class GitHubEntry(Entry):
    """What GitHub Actions brings, and what a job may lack."""

    def __init__(self, commands: Commands) -> None:
        super().__init__()
        self._commands = commands

    def new_report(self, level: int) -> GitHubReport:
        return GitHubReport(level, self._commands)

    def bring(self) -> None:
        if directory := os.environ.get("ACTION_DIRECTORY"):
            try:
                os.chdir(directory)
            except (OSError, ValueError):
                raise UsageError(
                    f"there is no folder `{directory}`", hint="it is below the workspace"
                ) from None

    def check(self, arguments: argparse.Namespace) -> None:
        """Raise what this job lacks, with the YAML that cures it."""
        from secure_build.steps.machine import require_builder, require_identity

        if arguments.verb in ("run", "build") and not getattr(arguments, "records", None):
            try:
                require_builder(arguments.config, arguments.builder, arguments.platform, arguments.images)
            except MachineError as error:
                raise MachineError(error.message, hint=_BUILDER_HINT) from None
        if arguments.verb in ("run", "sign"):
            require_identity(arguments.config)


def main() -> int:
    """Run the verb of the environment; returns its exit code."""
    environment = os.environ
    commands = Commands()
    secret.tell(commands.mask)
    with commands.stopped():
        ended = run(GitHubEntry(commands))
        report = GitHubReport(NORMAL, commands)
        _annotate_verdict(report, ended)
        named = outputs(ended)
        for name in [name for name, value in named.items() if len(value) > _LARGEST]:
            report.note(f"the output `{name}` is left empty: it is too long", "it is in the group `result`")
            named[name] = ""
        for name in [name for name, value in named.items() if secret.mask(value) != value]:
            why = f"the output `{name}` holds the text of a secret, so GitHub gives it to no other job"
            report.note(
                why, "keep as a secret only what is one: no user name, and no part of an image's name"
            )
        if ended.text:
            with report.stage("result"):
                print(ended.text, file=sys.stderr, end="", flush=True)
    _append(environment.get("GITHUB_STEP_SUMMARY"), summary(ended))
    _append(environment.get("GITHUB_OUTPUT"), "".join(_output(*one) for one in named.items()))
    return ended.code


def _annotate_verdict(report: GitHubReport, ended: Ended) -> None:
    """What `verify` and `plan` print as their result; other verbs have told of their findings."""
    found = []
    for one in ended.document.get("containers", []) if "verdict" in ended.document else []:
        if one["verdict"] != "accepted":
            level = "fail" if one["verdict"] == "refused" else "unknown"
            found.append({**one, "check": "image", "level": level, "what": one["name"]})
    if "record" not in ended.document:
        found += [*ended.document.get("findings", []), *ended.document.get("evidence", [])]
    for one in found:
        if one not in ended.findings:
            report.finding(_finding(one))


def _finding(data: Mapping[str, str]) -> Finding:
    return Finding(
        data["check"],
        data["level"],  # type: ignore[arg-type]
        data["what"],
        data["why"],
        data["basis"],  # type: ignore[arg-type]
        data.get("hint"),
        data.get("where"),
        data.get("runtime-code"),
    )


def _place(where: str | None) -> tuple[str, str]:
    """File, as the workspace names it, and line of a finding; empty where it is of no file here."""
    name, _, line = (where or "").rpartition(":")
    if not line.isdecimal():
        name, line = where or "", ""
    workspace = os.environ.get("GITHUB_WORKSPACE")
    path = Path(name).absolute()
    if not name or not workspace or not path.is_file() or not path.is_relative_to(workspace):
        return "", ""
    return str(path.relative_to(workspace)), line


def _output(name: str, value: str) -> str:
    mark = f"end-{secrets.token_hex(16)}"
    return f"{name}<<{mark}\n{value}\n{mark}\n"


def _append(path: str | None, text: str) -> None:
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


if __name__ == "__main__":
    raise SystemExit(main())
