"""Golden files: an input, the line `# output`, and what comes out of it.

To add a case, add a file. Its first line is a comment that names the clause it comes from; what comes
out is text, or `error: …` and `hint: …`. In `compose/` and `play/` the first image of the file gets the
digest of ones, the next another image that of twos, and so on; findings follow as comments. In `play/`
the line `# templates` makes the file a template; in `objects/` what comes out is what goes into the
contract. In `merge/` the line `# logins: HOST…` says
which registries get a new login. In `contract/` the second line says for which target the contract is;
ARCHIVE stands for an archive with a compose file, KEY for a signing key, TWICE for one in base64 twice,
WRAPPED and SEALED for parts of a token; what comes out are the findings that did not pass.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from fakes.tree import MemoryTree
from secure_build import config
from secure_build.contract import archive, checks, compose_advice, merging, play, play_advice, schema, text
from secure_build.contract.archive import Member
from secure_build.contract.compose import ComposeFile
from secure_build.contract.document import Contract
from secure_build.contract.places import Place
from secure_build.contract.play import PlayFile
from secure_build.errors import UsageError
from secure_build.model import Credential, Finding
from secure_build.reference import Digest, Pinned, Reference
from secure_build.secret import Secret
from secure_build.starter import Draft, Folder, LoginWish, RegistryWish, Wishes, convert, survey

PUBLIC = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
COMPOSE = b"services: {a: {image: us.icr.io/team/a}}\n"
WRITTEN = {
    "ARCHIVE": archive.build({PurePosixPath("docker-compose.yml"): Member(COMPOSE)}).base64(),
    "WRAPPED": base64.b64encode(bytes(512)).decode(),
    "SEALED": base64.b64encode(b"Salted__" + bytes(24)).decode(),
    "KEY\n": base64.b64encode(PEM).decode() + "\n",
    "TWICE": base64.b64encode(base64.b64encode(PEM)).decode(),
}
HERE = Path(__file__).parent
MARK = "# output\n"


def texts(places: Iterable[Place]) -> dict[Place, str]:
    """The first image gets the digest of ones, the next other one that of twos, and so on."""
    named: dict[str, Pinned] = {}
    result = {}
    for place in places:
        name = place.name
        image = name.reference if name else Reference.parse(f"registry.example/{place.alias}:1")
        number = f"{len(named) + 1:x}"
        digest = (name.rest.digest if name and name.rest else None) or Digest(f"sha256:{number * 64}")
        known = image or (name and name.rest)
        assert known is not None
        pin = named.setdefault(str(image or (name and name.written)), known.pin(digest))
        result[place] = name.pinned(pin) if name else str(pin)
    return result


def with_findings(content: bytes, findings: Iterable[Finding]) -> str:
    said = [
        f"# {finding.level} ({finding.basis}): {finding.where}: {finding.what}: {finding.why}\n"
        for finding in findings
    ]
    return content.decode() + "".join(said)


def pinned(path: Path, content: str) -> str:
    file = ComposeFile.parse(content.encode(), path.name)
    return with_findings(file.pinned(texts(file.places)), compose_advice.findings(file))


def played(path: Path, content: str) -> str:
    templates = "# templates\n" in content
    file = PlayFile.parse(content.encode(), path.name, templates=templates)
    play.check_together([file])
    return with_findings(file.pinned(texts(file.places)), play_advice.findings([file], ()))


def objects(path: Path, content: str) -> str:
    file = PlayFile.parse(content.encode(), path.name, templates=True)
    return text.dump({"resources": file.objects(texts(file.places))})


def loaded(path: Path, content: str) -> str:
    path.write_text(content)
    read = config.load(path).config
    return text.dump(read.model_dump(mode="json", by_alias=True, exclude_defaults=True))


def merged(path: Path, content: str) -> str:
    logins = content.partition("# logins:")[2].partition("\n")[0].split() or ["us.icr.io"]
    credentials = [Credential(host, "iamapikey", Secret("new-key")) for host in logins]
    return merging.merge(content.encode(), path.name, credentials, {})


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


def checked(path: Path, content: str) -> str:
    target = content.partition("# target: ")[2].partition("\n")[0]
    for word, written in WRITTEN.items():
        content = content.replace(word, written)
    contract = Contract.parse(content.encode(), path.name)
    found = checks.contract_findings(contract, target, now=datetime(2026, 11, 23, tzinfo=UTC))
    model = schema.models(target)
    for section in (contract.workload, contract.env):
        with contextlib.suppress(UsageError):
            assert "canary" not in section.masked(model.section(section.section))
    shown = "".join(
        f"{one.level} {one.runtime_code or 'silent'} ({one.basis}) {one.where}: {one.check}: {one.what}: "
        f"{one.why}\n" + (f"hint: {one.hint}\n" if one.hint else "")
        for one in found
        if one.level != "pass"
    )
    assert "canary" not in shown
    return shown or "nothing\n"


KINDS: dict[str, Callable[[Path, str], str]] = {
    "contract": checked,
    "compose": pinned,
    "config": loaded,
    "merge": merged,
    "play": played,
    "objects": objects,
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
