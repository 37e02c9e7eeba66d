"""The contract's archive is the same for everybody and holds only folders and regular files."""

from __future__ import annotations

import base64
import gzip
import io
import sys
import tarfile
from pathlib import PurePosixPath

import pytest

from secure_build.contract import archive
from secure_build.contract.archive import Member
from secure_build.errors import UsageError

FILES = {
    PurePosixPath("docker-compose.yml"): Member(b"services: {}\n"),
    PurePosixPath("conf/nginx/site.conf"): Member(b"listen 80;\n"),
    PurePosixPath("conf/run.sh"): Member(b"#!/bin/sh\n", executable=True),
    PurePosixPath("conf/empty"): Member(b""),
    PurePosixPath("ünïcode"): Member("é".encode()),
}


def entries(built: archive.Archive) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(built.compressed), mode="r:gz") as tar:
        return tar.getmembers()


def test_hardening_41_what_goes_in_comes_out() -> None:
    built = archive.build(FILES)
    with tarfile.open(
        fileobj=io.BytesIO(base64.b64decode(built.base64(), validate=True)), mode="r:gz"
    ) as tar:
        read = {
            PurePosixPath(entry.name): Member(file.read(), executable=entry.mode == 0o755)
            for entry in tar
            if (file := tar.extractfile(entry))
        }
    assert read == FILES
    assert "\n" not in built.base64()


def test_hardening_41_entries_are_folders_and_files_sorted_with_fixed_fields() -> None:
    found = [(entry.name, entry.type, entry.mode) for entry in entries(archive.build(FILES))]
    assert found == [
        ("conf", tarfile.DIRTYPE, 0o755),
        ("conf/empty", tarfile.REGTYPE, 0o644),
        ("conf/nginx", tarfile.DIRTYPE, 0o755),
        ("conf/nginx/site.conf", tarfile.REGTYPE, 0o644),
        ("conf/run.sh", tarfile.REGTYPE, 0o755),
        ("docker-compose.yml", tarfile.REGTYPE, 0o644),
        ("ünïcode", tarfile.REGTYPE, 0o644),
    ]
    for entry in entries(archive.build(FILES)):
        assert (entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname) == (0, 0, 0, "", "")
        assert not entry.pax_headers


def test_the_bytes_do_not_depend_on_order_time_or_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarfile.TarFile, "encoding", "ascii")
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    built = archive.build(dict(reversed(FILES.items())))
    # Recorded once: a change here changes the attested contract of everybody.
    assert built.tar_digest.hexadecimal == "cd8da850313d497868d359001618816fefa48c99789b61040b14af69acfa0f27"
    assert built == archive.build(FILES)
    assert gzip.decompress(built.compressed) == built.tar


def test_the_gzip_header_has_no_name_and_no_time() -> None:
    compressed = archive.build(FILES).compressed
    assert compressed[:4] == b"\x1f\x8b\x08\x00"
    assert compressed[4:8] == b"\0\0\0\0"
    if sys.platform == "linux":
        assert compressed[8:10] == b"\x02\xff"


@pytest.mark.parametrize(
    "name",
    ["../docker-compose.yml", "a/../../b", "/etc/passwd", ".", "n" * 101, f"a/{'n' * 101}", "p/" * 130 + "n"],
)
def test_hardening_40_a_name_that_cannot_stand_in_the_archive_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot go into the archive"):
        archive.build({PurePosixPath(name): Member(b"")})


def test_hardening_40_a_name_is_not_a_file_and_a_folder() -> None:
    with pytest.raises(UsageError, match="`a` cannot go into the archive: it is a file and a folder"):
        archive.build({PurePosixPath("a"): Member(b""), PurePosixPath("a/b"): Member(b"")})


def test_a_name_of_more_than_100_characters_is_split_as_ustar_has_it() -> None:
    name = "/".join(["folder" * 5] * 5 + ["n" * 100])
    built = archive.build({PurePosixPath(name): Member(b"x")})
    assert entries(built)[-1].name == name
