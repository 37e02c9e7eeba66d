"""audit: a record that a test key signed in the documented form, and one bit changed at each link."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fakes.keys import certificate, private_pem, rsa_key
from fakes.registry import FakeRegistry
from flow.conftest import Outcome, Project, git
from flow.deployer import ENV, SECRETS, private, public, runtime
from secure_build.attestations import artifact, publication
from secure_build.contract.encryption import token
from secure_build.layout import Layout
from secure_build.manifest import OCI_MANIFEST
from secure_build.model import Descriptor
from secure_build.reference import Digest, Pinned
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.signers import cosign_key
from secure_build.signers.cosign import CosignSigner
from services.gpg_keys import GpgHome
from services.needed import need

BASE = "b" * 64


@dataclass
class Machine:
    """What an auditor gets: the files of a machine, and those of whoever deployed it."""

    folder: Path
    project: Project

    def path(self, name: str) -> Path:
        return self.folder / name

    def take(self, expected: list[dict[str, str]]) -> None:
        """Start with the contract that was made last, and hand out what an auditor gets."""
        lines = [f"{one['sha256']} {one['name']}" for one in expected]
        head = [
            "26.7.1",
            "Machine Type/Plant/Serial: 9175/02/X",
            "Image age: 3 days",
            "",
            f"{BASE} baseimage",
        ]
        self.path("se-checksums.txt").write_text("\n".join([*head, *lines]) + "\n")
        self.path("expected.txt").write_text("\n".join(lines) + "\n")
        disclosed = ("workload.disclosure.json", "env.disclosure.json")
        for name in ("contract.yaml", *disclosed, "build-record.json", "build-record.cosign.json"):
            self.path(name).write_bytes((self.project.workdir / name).read_bytes())
        self.sign()

    def sign(self) -> None:
        """Sign the record as the machine does, with openssl."""
        command = ["openssl", "dgst", "-sha256", "-sign", "attestation.pem", "-out", "se-signature.bin"]
        subprocess.run([*command, "se-checksums.txt"], check=True, cwd=self.folder)

    def audit(
        self, *more: str, disclosed: Sequence[str] = ("workload", "env"), **changed: str | None
    ) -> Outcome:
        given = {
            "signature": "se-signature.bin",
            "certificate": "attestation.crt",
            "sha256": (self.folder / "fingerprint").read_text(),
            "known": "known.yaml",
            "contract": "contract.yaml",
            "encryption-certificate": "runtime.crt",
            "key": "auditor.pem",
            "record": "build-record.json",
            "record-key": "cosign.pub",
            "repository": "clone",
            "layout": str(self.project.workdir / "layout"),
            **changed,
        }
        words = [word for name, value in given.items() if value for word in (f"--{name}", value)]
        words += [word for one in disclosed for word in ("--disclosure", f"{one}.disclosure.json")]
        record = "se-checksums.txt" if not more or more[0].startswith("-") else more[0]
        return self.project.run("audit", record, *words, *(one for one in more if one != record))

    def links(
        self, *more: str, code: int, disclosed: Sequence[str] = ("workload", "env"), **changed: str | None
    ) -> dict[str, str]:
        outcome = self.audit(*more, "--output", "json", disclosed=disclosed, **changed)
        assert outcome.code == code, outcome.out + outcome.err
        return {link["name"]: link["level"] for link in json.loads(outcome.out)["links"]}


@pytest.fixture
def machine(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return started(project, tmp_path, monkeypatch)


def started(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
    committed: Callable[[], object] = lambda: None,
    encrypt: dict[str, Any] | None = None,
    **changes: Any,
) -> Machine:
    """A contract that `run` made with these options of it and of the config, and its machine's record.

    `committed` is called when all is committed.
    """
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (project.folder / "auditor.pem").write_bytes(public("auditor"))
    encrypting = runtime(project) | {"auditor-disclosure": {"key": "auditor.pem"}} | (encrypt or {})
    workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED"}}}}
    signer = ec.generate_private_key(ec.SECP256R1())
    pem = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    monkeypatch.setenv("COSIGN_KEY", pem.decode())
    signing = {"cosign": {"key": {"secret": "COSIGN_KEY"}}}
    web = {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}, "sign": ["cosign"]}
    configured = {
        "images": {"web": web},
        "workload": workload,
        "env": ENV,
        "encrypt": encrypting,
        "signing": signing,
    }
    project.configure(**configured | changes)
    committed()
    made = project.run("run", "--offline", "--to", "oci:out", "--output", "json", *options)
    assert made.code in (0, 5), made.err
    folder = tmp_path / "auditor"
    folder.mkdir()
    public_key = signer.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "cosign.pub").write_bytes(public_key)
    (folder / "cosign.key").write_bytes(pem)
    (folder / "runtime.crt").write_bytes((project.folder / "runtime.crt").read_bytes())
    (folder / "auditor.pem").write_bytes(private("auditor"))
    key, now = rsa_key("attestation", 4096), datetime.now(UTC)
    made_certificate = certificate(key, now - timedelta(days=1), now + timedelta(days=90))
    (folder / "attestation.pem").write_bytes(private_pem(key))
    (folder / "attestation.crt").write_bytes(made_certificate.public_bytes(Encoding.PEM))
    printed = subprocess.run(
        ["openssl", "x509", "-in", "attestation.crt", "-noout", "-fingerprint", "-sha256"],
        check=True, cwd=folder, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (folder / "fingerprint").write_text(printed.partition("=")[2].strip())
    (folder / "known.yaml").write_text(f'"26.7.1": {{baseimage: {BASE}}}\n')
    git(folder, "clone", "--quiet", str(project.folder), "clone")
    found = Machine(folder, project)
    found.take(json.loads(made.out)["expected-attestation"])
    monkeypatch.chdir(folder)
    return found


IMAGES = ("manifests", "signatures", "provenance")
MACHINE = ("certificate", "record", "image", "sections", "tokens", "containers", "author", "build")
ALL = (*MACHINE, *IMAGES, "source", "sbom")
# What rests on what the machine runs, beside its build.
REST = (*IMAGES, "sbom")


def test_every_link_holds(machine: Machine) -> None:
    assert machine.links(code=0) == dict.fromkeys(ALL, "pass")


def flip(path: Path, old: str) -> None:
    """Change one bit in the last character of the first place that holds this text."""
    content = bytearray(path.read_bytes())
    at = content.index(old.encode()) + len(old) - 1
    content[at] ^= 1
    path.write_bytes(content)


def of_record(machine: Machine) -> None:
    flip(machine.path("se-checksums.txt"), "26.7")


def of_signature(machine: Machine) -> None:
    _last_bit(machine.path("se-signature.bin"))


def _last_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def of_known_value(machine: Machine) -> None:
    flip(machine.path("known.yaml"), "bb")


def of_contract(machine: Machine) -> None:
    values = yaml.safe_load(machine.path("contract.yaml").read_text())
    flip(machine.path("contract.yaml"), values["workload"][:60])


def of_disclosure(machine: Machine) -> None:
    """Somebody with the auditor's public key discloses something else."""
    path = machine.path("env.disclosure.json")
    path.write_bytes(machine.path("workload.disclosure.json").read_bytes().replace(b'"workload"', b'"env"'))


def of_certificate(machine: Machine) -> None:
    machine.path("fingerprint").write_text("a" * 64)


def of_build_record(machine: Machine) -> None:
    """One bit of the image's digest."""
    record = json.loads(machine.path("build-record.json").read_text())
    flip(machine.path("build-record.json"), record["images"][0]["descriptor"]["digest"])


def of_another_build(machine: Machine) -> None:
    """A record that is signed as it should be, of another commit."""
    machine.project.write("app/hello.txt", "hellp\n")
    machine.project.commit()
    git(machine.path("clone"), "pull", "--quiet")
    with contextlib.chdir(machine.project.folder):
        outcome = machine.project.run("sign") if machine.project.run("build").code == 0 else None
    assert outcome is not None
    assert outcome.code == 0, outcome.err
    for name in ("build-record.json", "build-record.cosign.json"):
        machine.path(name).write_bytes((machine.project.workdir / name).read_bytes())


def of_commit(machine: Machine) -> None:
    """One bit of the commit, with the checksum of git's file made good again."""
    commit = machine.project.record["source"]["commit"]
    path = machine.path("clone") / ".git" / "objects" / commit[:2] / commit[2:]
    content = bytearray(zlib.decompress(path.read_bytes()))
    content[-2] ^= 1
    path.chmod(0o644)
    path.write_bytes(zlib.compress(bytes(content)))


def of_repository(machine: Machine) -> None:
    """A repository without that commit."""
    shutil.rmtree(machine.path("clone"))
    git(machine.folder, "init", "--quiet", "clone")
    git(machine.path("clone"), "commit", "--quiet", "--allow-empty", "-m", "another")


def _blob(machine: Machine, digest: str) -> Path:
    return machine.project.workdir / "layout" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _image(machine: Machine) -> dict[str, Any]:
    image: dict[str, Any] = machine.project.record["images"][0]
    return image


def of_manifest(machine: Machine) -> None:
    flip(_blob(machine, _image(machine)["descriptor"]["digest"]), '"layers"')


def of_layer(machine: Machine) -> None:
    manifest = json.loads(_blob(machine, _image(machine)["descriptor"]["digest"]).read_bytes())
    _last_bit(_blob(machine, manifest["layers"][-1]["digest"]))


def _bundle(machine: Machine, predicate: str) -> Path:
    """The bundle with a statement of this type."""
    kept = next(one["kept"] for one in _image(machine)["signatures"] if predicate in one["predicate"])
    manifest = json.loads(_blob(machine, kept).read_bytes())
    return _blob(machine, manifest["layers"][0]["digest"])


def of_image_signature(machine: Machine) -> None:
    flip(_bundle(machine, "cosign/sign"), '"payload')


def of_provenance(machine: Machine) -> None:
    flip(_bundle(machine, "provenance"), '"payload')


def of_no_provenance(machine: Machine) -> None:
    kept = next(one["kept"] for one in _image(machine)["signatures"] if "provenance" in one["predicate"])
    _blob(machine, kept).unlink()


def of_sbom(machine: Machine) -> None:
    flip(_bundle(machine, "spdx"), '"payload')


@pytest.mark.parametrize(
    ("change", "broken", "unreached"),
    [
        (of_certificate, "certificate", ()),
        (of_record, "record", ("image", "sections", "tokens", "containers", "build", *REST)),
        (of_signature, "record", ("image", "sections", "tokens", "containers", "build", *REST)),
        (of_known_value, "image", ()),
        (of_contract, "sections", ("tokens", "containers", "build", *REST)),
        (of_disclosure, "tokens", ("containers", "build", *REST)),
        (of_build_record, "author", ("build", *IMAGES, "source", "sbom")),
        (of_another_build, "build", REST),
        (of_manifest, "manifests", ("signatures", "provenance", "sbom")),
        (of_layer, "manifests", ("signatures", "provenance", "sbom")),
        (of_image_signature, "signatures", ()),
        (of_provenance, "provenance", ()),
        (of_no_provenance, "provenance", ()),
        (of_sbom, "sbom", ()),
        (of_commit, "source", ()),
        (of_repository, "source", ()),
    ],
)
def test_one_bit_is_blamed_where_it_is(
    machine: Machine, change: Callable[[Machine], None], broken: str, unreached: tuple[str, ...]
) -> None:
    change(machine)
    links = machine.links(code=1)
    assert [name for name, level in links.items() if level == "fail"] == [broken]
    assert tuple(name for name, level in links.items() if level == "deferred") == unreached


@pytest.fixture
def served(machine: Machine, registry: FakeRegistry) -> FakeRegistry:
    """The registry, with the images and what is said of them."""
    with contextlib.chdir(machine.project.folder):
        outcome = machine.project.run("publish")
    assert outcome.code == 0, outcome.err
    for name in ("build-record.json", "build-record.cosign.json"):
        machine.path(name).write_bytes((machine.project.workdir / name).read_bytes())
    return registry


def test_images_at_their_registry(machine: Machine, served: FakeRegistry) -> None:
    assert machine.links(code=0, layout=None) == dict.fromkeys(ALL, "pass")


def test_who_must_not_ask_a_registry_does_not_know_its_images(machine: Machine, served: FakeRegistry) -> None:
    asked = len(served.requests)
    links = machine.links("--offline", code=5, layout=None)
    assert [name for name, level in links.items() if level == "unknown"] == [*IMAGES, "sbom"]
    assert len(served.requests) == asked


def test_provenance_of_another_commit_is_none(machine: Machine, served: FakeRegistry, tmp_path: Path) -> None:
    """It is signed with the right key, and about the right image."""
    kept = next(one for one in _image(machine)["signatures"] if "provenance" in one["predicate"])
    claimed = artifact.claim(_bundle(machine, "provenance").read_bytes())
    assert claimed is not None
    said = claimed.payload.replace(machine.project.record["source"]["commit"].encode(), b"0" * 40)
    signer = CosignSigner(cosign_key.load(machine.path("cosign.key").read_bytes(), None, "the key"))
    layout, pinned = Layout.create(tmp_path / "other"), Pinned.parse(kept["image"])
    descriptor = Descriptor(OCI_MANIFEST, pinned.digest, _image(machine)["descriptor"]["size"])
    other = artifact.write(layout, signer.sign(said), kept["predicate"], descriptor)
    with Transport() as transport:
        place = RemoteRegistry(served.host, None, transport, push=True)
        publication.publish_bundles(layout, [other], place, pinned.repository)
    served.manifests.pop(("acme/web", Digest.parse(kept["kept"])))
    links = machine.links(code=1, layout=None)
    assert [name for name, level in links.items() if level == "fail"] == ["provenance"]


def test_a_registry_that_answers_with_other_bytes(machine: Machine, served: FakeRegistry) -> None:
    digest = Digest.parse(_image(machine)["descriptor"]["digest"])
    media_type, content = served.manifests["acme/web", digest]
    served.manifests["acme/web", digest] = (media_type, content.replace(b'"layers"', b'"layerz"'))
    links = machine.links(code=1, layout=None)
    assert [name for name, level in links.items() if level == "fail"] == ["manifests"]


def test_a_page_has_what_was_found(machine: Machine) -> None:
    record = json.loads(machine.path("build-record.json").read_text())
    assert record["images"]
    page = machine.audit("--output", "html").out
    image = record["images"][0]
    for text in (
        image["descriptor"]["digest"],
        "linux/s390x",
        record["source"]["commit"],
        "provenance by cosign",
    ):
        assert text in page


@pytest.fixture
def openpgp(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The machine, with images that are signed with an OpenPGP key too, in a capsule."""
    need("gpg")
    project = machine.project
    with tempfile.TemporaryDirectory(prefix="sb") as short:
        gpg = GpgHome(Path(short))
        gpg.make("builder")
        try:
            machine.path("builder.asc").write_bytes(gpg.public("builder"))
            monkeypatch.setenv("GPG_KEY", gpg.private("builder"))
            monkeypatch.setenv("COSIGN_KEY", machine.path("cosign.key").read_text())
            config = yaml.safe_load((project.folder / "secure-build.yaml").read_text())
            config["images"]["web"]["sign"] = ["rhs"]
            config["signing"]["rhs"] = {"key": {"secret": "GPG_KEY"}}
            project.configure(**config)
            with contextlib.chdir(project.folder):
                made = project.run("run", "--offline", "--to", "oci:out", "--output", "json")
                assert made.code in (0, 5), made.err
                kept = project.run("publish", "--to", f"oci:{machine.path('capsule')}", "--with-evidence")
                assert kept.code == 0, kept.err
            machine.take(json.loads(made.out)["expected-attestation"])
            git(machine.path("clone"), "pull", "--quiet")
        finally:
            gpg.stop()
    return machine


def test_openpgp_signatures_in_a_capsule(openpgp: Machine) -> None:
    given = {"layout": "capsule", "gpg-key": "builder.asc"}
    assert openpgp.links("--offline", code=0, **given) == dict.fromkeys(ALL, "pass")
    assert openpgp.links("--offline", code=5, layout="capsule")["signatures"] == "unknown"
    (signature,) = openpgp.path("capsule").glob("evidence/signatures/**/signature-1")
    _last_bit(signature)
    links = openpgp.links("--offline", code=1, **given)
    assert [name for name, level in links.items() if level == "fail"] == ["signatures"]


def test_an_encrypted_record_opens_with_the_auditors_key(machine: Machine) -> None:
    plain = machine.path("se-checksums.txt")
    key = rsa_key("auditor").public_key()
    sealed = token.encrypt(plain.read_bytes(), key, "hyper-protect-basic", os.urandom)
    machine.path("se-checksums.txt.enc").write_text(str(sealed.token))
    plain.unlink()
    assert machine.links("se-checksums.txt.enc", code=0)["record"] == "pass"
    outcome = machine.audit("se-checksums.txt.enc", key=None)
    assert outcome.code == 2
    assert "`--key FILE`" in outcome.err


def test_only_the_lines_that_were_printed(machine: Machine) -> None:
    arguments = ["audit", "se-checksums.txt", "--expect", "expected.txt", "--output", "json"]
    found = json.loads(machine.project.run(*arguments).out)
    assert {link["name"]: link["level"] for link in found["links"]}["expected"] == "pass"
    machine.path("expected.txt").write_text(f"{'0' * 64} contract:env\n")
    outcome = machine.project.run(*arguments)
    assert outcome.code == 1
    assert json.loads(outcome.out)["broken"] == "expected"


def test_a_section_that_the_contract_lacks(machine: Machine) -> None:
    record = machine.path("se-checksums.txt")
    record.write_text(record.read_text() + f"{'c' * 64} contract:attestationPublicKey\n")
    machine.sign()
    assert machine.links(code=1)["sections"] == "fail"


def test_for_people(machine: Machine) -> None:
    outcome = machine.audit()
    assert "good     The record is signed with the attestation certificate" in outcome.out
    of_contract(machine)
    outcome = machine.audit()
    assert "BROKEN   The machine was given this contract" in outcome.out
    assert "contract:workload: the record shows" in outcome.out
    assert "broken at `sections`" in outcome.out


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"26.7.1\nno entry\n", b"x" * (2 << 20)])
def test_what_is_no_record(machine: Machine, content: bytes) -> None:
    machine.path("se-checksums.txt").write_bytes(content)
    outcome = machine.audit()
    assert outcome.code == 2
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("content", ["[]", "26.7.1: x", '"26.7.1": {baseimage: short}', "a: {b: 1}"])
def test_what_are_no_known_values(machine: Machine, content: str) -> None:
    machine.path("known.yaml").write_text(content)
    outcome = machine.audit()
    assert outcome.code == 2
    assert "known.yaml" in outcome.err


def test_a_link_with_nothing_to_look_at_is_unknown(machine: Machine) -> None:
    machine.path("known.yaml").write_text('"26.7.1": {}\n')
    assert machine.links(code=5)["image"] == "unknown"
    # A build record alone says nothing of what the machine was given.
    alone = machine.links(code=5, contract=None, disclosed=())
    assert alone["author"] == "pass"
    assert alone["build"] == "unknown"


@pytest.mark.parametrize("given", ["identity", "issuer"])
def test_an_identity_is_one_with_its_issuer(machine: Machine, given: str) -> None:
    outcome = machine.audit(**{given: "somebody", "record": None})
    assert outcome.code == 2
    assert "`--identity` and `--issuer` go together" in outcome.err


HOSTILE = "<img src=x onerror=alert(1)>\"'&`|"


class _Page(HTMLParser):
    """What a page would fetch, run or show."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_fetches_and_runs_nothing(machine: Machine) -> None:
    of_contract(machine)
    hostile = machine.path(HOSTILE.replace("/", ""))
    hostile.write_bytes(machine.path("contract.yaml").read_bytes())
    outcome = machine.audit("--format", "html", contract=hostile.name)
    assert outcome.code == 1
    page = _Page()
    page.feed(outcome.out)
    assert not {"script", "img", "link", "iframe", "object", "base", "form"} & set(page.tags)
    assert page.addresses
    assert all(address.startswith("#") for address in page.addresses)
    assert "url(" not in outcome.out
    assert HOSTILE in page.text
    for said in ("Broken at: The machine was given this contract", "was not looked at", "To look at"):
        assert said in page.text
    assert page.tags.count("li") == len(ALL)


def test_markdown(machine: Machine) -> None:
    outcome = machine.audit("--output", "markdown")
    assert "### audit: 13 of 13 links hold, and none is broken" in outcome.out
