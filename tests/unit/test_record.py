"""The build record is read back as it was written, or refused with the reason."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from secure_build import record
from secure_build.errors import UsageError
from secure_build.model import (
    GUEST,
    BuilderVersion,
    BuildRecord,
    Descriptor,
    Finding,
    Image,
    Material,
    Section,
    Source,
    UsedImage,
)
from secure_build.reference import Digest, Reference

DIGEST = Digest("sha256:" + "0" * 64)
REFERENCE = Reference.parse("us.icr.io/acme/web:1")
SOURCE = Source(
    url="https://example.org/acme/web",
    commit="0" * 40,
    ref="refs/heads/main",
    clean=True,
    committed_at=datetime(2024, 2, 29, 23, 59, 58, tzinfo=timezone(timedelta(hours=5, minutes=30))),
    subdir="deploy",
)
IMAGE = Image(
    name="web",
    reference=REFERENCE,
    descriptor=Descriptor("application/vnd.oci.image.manifest.v1+json", DIGEST, 1234, GUEST),
    platforms=(GUEST,),
    builder=BuilderVersion("buildx", "0.13.1"),
    materials=(Material("image", "docker.io/library/busybox:1", str(DIGEST)),),
    published="us.icr.io/acme/web:1",
)
RECORD = BuildRecord(
    tool="secure-build 1.0",
    config=DIGEST,
    source=SOURCE,
    images=(IMAGE, replace(IMAGE, name="db", materials=None, published=None)),
    used=(UsedImage(Reference.parse("redis:7"), DIGEST, (GUEST,)),),
    sections={"workload": Section(DIGEST, "0" * 64, DIGEST, DIGEST)},
    findings=(Finding("size", "warn", "the archive — 60 KB", "läßt sich laden", hint="“smaller”"),),
)


PLAIN: dict[str, Any] = json.loads(record.dump(RECORD))
SMALL = BuildRecord("t", DIGEST, replace(SOURCE, url=None, ref=None, subdir="."))
ZONES = [UTC, timezone(timedelta(hours=-8)), timezone(timedelta(hours=5, minutes=45))]


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        record.read(path)
    assert caught.value.hint
    return caught.value.message


def changed(tmp_path: Path, **values: Any) -> Path:
    path = tmp_path / "build-record.json"
    path.write_text(json.dumps(PLAIN | values))
    return path


@pytest.mark.parametrize("value", [RECORD, SMALL])
def test_what_is_written_is_read(tmp_path: Path, value: BuildRecord) -> None:
    path = tmp_path / "build-record.json"
    record.write(path, value)
    assert record.read(path) == value
    assert record.dump(record.read(path)) == path.read_bytes()


@pytest.mark.parametrize("zone", ZONES)
def test_the_time_of_the_commit_keeps_its_zone(tmp_path: Path, zone: timezone) -> None:
    moment = datetime(2024, 1, 2, 3, 4, 5, tzinfo=zone)
    path = tmp_path / "build-record.json"
    record.write(path, replace(RECORD, source=replace(SOURCE, committed_at=moment)))
    assert record.read(path).source.committed_at.isoformat() == moment.isoformat()


def test_equal_records_are_equal_bytes() -> None:
    sections = {name: Section(DIGEST, "0" * 64, DIGEST, DIGEST) for name in ("workload", "env")}
    backwards = dict(reversed(sections.items()))
    assert record.dump(replace(RECORD, sections=sections)) == record.dump(replace(RECORD, sections=backwards))
    assert record.dump(RECORD).endswith(b"}\n")


def test_another_layout_of_the_same_document_is_read(tmp_path: Path) -> None:
    path = tmp_path / "build-record.json"
    path.write_text(json.dumps(PLAIN))
    assert record.read(path) == RECORD


def test_a_record_from_before_a_key_was_added_is_read(tmp_path: Path) -> None:
    path = tmp_path / "build-record.json"
    path.write_text(json.dumps({key: value for key, value in PLAIN.items() if key != "earlier"}))
    assert record.read(path) == RECORD


def test_15_a_record_cut_at_any_byte_is_refused() -> None:
    content = record.dump(RECORD)
    for length in range(len(content) - 2):
        with pytest.raises(ValueError, match=r"line \d|codec"):
            record.parse(content[:length])


@pytest.mark.parametrize("version", [0, 2, "1", None, 1.5, [1]])
def test_16_another_version_is_refused_with_the_reason(tmp_path: Path, version: object) -> None:
    assert refusal(changed(tmp_path, version=version)) == (
        f"`{tmp_path}/build-record.json` is no build record of this version: "
        f"its version is {version!r}, and this program reads 1"
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"unknown": 1}, "it holds keys that are not known"),
        (
            {"source": {**PLAIN["source"], "tree": "x"}},
            "it holds keys that are not known",
        ),
        ({"config": "sha256:0"}, "config: `sha256:0` is no digest"),
        ({"source": {}}, "source.url: Field required"),
        (
            {"source": {**PLAIN["source"], "commit": "abc"}},
            "`abc` is no full commit id",
        ),
        ({"images": [{}]}, "images.0.name: Field required"),
        ({"tool": 1}, "tool: Input should be a valid string"),
        ({"findings": "none"}, "findings: Input should be a valid array"),
        ({"tool": "\ud800"}, "Invalid JSON"),
    ],
)
def test_a_record_with_other_content_is_refused_with_the_place(
    tmp_path: Path, values: dict[str, object], reason: str
) -> None:
    assert reason in refusal(changed(tmp_path, **values))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "Expecting value"),
        (b"[]", "its version is None"),
        (b"null", "its version is None"),
        (b'{"a": "\xff"}', "codec can't decode"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"version": 1, "version": 1}', "a key stands twice in it"),
        (b'{"version": 1, "x": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
    ],
)
def test_43_what_is_no_record_at_all_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "build-record.json"
    path.write_bytes(content)
    assert reason in refusal(path)


def test_43_numbers_that_json_does_not_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "build-record.json"
    path.write_bytes(re.sub(rb'"size": \d+', b'"size": NaN', record.dump(RECORD)))
    assert "is no build record of this version" in refusal(path)


def test_a_record_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no build record at") as caught:
        record.read(tmp_path / "build-record.json")
    assert caught.value.hint == "run `secure-build build` first"
    with pytest.raises(UsageError, match="cannot read the build record"):
        record.read(tmp_path)
    large = tmp_path / "large.json"
    large.touch()
    os.truncate(large, (16 << 20) + 1)
    with pytest.raises(UsageError, match="is larger than"):
        record.read(large)
