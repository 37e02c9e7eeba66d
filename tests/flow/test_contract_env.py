"""`contract env`: every field under IBM's name, files and secrets where they belong, and tokens that stay."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from flow.conftest import Project
from flow.deployer import (
    API_KEY,
    ENV,
    SECRETS,
    SEED,
    deployer,
    env_of,
    opened,
    private,
    public,
    refused,
    runtime,
    signing_certificate,
    value,
)


@pytest.fixture
def folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    deployer(project, monkeypatch)
    return project


def encrypted(project: Project, **changes: Any) -> None:
    project.configure(images=None, workload=None, env=ENV, encrypt=runtime(project) | changes)


def snapshot(project: Project) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(project.workdir)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in project.workdir.rglob("*")
        if path.is_file() and path.name not in (".lock", "build-record.json")
    }


# Fields


def test_every_field_ends_under_its_name_in_the_contract(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SEED", "OLD", "API_KEY", "HUB", "TOKEN", "BLOB"):
        monkeypatch.setenv(name, base64.b64encode(f"value of {name} 0123".encode()).decode().rstrip("="))
    monkeypatch.setenv("CLIENT_KEY", private("client").decode())
    pem = signing_certificate("client")
    project.write("pem/a.crt", pem.decode())
    project.write("pem/key.pem", private("client").decode())
    crn = "crn:v1:bluemix:public:kms:us-south:a/1:2:key:3"
    volumes = {
        "data": {
            "seed": {"secret": "SEED"},
            "previous-seed": {"secret": "OLD"},
            "kms": [
                {
                    "api-key": {"secret": "API_KEY"},
                    "crn": crn,
                    "type": "private",
                }
            ],
            "kms-timeout": 3,
            "api-key": {"secret": "API_KEY"},
            "volume-name": "v",
            "volume-id": "r006-abc",
        },
        "more": {
            "uv-secret-id": "index-1",
            "uv-previous-secret-id": "index-2",
            "grep11": {
                "address": "192.0.2.1:9876",
                "client-cert": {"file": "pem/a.crt"},
                "client-key": {"secret": "CLIENT_KEY"},
                "ca-cert": {"file": "pem/a.crt"},
                "metadata": {
                    "aes-key-blob": {"secret": "BLOB"},
                    "previous-aes-key-blob": {"secret": "BLOB"},
                },
            },
        },
    }
    syslog = {
        "hostname": "192.0.2.10",
        "server": {"file": "pem/a.crt"},
        "cert": {"file": "pem/a.crt"},
        "key": {"file": "pem/key.pem"},
    }
    config = {
        "logging": {"syslog": syslog},
        "volumes": volumes,
        "env": {"PLAIN": "yes", "HIDDEN": {"secret": "TOKEN"}},
        "auths": {"docker.io": {"username": "acme", "password": {"secret": "HUB"}}},
        "cacerts": {"mine": {"file": "pem/a.crt"}, "other": {"file": "pem/a.crt"}},
    }
    project.configure(images=None, workload=None, env=config)
    outcome = project.run("contract", "env")
    assert outcome.code == 0, outcome.err + outcome.out
    secret = {
        name: base64.b64encode(f"value of {name} 0123".encode()).decode().rstrip("=")
        for name in ("SEED", "OLD", "API_KEY", "HUB", "TOKEN", "BLOB")
    }
    certificate = base64.b64encode(pem).decode()
    key = base64.b64encode(private("client")).decode()
    section = env_of(project)
    # The secret is looked up without the newline that ends it.
    grep11 = section["volumes"]["more"]["grep11"]
    assert base64.b64decode(grep11.pop("clientKey")).strip() == private("client").strip()
    assert section == {
        "type": "env",
        "logging": {
            "syslog": {
                "hostname": "192.0.2.10",
                "port": 6514,
                "server": certificate,
                "cert": certificate,
                "key": key,
            }
        },
        "volumes": {
            "data": {
                "seed": secret["SEED"],
                "previousSeed": secret["OLD"],
                "kms": [{"apiKey": secret["API_KEY"], "crn": crn, "type": "private"}],
                "kmsTimeout": 3,
                "apiKey": secret["API_KEY"],
                "volumeName": "v",
                "volumeID": "r006-abc",
            },
            "more": {
                "uv-secret-id": "index-1",
                "uv-previous-secret-id": "index-2",
                "grep11": {
                    "address": "192.0.2.1:9876",
                    "clientCert": certificate,
                    "caCert": certificate,
                    "metadata": {"aesKeyBlob": secret["BLOB"], "previousaesKeyBlob": secret["BLOB"]},
                },
            },
        },
        "env": {"PLAIN": "yes", "HIDDEN": secret["TOKEN"]},
        "auths": {"https://index.docker.io/v1/": {"username": "acme", "password": secret["HUB"]}},
        "cacerts": [{"mine": certificate, "other": certificate}],
    }


def test_openshift_has_hosts_tags_and_keys_of_sealed_secrets(
    folder: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("keys/hkd.crt", signing_certificate("host").decode())
    folder.write("keys/verify.pem", public("sealed").decode())
    monkeypatch.setenv("OPENS", private("sealed").decode())
    sealed = {"verification-key": {"file": "keys/verify.pem"}, "decryption-key": {"secret": "OPENS"}}
    router = ENV["logging"]["log-router"] | {"tags": ["a"]}
    env = {
        "logging": {"log-router": router},
        "host-attestation": {"m1": {"description": "one", "host-key-doc": {"file": "keys/hkd.crt"}}},
        "confidential-containers": {"secret": sealed},
    }
    folder.configure(images=None, workload=None, target="ccco", env=env)
    outcome = folder.run("contract", "env")
    assert outcome.code == 0, outcome.err + outcome.out
    section = env_of(folder)
    assert section["logging"]["logRouter"] == {
        "hostname": "logs.example.com",
        "iamApiKey": API_KEY,
        "port": 443,
        "tags": ["a"],
    }
    host = section["host-attestation"]["m1"]
    assert base64.b64decode(host["host-key-doc"]) == signing_certificate_of(folder)
    secret = section["confidential-containers"]["secret"]
    assert secret["verificationKey"] == public("sealed").decode()
    assert secret["decryptionKey"].strip() == private("sealed").decode().strip()


def signing_certificate_of(project: Project) -> bytes:
    return (project.folder / "keys/hkd.crt").read_bytes()


# What is missing


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"volumes": {"data": {"seed": {"secret": "NOWHERE"}}}}, ["`NOWHERE` is missing", "hint"]),
        ({"cacerts": {"mine": {"file": "absent.crt"}}}, ["absent.crt", "No such file"]),
        ({"cacerts": {"mine": {"file": "app"}}}, ["app", "directory"]),
        ({"volumes": {"data": {"seed": "a literal seed 0123"}}}, ["{secret: NAME}"]),
        ({"volumes": {"data": {"seed": {"secret": "SEED"}, "uv-secret-id": "index-1"}}}, ["either"]),
        ({"loging": {}}, ["did you mean `logging`"]),
        (None, ["has no `env`", "hint"]),
    ],
)
def test_what_is_missing_is_said_and_nothing_written(
    folder: Project, env: dict[str, Any] | None, words: list[str]
) -> None:
    # What is missing is found before the runtime is asked about logging.
    without = {"logging": ENV["logging"]}
    if env is None:
        image = {"image": f"{folder.host}/acme/web:1.0", "build": {"context": "app"}}
        folder.configure(images={"web": image})
    else:
        folder.configure(images=None, workload=None, env=without | env)
    outcome = folder.run("contract", "env")
    refused(outcome, 2, *words)
    assert "a literal seed" not in outcome.err
    assert not list(folder.workdir.glob("env*"))
    assert not (folder.workdir / "build-record.json").exists()


@pytest.mark.parametrize("target", ["hpvs", "ccrt", "ccrv"])
def test_a_guest_without_logging_does_not_start(folder: Project, target: str) -> None:
    folder.configure(images=None, workload=None, target=target, env={"env": {"A": "b"}})
    outcome = folder.run("contract", "env")
    refused(outcome, 1, "env.logging", "logging:", "syslog:", "hostname:")
    assert not list(folder.workdir.glob("env*"))


def test_a_seed_that_is_too_short_fails_without_being_shown(
    folder: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEED", "short-canary")
    outcome = folder.run("contract", "env")
    refused(outcome, 1, "volumes.data.seed")
    assert "short-canary" not in outcome.err + outcome.out


# A folder of one's own


def test_a_deployer_needs_neither_git_nor_images(
    folder: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(folder.folder / ".git")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    # Files are relative to the config.
    path = folder.folder / "secure-build.yaml"
    config = yaml.safe_load(path.read_text()) | {"encrypt": runtime(folder)}
    path.write_text(yaml.safe_dump(config))
    outcome = folder.run("contract", "env", "-c", str(path))
    assert outcome.code == 0, outcome.err
    assert "canary" in opened(value(elsewhere / ".secure-build/env.encrypted.draft.yaml"))
    refused(folder.run("run", "-c", str(path)), 2, "no images", "contract env")


# Modes, forms, secrets


def test_a_plain_section_is_for_its_owner_and_shown_masked(folder: Project) -> None:
    outcome = folder.run("contract", "env")
    assert outcome.code == 0, outcome.err
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.workdir.glob("env*")} == {
        "env.draft.yaml": 0o600,
        "env.key": 0o600,
    }
    assert 'seed: "***"' in outcome.out or "seed: '***'" in outcome.out
    assert str(folder.workdir.name) in outcome.out


def test_a_token_is_for_everybody_and_shown_in_full(folder: Project) -> None:
    encrypted(folder)
    outcome = folder.run("contract", "env")
    assert outcome.code == 0, outcome.err
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.workdir.glob("env*")}
    assert modes == {"env.draft.yaml": 0o600, "env.key": 0o600, "env.encrypted.draft.yaml": 0o644}
    token = value(folder.workdir / "env.encrypted.draft.yaml")
    assert f"env: {token}\n" in outcome.out
    assert opened(token) == value(folder.workdir / "env.draft.yaml")


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("sealed", [False, True])
def test_secrets_are_nowhere_but_in_the_plain_file(folder: Project, form: str, sealed: bool) -> None:
    if sealed:
        encrypted(folder)
    outcome = folder.run("contract", "env", "--output", form, "-v")
    assert outcome.code == 0, outcome.err
    record = (folder.workdir / "build-record.json").read_text()
    for secret in SECRETS.values():
        for kind in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
            assert kind not in outcome.out + outcome.err + record
    with_secret = {
        path.name
        for path in folder.workdir.rglob("*")
        if path.is_file() and SEED.encode() in path.read_bytes()
    }
    assert with_secret == {"env.draft.yaml"}
    if form == "json":
        document = json.loads(outcome.out)["env"]
        assert document["unchanged"] is False
        assert bool(document["encrypted"]) is bool(document["sha256"]) is sealed
        assert "***" in document["masked"]


# Unchanged


def test_what_is_unchanged_keeps_its_token(folder: Project) -> None:
    encrypted(folder)
    assert folder.run("contract", "env").code == 0
    before, record = snapshot(folder), (folder.workdir / "build-record.json").read_bytes()
    again = folder.run("contract", "env")
    assert again.code == 0
    assert "unchanged" in again.err
    assert snapshot(folder) == before
    assert (folder.workdir / "build-record.json").read_bytes() == record


@pytest.mark.parametrize("change", ["flag", "certificate", "prefix", "seed", "damaged", "lost"])
def test_what_makes_another_token(folder: Project, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    encrypted(folder)
    assert folder.run("contract", "env").code == 0
    path = folder.workdir / "env.encrypted.draft.yaml"
    before = value(path)
    arguments: list[str] = []
    key = "runtime"
    if change == "flag":
        arguments = ["--re-encrypt"]
    elif change == "certificate":
        key = "newer"
        folder.configure(images=None, workload=None, env=ENV, encrypt=runtime(folder, "newer"))
    elif change == "prefix":
        encrypted(folder, prefix="hyper-protect-basic")
    elif change == "seed":
        monkeypatch.setenv("SEED", "another-seed-0123456789")
    elif change == "damaged":
        path.write_text(path.read_text().replace("contract-basic.", "contract-basic.A", 1))
    else:
        path.unlink()
    assert folder.run("contract", "env", *arguments).code == 0
    after = value(path)
    assert after != before
    assert opened(after, key) == value(folder.workdir / "env.draft.yaml")
    assert after.startswith("hyper-protect-basic." if change == "prefix" else "contract-basic.")


def test_a_change_elsewhere_in_the_config_keeps_the_token(folder: Project) -> None:
    encrypted(folder)
    assert folder.run("contract", "env").code == 0
    before = value(folder.workdir / "env.encrypted.draft.yaml")
    folder.configure(images=None, workload=None, env=ENV, encrypt=runtime(folder), registries={"icr.io": {}})
    assert folder.run("contract", "env").code == 0
    assert value(folder.workdir / "env.encrypted.draft.yaml") == before


def test_a_rebuild_of_the_images_keeps_the_token_of_env(
    folder: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.configure(env=without_volumes(), encrypt=runtime(folder))
    outcome = folder.run("run")
    assert outcome.code == 0, outcome.err
    before = {name: value(folder.workdir / f"{name}.encrypted.yaml", name) for name in ("workload", "env")}
    folder.write("app/hello.txt", "changed\n")
    folder.commit()
    assert folder.run("run").code == 0
    after = {name: value(folder.workdir / f"{name}.encrypted.yaml", name) for name in ("workload", "env")}
    assert after["env"] == before["env"]
    assert after["workload"] != before["workload"]


def without_volumes() -> dict[str, Any]:
    return {"logging": ENV["logging"]}


def test_without_encryption_no_token_is_left_to_take_by_mistake(folder: Project) -> None:
    encrypted(folder)
    assert folder.run("contract", "env").code == 0
    folder.configure(images=None, workload=None, env=ENV)
    outcome = folder.run("contract", "env")
    assert outcome.code == 0
    assert not (folder.workdir / "env.encrypted.draft.yaml").exists()
    assert "env.encrypted.draft.yaml" in outcome.err


# The environment


def test_flags_have_variables_but_for_those_that_weaken(
    folder: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted(folder)
    assert folder.run("contract", "env").code == 0
    before = value(folder.workdir / "env.encrypted.draft.yaml")
    monkeypatch.setenv("SECURE_BUILD_RE_ENCRYPT", "yes")
    assert folder.run("contract", "env").code == 0
    assert value(folder.workdir / "env.encrypted.draft.yaml") != before
    monkeypatch.delenv("SECURE_BUILD_RE_ENCRYPT")
    for name in ("INSECURE_UNVERIFIED_CERTIFICATE", "REVEAL", "PASSPHRASE"):
        with monkeypatch.context() as patched:
            patched.setenv(f"SECURE_BUILD_{name}", "1")
            refused(folder.run("contract", "env"), 2, f"SECURE_BUILD_{name}", "command line")


# Plan


def test_plan_says_what_is_disclosed_and_writes_nothing(folder: Project) -> None:
    folder.write("auditor.pem", public("auditor").decode())
    folder.configure(env=ENV, encrypt=runtime(folder) | {"auditor-disclosure": {"key": "auditor.pem"}})
    outcome = folder.run("plan")
    text = outcome.out + outcome.err
    assert "env.volumes.data.seed" in text
    assert "env.logging.logRouter.iamApiKey" in text
    assert SEED not in text
    assert not list(folder.workdir.rglob("*.yaml"))
    assert not list(folder.workdir.glob("*.json"))


def test_plan_says_what_the_runtime_refuses_of_env(folder: Project) -> None:
    folder.configure(env={"env": {"A": "b"}})
    outcome = folder.run("plan")
    assert outcome.code == 1, outcome.out
    assert "env.logging" in outcome.out + outcome.err


def test_plan_of_a_deployer_needs_no_repository(folder: Project) -> None:
    shutil.rmtree(folder.folder / ".git", ignore_errors=True)
    outcome = folder.run("plan")
    assert outcome.code == 0, outcome.out + outcome.err


def test_a_section_whose_key_is_gone_gets_one_and_then_keeps_its_token(folder: Project) -> None:
    folder.configure(images=None, workload=None, env=ENV, encrypt=runtime(folder))
    assert folder.run("contract", "env").code == 0
    (folder.workdir / "env.key").unlink()
    assert folder.run("contract", "env").code == 0
    made = value(folder.workdir / "env.encrypted.draft.yaml")
    assert (folder.workdir / "env.key").exists()
    assert folder.run("contract", "env").code == 0
    assert value(folder.workdir / "env.encrypted.draft.yaml") == made
