"""`contract re-encrypt`: the recorded bytes and no others, for another image of the runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flow.conftest import Outcome, Project
from flow.deployer import (
    ENV,
    SEED,
    WORKLOAD,
    deployer,
    opened,
    private,
    refused,
    runtime,
    signing_certificate,
    value,
)
from secure_build import secret
from secure_build.reference import Digest


@pytest.fixture
def old(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work folder of before, beside a config that names the certificate of the new image."""
    deployer(project, monkeypatch, encrypt=runtime(project))
    assert project.run("contract", "env").code == 0
    kept = project.folder / "old"
    shutil.move(project.workdir, kept)
    project.configure(images=None, workload=None, env=ENV, encrypt=runtime(project, "newer"))
    return kept


def again(project: Project, *arguments: str) -> Outcome:
    record = () if "--record" in arguments else ("--record", "old/build-record.json")
    return project.run("contract", "re-encrypt", "--section", "env", *record, *arguments)


def test_the_same_bytes_get_a_token_for_the_new_image(
    project: Project, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever recovers an instance need not have the secrets any more.
    monkeypatch.setattr(secret, "_taken", {})
    refused(project.run("contract", "env"), 2, "`API_KEY` is missing")
    before, plain = value(old / "env.encrypted.draft.yaml"), value(old / "env.draft.yaml")
    outcome = again(project)
    assert outcome.code == 0, outcome.err
    after = value(project.workdir / "env.encrypted.draft.yaml")
    assert opened(after, "newer") == plain == opened(before)
    for token in (before, after):
        assert Digest.of(token.encode()).hexadecimal in outcome.out
    assert SEED not in outcome.out + outcome.err
    modes = {path.name: path.stat().st_mode & 0o777 for path in project.workdir.glob("env*")}
    assert modes == {"env.draft.yaml": 0o600, "env.key": 0o600, "env.encrypted.draft.yaml": 0o644}
    known = project.record["sections"]["env"]
    assert known["token"].endswith(Digest.of(after.encode()).hexadecimal)
    project.write("theirs.yaml", WORKLOAD)
    joined = project.run("contract", "assemble", "--workload", "theirs.yaml")
    assert joined.code == 0, joined.err
    assert value(project.workdir / "contract.draft.yaml") == after


def test_it_works_again_and_in_the_same_folder(project: Project, old: Path) -> None:
    shutil.move(old, project.workdir)
    made = []
    for _ in range(2):
        outcome = again(project, "--record", ".secure-build/build-record.json", "--output", "json")
        assert outcome.code == 0, outcome.err
        changed = json.loads(outcome.out)["changed"]
        assert [one["name"] for one in changed] == ["contract:env", "contract:envWorkloadSignature"]
        made.append((changed[0]["before"], changed[0]["after"]))
    # What is encrypted for this certificate already keeps its token.
    assert made[0][0] != made[0][1]
    assert made[1][1] == made[0][1]
    assert "is encrypted for" in outcome.err


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("logs.example", "logs.axample"),
        lambda text: text.replace("type: env\n", "type: env\n  # a comment\n", 1),
        lambda text: text.rstrip("\n").replace("env: |", "env: |-", 1),
        lambda text: text + "\n  # more\n",
        lambda text: text.replace("port: 443", "port:  443"),
    ],
)
def test_any_other_byte_is_refused(project: Project, old: Path, change: Callable[[str], str]) -> None:
    path = old / "env.draft.yaml"
    text = path.read_text()
    path.write_text(change(text))
    assert path.read_text() != text
    outcome = again(project)
    refused(outcome, 1, "is not what the build record", "every byte")
    assert not list(project.workdir.glob("env*"))


def test_line_ends_of_windows_leave_the_value_as_it_was(project: Project, old: Path) -> None:
    path = old / "env.draft.yaml"
    plain = value(path)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert again(project).code == 0
    assert opened(value(project.workdir / "env.encrypted.draft.yaml"), "newer") == plain


@pytest.mark.parametrize("form", ["env.draft.yaml", "bare.yaml"])
def test_the_plain_file_may_lie_elsewhere(project: Project, old: Path, form: str) -> None:
    folder = project.folder / "elsewhere"
    folder.mkdir()
    (folder / "bare.yaml").write_text(value(old / "env.draft.yaml"))
    shutil.copy(old / "env.draft.yaml", folder)
    shutil.copy(old / "env.key", folder)
    outcome = again(project, f"elsewhere/{form}")
    if form == "bare.yaml":
        refused(outcome, 2, "bare.key", "is missing")
    else:
        assert outcome.code == 0, outcome.err


def test_without_its_key_file_nothing_can_be_compared(project: Project, old: Path) -> None:
    (old / "env.key").unlink()
    refused(again(project), 2, "env.key", "is missing", "copy it")
    (old / "env.key").write_text("00" * 32)
    refused(again(project), 1, "is not what the build record")
    (old / "env.key").write_text("no hexadecimal")
    refused(again(project), 2, "env.key")


def test_what_cannot_be_encrypted_again_is_said(project: Project, old: Path) -> None:
    outcome = project.run(
        "contract", "re-encrypt", "--section", "workload", "--record", "old/build-record.json"
    )
    refused(outcome, 2, "has no `workload` section")
    refused(again(project, "old/env.encrypted.draft.yaml"), 2, "is encrypted", "plain one")
    refused(again(project, "--record", "absent.json"), 2, "absent.json")
    refused(again(project, "absent.yaml"), 2, "absent.yaml")
    (old / "env.draft.yaml").unlink()
    refused(again(project), 2, "no plain `env` section", "name the file")
    refused(project.run("contract", "re-encrypt"), 2, "--section")


def test_without_a_certificate_there_is_nothing_to_encrypt_for(project: Project, old: Path) -> None:
    project.configure(images=None, workload=None, env=ENV)
    refused(again(project), 2, "no certificate", "encrypt: certificate:")


@pytest.mark.parametrize(("ends", "level"), [(200, "pass"), (5, "warn")])
def test_the_expiry_of_the_contract_is_said(project: Project, old: Path, ends: int, level: str) -> None:
    (project.folder / "signer.pem").write_bytes(private("signer"))
    (project.folder / "signer.crt").write_bytes(signing_certificate("signer", ends=ends))
    shutil.rmtree(old)
    key = {"signing-key": {"file": "signer.pem", "certificate": "signer.crt"}}
    project.configure(images=None, workload=None, env=ENV, encrypt=runtime(project) | key)
    assert project.run("contract", "env").code == 0
    shutil.move(project.workdir, old)
    outcome = again(project, "--output", "json")
    assert outcome.code == 0, outcome.err
    findings = json.loads(outcome.out)["findings"]
    assert [one["level"] for one in findings if "its certificate ends on" in one["why"]] == [level]
