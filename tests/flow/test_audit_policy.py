"""`audit: require:` each requirement holds in one build, and each fails in another that lacks just that."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml

from flow.conftest import Project, git
from flow.deployer import private, refused
from flow.test_audit import Machine, of_build_record, started
from secure_build import lock
from secure_build.config import MEANINGS
from secure_build.contract import archive
from secure_build.contract.archive import Member
from secure_build.lock import Input, Lock
from secure_build.model import Material, Platform
from services.gpg_keys import GpgHome

BASE = Material("image", "docker.io/library/alpine:3.20", f"sha256:{'a' * 64}")
LOCKED = lock.dump(Lock({Input("image", BASE.name, Platform.parse("linux/s390x")): BASE.digest})).decode()
LOGINS = {"push": {"username": "pusher", "password": {"secret": "PUSH"}}}
LOGINS["runtime"] = {"username": "puller", "password": {"secret": "PULL"}}
CHANGES = {"encrypt": {"signing-key": {"secret": "SIGNING"}}}


def ssh_key(folder: Path, name: str) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    return (folder / f"{name}.pub").read_text()


def amend(project: Project, *settings: str, **variables: str) -> None:
    """Sign the last commit."""
    named = [f"user.{name}" for name in ("name=test", "email=test@example.com")]
    options = [word for setting in (*named, *settings) for word in ("-c", setting)]
    command = ["git", *options, "commit", "--quiet", "--amend", "--no-edit", "--allow-empty", "-S"]
    subprocess.run(command, check=True, cwd=project.folder, env={**os.environ, **variables})


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """SSH keys of two developers."""
    folder = tmp_path / "keys"
    folder.mkdir()
    for name in ("ours", "theirs"):
        ssh_key(folder, name)
    return folder


@pytest.fixture
def whole(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: Path
) -> Callable[..., Machine]:
    """Start the machine of a build that has all that can be required, but for these changes."""
    for name in ("PUSH", "PULL"):
        monkeypatch.setenv(name, f"canary-{name}-password")
    monkeypatch.setenv("SIGNING", private("signing").decode())
    project.builder.materials = (BASE,)
    project.write("secure-build.lock", LOCKED)

    def start(*options: str, key: str | None = "ours", **changes: Any) -> Machine:
        def committed() -> None:
            if key:
                amend(project, "gpg.format=ssh", f"user.signingkey={keys / key}")

        logins = {"registries": {project.host: LOGINS}}
        settings = {"committed": committed, **CHANGES, **logins, **changes}
        return started(project, tmp_path, monkeypatch, *options, **settings)

    return start


def policy(machine: Machine, *required: str, code: int = 0, **changed: Any) -> dict[str, str]:
    """What is said of each requirement, by the policy of an auditor, in a file of theirs."""
    asked = {"require": list(required or MEANINGS)}
    if "signed-commit" in asked["require"]:
        shutil.copy(machine.folder.parent / "keys" / "ours.pub", machine.path("ours.pub"))
        asked["commit-keys"] = [{"file": "ours.pub"}]
    own = {"version": 1, "target": "ccrt", "audit": asked}
    machine.path("policy.yaml").write_text(yaml.safe_dump(own))
    outcome = machine.audit("--output", "json", config="policy.yaml", **changed)
    assert outcome.code == code, outcome.out + outcome.err
    link = json.loads(outcome.out)["links"][-1]
    assert link["name"] == "policy"
    return {one["what"]: one["level"] for one in link["findings"]}


def test_all_that_can_be_required(whole: Callable[..., Machine]) -> None:
    machine = whole()
    assert policy(machine) == dict.fromkeys(MEANINGS, "pass")


Start = Callable[..., Machine]


def dirty(start: Start, project: Project) -> Machine:
    return start("--allow-dirty", committed=lambda: project.write("app/left.txt", "left\n"))


def unsigned_commit(start: Start, _: Project) -> Machine:
    return start(key=None)


def signed_by_another(start: Start, _: Project) -> Machine:
    return start(key="theirs")


def loose(start: Start, project: Project) -> Machine:
    project.builder.materials = (BASE, Material("http", "https://example.com/a.tar", BASE.digest))
    return start()


def silent(start: Start, project: Project) -> Machine:
    project.builder.materials = None
    return start()


def no_sbom(start: Start, _: Project) -> Machine:
    return start(attestations={"sbom": []})


def no_provenance(start: Start, _: Project) -> Machine:
    return start(attestations={"provenance": False})


def not_reproducible(start: Start, project: Project) -> Machine:
    project.builder.reproducible = False
    return start()


def pushes_with_it(start: Start, project: Project) -> Machine:
    same = {"push": LOGINS["push"], "runtime": LOGINS["push"], "allow-push-credential": True}
    return start(registries={project.host: same})


def unsigned_contract(start: Start, _: Project) -> Machine:
    return start(encrypt={})


def _with_plain(machine: Machine, **sections: str) -> Machine:
    """Its owner gave it these sections as they are."""
    path = machine.path("contract.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | sections))
    lines = machine.path("se-checksums.txt").read_text().splitlines()
    for name, text in sections.items():
        digest = hashlib.sha256(text.encode()).hexdigest()
        lines = [f"{digest} contract:{name}" if one.endswith(f" contract:{name}") else one for one in lines]
    machine.path("se-checksums.txt").write_text("\n".join(lines) + "\n")
    machine.sign()
    return machine


BY_TAG = """\
type: workload
images:
  dct: {registry.example.com/acme/web: {notary: 'https://notary.example.com', publicKey: a2V5}}
compose: {archive: ARCHIVE}
"""


COMPOSE = "services: {web: {image: 'registry.example.com/acme/web:1.0'}}"


def test_containers_by_tag(whole: Start) -> None:
    """The runtime lets a key decide, which is a warning to an auditor who requires no digests."""
    packed = archive.build({PurePosixPath("docker-compose.yml"): Member(COMPOSE.encode())})
    machine = _with_plain(whole(), workload=BY_TAG.replace("ARCHIVE", packed.base64()))
    given = {"code": 1, "disclosed": ["env"]}
    assert policy(machine, "digests-only", **given) == {"digests-only": "fail"}


def test_a_section_in_plain_text(whole: Start) -> None:
    machine = _with_plain(whole(), env="type: env\n")
    given = {"code": 1, "disclosed": ["workload"]}
    assert policy(machine, "encrypted-contract", **given) == {"encrypted-contract": "fail"}


@pytest.mark.parametrize(
    ("requirement", "without"),
    [
        ("clean-source", dirty),
        ("signed-commit", unsigned_commit),
        ("signed-commit", signed_by_another),
        ("locked-bases", loose),
        ("locked-bases", silent),
        ("sbom", no_sbom),
        ("provenance", no_provenance),
        ("reproducible", not_reproducible),
        ("separate-pull-key", pushes_with_it),
        ("signed-contract", unsigned_contract),
    ],
)
def test_what_is_lacking(
    whole: Start, project: Project, requirement: str, without: Callable[[Start, Project], Machine]
) -> None:
    assert policy(without(whole, project), requirement, code=1) == {requirement: "fail"}


def test_a_record_that_nobody_signed(whole: Start) -> None:
    machine = whole()
    machine.path("build-record.cosign.json").unlink()
    given = {"record-key": None}
    assert policy(machine, "signed-record", code=1, **given) == {"signed-record": "fail"}


def test_what_is_only_somebodys_word(whole: Start) -> None:
    """Without the key of the record, or without the repository, nobody knows."""
    machine = whole()
    of_record = ("clean-source", "signed-record", "sbom")
    assert policy(machine, *of_record, code=5, **{"record-key": None}) == dict.fromkeys(of_record, "unknown")
    of_commit = ("signed-commit", "locked-bases", "separate-pull-key")
    assert policy(machine, *of_commit, code=5, repository=None) == dict.fromkeys(of_commit, "unknown")


@pytest.mark.parametrize(("digest", "level"), [("SHA256", "pass"), ("SHA1", "fail")])
def test_a_commit_that_gpg_signed(
    whole: Start, project: Project, keys: Path, digest: str, level: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="gpg-") as folder:
        home = GpgHome(Path(folder) / "home")
        key = home.make("developer", usage="sign")
        (home.folder / "gpg.conf").write_text(f"digest-algo {digest}\n")
        (keys / "ours.pub").write_bytes(home.public(key))
        settings = ("gpg.format=openpgp", f"user.signingkey={key}")
        machine = whole(committed=lambda: amend(project, *settings, GNUPGHOME=str(home.folder)))
        home.stop()
    code = 0 if level == "pass" else 1
    assert policy(machine, "signed-commit", code=code) == {"signed-commit": level}


def test_what_git_shows_besides_changes_nothing(
    whole: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = whole()
    git(machine.path("clone"), "config", "log.showSignature", "true")
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "nothing"))
    assert policy(machine, "signed-commit") == {"signed-commit": "pass"}


def test_no_program_of_the_repository_checks_signatures(whole: Start, keys: Path) -> None:
    machine = whole(key="theirs")
    says_yes = machine.path("yes")
    says_yes.write_text("#!/bin/sh\necho 'Good \"git\" signature for * with ED25519 key SHA256:x'\n")
    says_yes.chmod(0o755)
    allowed = machine.path("allowed")
    allowed.write_text(f"* {(keys / 'theirs.pub').read_text()}")
    for name, value in (("gpg.ssh.program", says_yes), ("gpg.ssh.allowedSignersFile", allowed)):
        git(machine.path("clone"), "config", name, str(value))
    assert policy(machine, "signed-commit", code=1) == {"signed-commit": "fail"}


def test_a_broken_link_is_not_blamed_twice(whole: Start) -> None:
    machine = whole()
    of_build_record(machine)
    assert set(policy(machine, "clean-source", "signed-record", code=1).values()) == {"deferred"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 1\ntarget: ccrt\naudit: {require: []}\n", "require"),
        ("version: 1\ntarget: ccrt\naudit: {require: [sbom, sbom]}\n", "stands twice"),
        ("version: 1\ntarget: ccrt\nenv: {}\n", "requires nothing"),
    ],
)
def test_what_is_no_policy(whole: Start, text: str, said: str) -> None:
    machine = whole()
    machine.path("own.yaml").write_text(text)
    refused(machine.audit(config="own.yaml"), 2, said)


def test_a_policy_builds_nothing(project: Project) -> None:
    project.write("policy.yaml", "version: 1\ntarget: ccrt\naudit: {require: [sbom]}\n")
    refused(project.run("build", "--config", "policy.yaml"), 2, "`secure-build audit` only")


def test_verify_warns_of_what_the_record_lacks(project: Project) -> None:
    project.builder.reproducible = False
    project.configure(audit={"require": ["reproducible", "clean-source", "signed-contract"]})
    assert project.run("build").code == 0
    found = json.loads(project.run("verify", "--offline", "--output", "json").out)
    warned = [one["what"] for one in found["evidence"] if one["what"].startswith("audit: ")]
    assert warned == ["audit: reproducible"]
