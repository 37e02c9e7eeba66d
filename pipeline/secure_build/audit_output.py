"""How `audit` shows the chain: a line for each link, and what is to be said of those that are not whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from secure_build import output
from secure_build.audited import Audited, Link
from secure_build.report import finding_lines, shown
from secure_build.steps import findings

_WORDS = {"pass": "good", "warn": "good", "fail": "BROKEN", "unknown": "unknown", "deferred": "-"}


def show_audited(audited: Audited, form: str) -> int:
    """Print the chain; returns 1 when a link is broken, 5 when none is and something could not be checked."""
    if form == "json":
        output.print_data(document(audited), form)
    else:
        for line in _lines(audited):
            print(shown(line))
    levels = {link.level for link in audited.links}
    return 1 if "fail" in levels else 5 if "unknown" in levels else 0


def document(audited: Audited) -> dict[str, Any]:
    """The chain as plain data, masked."""
    return {
        "version": 1,
        "attestation-record": audited.record,
        "image-version": audited.version,
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
    }


def _lines(audited: Audited) -> Iterator[str]:
    yield f"{audited.record}, of the image {audited.version or '(no version)'}"
    for link in audited.links:
        yield f"{_WORDS[link.level]:<9}{link.title}"
        yield from _details(link)
    yield ""
    if audited.broken:
        yield f"broken at `{audited.broken.name}`: what comes after it was not looked at"
    else:
        open_links = sum(link.level == "unknown" for link in audited.links)
        yield f"{len(audited.links) - open_links} of {len(audited.links)} links hold, and none is broken"


def _details(link: Link) -> Iterator[str]:
    for finding in link.findings:
        if finding.level not in ("pass", "deferred"):
            yield from (f"         {line}" for line in finding_lines(finding))
