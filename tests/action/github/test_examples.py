"""The workflows of examples/github, run by act as they stand, each with a sibling that must fail and does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from action.github.conftest import Repositories, Repository
from integration import examples
from integration.project import command
from services import opened
from services.belongings import Belongings
from services.sigstore import LocalSigstore


def dump(run):
    out = open("/tmp/act-dump.txt", "a")
    out.write("=" * 80 + "\n")
    for line in run.text.splitlines():
        if "set-output" in line or "LocalRepo" in line or not line.strip(): continue
        out.write(line[:700] + "\n")
    out.write(str(run.annotations("error")) + str(run.annotations("warning")) + "\n")
    return run

def test_drift(repository: Repositories) -> None:
    one = repository("hpvs")
    one.edit("single", ("outputs.contract }}", "outputs.contract }} .secure-build/build-record.json"))
    assert one.run("single").code == 0
    (one.folder / "deployed").mkdir()
    (one.kept("contract") / "build-record.json").rename(one.folder / "deployed" / "build-record.json")
    run = dump(one.run("drift", event="schedule"))
    print(run.code)
    name = run.events and __import__("yaml").safe_load((one.folder/"secure-build.yaml").read_text())["images"]["web"]["image"]
    base = __import__("re").search("BASE=(.*)", (one.folder/"app/Dockerfile").read_text())[1]
    creds = f"demo-ci:{one.secrets['REGISTRY_PUSH']}"
    command("skopeo", "copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false", f"--dest-creds={creds}", f"docker://{base}", f"docker://{name}")
    run = dump(one.run("drift", event="schedule"))
    assert run.code == 0

def test_keyless(repository: Repositories, sigstore: LocalSigstore) -> None:
    one = repository("keyless")
    shutil.copy(sigstore.files.trust_config, one.folder / "sigstore.json")
    token = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{sigstore.url}/token?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": sigstore.request_token}
    run = dump(one.run("keyless", variables=token))
    run2 = dump(one.run("keyless"))
    assert run.code == 0

def test_deployer(repository: Repositories, short_path: Path, copy_example, runner, owned) -> None:
    one = repository("personas/deployer")
    p = short_path / "provider"
    copy_example("personas/provider", p)
    other = Repository(p, runner, examples.secrets(p, owned.secrets))
    cfg = p / "secure-build.yaml"
    cfg.write_text(cfg.read_text() + "\nbuilder: buildah\n")
    (p / ".gitignore").write_text(".secure-build/\n")
    other.edit("single", ("outputs.contract }}", "outputs.workload }}"))
    run = dump(other.run("single"))
    shutil.copy(other.kept("contract") / "workload.encrypted.yaml", one.folder)
    run = dump(one.run("deployer"))
    shutil.rmtree(one.kept("contract"))
    one.edit("deployer", ("          workload: workload.encrypted.yaml # from the provider; anybody may read it\n        env:\n          SIGNING_KEY: ${{ secrets.SIGNING_KEY }}", "          workload: workload.encrypted.yaml # from the provider; anybody may read it\n        env:\n          SIGNING_KEY: ${{ secrets.OTHER }}"))
    run2 = dump(one.run("deployer", secrets={**one.secrets, "OTHER": owned.auditor.read_text()}))
    assert run.code == 0

def test_matrix(repository: Repositories) -> None:
    one = repository("hpvs")
    one.edit("secure-build.yaml", ("[linux/s390x]", "[linux/s390x, linux/amd64]"))
    built = dump(one.run("matrix", job="build"))
    for e in built.events:
        if e.get("command") == "set-output" and e["name"] == "record": print(e)
    assert 0

def test_single_bad(repository: Repositories) -> None:
    one = repository("hpvs")
    compose = one.folder / "docker-compose.yml"
    compose.write_text(compose.read_text().replace("services:", "services:\n  other:\n    image: registry.example.net/a/b:1"))
    dump(one.run("single"))
    one.edit("secure-build.yaml", ("builder: buildah", "builder: buildx"))
    dump(one.run("single"))
