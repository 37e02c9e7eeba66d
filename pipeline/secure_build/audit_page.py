"""An audit as one page: it fetches nothing, runs nothing, and reads the same on paper.

What is quoted comes from others: it is text, in any place of the page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from secure_build.report import shown

# State in words and a sign, since not everybody sees colours, and no printer has to.
_STATES = {
    "pass": ("good", "✓", "holds"),
    "warn": ("good", "✓", "holds, with a warning"),
    "fail": ("bad", "✗", "broken"),
    "unknown": ("open", "?", "could not be checked"),
    "deferred": ("off", "-", "was not looked at"),
}
# Nothing may be fetched, whatever stands in a name.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_LITERAL = re.compile("`([^`]+)`")
_STYLE = Path(__file__).parent / "data" / "audit.css"


def page(document: Mapping[str, Any]) -> str:
    """The page of what `audit --output json` prints; ends with a newline."""
    name = _text(document["attestation-record"])
    version = document["image-version"]
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>Audit of {name}</title>",
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>",
        "</head>",
        "<body>",
        "<header>",
        f"<h1>Audit of <code>{name}</code></h1>",
        f'<p class="soft">Image {_text(version) if version else "without a version"}</p>',
        *_verdict(document),
        "</header>",
        "<main>",
        *_findings(document["links"]),
        *_chain(document["links"]),
        *_source(document),
        *_images(document),
        *_contract(document),
        "<h2>Link by link</h2>",
        *(line for link in document["links"] for line in _link(link)),
        *_meaning(document),
        "</main>",
        "</body>",
        "</html>",
    ]
    return "\n".join(lines) + "\n"


def _verdict(document: Mapping[str, Any]) -> Iterator[str]:
    links: Sequence[Mapping[str, Any]] = document["links"]
    counted = sum(link["level"] in ("pass", "warn") for link in links)
    broken = next((link for link in links if link["level"] == "fail"), None)
    if broken is not None:
        state, words = "bad", f"Broken at: {_text(broken['title'])}"
    elif counted < len(links):
        state, words = (
            "open",
            f"{counted} of {len(links)} links hold; none is broken, and not all could be checked",
        )
    else:
        state, words = "good", f"All {len(links)} links hold"
    yield f'<p class="verdict {state}" role="status">{words}</p>'


def _findings(links: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What somebody has to look at, first of all."""
    named = [
        (link, one)
        for level in ("fail", "unknown", "warn")
        for link in links
        for one in link["findings"]
        if one["level"] == level
    ]
    if not named:
        return
    yield "<h2>To look at</h2>"
    yield "<dl>"
    for link, finding in named:
        state, _, words = _STATES[finding["level"]]
        yield f'<dt><span class="{state}">{words}</span>: {_prose(finding["what"])}</dt>'
        yield f'<dd>{_told(finding)} <a href="#{_text(link["name"])}">{_text(link["title"])}</a></dd>'
    yield "</dl>"


def _chain(links: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The picture: every link, its state, and the way to what was checked of it."""
    yield '<nav aria-labelledby="chain">'
    yield '<h2 id="chain">The chain, from the machine towards the source</h2>'
    yield '<ol class="chain">'
    for link in links:
        state, sign, words = _STATES[link["level"]]
        title = f'<a href="#{_text(link["name"])}">{_text(link["title"])}</a>'
        yield f'<li class="{state}"><span class="sign" aria-hidden="true">{sign}</span>{title}: {words}</li>'
    yield "</ol>"
    yield "</nav>"


def _link(link: Mapping[str, Any]) -> Iterator[str]:
    state, _, words = _STATES[link["level"]]
    yield f'<section id="{_text(link["name"])}">'
    yield f'<h3>{_text(link["title"])}: <span class="{state}">{words}</span></h3>'
    # Open, since not every browser prints what is closed.
    yield "<details open>"
    yield f"<summary>{len(link['findings'])} checked</summary>"
    yield "<dl>"
    for finding in link["findings"]:
        # What was not looked at says so itself.
        said = "" if finding["level"] == "deferred" else f"{_STATES[finding['level']][2]}: "
        yield f"<dt>{_prose(finding['what'])}</dt>"
        yield f"<dd>{said}{_told(finding)}</dd>"
    yield "</dl>"
    yield "</details>"
    yield "</section>"


def _source(document: Mapping[str, Any]) -> Iterator[str]:
    source = document["source"]
    if source:
        state = "" if source["clean"] else " The working tree had other content."
        yield "<h2>The commit, by the build record</h2>"
        yield f"<p><code>{_text(source['commit'])}</code>, {_text(source['committed'])}.{state}</p>"
        yield f"<p>{_address(source['url'], source['commit'])}</p>" if source["url"] else ""


def _address(url: str, commit: str) -> str:
    """The repository, as a link where a browser can follow it: nothing but HTTP is one."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return f"<code>{_text(url)}</code>"
    # GitHub, GitLab, Gitea and others have commits there.
    place = f"{url.removesuffix('.git').rstrip('/')}/commit/{commit}"
    return f'<a href="{_text(place)}" rel="noreferrer">{_text(url)}</a>'


def _images(document: Mapping[str, Any]) -> Iterator[str]:
    if not document["images"]:
        return
    yield "<h2>The images</h2>"
    for image in document["images"]:
        yield f"<h3><code>{_text(image['pinned'])}</code></h3>"
        yield '<dl class="facts">'
        for name, values in (
            ("Platforms", image["platforms"]),
            ("Size", [f"{image['size'] / 1e6:,.1f} MB, compressed"] if image["size"] else []),
            ("Signed", image["signed"]),
            ("Packages, by SBOM", image["packages"]),
            ("Built on", image["bases"]),
        ):
            listed = "<br>".join(map(_text, values)) or "not known"
            yield f"<div><dt>{name}</dt><dd>{listed}</dd></div>"
        yield "</dl>"


def _contract(document: Mapping[str, Any]) -> Iterator[str]:
    if document["contract"]:
        yield "<h2>The contract, as the record shows it</h2>"
        yield '<dl class="facts">'
        for line in document["contract"]:
            name, digest = _text(line["name"]), _text(line["sha256"])
            yield f"<div><dt>{name}</dt><dd><code>{digest}</code></dd></div>"
        yield "</dl>"


def _told(finding: Mapping[str, Any]) -> str:
    where = f"<code>{_text(finding['where'])}</code>: " if "where" in finding else ""
    hint = f" <em>{_prose(finding['hint'])}.</em>" if "hint" in finding and finding["level"] != "pass" else ""
    return f"{where}{_prose(finding['why'])}.{hint}"


def _meaning(document: Mapping[str, Any]) -> Iterator[str]:
    yield "<h2>What it proves, and what not</h2>"
    for words in (*document["proves"], *document["does-not-prove"]):
        yield f"<p>{_prose(words)}</p>"


def _prose(words: str) -> str:
    """Text of a message, whose backticks are round literals."""
    return _LITERAL.sub(r"<code>\1</code>", _text(words))


def _text(words: str) -> str:
    return html.escape(" ".join(shown(line) for line in words.splitlines()))
