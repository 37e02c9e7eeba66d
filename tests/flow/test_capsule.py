"""A capsule: what is in it, and that stock programs find every byte of it that was changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from flow.conftest import Project
from flow.deployer import API_KEY, ENV, SECRETS, SEED, runtime
from secure_build import secret
from secure_build.layout import Layout
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
def capsule(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Capsule]:
    """A contract that `run` made of one image, signed with both kinds of key, in a capsule."""
    need("gpg", "openssl")
    # Sockets' paths have a limit.
    short = tempfile.mkdtemp(prefix="sb-")
    gpg = GpgHome(Path(short) / "gpg")
    gpg.make("builder")
    try:
        pem, public = signer()
        secrets = {
            **SECRETS,
            "COSIGN_KEY": pem,
            "GPG_KEY": gpg.private("builder"),
        }
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        project.write("builder.asc", gpg.public("builder").decode())
        build = {"context": "app", "platforms": ["linux/s390x", "linux/amd64"]}
        image = {"image": f"{project.host}/acme/web:1.0", "build": build, "sign": ["cosign", "rhs"]}
        signing = {
            "cosign": {"key": {"secret": "COSIGN_KEY"}},
            "rhs": {"key": {"secret": "GPG_KEY"}, "public-key": "builder.asc"},
        }
        workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED"}}}}
        project.configure(
            images={"web": image},
            signing=signing,
            attestations={"sbom": []},
            workload=workload,
            env=ENV,
            encrypt=runtime(project),
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
        shutil.rmtree(short)


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


def test_the_same_again_is_the_same_bytes_also_without_private_keys(
    capsule: Capsule, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = capsule.files()
    monkeypatch.delitem(secret._taken, "GPG_KEY")
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
    # Image, record and tokens; for each of three manifests two signatures and a statement.
    listed = "\n".join(re.findall(r"good +(\S+?):? .*", said))
    assert listed.count("signatures/") == 3
    assert listed.count("blobs/") == 1 + 3 * 2
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
    assert "evidence/build-record.json: evidence/build-record.cosign.json is no signature" in said


def blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def parts(capsule: Capsule) -> dict[str, str]:
    """A file of each kind, by what it is."""
    (image,) = capsule.project.record["images"]
    kept = {one["predicate"]: one["kept"] for one in image["signatures"]}

    def named(digest: str, *keys: Any) -> str:
        """The digest that a manifest has at this place."""
        found = json.loads((capsule.folder / blob(digest)).read_text())
        for key in keys:
            found = found[key]
        return str(found["digest"])

    index = image["descriptor"]["digest"]
    member = named(index, "manifests", 0)
    return {
        "index": blob(index),
        "manifest": blob(member),
        "config": blob(named(member, "config")),
        "layer": blob(named(member, "layers", 0)),
        "signature by cosign": blob(named(kept["https://sigstore.dev/cosign/sign/v1"], "layers", 0)),
        "provenance": blob(named(kept["https://slsa.dev/provenance/v1"], "layers", 0)),
        "signature by gpg": f"evidence/{kept['']}",
        "record": "evidence/build-record.json",
        "signature of the record": "evidence/build-record.cosign.json",
        "token": "evidence/contract/workload.encrypted.yaml",
        "contract": "evidence/contract/contract.yaml",
        "key": "evidence/keys/cosign.pub",
        "OpenPGP key": "evidence/keys/openpgp.asc",
        "names": "index.json",
        "sums": "evidence/SHA256SUMS",
    }


def flip(path: Path) -> None:
    """Change one bit in the middle of a line in the middle of a file."""
    content = bytearray(path.read_bytes())
    place = len(content) // 2
    while content[place - 1 : place] in (b"", b"\n") or content[place] in b"\n\x0b":
        place += 1
    content[place] ^= 1
    path.write_bytes(bytes(content))


def test_one_bit_is_found_and_its_file_named(capsule: Capsule) -> None:
    whole = capsule.folder.with_name("whole")
    capsule.folder.rename(whole)
    for what, name in parts(Capsule(whole, capsule.project, capsule.gpg, {})).items():
        for sums in (False, True):
            if sums and what in ("sums", "names"):
                # Of the names only those of images count, see below.
                continue
            shutil.copytree(whole, capsule.folder)
            flip(capsule.folder / name)
            if sums:
                # Whoever changes a file can change its hash too.
                capsule.sum_again()
            said = [line for line in capsule.check(code=1).splitlines() if line.startswith("BAD ")]
            if what not in ("sums", "key", "OpenPGP key"):
                assert re.search(re.escape(name) + "(:| is) ", said[0]), (what, sums, said)
            elif not sums and what != "sums":
                assert f"BAD          {name}: missing, or not what evidence/SHA256SUMS says" in said
            shutil.rmtree(capsule.folder)


def test_more_and_less_than_it_should_hold(capsule: Capsule) -> None:
    whole = capsule.folder.with_name("whole")
    capsule.folder.rename(whole)
    files = parts(Capsule(whole, capsule.project, capsule.gpg, {}))
    record, names = files["record"], files["names"]
    other = blob("sha256:" + "0" * 64)

    def swapped(folder: Path) -> None:
        first, second = (
            folder / "evidence/contract" / f"{name}.encrypted.yaml" for name in ("workload", "env")
        )
        one, two = first.read_text(), second.read_text()
        first.write_text("workload" + two.removeprefix("env"))
        second.write_text("env" + one.removeprefix("workload"))

    def renamed(folder: Path) -> None:
        (folder / names).write_text((folder / names).read_text().replace("web:1.0", "web:2.0"))

    def exchanged(folder: Path) -> None:
        """The signature of another manifest under this one's name."""
        one, two = sorted((folder / "evidence/signatures").rglob("signature-1"))[:2]
        one.write_bytes(two.read_bytes())

    def rewritten(folder: Path, *, kinds: int) -> None:
        """A record in which a signature is another image's, or a statement of another kind."""
        (image,) = capsule.project.record["images"]
        by_kind = {one["predicate"]: [] for one in image["signatures"] if one["predicate"]}
        for one in image["signatures"]:
            if one["predicate"]:
                by_kind[one["predicate"]].append(one["kept"])
        signature, provenance = by_kind.values()
        one, two = (signature[0], provenance[0]) if kinds == 2 else signature[:2]
        (folder / record).write_text((folder / record).read_text().replace(one, two))
        (folder / "evidence/build-record.cosign.json").unlink()

    def led_out(folder: Path) -> None:
        outside = folder.parent / "outside"
        outside.write_text("")
        with (folder / "evidence/SHA256SUMS").open("a") as sums:
            sums.write(f"{hashlib.sha256(b'').hexdigest()}  ../outside\n")

    def commanding(folder: Path) -> None:
        """A section whose name would run a program, if it became a part of an expression of sed."""
        written = (folder / record).read_text().replace('"workload": {', '"w//;1etouch${IFS}ran;s/w": {')
        (folder / record).write_text(written)

    cases: dict[str, tuple[Callable[[Path], object], str]] = {
        "another's statement": (lambda one: rewritten(one, kinds=1), ": not signed by the cosign key"),
        "another statement": (lambda one: rewritten(one, kinds=2), ": not signed by the cosign key"),
        "a file more": (lambda one: (one / "more").write_text(""), "more: not in evidence/SHA256SUMS"),
        "a link": (lambda one: (one / "more").symlink_to("index.json"), "./more: neither file nor folder"),
        "a list of more": (led_out, "evidence/SHA256SUMS: it leads out of the capsule"),
        "no layer": (lambda one: (one / files["layer"]).unlink(), f"{files['layer']}: missing, and "),
        "no bundle": (lambda one: (one / files["provenance"]).unlink(), f"{files['provenance']}: missing, "),
        "no signature": (lambda one: (one / files["signature by gpg"]).unlink(), "no signature of "),
        "other tokens": (swapped, "env.encrypted.yaml: not the token of the build record, sha256:"),
        "other names": (renamed, "index.json: "),
        "another's signature": (exchanged, "no signature of "),
        "another's blob": (lambda one: (one / other).write_text(""), f"{other}: its name is not its hash"),
        "a section that commands": (commanding, f"{record}: no section is called w//;1etouch"),
        "no images": (lambda one: (one / record).write_text("{}\n"), f"{record}: it lists no image"),
    }
    for what, (change, words) in cases.items():
        shutil.copytree(whole, capsule.folder)
        change(capsule.folder)
        if what not in ("a file more", "a link", "a list of more"):
            capsule.sum_again()
        said = [line for line in capsule.check(code=1).splitlines() if line.startswith("BAD ")]
        assert any(words in line for line in said), (what, said)
        shutil.rmtree(capsule.folder)


def test_what_is_not_checked_is_said(capsule: Capsule, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for folder in reversed(environment()["PATH"].split(os.pathsep)):
        for path in Path(folder).glob("*"):
            link = programs / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    for name, code in (("skopeo", 0), ("gpg", 5), ("openssl", 5)):
        (programs / name).unlink(missing_ok=True)
        said = capsule.check(*capsule.keys, code=code, programs=str(programs))
        assert (f"{name} is not here" in said) == (code == 5)
    # An unsigned record, and a section that stayed plain.
    for name in ("build-record.cosign.json", "contract/env.encrypted.yaml", "contract/contract.yaml"):
        (capsule.folder / "evidence" / name).unlink()
    capsule.sum_again()
    said = capsule.check(*capsule.keys, code=5)
    assert "not checked  evidence/build-record.json: not signed with a key" in said
    assert "not checked  evidence/contract/env.encrypted.yaml: not in the capsule" in said
    assert said.endswith("nothing is bad, 2 not checked\n")


def test_what_is_asked_wrongly(project: Project, tmp_path: Path) -> None:
    layout = tmp_path / "theirs"
    Layout.create(layout)
    for more in ((), ("--cosign-key",), ("--gpg-key", "nowhere"), ("--other",), ("twice",)):
        ended = subprocess.run(["/bin/sh", str(SCRIPT), str(layout), *more], capture_output=True, check=False)
        assert ended.returncode == 2, more
        assert ended.stderr
    for words in (("publish", "--with-evidence"), (*TAKE, "web"), (*TAKE, "--by-digest")):
        outcome = project.run(*words)
        assert outcome.code == 2
        assert "write `secure-build publish --to oci:DIR --with-evidence`" in outcome.err
    (layout / "evidence").mkdir()
    (layout / "evidence/precious").write_text("kept")
    outcome = project.run("publish", "--to", f"oci:{layout}", "--with-evidence")
    assert outcome.code == 2
    assert "holds something else" in outcome.err
    assert (layout / "evidence/precious").read_text() == "kept"


def test_another_job_goes_on_from_it_if_it_has_the_keys(
    capsule: Capsule, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = str(capsule.folder / "evidence/build-record.json")
    outcome = capsule.project.run(
        "publish", "--record", record, "--to", "oci:../again", "--workdir", "../other", "--with-evidence"
    )
    assert outcome.code in (0, 5), outcome.err
    again = Capsule(capsule.folder.with_name("again"), capsule.project, capsule.gpg, {})
    again.check(*capsule.keys, code=0)
    shutil.rmtree(again.folder)
    monkeypatch.delitem(secret._taken, "COSIGN_KEY")
    outcome = capsule.project.run("publish", "--to", "oci:../again", "--with-evidence")
    assert outcome.code == 2
    assert "`signing: cosign: public-key:`" in outcome.err
    assert not again.folder.exists()


def test_a_signature_of_the_older_kind_is_checked_by_its_document(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openssl")
    pem, public = signer()
    monkeypatch.setenv("COSIGN_KEY", pem)
    name = f"{project.host}/acme/web:1.0"
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    pod["spec"] = {"containers": [{"name": "a", "image": name}]}
    project.write("pods.yaml", json.dumps(pod))
    project.configure(
        target="ccco",
        images={"web": {"image": name, "build": {"context": "app"}, "enforce": "cosign"}},
        workload={"pods": "pods.yaml"},
        signing={"cosign": {"key": {"secret": "COSIGN_KEY"}}},
        attestations={"sbom": []},
    )
    for verb in (("build",), ("sign",), TAKE):
        outcome = project.run(*verb)
        assert outcome.code == 0, outcome.err
    found = Capsule(tmp_path / "capsule", project, GpgHome(tmp_path), {})
    (tmp_path / "cosign.pub").write_bytes(public)
    key = ("--cosign-key", str(tmp_path / "cosign.pub"))
    digest = project.record["images"][0]["descriptor"]["digest"]
    assert re.search(rf"good +\S+: signature of \S+@{digest}\n", found.check(*key, code=0))
    # The same signature, and a record that says it is of another image.
    record = found.folder / "evidence/build-record.json"
    record.write_text(record.read_text().replace(f"/acme/web@{digest}", f"/acme/other@{digest}"))
    found.sum_again()
    said = found.check(*key, code=1)
    assert re.search(rf"BAD +\S+: signature of \S+/acme/other@{digest}: not signed by the cosign key", said)
