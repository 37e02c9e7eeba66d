"""Golden files: an input, the line `# output`, and what comes out of it.

To add a case, add a file. Its first line is a comment that names the clause it comes from; what comes
out is text, or `error: …` and `hint: …`. In `compose/` the first image of the file gets the digest
of ones, the next another image that of twos, and so on. In `merge/` the line `# logins: HOST…` says
which registries get a new login.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from fakes.tree import MemoryTree
from secure_build import config
from secure_build.contract import text, workload
from secure_build.contract.compose import ComposeFile
from secure_build.errors import UsageError
from secure_build.model import Credential
from secure_build.reference import Digest, Reference
from secure_build.secret import Secret
from secure_build.starter import Draft, Folder, LoginWish, RegistryWish, Wishes, convert, survey

HERE = Path(__file__).parent
MARK = "# output\n"


def pinned(path: Path, content: str) -> str:
    file = ComposeFile.parse(content.encode(), path.name)
    images = {
        service.name: service.image or Reference.parse(f"registry.example/{service.name}:1")
        for service in file.services
    }
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images.values()), 1)}
    pins = {name: image.pin(Digest(f"sha256:{numbers[image]:x}".ljust(71, f"{numbers[image]:x}")))
            for name, image in images.items()}  # fmt: skip
    return file.pinned(pins).decode()


def loaded(path: Path, content: str) -> str:
    path.write_text(content)
    read = config.load(path).config
    return text.dump(read.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def merged(path: Path, content: str) -> str:
    logins = content.partition("# logins:")[2].partition("\n")[0].split() or ["us.icr.io"]
    credentials = [Credential(host, "iamapikey", Secret("new-key")) for host in logins]
    return workload.merge(content.encode(), path.name, credentials)


def surveyed(_path: Path, content: str) -> str:
    wished = json.loads(content.partition("# wishes:")[2].partition("\n")[0] or "{}")
    parts = re.split(r"(?m)^=== (.+)\n", content)
    folder = PurePosixPath(wished.pop("folder", "."))
    for name, parse in (("registry", RegistryWish), ("push", LoginWish), ("runtime", LoginWish)):
        if name in wished:
            wished[name] = parse.parse(wished[name])
    files = dict(zip(parts[1::2], parts[2::2], strict=True))
    return described(survey(Folder(MemoryTree(files), folder), Wishes(**wished)))


def converted(path: Path, content: str) -> str:
    draft, rows = convert(content.partition("\n")[2].encode(), path.name)
    account = "".join(
        f"{row.name}: {row.key.outcome if row.key else 'unknown'}{row.said and ': ' + row.said}\n"
        for row in rows
    )
    return described(draft) + account


def described(draft: Draft) -> str:
    notes = "".join(
        f"note: {note.where + ': ' if note.where else ''}{note.text}\n"
        + (f"hint: {note.hint}\n" if note.hint else "")
        for note in draft.notes
    )
    return draft.text() + notes


KINDS: dict[str, Callable[[Path, str], str]] = {
    "compose": pinned,
    "config": loaded,
    "merge": merged,
    "init": surveyed,
    "sbs": converted,
}
CASES = [path for kind in KINDS for path in sorted((HERE / kind).iterdir())]


@pytest.mark.parametrize("case", CASES, ids=[f"{case.parent.name}/{case.stem}" for case in CASES])
def test_case(case: Path, tmp_path: Path) -> None:
    content, mark, expected = case.read_text().partition(MARK)
    assert mark, f"{case} has no line `# output`"
    assert content.startswith("# "), f"{case} must name the clause it comes from in its first line"
    try:
        result = KINDS[case.parent.name](tmp_path / case.name, content)
    except UsageError as error:
        hint = f"hint: {error.hint}\n" if error.hint else ""
        result = f"error: {error.message}\n{hint}".replace(f"{tmp_path}/", "")
    assert result == expected
