"""Files appear whole or not at all, with the mode that was asked for."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from secure_build import files


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    files.write(tmp_path / "public", b"x")
    files.write(tmp_path / "private", b"x", mode=files.PRIVATE)
    assert (mode(tmp_path / "public"), mode(tmp_path / "private")) == (0o644, 0o600)


def test_an_unfinished_file_is_readable_by_its_owner_only(tmp_path: Path, umask: int) -> None:
    with files.replacing(tmp_path / "file") as file:
        file.write(b"secret")
        file.flush()
        (unfinished,) = tmp_path.iterdir()
        assert mode(unfinished) == 0o600


def test_folders_are_made(tmp_path: Path) -> None:
    files.write(tmp_path / "a" / "b" / "file", b"x")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"x"


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write(path, b"old", mode=files.PRIVATE)
    with files.replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert mode(path) == files.PUBLIC


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, OSError])
def test_after_a_failure_nothing_is_left_behind(tmp_path: Path, failure: type[BaseException]) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def fail() -> None:
        with files.replacing(path) as file:
            file.write(b"new")
            raise failure

    with pytest.raises(failure):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    files.write(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"keep")
    link = tmp_path / "link"
    link.symlink_to(target)
    files.write(link, b"new")
    assert target.read_bytes() == b"keep"
    assert not link.is_symlink()
