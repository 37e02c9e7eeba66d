"""The lock is read back as it was written, one line for each input, or refused with file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_build import lock, materials
from secure_build.errors import UsageError
from secure_build.lock import Change, Input, Lock
from secure_build.model import Material, Platform

AMD, S390 = Platform.parse("linux/amd64"), Platform.parse("linux/s390x")
ARM, ARM7 = Platform.parse("linux/arm"), Platform.parse("linux/arm/v7")
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
COMMIT = "sha1:" + "c" * 40

LOCK = Lock(
    {
        Input("used", "docker.io/library/redis:7", S390): B,
        Input("image", "localhost:5000/base:1", S390): B,
        Input("image", "localhost:5000/base:1", AMD): A,
        Input("image", "docker.io/library/busybox:latest", ARM7): A,
        Input("image", "docker.io/library/busybox:latest", ARM): B,
        Input("http", "https://example.com/a?b=#c: d", S390): A,
        Input("git", 'https://example.com/"quoted".git#main', S390): COMMIT,
    }
)
TEXT = f"""\
# Written by `secure-build lock`: what builds and the contract take from outside. Commit it.
version: 1
git:
  "https://example.com/\\"quoted\\".git#main":
    linux/s390x: {COMMIT}
http:
  "https://example.com/a?b=#c: d":
    linux/s390x: {A}
image:
  "docker.io/library/busybox:latest":
    linux/arm: {B}
    linux/arm/v7: {A}
  "localhost:5000/base:1":
    linux/amd64: {A}
    linux/s390x: {B}
used:
  "docker.io/library/redis:7":
    linux/s390x: {B}
"""


def test_the_text_is_sorted_and_has_one_line_for_each_digest() -> None:
    assert lock.dump(LOCK).decode() == TEXT
    backwards = Lock(dict(reversed(LOCK.digests.items())))
    assert lock.dump(backwards) == lock.dump(LOCK)


def test_what_is_written_is_read() -> None:
    assert lock.parse(TEXT.encode(), "x.lock") == LOCK
    assert lock.parse(lock.dump(Lock()), "x.lock") == Lock()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version: 1", "version: 2", "x.lock:2: version: its version is not 1"),
        ("version: 1", 'version: "1"', "x.lock:2: version: its version is not 1"),
        ("version: 1\n", "", "x.lock:2: version: its version is not 1"),
        ("used:", "uses:", "x.lock:16: uses: unknown key; known are version, git, http, image, used"),
        ("used:", "image:", "x.lock:16: the key `image` stands twice"),
        (
            f"amd64: {A}",
            "amd64: sha256:abc",
            "x.lock:14: image.localhost:5000/base:1.linux/amd64: `sha256:abc`",
        ),
        (
            f"amd64: {A}",
            f"amd64: [{A}]",
            "x.lock:14: image.localhost:5000/base:1.linux/amd64: the digest must",
        ),
        (f"amd64: {A}", f"amd64: {COMMIT[:-1]}", "x.lock:14"),
        (
            f'7":\n    linux/s390x: {B}\n',
            '7": text\n',
            "x.lock:17: used.docker.io/library/redis:7: must be a mapping",
        ),
        ("linux/amd64", "s390x", "x.lock:14: image.localhost:5000/base:1.s390x: `s390x` is no platform"),
        ('"docker.io/library/redis:7"', "redis:7", "must be written out, with a tag and no digest"),
        ('"localhost:5000/base:1"', f'"localhost:5000/base@{A}"', "must be written out, with a tag"),
        ('"localhost:5000/base:1"', '"localhost:5000/BASE:1"', "is no image reference"),
        (f'"docker.io/library/redis:7":\n    linux/s390x: {B}', "!!python/name:os.system", "tags"),
        (TEXT, "[]", "x.lock:1: must be a mapping"),
    ],
)
def test_42_44_another_content_is_refused_with_file_and_line(old: str, new: str, message: str) -> None:
    assert old in TEXT
    with pytest.raises(UsageError) as caught:
        lock.parse(TEXT.replace(old, new).encode(), "x.lock")
    assert message in caught.value.message


def test_a_commit_is_a_digest_of_git_and_of_nothing_that_the_workload_uses() -> None:
    with pytest.raises(UsageError, match="is no digest"):
        lock.parse(
            TEXT.replace(
                f'redis:7":\n    linux/s390x: {B}', f'redis:7":\n    linux/s390x: {COMMIT}'
            ).encode(),
            "x",
        )


def test_changes_name_what_moved_what_came_and_what_went() -> None:
    base = Input("image", "localhost:5000/base:1", AMD)
    redis = Input("used", "docker.io/library/redis:7", S390)
    fresh = Input("http", "https://example.com/new", AMD)
    digests = {**LOCK.digests, base: B, fresh: A}
    del digests[redis]
    found = lock.changes(LOCK, Lock(digests))
    assert found == [Change(fresh, None, A), Change(base, A, B), Change(redis, B, None)]
    assert [str(change) for change in found] == [
        f"added http https://example.com/new (linux/amd64): {A}",
        f"moved image localhost:5000/base:1 (linux/amd64): {A} -> {B}",
        f"removed used docker.io/library/redis:7 (linux/s390x): {B}",
    ]


def test_pins_are_for_builds_of_one_platform() -> None:
    assert LOCK.pins(AMD) == {"localhost:5000/base:1": A}
    assert "docker.io/library/redis:7" not in LOCK.pins(S390)
    assert LOCK.pins(S390)['https://example.com/"quoted".git#main'] == COMMIT


def test_the_lock_lies_beside_its_config() -> None:
    assert lock.path_of(Path("deploy/secure-build.yaml")) == Path("deploy/secure-build.lock")
    assert lock.path_of(Path("staging.yaml")) == Path("staging.lock")


def test_no_lock_and_one_that_cannot_be_read(tmp_path: Path) -> None:
    assert lock.load(tmp_path / "absent.lock") is None
    with pytest.raises(UsageError, match="cannot read the lock"):
        lock.load(tmp_path)


def test_inputs_are_named_once_unless_platforms_differ() -> None:
    same, moved = Material("image", "x.example/a:1", A), Material("image", "x.example/b:1", A)
    only = Material("http", "https://example.com/a", A)
    made = materials.merged({AMD: [same, moved], S390: [same, Material("image", "x.example/b:1", B), only]})
    assert made == (
        only,
        same,
        Material("image", "x.example/b:1", A, AMD),
        Material("image", "x.example/b:1", B, S390),
    )
    apart = materials.per_platform(made, [AMD, S390])
    assert apart[S390] == (only, same, Material("image", "x.example/b:1", B))
    assert apart[AMD] == (only, same, moved)
    assert materials.merged(apart) == made


def test_two_digests_of_one_build_are_both_kept() -> None:
    both = [Material("image", "x.example/a:1", A), Material("image", "x.example/a:1", B)]
    made = materials.merged({AMD: both})
    assert materials.per_platform(made, [AMD]) == {AMD: tuple(both)}
