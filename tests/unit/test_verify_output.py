"""What verify shows: for people, and in forms that other programs read, whatever names contain."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest

import secure_build
from secure_build import verify_document
from secure_build.contract.decision.model import Container, Decision, Verified
from secure_build.errors import UsageError
from secure_build.model import Finding
from secure_build.reference import Reference
from secure_build.secret import Secret
from secure_build.verify_output import form_of, render, show_verified, strict, summary

DIGEST = f"sha256:{'a' * 64}"
FORMS = ("text", "json", "markdown", "sarif", "junit")
HOSTILE = "x | `y` <script>alert(1)</script> & ]]> \x1b[31m ![z](u) \x00 \x9b31m \u202e \udcff ::error::no"


def container(name: str = "service `web`", written: str = f"us.icr.io/acme/web@{DIGEST}") -> Container:
    return Container(name, "contract.yaml:12", "compose", written, None)


WEB = replace(container(), reference=Reference.parse(f"us.icr.io/acme/web@{DIGEST}"))
GOOD = Decision(WEB, "accepted", "named by digest", "documented", "which build runs")
BAD = Decision(
    container("service `api`", "us.icr.io/acme/api:1"),
    "refused",
    "it is named by a tag",
    "documented",
    runtime_code="HPL06010E",
    hint="name it by digest",
)
OPEN = Decision(container("service `odd`"), "unknown", "nobody could be asked", "inferred")
WARN = Finding(
    "unused-key", "warn", "a key", "enforces nothing", "inferred", "take it out", "contract.yaml:5"
)
UNSURE = Finding("key", "unknown", "a key", "gpg is not here")
LATER = Finding("delivery", "deferred", "us.icr.io/acme/web", "not published")
PROOF = Finding("evidence", "pass", "web: cosign", "signed by the key")


def verified(
    *decisions: Decision, findings: tuple[Finding, ...] = (), name: str = "contract.yaml"
) -> Verified:
    return Verified(name, "ccrt", decisions, findings, (PROOF,))


ALL = verified(GOOD, BAD, OPEN, findings=(WARN, UNSURE, LATER))
HOSTILES = verified(
    replace(GOOD, container=container(HOSTILE, HOSTILE), why=HOSTILE),
    replace(BAD, container=container(HOSTILE, HOSTILE), hint=HOSTILE),
    findings=(replace(WARN, what=HOSTILE, why=f"{HOSTILE}\n{HOSTILE}", where=f"{HOSTILE}:3"),),
    name=HOSTILE,
)


def test_the_table_is_short_and_says_all() -> None:
    assert render(verified(GOOD), "text").splitlines() == [
        "contract.yaml, for ccrt",
        "",
        "accepted  service `web`",
        "          us.icr.io/acme/web@sha256:aaaaaaaaaaaa…",
        "          named by digest; proves which build runs",
        "",
        "evidence, which no runtime checks",
        "pass      web: cosign: signed by the key",
        "",
        "accepted: 1 container",
    ]
    lines = render(ALL, "text").splitlines()
    assert "          it is named by a tag [HPL06010E]" in lines
    assert "          at contract.yaml:12" in lines
    assert "          hint: name it by digest" in lines
    assert "warn      contract.yaml:5: a key: enforces nothing (inferred)" in lines
    assert lines[-1] == "refused: 1 of 3 containers, 1 could not be checked, 1 warning, 1 deferred"
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (verified(GOOD, GOOD), "accepted: 2 containers"),
        (verified(GOOD, OPEN), "unknown: 1 of 2 containers"),
        (verified(), "accepted: 0 containers"),
        (verified(GOOD, findings=(UNSURE,)), "unknown: 0 of 1 containers, 1 could not be checked"),
    ],
)
def test_the_verdict_in_a_line(given: Verified, line: str) -> None:
    assert summary(given) == line


def test_the_document_keeps_to_its_schema() -> None:
    path = Path(secure_build.__file__).parent / "data" / "verify.schema.json"
    assert path.read_text() == verify_document.schema(), "`make schema` writes it anew"
    schema = json.loads(path.read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for given in (ALL, HOSTILES, verified()):
        found = json.loads(render(given, "json"))
        jsonschema.Draft202012Validator(schema).validate(found)
    found = json.loads(render(ALL, "json"))
    assert found["containers"][1]["runtime-code"] == "HPL06010E"
    assert found["counts"] == {
        "accepted": 1,
        "refused": 1,
        "unknown": 1,
        "failed": 0,
        "unchecked": 1,
        "warnings": 1,
        "deferred": 1,
    }


@pytest.mark.parametrize("form", FORMS)
def test_nothing_steers_a_reader_and_no_secret_is_shown(form: str) -> None:
    Secret("canary-password").reveal()
    Secret("canary horse battery staple").reveal()
    given = replace(
        HOSTILES,
        findings=(
            *HOSTILES.findings,
            replace(WARN, why=f"canary-password {'x ' * 20}canary horse battery staple"),
        ),
    )
    text = render(given, form)
    assert text == render(given, form)
    assert text.endswith("\n")
    assert not {"canary-password", "battery", "horse"} & set(re.findall(r"[\w-]+", text))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
    text.encode()


def test_json_says_what_names_contain() -> None:
    assert json.loads(render(HOSTILES, "json"))["name"] == HOSTILE


def test_markdown_is_only_text() -> None:
    text = render(HOSTILES, "markdown")
    assert "<script" not in text
    assert "![z](u)" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows), rows


def test_a_long_summary_is_cut() -> None:
    many = verified(GOOD, findings=tuple(replace(WARN, what=f"key {n}" * 20) for n in range(20_000)))
    text = render(many, "markdown")
    assert len(text.encode()) < 1 << 20
    assert "lines more" in text.splitlines()[-1]


def sarif_run(given: Verified) -> dict[str, Any]:
    (run,) = json.loads(render(given, "sarif"))["runs"]
    found: dict[str, Any] = run
    return found


def test_sarif_has_what_the_standard_asks_for() -> None:
    run = sarif_run(ALL)
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted({rule["id"] for rule in rules})
    assert len(run["results"]) == 5
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note")
        assert result["message"]["text"]
    first = run["results"][0]
    place = first["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "contract.yaml"}, "region": {"startLine": 12}}
    assert first["properties"]["runtime-code"] == "HPL06010E"
    # A finding that only moves is the same one.
    moved = replace(BAD, container=replace(BAD.container, where="contract.yaml:99"))
    again = sarif_run(verified(moved))["results"][0]
    assert again["partialFingerprints"] == first["partialFingerprints"]


@pytest.mark.parametrize(
    ("where", "uri", "line"),
    [
        ("./a/b.yaml:3", "a/b.yaml", 3),
        ("b.yaml", "b.yaml", 1),
        (None, "contract.yaml", 1),
        ("env: volumes", "contract.yaml", 1),
        (f"b.yaml:{'9' * 5000}", "contract.yaml", 1),
        ("b\udcff.yaml:0", "b%5Cxdcff.yaml", 1),
    ],
)
def test_every_sarif_result_has_a_place_since_github_takes_none_without(
    where: str | None, uri: str, line: int
) -> None:
    (result,) = sarif_run(verified(findings=(replace(WARN, where=where),)))["results"]
    (location,) = result["locations"]
    assert location == {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}}


def test_a_report_that_cannot_be_written_does_not_take_the_answer_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "a" / "verify.md"
    assert show_verified(ALL, "text", [report]) == 1
    assert report.read_text() == render(ALL, "markdown")
    capsys.readouterr()
    with pytest.raises(OSError, match="verify"):
        show_verified(ALL, "text", [report / "verify.md"])
    assert capsys.readouterr().out == render(ALL, "text")


def test_junit_has_a_test_for_each() -> None:
    root = ElementTree.fromstring(render(ALL, "junit"))
    (suite,) = root
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7",
        "failures": "1",
        "errors": "2",
        "skipped": "1",
    }
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("type") == "HPL06010E"
    assert "name it by digest" in (failure.get("message") or "")
    ElementTree.fromstring(render(HOSTILES, "junit"))


def test_strict_makes_warnings_failures() -> None:
    assert ALL.verdict == "refused"
    warned = verified(GOOD, findings=(WARN,))
    assert (warned.verdict, strict(warned).verdict) == ("accepted", "refused")


def test_a_report_is_named_by_its_ending() -> None:
    assert [form_of(Path(f"a.{ending}")) for ending in ("txt", "json", "md", "sarif", "xml")] == list(FORMS)
    with pytest.raises(UsageError, match="its ending says nothing"):
        form_of(Path("report"))
