"""Image references: parsing, printing, Docker Hub's names, and what is refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from secure_build.errors import UsageError
from secure_build.reference import Digest, Pinned, Reference, Repository, registry_name

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"

lower = string.ascii_lowercase + string.digits
labels = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9-]{0,5}[A-Za-z0-9])?", fullmatch=True)
hosts = st.one_of(
    st.lists(labels, min_size=2, max_size=4).map(".".join),
    st.builds("{}:{}".format, labels, st.integers(1, 65535)),
    st.sampled_from(
        ["localhost", "[::1]:5000", "[2001:db8::1]", "docker.io", "index.docker.io", "Docker.IO"]
    ),
)
parts = st.from_regex(r"[a-z0-9]{1,4}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True)
digests = st.text("0123456789abcdef", min_size=64, max_size=64).map("sha256:{}".format)


@st.composite
def references(draw: st.DrawFn) -> str:
    # Without a registry the first part must not look like one.
    host = draw(st.one_of(st.just("acme/"), hosts.map("{}/".format)))
    tag = draw(st.one_of(st.just(""), tags.map(":{}".format)))
    digest = draw(st.one_of(st.just(""), digests.map("@{}".format)))
    return f"{host}{draw(paths)}{tag}{digest}"


@given(references())
def test_57_what_is_printed_is_read_as_the_same(text: str) -> None:
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert str(Reference.parse(str(reference))) == str(reference)


@given(st.one_of(st.text(), st.text("aA0./:@-_[]% \n" + lower)))
@example("")
@example("a@")
@example("a:")
@example("a/")
@example("@sha256:")
def test_58_any_text_is_a_reference_or_a_usage_error(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("acme/web", "docker.io/acme/web"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/acme/web", "docker.io/acme/web"),
        ("registry-1.docker.io/library/nginx", "docker.io/library/nginx"),
        ("DOCKER.IO/acme/web", "docker.io/acme/web"),
        ("US.ICR.IO/acme/web:V1", "us.icr.io/acme/web:V1"),
        ("localhost/web", "localhost/web"),
        ("localhost:5000/web", "localhost:5000/web"),
        ("builder:5000/team/web:1", "builder:5000/team/web:1"),
        ("10.0.0.1:5000/web", "10.0.0.1:5000/web"),
        ("[::1]:5000/web:x", "[::1]:5000/web:x"),
        ("us.icr.io/a/b/c/d", "us.icr.io/a/b/c/d"),
        ("us.icr.io/acme/my.web__x--y", "us.icr.io/acme/my.web__x--y"),
        (f"nginx:1@{DIGEST}", f"docker.io/library/nginx:1@{DIGEST}"),
        (f"us.icr.io/acme/web@{DIGEST}", f"us.icr.io/acme/web@{DIGEST}"),
        (f"nginx:{'t' * 128}", f"docker.io/library/nginx:{'t' * 128}"),
    ],
)
def test_defaults_are_written_out(written: str, printed: str) -> None:
    assert str(Reference.parse(written)) == printed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty or has spaces around it"),
        (" nginx", "it is empty or has spaces around it"),
        ("nginx\n", "it is empty or has spaces around it"),
        ("Nginx", "it has upper-case letters"),
        ("Owner/web", "it has upper-case letters"),
        ("ghcr.io/Owner/web", "it has upper-case letters"),
        ("nginx:", "`` is no tag"),
        ("nginx:-x", "`-x` is no tag"),
        (f"nginx:{'t' * 129}", f"`{'t' * 80}` is no tag"),
        ("nginx:1:2", "`1:2` is no tag"),
        ("nginx@", "`` is no digest"),
        ("nginx@sha256:abc", "`sha256:abc` is no digest"),
        (f"nginx@SHA256:{HEX}", f"`SHA256:{HEX}` is no digest"),
        (f"nginx@sha256:{HEX.upper()}", f"`sha256:{HEX.upper()}` is no digest"),
        (f"nginx@sha512:{HEX * 2}", f"`sha512:{HEX * 2}`"[:81] + "` is no digest"),
        (f"nginx@{DIGEST}@{DIGEST}", f"`{DIGEST}@{DIGEST}"[:81] + "` is no digest"),
        ("us.icr.io/", "`` is no repository path"),
        ("us.icr.io//web", "`/web` is no repository path"),
        ("us.icr.io/a/../b", "`a/../b` is no repository path"),
        ("us.icr.io/-web", "`-web` is no repository path"),
        ("us.icr.io/a___b", "`a___b` is no repository path"),
        ("https://us.icr.io/acme/web", "`https:` is no registry"),
        ("us_icr.io/acme/web", "`us_icr.io` is no registry"),
        ("us.icr.io:port/web", "`us.icr.io:port` is no registry"),
        ("us.icr.io:٣/web", "`us.icr.io:٣` is no registry"),
        ("-us.icr.io/web", "`-us.icr.io` is no registry"),
        ("us.icr.io/$REPO", "`$REPO` is no repository path"),
        (f"us.icr.io/{'a' * 256}", f"`{'a' * 80}` is no repository path"),
        (HEX, "Docker takes 64 hexadecimal digits for the id of a local image"),
    ],
)
def test_what_is_no_reference_is_refused_with_the_part_that_is_wrong(text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        Reference.parse(text)
    assert caught.value.message == f"`{text[:200]}` is no image reference: {why}"


def test_only_a_digest_without_a_tag_is_pinned() -> None:
    pinned = Pinned.parse(f"nginx@{DIGEST}")
    assert str(pinned) == f"docker.io/library/nginx@{DIGEST}"
    for text in ("nginx", "nginx:1", f"nginx:1@{DIGEST}"):
        with pytest.raises(UsageError, match="is not pinned"):
            Pinned.parse(text)
    assert Reference.parse("nginx:1").pin(Digest(DIGEST)) == pinned


def test_a_repository_has_neither_tag_nor_digest() -> None:
    assert str(Repository.parse("acme/web")) == "docker.io/acme/web"
    for text in ("acme/web:1", f"acme/web@{DIGEST}"):
        with pytest.raises(UsageError, match="without tag or digest"):
            Repository.parse(text)


def test_the_default_tag_is_given_only_where_nothing_else_is_named() -> None:
    assert str(Reference.parse("nginx").tagged()) == "docker.io/library/nginx:latest"
    for text in ("nginx:1", f"nginx@{DIGEST}"):
        assert Reference.parse(text).tagged() == Reference.parse(text)


def test_a_value_that_exists_is_valid() -> None:
    with pytest.raises(UsageError, match="canonical"):
        Repository("index.docker.io", "library/nginx")
    with pytest.raises(UsageError, match="upper-case"):
        Repository("docker.io", "Acme/web")
    with pytest.raises(UsageError, match="no tag"):
        Reference(Repository("docker.io", "acme/web"), "-x")
    with pytest.raises(UsageError, match="no digest"):
        Digest("sha256:0")


def test_a_digest_is_that_of_the_bytes() -> None:
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert Digest.of(b"") == Digest.parse(f"sha256:{empty}")
    assert Digest.of(b"").hexadecimal == empty


@pytest.mark.parametrize(
    "text", ["", "us.icr.io/acme", "https://us.icr.io", "us.icr.io:", "a b", "us.icr.io\n"]
)
def test_a_registry_is_a_host_with_a_port_at_most(text: str) -> None:
    with pytest.raises(UsageError, match="is no registry"):
        registry_name(text)
