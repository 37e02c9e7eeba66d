"""`contract show`: what is in a contract, a section or an attestation record; secrets only when asked for."""

from __future__ import annotations

import json
import secrets

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fakes.keys import private_pem, rsa_key
from flow.conftest import Project
from flow.deployer import API_KEY, SEED, WORKLOAD, deployer, refused, runtime, value
from secure_build.contract.encryption import token

CONTRACT = ".secure-build/contract.draft.yaml"
THEIRS = "theirs-0123456789abc"


@pytest.fixture
def sealed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A contract with a plain workload and an encrypted env, and the runtime's keys."""
    deployer(project, monkeypatch, encrypt=runtime(project))
    project.write("theirs.yaml", WORKLOAD)
    assert project.run("contract", "env").code == 0
    assert project.run("contract", "assemble", "--workload", "theirs.yaml").code == 0
    key = rsa_key("runtime", 4096)
    (project.folder / "runtime.pem").write_bytes(private_pem(key))
    (project.folder / "locked.pem").write_bytes(private_pem(key, "canary-passphrase"))
    (project.folder / "wrong.pem").write_bytes(private_pem(rsa_key("wrong", 4096)))
    (project.folder / "small.pem").write_bytes(private_pem(rsa_key("wrong")))
    # No config is needed.
    (project.folder / "secure-build.yaml").unlink()
    return project


def test_without_a_key_tokens_are_described(sealed: Project) -> None:
    outcome = sealed.run("contract", "show", CONTRACT)
    assert outcome.code == 0, outcome.err
    assert "# env: encrypted, sha256:" in outcome.out
    assert "# workload: plain, sha256:" in outcome.out
    for secret in (SEED, THEIRS):
        assert secret not in outcome.out + outcome.err


@pytest.mark.parametrize(
    "key", [("runtime.pem",), ("locked.pem", "--passphrase", "PASSPHRASE")], ids=["plain", "encrypted"]
)
@pytest.mark.parametrize("form", ["text", "json"])
def test_with_a_key_the_section_is_masked_until_it_is_revealed(
    sealed: Project, monkeypatch: pytest.MonkeyPatch, key: tuple[str, ...], form: str
) -> None:
    monkeypatch.setenv("PASSPHRASE", "canary-passphrase")
    arguments = ("contract", "show", CONTRACT, "--output", form, "--key", *key)
    outcome = sealed.run(*arguments)
    assert outcome.code == 0, outcome.err
    assert "logs.example.com" in outcome.out
    for secret in (SEED, API_KEY, THEIRS, "canary-passphrase"):
        assert secret not in outcome.out + outcome.err
    revealed = sealed.run(*arguments, "--reveal")
    assert revealed.code == 0
    assert "canary-passphrase" not in revealed.out + revealed.err
    if form == "json":
        sections = json.loads(revealed.out)["sections"]
        assert sections["env"]["text"] == value(sealed.workdir / "env.draft.yaml")
        assert sections["workload"]["text"] == WORKLOAD
        assert (sections["env"]["encrypted"], sections["workload"]["encrypted"]) == (True, False)
    else:
        assert SEED in revealed.out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--key", "wrong.pem"], 1, ["wrong key or damaged token"]),
        (["--key", "small.pem"], 1, ["4096 bits", "2048"]),
        (["--key", "locked.pem"], 2, ["locked.pem", "encrypted", "no passphrase"]),
        (["--key", "locked.pem", "--passphrase", "NOT_IT"], 2, ["is wrong"]),
        (["--key", "locked.pem", "--passphrase", "ABSENT"], 2, ["`ABSENT` is missing"]),
        (["--key", "absent.pem"], 2, ["absent.pem", "No such file"]),
        (["--key", "runtime.crt"], 2, ["runtime.crt"]),
        (["--key", "curve.pem"], 2, ["no RSA key"]),
        (["--target", "hpvs2"], 2, ["hpvs2"]),
    ],
)
def test_what_does_not_open_it_is_said(
    sealed: Project, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: list[str]
) -> None:
    curve = ec.generate_private_key(ec.SECP256R1())
    pem = curve.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (sealed.folder / "curve.pem").write_bytes(pem)
    monkeypatch.setenv("NOT_IT", "canary-wrong-one")
    outcome = sealed.run("contract", "show", CONTRACT, *arguments)
    refused(outcome, code, *words)
    assert "canary-wrong-one" not in outcome.out + outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (".secure-build/env.draft.yaml", "logs.example.com"),
        (".secure-build/env.encrypted.draft.yaml", "# env: encrypted"),
        ("theirs.yaml", "# workload: plain"),
    ],
)
def test_a_file_with_one_section_is_shown(sealed: Project, name: str, shown: str) -> None:
    outcome = sealed.run("contract", "show", name)
    assert outcome.code == 0, outcome.err
    assert shown in outcome.out
    for secret in (SEED, API_KEY, THEIRS):
        assert secret not in outcome.out


def test_what_nobody_knows_counts_as_secret(sealed: Project) -> None:
    sealed.write(
        "theirs.yaml",
        WORKLOAD
        + "pasword: canary-mistyped\nenv: {A: canary-variable}\n"
        + "auths: {us.icr.io: {username: iamapikey, password: canary-password, pass: canary-other}}\n"
        + "compoze: {deep: [canary-deep]}\n",
    )
    outcome = sealed.run("contract", "show", "theirs.yaml")
    assert outcome.code == 0, outcome.err
    for name in ("mistyped", "password", "other", "deep"):
        assert f"canary-{name}" not in outcome.out + outcome.err
    assert "us.icr.io/acme/app@sha256:" in outcome.out


@pytest.mark.parametrize(
    "content", ["", "hello\n", "- a\n", "a: b\n", "workload: {a: b}\nenv: x\n", "\0", "workload: &a [*a]\n"]
)
def test_what_is_no_contract_is_refused(sealed: Project, content: str) -> None:
    sealed.write("some.file", content)
    refused(sealed.run("contract", "show", "some.file"), 2, "some.file")


def encrypted(text: str) -> str:
    key = rsa_key("runtime", 4096).public_key()
    return f"{token.encrypt(text.encode(), key, 'hyper-protect-basic', secrets.token_bytes).token}\n"


def test_controls_in_what_others_wrote_do_not_reach_the_terminal(sealed: Project) -> None:
    sealed.write("se-checksums.txt.enc", encrypted("24.11.0 \x9b2J\u202e\n"))
    outcome = sealed.run("contract", "show", "se-checksums.txt.enc", "--key", "runtime.pem")
    assert outcome.out == "24.11.0 \\x9b2J\\x202e\n"


def test_an_attestation_record_is_opened(sealed: Project) -> None:
    text = "24.11.0\n" + "a" * 64 + " contract:env\n"
    sealed.write("se-checksums.txt.enc", encrypted(text))
    refused(sealed.run("contract", "show", "se-checksums.txt.enc"), 2, "is encrypted", "--key FILE")
    refused(sealed.run("contract", "show", "se-checksums.txt.enc", "--key", "wrong.pem"), 1, "wrong key")
    arguments = ("contract", "show", "se-checksums.txt.enc", "--key", "runtime.pem")
    assert sealed.run(*arguments).out == text
    assert json.loads(sealed.run(*arguments, "--output", "json").out) == {"attestation": text}


def test_a_token_by_itself_is_no_way_around_the_mask(sealed: Project) -> None:
    sealed.write("env.token", value(sealed.workdir / "env.encrypted.draft.yaml"))
    outcome = sealed.run("contract", "show", "env.token", "--key", "runtime.pem")
    assert outcome.code == 0, outcome.err
    assert "# env: encrypted, sha256:" in outcome.out
    assert "logs.example.com" in outcome.out
    assert SEED not in outcome.out
    assert SEED in sealed.run("contract", "show", "env.token", "--key", "runtime.pem", "--reveal").out
