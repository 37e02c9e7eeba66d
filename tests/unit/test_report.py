"""What is shown: masked, harmless to a terminal, plain lines where there is no terminal."""

from __future__ import annotations

import re
import threading

import pytest

from secure_build import report as reports
from secure_build.errors import SecureBuildError
from secure_build.model import Finding
from secure_build.report import Report, shown, size
from secure_build.secret import Secret
from secure_build.steps import findings


def test_lines_have_the_time_and_no_display(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.task("web", "building for linux/s390x") as task:
        task.line("#5 RUN make")
        task.advance(10)
    err = capsys.readouterr().err
    assert re.fullmatch(r"\d\d:\d\d:\d\d web: building for linux/s390x\n", err)


def test_verbose_shows_what_the_builder_says(capsys: pytest.CaptureFixture[str]) -> None:
    with Report(reports.VERBOSE).task("web", "building") as task:
        task.line("#5 RUN make")
    assert capsys.readouterr().err.endswith("  web: #5 RUN make\n")


def test_a_long_transfer_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(reports.time, "monotonic", lambda: now)
    with Report().task("web", "publishing", total=300_000_000) as task:
        for now in (1.0, 16.0, 17.0, 40.0):  # noqa: B007 - read by the clock above
            task.advance(50_000_000)
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "web: publishing",
        "web: publishing: 100.0 MB of 300.0 MB",
        "web: publishing: 200.0 MB of 300.0 MB",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext", "plain\ttext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("over\rwritten", "over\\x0dwritten"),
        ("right\u202eleft", "right\\x202eleft"),
        ("c1\x9b31m", "c1\\x9b31m"),
        ("twice\x1b[0\x1b[0mm", "twice\\x1b[0m"),
    ],
)
def test_a_build_cannot_steer_the_terminal(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_secrets_are_masked_before_they_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    value = Secret("report-canary-1").reveal()
    report = Report(reports.VERBOSE)
    report.step(f"step {value}")
    report.error(SecureBuildError(f"first {value}\nsecond {value}", hint=value))
    with report.task("web", f"doing {value}") as task:
        task.line(value)
    err = capsys.readouterr().err
    assert value not in err
    assert err.count("***") == 6


def test_threads_share_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()

    def work(name: str) -> None:
        with report.task(name, "building"):
            report.step(f"{name}: built")

    threads = [threading.Thread(target=work, args=(f"image{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(capsys.readouterr().err.splitlines()) == 16


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (3 * 10**9, "3.0 GB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


def test_colours_within_a_secret_do_not_show_it() -> None:
    Secret("coloured-canary-1").reveal()
    assert shown("coloured-\x1b[31mcanary\x1b[0m-1") == "***"


def test_findings_as_data_are_masked() -> None:
    value = Secret("finding-canary-1").reveal()
    found = Finding("check", "fail", f"a {value}", f"b {value}", hint=f"c {value}", runtime_code="HPL06010E")
    (told,) = findings([found])
    assert told == {
        "check": "check",
        "level": "fail",
        "what": "a ***",
        "why": "b ***",
        "basis": "documented",
        "hint": "c ***",
        "runtime-code": "HPL06010E",
    }


def test_what_has_several_lines_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    report.plain("next:\n  do this\n  do that")
    report.note("two\nlines", "and\nhints")
    report.finding(Finding("check", "fail", "what", "first\nsecond"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *("next:", "  do this", "  do that", "note: two", "lines", "hint: and", "hints"),
        *("fail: what: first", "second"),
    ]
