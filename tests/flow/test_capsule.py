"""A capsule: what is in it, and that stock programs find every byte of it that was changed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from flow.conftest import Project
from flow.deployer import API_KEY, ENV, SECRETS, SEED, runtime
from services.gpg_keys import GpgHome
from services.needed import need
from services.running import environment

SCRIPT = Path(__file__).parents[2] / "pipeline/secure_build/data/check-capsule.sh"
TAKE = ("publish", "--to", "oci:../capsule", "--with-evidence")


@dataclass(frozen=True)
class Capsule:
    """A capsule, and the keys that its auditor has from elsewhere."""

    folder: Path
    project: Project
    gpg: GpgHome
    secrets: dict[str, str]

    @property
    def keys(self) -> tuple[str, ...]:
        place = self.project.folder.parent
        return "--cosign-key", str(place / "cosign.pub"), "--gpg-key", str(place / "builder.asc")

    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in found}

    def check(self, *more: str, code: int, script: Path = SCRIPT, programs: str = "") -> str:
        """Run the script as an auditor does who has nothing of ours; what it says."""
        ended = subprocess.run(
            ["/bin/sh", str(script), str(self.folder), *more],
            env={"PATH": programs or environment()["PATH"]},
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == code, ended.stdout + ended.stderr
        assert not ended.stderr
        return ended.stdout

    def sum_again(self) -> None:
        """As somebody does who changes the hashes along with the files."""
        lines = [
            f"{hashlib.sha256(content).hexdigest()}  {name}\n"
            for name, content in sorted(self.files().items())
            if name != "evidence/SHA256SUMS"
        ]
        (self.folder / "evidence/SHA256SUMS").write_text("".join(lines))


def signer() -> tuple[str, bytes]:
    """A key of cosign's kind: private and public, PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return pem, private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def capsule(
    project: Project, tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Capsule]:
    """A contract that `run` made of one image, signed with both kinds of key, in a capsule."""
    need("gpg", "openssl")
    gpg = GpgHome(short_path / "gpg")
    gpg.make("builder", passphrase="canary phrase")
    try:
        pem, public = signer()
        secrets = {
            **SECRETS,
            "COSIGN_KEY": pem,
            "GPG_KEY": gpg.private("builder", passphrase="canary phrase"),
            "GPG_PHRASE": "canary phrase",
        }
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        build = {"context": "app", "platforms": ["linux/s390x", "linux/amd64"]}
        image = {"image": f"{project.host}/acme/web:1.0", "build": build, "sign": ["cosign", "rhs"]}
        signing = {
            "cosign": {"key": {"secret": "COSIGN_KEY"}},
            "rhs": {"key": {"secret": "GPG_KEY"}, "passphrase": {"secret": "GPG_PHRASE"}},
        }
        workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED"}}}}
        project.configure(
            images={"web": image}, signing=signing, workload=workload, env=ENV, encrypt=runtime(project)
        )
        made = project.run("run", "--offline", "--to", "oci:../run")
        assert made.code in (0, 5), made.err
        (tmp_path / "cosign.pub").write_bytes(public)
        (tmp_path / "builder.asc").write_bytes(gpg.public("builder"))
        taken = project.run(*TAKE)
        assert taken.code in (0, 5), taken.err
        yield Capsule(tmp_path / "capsule", project, gpg, secrets)
    finally:
        gpg.stop()


def test_it_holds_what_proves_and_nothing_secret(capsule: Capsule) -> None:
    files, project = capsule.files(), capsule.project
    evidence = {name.removeprefix("evidence/") for name in files if name.startswith("evidence/")}
    signatures = {name for name in evidence if name.startswith("signatures/")}
    assert len(signatures) == 3
    assert evidence - signatures == {
        *("SHA256SUMS", "check.sh", "build-record.json", "build-record.cosign.json"),
        *("keys/cosign.pub", "keys/openpgp.asc"),
        *(f"contract/{name}.encrypted.yaml" for name in ("workload", "env")),
        "contract/contract.yaml",
    }
    for name in ("build-record.json", "build-record.cosign.json"):
        assert files[f"evidence/{name}"] == (project.workdir / name).read_bytes()
    assert {path.stat().st_mode & 0o777 for path in capsule.folder.rglob("*") if path.is_file()} == {0o644}
    words = [line for secret in capsule.secrets.values() for line in secret.splitlines() if len(line) > 15]
    assert {API_KEY, SEED} <= set(words)
    for name, content in files.items():
        assert not [word for word in words if word.encode() in content], name
        assert b"PRIVATE KEY-----" not in content, name


def test_the_same_again_is_the_same_bytes(capsule: Capsule) -> None:
    before = capsule.files()
    (capsule.folder / "evidence/keys/stale.pub").write_text("a key of before")
    assert capsule.project.run(*TAKE).code in (0, 5)
    assert capsule.files() == before
    other = capsule.project.folder.parent / "other"
    assert capsule.project.run("publish", "--to", f"oci:{other}", "--with-evidence").code in (0, 5)
    shutil.rmtree(capsule.folder)
    other.rename(capsule.folder)
    assert capsule.files() == before


def test_stock_programs_find_it_good(capsule: Capsule) -> None:
    said = capsule.check(*capsule.keys, code=0)
    assert {line.partition(" ")[0] for line in said.splitlines() if line} == {"good", "all"}
    # Image, record and tokens; for each of three manifests two signatures and a statement, and two SBOMs.
    listed = "\n".join(re.findall(r"good +(\S+?):? .*", said))
    assert listed.count("signatures/") == 3
    assert listed.count("blobs/") == 1 + 3 * 2 + 2 * 2
    # With the keys that lie in it, it says so; and so does the script that lies in it.
    own = capsule.check(code=0, script=capsule.folder / "evidence/check.sh")
    assert "Checked with keys of the capsule itself (cosign.pub openpgp.asc)" in own
    # Keys of somebody else have signed nothing of it.
    capsule.gpg.make("other")
    place = capsule.project.folder.parent
    (place / "builder.asc").write_bytes(capsule.gpg.public("other"))
    said = capsule.check(*capsule.keys, code=1)
    assert said.count("by the OpenPGP key") == 3
    (place / "cosign.pub").write_bytes(signer()[1])
    said = capsule.check(*capsule.keys, code=1)
    assert f"evidence/build-record.json: evidence/build-record.cosign.json is no signature" in said
