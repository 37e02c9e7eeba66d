"""The summary for CI systems stays what it is, whatever the names in it hold."""

from __future__ import annotations

from typing import Any

import pytest
from markdown_it import MarkdownIt

from secure_build.doors.running import Ended
from secure_build.doors.summary import summary
from secure_build.errors import UsageError

HOSTILE = (
    "a|b",
    "<script>alert(1)</script>",
    "`code`",
    "![](http://evil.example/x.png)",
    "[text](javascript:alert(1))",
    "\n# heading\n\n| x |\n|---|\n",
    "-->\n<!--",
    "*bold* _it_ ~~s~~",
    "\\|\\",
    "&lt;b&gt; &#60;",
    "\x1b[31m\u202e\u2066",
    "</details></td></table>",
    "***",
)


def ended(name: str, findings: int = 1) -> Ended:
    finding = {"check": name, "level": "fail", "what": name, "why": name, "basis": "schema"}
    finding |= {"hint": name, "where": name, "runtime-code": "HPL01001E"}
    image = {"name": name, "reference": name, "digest": name, "pinned": name, "platforms": [name]}
    container = {"name": name, "where": name, "image": name, "verdict": "refused", "why": name, "hint": name}
    document: dict[str, Any] = {
        "record": name,
        "images": [{**image, "enforce": "digest", "signatures": [name]}],
        "used": [{"reference": name, "pinned": name}],
        "findings": [finding],
        "workload": {"path": name, "encrypted": None},
        "expected-attestation": [{"name": name, "sha256": "0" * 64}],
        "verify": {
            "summary": name,
            "name": name,
            "target": name,
            "containers": [container],
            "findings": [{**finding, "check": "other"}] * findings,
            "evidence": [finding],
        },
    }
    return Ended(name, 1, "", document, (), (UsageError(f"{name}\n{name}", hint=name),))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_only_text(name: str) -> None:
    made = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(summary(ended(name)))
    kinds = [token.type for token in made]
    inside = {child.type for token in made for child in token.children or []}
    assert not {"html_block", "fence"} & set(kinds)
    html = [child.content for token in made for child in token.children or [] if child.type == "html_inline"]
    assert set(html) <= {"<br>"}
    assert not {"link_open", "image", "em_open", "s_open"} & inside
    assert [token.tag for token in made if token.type == "heading_open"] == ["h2", "h3"]
    # A row for the image, one for what is used, and one for the container, with their heads.
    assert kinds.count("table_open") == 2
    assert kinds.count("tr_open") == 5
    assert kinds.count("td_open") == 6 + 6 + 4


@pytest.mark.parametrize("name", HOSTILE)
def test_a_fragment_is_a_block_of_text(name: str) -> None:
    finding = {"check": "delivery", "level": "unknown", "what": name, "why": name, "basis": "schema"}
    document = {"references": {}, "path": "p", "masked": f"# x\n{name}\n", "findings": []}
    made = (
        MarkdownIt("commonmark")
        .enable("table")
        .parse(summary(Ended("contract images", 5, "", document, (finding,), ())))
    )
    assert [token.tag for token in made if token.type == "heading_open"] == ["h2"]
    assert not {"html_block", "fence"} & {token.type for token in made}
    (block,) = [token.content for token in made if token.type == "code_block"]
    assert block.startswith("# x\n")


def test_it_fits() -> None:
    assert len(summary(ended("x" * 1000, findings=5000)).encode()) < 1 << 20
