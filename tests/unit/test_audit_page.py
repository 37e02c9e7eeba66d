"""What the page of an audit makes of addresses that others wrote."""

from __future__ import annotations

from typing import Any

import pytest

from secure_build.audit_page import page


def document(url: str | None) -> dict[str, Any]:
    source = {"commit": "a" * 40, "url": url, "clean": True, "committed": "2026-01-01T00:00:00+00:00"}
    known = ("links", "contract", "images", "proves", "does-not-prove")
    return {"attestation-record": "r", "image-version": None, "source": source} | {name: [] for name in known}


@pytest.mark.parametrize(
    "url", ["https://git.example.com/acme/shop", "https://git.example.com/acme/shop.git"]
)
def test_a_commit_is_a_link(url: str) -> None:
    wanted = f'<a href="https://git.example.com/acme/shop/commit/{"a" * 40}" rel="noreferrer">'
    assert wanted in page(document(url))


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "ssh://git@example.com/acme/shop",
        "git@example.com:acme/shop",
        "file:///etc/passwd",
        "https://",
    ],
)
def test_other_addresses_are_text(url: str) -> None:
    made = page(document(url))
    assert "href=" not in made
    assert url in made


def test_an_address_stays_in_its_place() -> None:
    made = page(document('https://example.com/"><script>alert(1)</script>'))
    assert "<script" not in made
    assert '"><' not in made.replace('">\n', "").partition("noreferrer")[0].rpartition("href=")[2]
