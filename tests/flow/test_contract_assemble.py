"""`contract assemble`: sections of several people joined without a change, signed, or refused."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flow.conftest import Outcome, Project
from flow.deployer import (
    ENV,
    SEED,
    WORKLOAD,
    deployer,
    opened,
    private,
    public,
    refused,
    runtime,
    signing_certificate,
    value,
)
from services.needed import need

PLAIN_WORKLOAD = "theirs.yaml"
LOGGING = {"logging": ENV["logging"]}


@pytest.fixture
def folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A deployer's folder with somebody's plain workload, and an env section that was made here."""
    deployer(project, monkeypatch)
    project.write(PLAIN_WORKLOAD, WORKLOAD)
    assert project.run("contract", "env").code == 0
    return project


@pytest.fixture
def sealed(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The same with encryption: `theirs.token` is a token of somebody else."""
    deployer(project, monkeypatch, encrypt=runtime(project))
    project.write("theirs.token", somebodys(project, "workload", WORKLOAD) + "\n")
    return project


def somebodys(project: Project, name: str, plain: str) -> str:
    """A token that openssl makes for the runtime's certificate, of a section that is not known here."""
    need("openssl")

    def openssl(*arguments: str, content: bytes) -> bytes:
        done = subprocess.run(["openssl", *arguments], input=content, capture_output=True, check=True)
        return done.stdout

    password = b"somebodys-password-0123456789"
    path = str(project.folder / "runtime.crt")
    wrapped = openssl("pkeyutl", "-encrypt", "-certin", "-inkey", path, content=password)
    cipher = ("enc", "-aes-256-cbc", "-pbkdf2", "-pass", f"pass:{password.decode()}")
    parts = (base64.b64encode(part).decode() for part in (wrapped, openssl(*cipher, content=plain.encode())))
    return ".".join(("contract-basic", *parts))


def assemble(project: Project, *arguments: str) -> Outcome:
    return project.run("contract", "assemble", *arguments)


def theirs(project: Project, content: str | bytes, name: str = PLAIN_WORKLOAD) -> Outcome:
    path = project.folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return assemble(project, "--workload", name)


def signing(project: Project, **changes: Any) -> None:
    """The config with encryption and a signing key."""
    project.configure(
        images=None, workload=None, env=ENV, encrypt=runtime(project) | {"signing-key": changes}
    )


def contract(project: Project) -> Any:
    return yaml.safe_load((project.workdir / "contract.draft.yaml").read_text())


def none_written(project: Project) -> bool:
    return not list(project.workdir.glob("contract*"))


def block(text: str) -> str:
    return "workload: |\n" + "".join(f"  {line}\n" for line in text.splitlines())


# What it takes


@pytest.mark.parametrize(
    "content",
    [WORKLOAD, WORKLOAD.replace("\n", "\r\n"), block(WORKLOAD), "env: |\n  type: env\n" + block(WORKLOAD)],
)
def test_a_plain_section_is_taken_from_every_form_as_it_is(folder: Project, content: str) -> None:
    """Line ends of Windows are what YAML makes of them in a block: newlines."""
    outcome = theirs(folder, content)
    assert outcome.code == 0, outcome.err
    made = contract(folder)
    assert made == {"workload": WORKLOAD, "env": value(folder.workdir / "env.draft.yaml")}
    path = folder.workdir / "contract.draft.yaml"
    assert b"\r" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in (SEED, "theirs-0123456789abc"):
        assert secret in path.read_text()
        assert secret not in outcome.out + outcome.err


@pytest.mark.parametrize("form", ["{token}", "{token}\n", "workload: {token}\n", "\n {token} \n"])
def test_a_token_is_taken_as_it_is(sealed: Project, form: str) -> None:
    token = (sealed.folder / "theirs.token").read_text().strip()
    assert sealed.run("contract", "env").code == 0
    outcome = theirs(sealed, form.format(token=token))
    assert outcome.code == 0, outcome.err
    path = sealed.workdir / "contract.draft.yaml"
    own = value(sealed.workdir / "env.encrypted.draft.yaml")
    assert path.read_text() == f"workload: {token}\nenv: {own}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    # Nobody had a private key here.
    assert opened(token) == WORKLOAD


def test_both_sections_may_be_of_others(folder: Project) -> None:
    folder.write(
        "env.yaml", "type: env\nlogging: {logRouter: {hostname: a.example.com, iamApiKey: '0123456789'}}\n"
    )
    outcome = assemble(folder, "--workload", PLAIN_WORKLOAD, "--env", "env.yaml")
    # Their env lacks the volume that the workload has.
    refused(outcome, 1, "volume `data`", "has no volume of that name")
    folder.write(PLAIN_WORKLOAD, WORKLOAD.partition("volumes:")[0])
    assert assemble(folder, "--workload", PLAIN_WORKLOAD, "--env", "env.yaml").code == 0


TOKEN = (
    "contract-basic."
    + base64.b64encode(b"x" * 256).decode()
    + "."
    + base64.b64encode(b"Salted__" + b"y" * 24).decode()
)


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        ("type: env\nlogging: {}\n", 2, ["`env` section, not `workload`"]),
        ("env: |\n  type: env\n", 2, ["no `workload`"]),
        ("workload: |\n  type: env\n  logging: {}\n", 1, ["workload"]),
        ("workload:\n  type: workload\n", 2, ["theirs.yaml:1", "must be text", "HPL05000E", "workload: |"]),
        ("workload: 17\n", 2, ["must be text"]),
        ("- a\n", 2, ["neither a contract nor a section"]),
        ("", 2, ["theirs.yaml"]),
        ("\0\1\2", 2, ["theirs.yaml"]),
        ("type: workload\ntype: workload\n", 2, ["theirs.yaml:2", "type"]),
        ("workload: |\n  type: workload\nworkload: |\n  type: workload\n", 2, ["theirs.yaml:3"]),
        (block("type: workload\nplay: {resources: []}\nplay: {}\n"), 1, ["theirs.yaml:4", "play"]),
        ("workloud: |\n  type: workload\n", 2, ["did you mean `workload`"]),
        (TOKEN.partition(".")[0] + "." + TOKEN.split(".")[1], 1, ["2 parts"]),
        (TOKEN + ".more", 1, ["4 parts"]),
        (TOKEN.replace("eHh4", "eH!4", 1), 1, ["damaged base64"]),
        (TOKEN[:-5], 1, ["base64"]),
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\n", 2, ["theirs.yaml:1"]),
        ("type: workload\nplay: {resources: []}", 2, ["newline"]),
        ("type: workload\nplay: {resources: []}\n\n\n", 2, ["lines"]),
        ("\ufefftype: workload\nplay: {resources: []}\n", 2, ["theirs.yaml"]),
        ("type: workload\nplay: {resources: []}\ncompoze: {}\n", 1, ["compoze"]),
    ],
)
def test_what_is_no_section_is_refused(folder: Project, content: str, code: int, words: list[str]) -> None:
    outcome = theirs(folder, content)
    refused(outcome, code, *words)
    assert none_written(folder)


def test_what_cannot_be_read_is_named(folder: Project) -> None:
    refused(assemble(folder, "--workload", "absent.yaml"), 2, "absent.yaml", "No such file")
    refused(assemble(folder, "--workload", "app"), 2, "app", "directory")
    refused(assemble(folder), 2, "no `workload` section", "--workload FILE")
    (folder.folder / "big.yaml").write_bytes(b"a" * (17 << 20))
    refused(assemble(folder, "--workload", "big.yaml"), 2, "big.yaml", "bytes")


def test_a_section_that_was_changed_by_hand_is_not_taken_for_the_emitted_one(folder: Project) -> None:
    path = folder.workdir / "env.draft.yaml"
    path.write_text(path.read_text().replace("logs.example", "logs.other"))
    refused(assemble(folder, "--workload", PLAIN_WORKLOAD), 2, "has been changed or removed", "contract env")
    # Named on the command line it is what its user wants.
    assert assemble(folder, "--workload", PLAIN_WORKLOAD, "--env", str(path)).code == 0


def test_unchanged_is_not_written_again(folder: Project) -> None:
    assert assemble(folder, "--workload", PLAIN_WORKLOAD).code == 0
    path = folder.workdir / "contract.draft.yaml"
    before = path.stat().st_mtime_ns, path.read_bytes()
    again = assemble(folder, "--workload", PLAIN_WORKLOAD)
    assert "unchanged" in again.err
    assert before == (path.stat().st_mtime_ns, path.read_bytes())


# Boot, attestation key, forms


def test_boot_and_the_attestation_key_stand_behind_the_sections(folder: Project) -> None:
    folder.write("auditor.pem", public("auditor").decode())
    (folder.folder / "se-hdr.bin").write_bytes(b"IBMSecEx" + b"\0" * 600)
    folder.configure(
        images=None,
        workload=None,
        target="ccco",
        env=ENV,
        boot={"file": "se-hdr.bin"},
        encrypt={"attestation-public-key": {"file": "auditor.pem"}},
    )
    assert folder.run("contract", "env").code == 0
    confidential = "type: workload\nconfidential-containers: {regoValidator: {policy: cGFja2FnZQ==}}\n"
    outcome = theirs(folder, confidential + "volumes:\n  data: {seed: 'theirs-0123456789abc'}\n")
    assert outcome.code == 0, outcome.err
    made = contract(folder)
    assert list(made) == ["workload", "env", "attestationPublicKey", "boot"]
    assert made["attestationPublicKey"] == public("auditor").decode()
    assert base64.b64encode(b"IBMSecEx").decode()[:10] in made["boot"]


@pytest.mark.parametrize(
    ("form", "names"),
    [
        ("user-data", ["user-data"]),
        ("terraform", ["secure-build.auto.tfvars.json"]),
        ("cidata", ["cidata/user-data", "cidata/meta-data", "cidata/vendor-data"]),
    ],
)
def test_forms_hold_the_contract_byte_for_byte(
    folder: Project, tmp_path: Path, form: str, names: list[str]
) -> None:
    outcome = assemble(folder, "--workload", PLAIN_WORKLOAD, "--format", form)
    assert outcome.code == 0, outcome.err
    content = (folder.workdir / "contract.draft.yaml").read_text()
    shown = folder.run(
        "contract",
        "show",
        ".secure-build/contract.draft.yaml",
        "--format",
        form,
        "--directory",
        str(tmp_path / "x"),
    )
    assert shown.code == 0, shown.err
    for place in (folder.workdir, tmp_path / "x"):
        for name in names:
            assert (place / name).stat().st_mode & 0o777 == 0o600
        first = (place / names[0]).read_text()
        assert (json.loads(first)["contract_user_data"] if form == "terraform" else first) == content
    assert SEED not in outcome.out + outcome.err + shown.out


# Signing


def signed(project: Project) -> Outcome:
    made = project.run("contract", "env")
    assert made.code == 0, made.err
    return assemble(project, "--workload", "theirs.token")


def verifies(project: Project, key: bytes) -> bool:
    """Whether openssl takes the signature."""
    made = contract(project)
    folder = project.folder
    (folder / "signed").write_text(made["workload"] + made["env"])
    (folder / "signature").write_bytes(base64.b64decode(made["envWorkloadSignature"], validate=True))
    (folder / "public.pem").write_bytes(key)
    command = ["openssl", "dgst", "-sha256", "-verify", "public.pem", "-signature", "signature", "signed"]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode == 0


def test_a_key_from_a_secret_signs(sealed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNER", private("signer").decode())
    signing(sealed, secret="SIGNER")
    outcome = signed(sealed)
    assert outcome.code == 0, outcome.err
    assert verifies(sealed, public("signer"))
    held = yaml.safe_load(opened(contract(sealed)["env"]))["signingKey"]
    assert base64.b64decode(held) == public("signer")
    assert not any("PRIVATE KEY" in p.read_text() for p in sealed.workdir.rglob("*") if p.is_file())
    again = assemble(sealed, "--workload", "theirs.token")
    assert "contract: unchanged" in again.err


def test_an_encrypted_key_from_a_file_wants_its_passphrase(
    sealed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sealed.folder / "signer.pem").write_bytes(private("signer", "canary-passphrase"))
    monkeypatch.setenv("PASSPHRASE", "canary-passphrase")
    signing(sealed, file="signer.pem", passphrase={"secret": "PASSPHRASE"})
    assert signed(sealed).code == 0
    assert verifies(sealed, public("signer"))
    monkeypatch.setenv("PASSPHRASE", "canary-wrong-passphrase")
    outcome = assemble(sealed, "--workload", "theirs.token")
    refused(outcome, 2, "passphrase", "signer.pem")
    assert "canary-wrong" not in outcome.err
    signing(sealed, file="signer.pem")
    refused(sealed.run("contract", "env"), 2, "is encrypted, and there is no passphrase")


def test_a_command_signs_the_digest(sealed: Project) -> None:
    need("openssl")
    (sealed.folder / "signer.pem").write_bytes(private("signer"))
    (sealed.folder / "public.key").write_bytes(public("signer"))
    command = ["openssl", "pkeyutl", "-sign", "-inkey", str(sealed.folder / "signer.pem")]
    signing(sealed, command=[*command, "-pkeyopt", "digest:sha256"], **{"public-key": "public.key"})
    outcome = signed(sealed)
    assert outcome.code == 0, outcome.err
    assert verifies(sealed, public("signer"))


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["sh", "-c", "echo cannot reach it >&2; exit 7"], 3, ["sh", "cannot reach it"]),
        (["no-such-program-here"], 3, ["no-such-program-here"]),
        (["sh", "-c", "exit 0"], 1, ["does not fit the public key"]),
        (["echo", "no signature"], 1, ["does not fit the public key"]),
        (
            ["openssl", "pkeyutl", "-sign", "-inkey", "other.pem", "-pkeyopt", "digest:sha256"],
            1,
            ["does not fit"],
        ),
    ],
)
def test_a_command_that_does_not_sign_is_refused(
    sealed: Project, command: list[str], code: int, words: list[str]
) -> None:
    (sealed.folder / "other.pem").write_bytes(private("other"))
    (sealed.folder / "public.key").write_bytes(public("signer"))
    signing(sealed, command=command, **{"public-key": "public.key"})
    outcome = signed(sealed)
    refused(outcome, code, *words)
    assert none_written(sealed)


@pytest.mark.parametrize(
    ("key", "dates", "code", "words"),
    [
        ("signer", (-1, 90), 0, []),
        ("signer", (-1, 5), 0, ["warn", "`signingKey`", "ends on"]),
        ("signer", (-9, -1), 1, ["`signingKey`", "ended on"]),
        ("signer", (3, 9), 1, ["begins on"]),
        ("another", (-1, 90), 2, ["of another key"]),
    ],
)
def test_a_signing_certificate_ends_the_contract(
    sealed: Project, key: str, dates: tuple[int, int], code: int, words: list[str]
) -> None:
    (sealed.folder / "signer.pem").write_bytes(private("signer"))
    (sealed.folder / "signer.crt").write_bytes(signing_certificate(key, starts=dates[0], ends=dates[1]))
    signing(sealed, file="signer.pem", certificate="signer.crt")
    outcome = sealed.run("contract", "env")
    if outcome.code == 0:
        outcome = assemble(sealed, "--workload", "theirs.token")
    refused(outcome, code, *words)
    assert none_written(sealed) is bool(code)


def test_plain_sections_are_not_signed(sealed: Project) -> None:
    (sealed.folder / "signer.pem").write_bytes(private("signer"))
    sealed.configure(images=None, workload=None, env=ENV, encrypt={"signing-key": {"file": "signer.pem"}})
    refused(sealed.run("contract", "env"), 2, "only encrypted sections can be signed")
    signing(sealed, file="signer.pem")
    assert sealed.run("contract", "env").code == 0
    sealed.write(PLAIN_WORKLOAD, WORKLOAD)
    refused(assemble(sealed, "--workload", PLAIN_WORKLOAD), 2, PLAIN_WORKLOAD, "only encrypted sections")
    assert none_written(sealed)


def test_whether_a_strangers_env_has_the_key_is_not_known(sealed: Project) -> None:
    (sealed.folder / "signer.pem").write_bytes(private("signer"))
    signing(sealed, file="signer.pem")
    sealed.write("env.token", somebodys(sealed, "env", "type: env\n"))
    outcome = assemble(sealed, "--workload", "theirs.token", "--env", "env.token")
    assert "cannot be seen" in outcome.err
    assert "signingKey" in outcome.err


def test_another_persons_key_is_not_signed_with(sealed: Project) -> None:
    """The env here names one key, and the config by now another."""
    for name in ("signer", "other"):
        (sealed.folder / f"{name}.pem").write_bytes(private(name))
    signing(sealed, file="signer.pem")
    assert sealed.run("contract", "env").code == 0
    kept = sealed.workdir / "env.encrypted.draft.yaml"
    signing(sealed, file="other.pem")
    refused(
        assemble(sealed, "--workload", "theirs.token"), 2, "of another config", "re-encrypt --section env"
    )
    outcome = assemble(sealed, "--workload", "theirs.token", "--env", str(kept))
    assert "cannot be seen" in outcome.err


def test_the_json_form_has_the_lines_to_expect(sealed: Project) -> None:
    assert sealed.run("contract", "env").code == 0
    outcome = assemble(sealed, "--workload", "theirs.token", "--output", "json")
    document = json.loads(outcome.out)
    lines = {one["name"]: one["sha256"] for one in document["expected-attestation"]}
    done = subprocess.run(
        ["sha256sum"], input=contract(sealed)["env"].encode(), capture_output=True, check=True
    )
    assert lines["contract:env"] == done.stdout.split()[0].decode()
    assert set(lines) >= {"contract:env", "contract:workload"}
    assert document["deployment"]["destinations"]


def test_tokens_for_two_certificates_are_not_joined(sealed: Project) -> None:
    assert sealed.run("contract", "env").code == 0
    kept = sealed.workdir / "env.encrypted.draft.yaml"
    old = sealed.folder / "old.token"
    old.write_bytes(kept.read_bytes())
    sealed.configure(images=None, workload=None, env=ENV, encrypt=runtime(sealed, "newer"))
    outcome = assemble(sealed, "--workload", "theirs.token", "--env", "old.token")
    refused(outcome, 1, "old.token:1", "the runtime opens one of them", "re-encrypt --section env")
