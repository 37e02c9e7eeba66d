"""What happened, as Markdown: images, what the runtime enforces, findings, and where the contract is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from secure_build.doors.outputs import outputs
from secure_build.doors.running import Ended
from secure_build.markdown import cell, listed, text, verified
from secure_build.report import shown

_FILES = {
    "contract": "The contract",
    "workload": "The workload section",
    "images-section-path": "`images` and `auths` for a contract of your own, with passwords",
    "record": "The build record",
}


def summary(ended: Ended) -> str:
    """The summary of one command; ends with a newline."""
    document, named = ended.document, outputs(ended)
    lines = [f"## secure-build {cell(ended.command)}: {ended.status}", ""]
    for error in ended.errors:
        first, *rest = error.message.splitlines() or [""]
        lines += [f"**error**: {cell(first)}", "", *_indented(rest), ""]
        if error.hint:
            lines += ["What helps:", "", *_indented(error.hint.splitlines()), ""]
    lines += _images(document)
    judged = document.get("verify") or (document if "verdict" in document else None)
    told = {(one["check"], one["what"], one["why"]) for one in _judged(judged)}
    others = [one for one in _told(ended) if (one["check"], one["what"], one["why"]) not in told]
    lines += listed("Findings", others)
    lines += ["", *verified(judged)] if judged else []
    where = [f"- {what}: `{named[name]}`" for name, what in _FILES.items() if _fits(named[name])]
    lines += ["", *where] if where else []
    if named["expected-attestation"]:
        lines += ["", "The attestation record will show:", ""]
        lines += _indented(named["expected-attestation"].splitlines())
    return text(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    """A block of text that stays as it is."""
    return [f"    {shown(line)}" for line in lines]


def _images(document: Mapping[str, Any]) -> Iterator[str]:
    if "record" not in document or not document["images"]:
        return
    yield "| image | reference | digest | platforms | the runtime enforces | signed with |"
    yield "|---|---|---|---|---|---|"
    for image in document["images"]:
        lists = (", ".join(image[name]) for name in ("platforms", "signatures"))
        platforms, signatures = (cell(one) for one in lists)
        words = [cell(image[name]) for name in ("name", "reference", "digest")]
        yield f"| {' | '.join(words)} | {platforms} | {image['enforce']} | {signatures} |"
    for used in document["used"]:
        yield f"| | {cell(used['reference'])} | {cell(used['pinned'].partition('@')[2])} | | digest | |"


def _told(ended: Ended) -> list[Mapping[str, Any]]:
    """What was found, each once, but for what passed."""
    findings = (
        [*ended.findings, *ended.document.get("findings", [])] if "verdict" not in ended.document else []
    )
    distinct = {tuple(sorted(one.items())): one for one in findings if one["level"] != "pass"}
    return list(distinct.values())


def _judged(document: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    return [*document["findings"], *document["evidence"]] if document else []


def _fits(path: str) -> bool:
    """Whether a path can stand in a code span."""
    return bool(path) and path.isprintable() and "`" not in path
