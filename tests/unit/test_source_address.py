"""Which addresses are handed to git, and what a submodule's relative address means."""

from __future__ import annotations

import pytest

from secure_build.address import Address
from secure_build.errors import UsageError


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/acme/web.git",
        "https://example.com:8443/~acme/web",
        "http://127.0.0.1:8080/web",
        "http://localhost/web",
        "http://[::1]:80/web",
        "ssh://git@example.com/acme/web.git",
        "ssh://git@example.com:2222/~/web",
        "ssh://example.com/web",
        "git@example.com:acme/web.git",
        "https://example.com/a%20b",
    ],
)
def test_an_address_is_handed_on_as_it_is_written(text: str) -> None:
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("https://EXAMPLE.com/web/", "https://example.com/web"),
        ("git@example.com:/srv/web", "ssh://git@example.com/srv/web"),
    ],
)
def test_two_spellings_of_one_address_are_equal(text: str, same: str) -> None:
    assert Address.parse(text) == Address.parse(same)


@pytest.mark.parametrize(
    "text",
    [
        "ext::sh -c 'touch /tmp/x'",
        "ext::sh%20-c%20x",
        "git@ext::sh",
        "fd::17",
        "file:///srv/web",
        "FILE:///srv/web",
        "/srv/web",
        "./web",
        "../web",
        "~/web",
        "~acme/web",
        "$HOME/web",
        "https://example.com/$HOME/web",
        "https://example.com/${TOKEN}",
        "https://$HOST/web",
        "https://example.com/`id`",
        "https://example.com/a b",
        "https://example.com/a\nb",
        "https://example.com/a\0b",
        "https://example.com/a\\b",
        "-u/tmp/x",
        "--upload-pack=touch x",
        "-oProxyCommand=x@example.com:web",
        "ssh://-oProxyCommand=touch/web",
        "ssh://git@-oProxyCommand=touch/web",
        "git@-oProxyCommand=x:web",
        "-x@example.com:web",
        "git@example.com:-x",
        "git@example.com:--upload-pack=x",
        "git://example.com/web",
        "ftp://example.com/web",
        "http://example.com/web",
        "http://127.0.0.1.example.com/web",
        "https://example.com",
        "https://example.com/",
        "https:///web",
        "https://example.com:0/web",
        "https://example.com:99999/web",
        "https://example.com:x/web",
        "https://example.com/../web",
        "https://example.com/a/./web",
        "https://example.com/web?x=1",
        "https://example.com/web#main",
        "https://exämple.com/web",
        "example.com:web",
        "web",
        "",
        "https://example.com/" + "a" * 3000,
    ],
)
def test_hardening_37_what_git_would_act_on_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        Address.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://acme:hunter2@example.com/web",
        "https://hunter2@example.com/web",
        "https://a:hunter2@b@example.com/web",
        "ssh://git:hunter2@example.com/web",
        "http://acme:hunter2@127.0.0.1/web",
    ],
)
def test_hardening_37_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("base", "relative", "expected"),
    [
        ("https://example.com/acme/web.git", "../lib.git", "https://example.com/acme/lib.git"),
        ("https://example.com/acme/web.git", "../../other/lib", "https://example.com/other/lib"),
        ("https://example.com/acme/web", "./lib", "https://example.com/acme/web/lib"),
        ("ssh://git@example.com:22/acme/web", "../lib", "ssh://git@example.com:22/acme/lib"),
        ("git@example.com:acme/web.git", "../lib.git", "git@example.com:acme/lib.git"),
        ("git@example.com:web.git", "../lib.git", "git@example.com:lib.git"),
    ],
)
def test_a_relative_address_is_resolved_as_git_does(base: str, relative: str, expected: str) -> None:
    assert str(Address.parse(base).resolve(relative)) == expected


@pytest.mark.parametrize(
    "relative", ["../../../lib", "../../../../x", "../a/../b", "./", "../$HOME", "../-x y"]
)
def test_hardening_37_a_relative_address_does_not_leave_its_server(relative: str) -> None:
    with pytest.raises(UsageError):
        Address.parse("https://example.com/acme/web").resolve(relative)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://example.com/a", "https://example.com/b", True),
        ("https://example.com/a", "https://example.com:444/a", False),
        ("https://example.com/a", "https://example.com.test/a", False),
        ("ssh://git@example.com/a", "git@example.com:b", True),
        ("ssh://git@example.com/a", "ssh://root@example.com/a", False),
        ("ssh://git@example.com/a", "https://example.com/a", False),
    ],
)
def test_hardening_37_logins_are_for_one_server(one: str, other: str, same: bool) -> None:
    assert Address.parse(one).same_server(Address.parse(other)) is same
