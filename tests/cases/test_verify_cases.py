"""What the runtime would decide, case by case: `verify/CLAUSE/*.yaml`.

To add a case, add a file. Its first line is a comment with the clause (IBM's pages and schema, or ours in
docs/verify.md) and why it is so. Then come, as YAML: `target`; `workload` and `env`, the sections but for
their `type` (or `raw`, a whole workload section as text); `compose`, a compose file for the archive;
`pods`, for `ccco`; `policy`, the containers that the policy is made for; and `answers`: what a registry or
a key would answer for a reference, `pull` and `signed` being an outcome (good when nothing is said, and
the signature unknown).

Below `# output` stands one line for each container (verdict, basis, code or `-`, name), then one for each
finding that did not pass (level, check, code or `-`), sorted, then `says: …`, words that must be found in
what is said, and `never says: …`, words that must not. Words in capitals stand for archives, tokens and keys,
see WRITTEN.
"""

from __future__ import annotations

import base64
import io
import tarfile
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from secure_build.contract import archive, assembly, checks, text
from secure_build.contract.archive import Member
from secure_build.contract.confidential.pods import ConfidentialFile
from secure_build.contract.confidential.policy import Policy
from secure_build.contract.decision import containers, decide, questions
from secure_build.contract.decision.model import Answer, Pull, Question, Signed
from secure_build.contract.document import Contract, SectionText
from secure_build.model import Finding
from secure_build.reference import Digest

HERE = Path(__file__).parent / "verify"
MARK = "# output\n"
NOW = datetime(2026, 11, 23, tzinfo=UTC)
ONES = Digest(f"sha256:{'1' * 64}")
COMPOSE = f"services: {{web: {{image: 'us.icr.io/team/web@sha256:{'a' * 64}'}}}}\n".encode()
PUBLIC = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
PEM = PUBLIC.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def tar(*names: str) -> str:
    """An archive as somebody else may make it, with the same compose file under each name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archived:
        for name in names:
            header = tarfile.TarInfo(name)
            if name == "link":
                header.type, header.linkname = tarfile.SYMTYPE, "docker-compose.yml"
                archived.addfile(header)
                continue
            header.size = len(COMPOSE) if name != ".env" else 0
            archived.addfile(header, io.BytesIO(COMPOSE))
    return base64.b64encode(buffer.getvalue()).decode()


WRITTEN = {
    "ENVARCHIVE": tar("docker-compose.yml", ".env"),
    "OVERRIDEARCHIVE": tar("docker-compose.yml", "docker-compose.override.yml"),
    "TWOARCHIVE": tar("docker-compose.yml", "docker-compose.yaml"),
    "DOTARCHIVE": tar("./docker-compose.yml"),
    "LINKARCHIVE": tar("docker-compose.yml", "link"),
    "NESTEDARCHIVE": tar("app/docker-compose.yml"),
    "MODERNARCHIVE": tar("compose.yaml"),
    "EMPTYARCHIVE": tar(),
    "PLAINCOMPOSE": base64.b64encode(COMPOSE).decode(),
    "WRAPPED": base64.b64encode(bytes(512)).decode(),
    "SEALED": base64.b64encode(b"Salted__" + bytes(24)).decode(),
    "PUBLICKEY": base64.b64encode(PEM).decode(),
    "TWICE": base64.b64encode(base64.b64encode(PEM)).decode(),
}


def section(name: str, body: dict[str, Any], raw: str | None) -> SectionText:
    return SectionText(f"the {name}", name, raw or text.dump({"type": name, **body}), 1)


def packed(files: dict[str, str]) -> str:
    members = {PurePosixPath(name): Member(content.encode()) for name, content in files.items()}
    return archive.build(members).base64()


def answer(question: Question, said: dict[str, Any]) -> Answer:
    digest = Digest(said["digest"]) if "digest" in said else question.reference.digest or ONES
    trusted = Digest(said["trusted"]) if "trusted" in said else digest
    pull = Pull(said.get("pull", "good"), said.get("why", "so it is"), digest=digest)
    signed = None
    if question.entry is not None:
        outcome = said.get("signed", "unknown")
        signed = Signed(outcome, "so it is signed", digest=trusted, key=said.get("key", False))
    return Answer(pull, signed)


def decided(case: dict[str, Any]) -> tuple[list[str], str]:
    """The lines of output, and all words that were said."""
    target, body = case["target"], dict(case.get("workload") or {})
    if "compose" in case:
        body["compose"] = {"archive": packed({"docker-compose.yml": case["compose"]})}
    if "archive" in case:
        body["play"] = {**body.get("play", {}), "archive": packed(case["archive"])}
    pods = tuple(
        ConfidentialFile.parse(content.encode(), f"pod-{number}.yaml")
        for number, content in enumerate(case.get("pods") or ())
    )
    if "policy" in case:
        file = ConfidentialFile.parse(case["policy"].encode(), "policy.yaml")
        made = Policy.of(file.containers({one: one.name.written for one in file.places if one.name}))
        policy = base64.b64encode(made.text().encode()).decode()
        body["confidential-containers"] = {
            "regoValidator": {"policy": policy},
            **body.get("confidential-containers", {}),
        }
    workload = section("workload", body, case.get("raw"))
    env = section("env", case["env"], None) if "env" in case else None
    if env is None:
        found = checks.section_findings(workload, target)
    else:
        values = {"workload": workload.value, "env": env.value} | case.get("contract", {})
        contract = Contract.parse(assembly.contract(values).encode(), "the contract")
        found = checks.contract_findings(contract, target, now=NOW)
    listed, unread = containers.containers(workload, env)
    runs = containers.pods(pods)
    listed += runs
    are_all = all(one.level != "unknown" for one in unread)
    asked, idle = questions.questions(listed, workload, env, are_all=are_all)
    said = case.get("answers") or {}
    answers = {one: answer(one, said.get(str(one.reference), {})) for one in asked.values() if one}
    decisions, around = decide.decide(listed, asked, answers, target=target, workload=workload, commands=runs)
    findings: list[Finding] = [*found, *unread, *idle, *around]
    lines = [f"{one.verdict} {one.basis} {one.runtime_code or '-'} {one.container.what}" for one in decisions]
    lines += sorted(
        f"{one.level} {one.check} {one.runtime_code or '-'}" for one in findings if one.level != "pass"
    )
    words = [f"{one.why} {one.hint}" for one in decisions]
    words += [f"{one.what}: {one.why} {one.hint}" for one in findings]
    return lines, "\n".join(words)


CASES = sorted(HERE.rglob("*.yaml"))


def test_there_are_enough_of_them() -> None:
    assert len(CASES) >= 200


@pytest.mark.parametrize("path", CASES, ids=lambda path: str(path.relative_to(HERE).with_suffix("")))
def test_verify_case(path: Path) -> None:
    content = path.read_text(encoding="utf-8")
    assert content.startswith("# "), "the first line names the clause"
    given, _, expected = content.partition(MARK)
    for word, written in WRITTEN.items():
        given = given.replace(word, written)
    lines, words = decided(yaml.safe_load(given))
    said = ("says: ", "never says: ")
    wanted = [line for line in expected.splitlines() if line and not line.startswith(said)]
    assert lines == wanted, words
    for line in expected.splitlines():
        if line.startswith("says: "):
            assert line.removeprefix("says: ") in words
        if line.startswith("never says: "):
            assert line.removeprefix("never says: ") not in words
