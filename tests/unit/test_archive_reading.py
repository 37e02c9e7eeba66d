"""Archives of strangers: read within bounds, never extracted, and everything wrong with them said."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Mapping
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_build.contract import archive
from secure_build.contract.checks import archives
from secure_build.errors import UsageError

COMPOSE = b"services: {a: {image: us.icr.io/team/a}}\n"
POD = b"{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a}]}}\n"


def entry(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = COMPOSE, **more: str) -> tuple:
    header = tarfile.TarInfo(name)
    header.type = kind
    for key, value in more.items():
        setattr(header, key, value)
    header.size = len(content) if kind == tarfile.REGTYPE else 0
    return header, content


def packed(*entries: tuple, mode: str = "w:gz") -> str:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for header, content in entries:
            tar.addfile(header, io.BytesIO(content))
    return base64.b64encode(buffer.getvalue()).decode()


def files(content: Mapping[str, bytes]) -> str:
    return packed(*(entry(name, content=body) for name, body in content.items()))


def said(text: str, kind: str = "compose") -> list[tuple[str, str | None]]:
    return [(problem.level, problem.code) for problem in archives.problems(text, kind)]


def why(text: str, kind: str = "compose") -> str:
    return "\n".join(problem.why for problem in archives.problems(text, kind))


@pytest.mark.parametrize(
    ("text", "level", "code", "words"),
    [
        (files({"docker-compose.yaml": b"services: {"}), "fail", "HPL06009E", "not YAML"),
        (files({"docker-compose.yaml": b"a: 1"}), "fail", "HPL06009E", "has no `services`"),
        (files({"compose.yaml": COMPOSE}), "fail", "HPL06008E", "it has `compose.yaml`"),
        (files({"app/docker-compose.yml": COMPOSE}), "fail", "HPL06008E", "it has `app/docker-compose.yml`"),
        (files({"x": COMPOSE}), "fail", "HPL06008E", "has neither"),
        (
            files({"docker-compose.yml": COMPOSE, "docker-compose.yaml": COMPOSE}),
            "fail",
            None,
            "which one counts is not known",
        ),
        (files({"docker-compose.yml": COMPOSE, ".env": b"A=b"}), "warn", None, "has `.env`"),
        (files({"docker-compose.yml": COMPOSE, "compose.override.yml": b""}), "warn", None, "override"),
        (files({"./docker-compose.yml": COMPOSE}), "warn", None, "begins with `.`"),
        (
            files({"docker-compose.yml": b"services: {a: {build: .}}"}),
            "fail",
            "HPL06010E",
            "service `a` of `docker-compose.yml` has `build`",
        ),
        (files({"docker-compose.yml": b"services: {a: {build: ., image: x}}"}), "fail", None, "has `build`"),
        (packed(), "fail", "HPL06007E", "no file"),
        (base64.b64encode(b"type: workload").decode(), "fail", "HPL06006E", "not base64 of a whole gzip"),
        (packed(entry("docker-compose.yml"), mode="w"), "fail", "HPL06006E", "not base64 of a whole gzip"),
        (base64.b64encode(gzip.compress(b"x" * 2000)).decode(), "fail", "HPL06006E", "no whole tar file"),
        (files({"docker-compose.yml": COMPOSE})[:80], "fail", "HPL06006E", "whole gzip"),
    ],
)
def test_what_is_wrong_with_an_archive(text: str, level: str, code: str | None, words: str) -> None:
    assert said(text) == [(level, code)]
    assert words in why(text)


@pytest.mark.parametrize(
    ("bad", "code", "words"),
    [
        (entry("a", tarfile.SYMTYPE, linkname="/etc/passwd"), "HPL06007E", "neither a folder nor a regular"),
        (entry("a", tarfile.LNKTYPE, linkname="docker-compose.yml"), "HPL06007E", "neither a folder"),
        (entry("a", tarfile.FIFOTYPE), "HPL06007E", "neither a folder"),
        (entry("a", tarfile.CHRTYPE), "HPL06007E", "neither a folder"),
        (entry("/etc/passwd"), None, "`/etc/passwd` is not the relative path"),
        (entry("a/../../b"), None, "is not the relative path"),
        (entry("a\nb"), None, r"`a\nb` is not the relative path"),
        (entry("docker-compose.yml"), None, "`docker-compose.yml` is in it twice"),
        (entry("n" * 5000), None, None),
    ],
)
def test_hardening_40_entries_that_have_no_place_in_an_archive(
    bad: tuple, code: str | None, words: str | None
) -> None:
    text = packed(entry("docker-compose.yml"), bad)
    assert said(text) == ([("fail", code)] if words else [])
    assert words is None or words in why(text)


def test_hardening_40_ten_gigabytes_in_ten_kilobytes_are_not_unpacked() -> None:
    zeros = gzip.compress(b"\0" * (32 << 20))
    text = base64.b64encode(zeros * 320).decode()
    tracemalloc.start()
    try:
        assert said(text) == [("unknown", None)]
        assert tracemalloc.get_traced_memory()[1] < 5 * archive.LARGEST
    finally:
        tracemalloc.stop()


def test_hardening_40_a_sparse_file_is_not_read() -> None:
    header = tarfile.TarInfo("a")
    header.pax_headers = {
        "GNU.sparse.size": str(10 << 30),
        "GNU.sparse.map": "0,1",
        "GNU.sparse.numblocks": "1",
    }
    header.size = 1
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(header, io.BytesIO(b"x"))
    assert said(base64.b64encode(buffer.getvalue()).decode())[0] == ("fail", "HPL06007E")


def test_an_archive_of_ours_has_nothing_wrong_and_is_read_back() -> None:
    members = {
        PurePosixPath("docker-compose.yml"): archive.Member(COMPOSE),
        PurePosixPath("conf/a"): archive.Member(b"a"),
    }
    text = archive.build(members).base64()
    assert said(text) == []
    assert archive.read(text) == {path: member.content for path, member in members.items()}


def test_what_cannot_be_read_to_its_end_is_refused() -> None:
    with pytest.raises(UsageError, match="this archive cannot be read"):
        archive.read("AAAA")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"pod.yaml": POD, "conf/x.yaml": b"a: 1"}, []),
        ({"conf/x.yaml": POD}, [("fail", "HPL15006I")]),
        ({"pod.yaml": b"kind: Deployment"}, [("fail", "HPL15002E")] * 4),
        ({"pod.yaml": b"{"}, [("fail", "HPL15002E")]),
    ],
)
def test_descriptors_at_the_top_of_an_archive(
    content: Mapping[str, bytes], found: list[tuple[str, str | None]]
) -> None:
    assert said(files(content), "play") == found


@settings(max_examples=300)
@given(st.integers(0, 2000), st.binary(min_size=1, max_size=20))
def test_hardening_58_no_bytes_make_the_reader_fall_over(position: int, junk: bytes) -> None:
    tar = bytearray(gzip.decompress(base64.b64decode(files({"docker-compose.yml": COMPOSE, "a": b"b"}))))
    tar[position : position + len(junk)] = junk
    said(base64.b64encode(gzip.compress(bytes(tar))).decode())
