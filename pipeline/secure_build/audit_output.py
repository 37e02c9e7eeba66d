"""How `audit` shows the chain: a line for each link, and what is to be said of those that are not whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from secure_build import markdown
from secure_build.audit_page import page
from secure_build.audited import Audited, Link
from secure_build.report import finding_lines, json_text, shown
from secure_build.steps import findings

_WORDS = {"pass": "good", "warn": "good", "fail": "BROKEN", "unknown": "unknown", "deferred": "-"}


def show_audited(audited: Audited, form: str) -> int:
    """Print the chain; returns 1 when a link is broken, 5 when none is and something could not be checked."""
    print(_FORMS[form](audited), end="")
    levels = {link.level for link in audited.links}
    return 1 if "fail" in levels else 5 if "unknown" in levels else 0


def document(audited: Audited) -> dict[str, Any]:
    """The chain as plain data, masked."""
    return {
        "version": 1,
        "attestation-record": audited.record,
        "image-version": audited.version,
        "verdict": _verdict(audited),
        "broken": audited.broken.name if audited.broken else None,
        "links": [
            {
                "name": link.name,
                "title": link.title,
                "level": link.level,
                "findings": findings(link.findings),
            }
            for link in audited.links
        ],
        "contract": [{"name": name, "sha256": digest} for name, digest in audited.shown],
        "source": asdict(audited.source) if audited.source else None,
        "images": [asdict(one) for one in audited.images],
        "proves": list(_PROVES),
        "does-not-prove": list(_DOES_NOT_PROVE),
    }


def _markdown(audited: Audited) -> str:
    data = document(audited)
    lines = [f"### audit: {markdown.cell(_verdict(audited))}", "", "| link | |", "|---|---|"]
    lines += [f"| {markdown.cell(one.title)} | {_WORDS[one.level]} |" for one in audited.links]
    lines += _facts(audited)
    named = [
        one for link in data["links"] for one in link["findings"] if one["level"] not in ("pass", "deferred")
    ]
    return markdown.text([*lines, *markdown.listed("To look at", named)])


def _facts(audited: Audited) -> Iterator[str]:
    if audited.source:
        where = f" of {markdown.cell(audited.source.url)}" if audited.source.url else ""
        yield from ("", f"Commit `{audited.source.commit}`{where}, by the build record")
    if audited.images:
        yield from ("", "| image | platforms | signed | packages |", "|---|---|---|---|")
    for image in audited.images:
        lists = (image.platforms, image.signed, image.packages)
        yield f"| {' | '.join(map(markdown.cell, (image.pinned, *map(', '.join, lists))))} |"


def _verdict(audited: Audited) -> str:
    if audited.broken:
        return f"broken at `{audited.broken.name}`"
    holding = sum(link.level in ("pass", "warn") for link in audited.links)
    return f"{holding} of {len(audited.links)} links hold, and none is broken"


def _lines(audited: Audited) -> Iterator[str]:
    yield f"{audited.record}, of the image {audited.version or '(no version)'}"
    for link in audited.links:
        yield f"{_WORDS[link.level]:<9}{link.title}"
        yield from _details(link)
    yield ""
    for image in audited.images:
        yield f"{image.pinned}"
        yield from (f"         signed: {one}" for one in image.signed)
        yield from (f"         packages: {one}" for one in image.packages)
    if audited.source:
        where = f", {audited.source.url}" if audited.source.url else ""
        yield f"commit {audited.source.commit}{where}"
    yield f"{_verdict(audited)}{': what rests on it was not looked at' if audited.broken else ''}"


def _details(link: Link) -> Iterator[str]:
    for finding in link.findings:
        if finding.level not in ("pass", "deferred"):
            yield from (f"         {line}" for line in finding_lines(finding))


# What the links together say, and what nobody should take them for.
_PROVES = (
    "A machine with this image was given this contract as it started: the attestation record says so.",
    "Where tokens were disclosed, the machine reads that from them: each was made again as a whole.",
    "Where the build record is signed, the holder of that key says that the images are of its commit.",
)
_DOES_NOT_PROVE = (
    "Not shown: that this record is of one machine and no other with the same contract.",
    "Not shown: that who signed the build record told the truth; `secure-build build --check` can.",
)

_FORMS: Mapping[str, Callable[[Audited], str]] = {
    "text": lambda audited: "".join(f"{shown(line)}\n" for line in _lines(audited)),
    "json": lambda audited: json_text(document(audited)),
    "markdown": _markdown,
    "html": lambda audited: page(document(audited)),
}
