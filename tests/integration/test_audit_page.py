"""The page of an audit in a real Chromium: for eyes, for keys, for a screen reader, and on paper."""

from __future__ import annotations

import itertools
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_build.audit_output import document
from secure_build.audit_page import page as written
from secure_build.audited import Audited, AuditedImage, AuditedSource, Link
from secure_build.model import Finding, Level
from services import running
from services.browser import Browser, Page, browser
from services.needed import need

LONG = f"registry.example.com/{'a' * 120}@sha256:{'0123456789abcdef' * 4}"
LEVELS: tuple[Level, ...] = ("pass", "warn", "fail", "unknown", "deferred")
WORDS = {
    "pass": "holds",
    "warn": "holds, with a warning",
    "fail": "broken",
    "unknown": "could not be checked",
    "deferred": "was not looked at",
}


def _link(level: Level) -> Link:
    hint = "look at `that`"
    first = Finding(f"audit-{level}", level, f"what {level} is about, {LONG}", "of `this`", hint=hint)
    second = Finding(f"audit-{level}", "pass", f"commit {'c' * 40}", f"why not {LONG}", where=f"{LONG}.yaml")
    return Link(f"link-{level}", f"The link that is {level}", (first, second))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page that has links of every state."""
    path = tmp_path_factory.mktemp("page") / "audit.html"
    source = AuditedSource("c" * 40, "https://git.example.com/acme/app.git", False, "2026-01-01")
    image = AuditedImage(LONG, ("linux/s390x", "linux/amd64"), 12_345_678, (LONG,), (LONG, LONG), ("7",))
    shown = (("contract:env", "e" * 64), ("contract:envWorkloadSignature", "f" * 64))
    links = tuple(map(_link, LEVELS))
    audited = Audited("se-checksums.txt", "26.7.1", links, shown, source, (image, image))
    path.write_text(written(document(audited)))
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    need("chromium")
    with browser() as found:
        yield found


@pytest.fixture(params=[(1200, False), (1200, True), (360, False), (360, True)], ids=str)
def page(request: pytest.FixtureRequest, chromium: Browser, address: str) -> Page:
    """On a desktop and on a phone, light and dark."""
    width, dark = request.param
    return chromium.open(address, width=width, dark=dark)


def test_nothing_is_fetched_or_run(page: Page, address: str) -> None:
    assert page.requests() == [address]
    assert page.evaluate("document.scripts.length") == 0


# The boxes that stick out of the window, or are cut off, and the text in them.
_OUTSIDE = """
[...document.querySelectorAll('body *')].filter(one => {
  const box = one.getBoundingClientRect(), style = getComputedStyle(one);
  return box.left < 0 || box.right > document.documentElement.clientWidth
    || (style.overflow !== 'visible' && one.scrollWidth > one.clientWidth);
}).map(one => one.textContent)"""


def test_all_of_it_is_in_sight(page: Page) -> None:
    width = page.evaluate("document.documentElement.clientWidth")
    assert width in (1200, 360)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(_OUTSIDE) == []


# The contrast of each piece of text with what is behind it (WCAG 2.2, relative luminance).
_CONTRASTS = """
(() => {
  const part = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const numbers = color => color.match(/[0-9.]+/g).map(Number);
  const light = color => {
    const [red, green, blue] = numbers(color).map(part);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const color = getComputedStyle(one).backgroundColor;
      if (numbers(color).length === 3) return color;
    }
  };
  return [...document.querySelectorAll('body *')]
    .filter(one => [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
    .map(one => {
      const pair = [light(getComputedStyle(one).color), light(behind(one))].sort((a, b) => b - a);
      return [(pair[0] + 0.05) / (pair[1] + 0.05), one.textContent];
    });
})()"""


def test_the_text_stands_out(page: Page) -> None:
    measured = page.evaluate(_CONTRASTS)
    assert len(measured) > 20
    assert [one for one in measured if one[0] < 4.5] == []


def test_dark_is_dark_and_paper_is_not(chromium: Browser, address: str) -> None:
    behind = "getComputedStyle(document.body).backgroundColor"
    page = chromium.open(address)
    assert page.evaluate(behind) == "rgb(255, 255, 255)"
    page.media("screen", dark=True)
    assert page.evaluate(behind) == "rgb(13, 17, 23)"
    page.media("print", dark=True)
    assert page.evaluate(behind) == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


_FOCUSED = """
(() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return [one.textContent, style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2];
})()"""


def test_keys_reach_all_that_can_be_used(page: Page) -> None:
    wanted = page.evaluate("[...document.querySelectorAll('a[href], summary')].map(one => one.textContent)")
    assert len(wanted) > len(LEVELS)
    reached = []
    for _ in wanted:
        page.press("Tab")
        text, is_visible = page.evaluate(_FOCUSED)
        assert is_visible, text
        reached.append(text)
    assert reached == wanted
    page.press("Enter")
    assert page.evaluate("document.querySelectorAll('details:not([open])').length") == 1


def test_what_a_screen_reader_is_told(chromium: Browser, address: str) -> None:
    page = chromium.open(address)
    assert page.evaluate("document.documentElement.lang") == "en"
    tree = page.tree()
    assert tree[0][:2] == ("RootWebArea", "Audit of se-checksums.txt")
    roles = [role for role, _, _ in tree]
    for landmark in ("banner", "main", "navigation"):
        assert roles.count(landmark) == 1
    headings = [(properties["level"], name) for role, name, properties in tree if role == "heading"]
    levels = [level for level, _ in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    names = [name for level, name in headings if level == 3]
    for level in LEVELS:
        assert f"The link that is {level}: {WORDS[level]}" in names
    listed = page.evaluate("[...document.querySelectorAll('nav li')].map(one => one.innerText)")
    for level, text in zip(LEVELS, listed, strict=True):
        assert f"The link that is {level}: {WORDS[level]}" in text
    assert "✓" not in [name for _, name, _ in tree]
    assert roles.count("status") == 1


def test_a_link_leads_to_what_it_names(chromium: Browser, address: str) -> None:
    page = chromium.open(address)
    inside = "[...document.querySelectorAll('a')].filter(one => one.getAttribute('href').startsWith('#'))"
    found = page.evaluate(
        f"{inside}.map(one => [one.textContent, "
        "document.getElementById(one.hash.slice(1))?.querySelector('h3')?.textContent])"
    )
    assert len(found) > len(LEVELS)
    for text, heading in found:
        assert heading is not None
        assert heading.startswith(text)


def _bare(text: str) -> str:
    """What is printed may be broken into lines anywhere, and ligatures are letters."""
    return re.sub(r"[\s\u00ad]+", "", unicodedata.normalize("NFKC", text))


def test_paper_loses_nothing(chromium: Browser, address: str, tmp_path: Path) -> None:
    need("pdftotext")
    page = chromium.open(address)
    # A reader has closed what they had read.
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
    path = tmp_path / "audit.pdf"
    path.write_bytes(page.pdf())
    command = [running.tool("pdftotext"), "-raw", str(path), "-"]
    printed = _bare(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    pieces = page.evaluate(
        "(() => { const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];"
        " while (walk.nextNode()) found.push(walk.currentNode.data); return found; })()"
    )
    wanted = [bare for piece in pieces if (bare := _bare(piece))]
    assert len(wanted) > 40
    assert [piece for piece in wanted if piece not in printed] == []
