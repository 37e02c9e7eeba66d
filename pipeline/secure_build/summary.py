"""What happened, as Markdown: images, what the runtime enforces, findings, and where the contract is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from secure_build.markdown import cell, listed, verified
from secure_build.report import shown
from secure_build.values import values

_FILES = {
    "contract": "The contract",
    "workload": "The workload section",
    "images-section-path": "`images` and `auths` for a contract of your own, for its owner only",
    "record": "The build record",
}


def body(document: Mapping[str, Any], told: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """The lines of what a command prints as JSON, with further findings that it told of."""
    named = values(document)
    judged = document.get("verify") or (document if "verdict" in document else None)
    lines = [*_source(document), *_images(document), *_planned(document)]
    lines += listed("Findings", _others([*told, *document.get("findings", [])], judged))
    lines += ["", *verified(judged)] if judged else []
    if named["images-section"] and "record" not in document:
        lines += ["", "What to put into a contract:", "", *indented(named["images-section"].splitlines())]
    where = [f"- {what}: `{named[name]}`" for name, what in _FILES.items() if _fits(named[name])]
    lines += ["", *where] if where else []
    if named["expected-attestation"]:
        lines += ["", "The attestation record will show:", ""]
        lines += indented(named["expected-attestation"].splitlines())
    return lines


def indented(lines: Iterable[str]) -> list[str]:
    """A block of text that stays as it is."""
    return [f"    {shown(line)}" for line in lines]


def _source(document: Mapping[str, Any]) -> Iterator[str]:
    source = document.get("source")
    if source and document["images"]:
        where = f" of {cell(source['url'])}" if source["url"] else ""
        differs = "" if source["clean"] else ", while the working tree differed"
        yield from (f"Commit `{source['commit']}`{where}{differs}", "")


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


def _planned(document: Mapping[str, Any]) -> Iterator[str]:
    """What `plan` prints."""
    if "disclosed" not in document:
        return
    yield "| image | reference | platforms | what is done | the runtime enforces |"
    yield "|---|---|---|---|---|"
    for image in document["images"]:
        enforced = [worth["choice"] for worth in image["enforce"] if worth["chosen"]]
        words = [image["name"], image["reference"], ", ".join(image["platforms"]), image["doing"], *enforced]
        yield f"| {' | '.join(map(cell, words))} |"


def _others(
    findings: Iterable[Mapping[str, Any]], judged: Mapping[str, Any] | None
) -> list[Mapping[str, Any]]:
    """Each once, but for what passed, and what the verdict names itself."""
    named = [*judged["findings"], *judged["evidence"]] if judged else []
    known = {(one["check"], one["what"], one["why"]) for one in named}
    known |= {("image", one["name"], one["why"]) for one in (judged["containers"] if judged else [])}
    distinct = {(one["check"], one["what"], one["why"]): one for one in findings if one["level"] != "pass"}
    return [one for identity, one in distinct.items() if identity not in known]


def _fits(path: str) -> bool:
    """Whether a path can stand in a code span."""
    return bool(path) and path.isprintable() and "`" not in path
