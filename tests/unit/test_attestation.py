"""Attestation records that others have published, of several versions of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from secure_build.contract import attestation

PUBLISHED = sorted((Path(__file__).parents[1] / "cases" / "attestation").glob("*.txt"))
MEASURED = {"root.tar.gz", "baseimage", "/dev/disk/by-label/cidata", "cidata/user-data"}
# The oldest tells nothing of sections.
SECTIONS = {"contract:workload", "contract:env", "contract:attestationPublicKey"}


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_a_published_record_is_read_whole(path: Path) -> None:
    content = path.read_bytes()
    record = attestation.parse(content, path.name)
    assert record.version == path.stem
    entries = [line for line in content.decode().splitlines() if len(line.partition(" ")[0]) == 64]
    assert [str(line.digest.hexadecimal) for line in record.lines] == [line[:64] for line in entries]
    names = {line.name for line in record.lines}
    assert names >= MEASURED
    assert names >= (SECTIONS if path.stem != "1.0.0" else {"contract:attestationPublicKey"})
    assert all(name == name.strip() for name in names)


def test_there_are_records_of_several_versions() -> None:
    assert len(PUBLISHED) >= 4
