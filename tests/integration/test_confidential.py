"""Confidential containers, read by the programs that people have: kubectl, gzip, sha384sum, openssl."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fakes import pins
from integration.test_other_readers import DIGEST, PLAY, kubectl
from secure_build.contract.confidential import policy, section
from secure_build.contract.confidential.initdata import initdata
from secure_build.contract.confidential.pods import ANNOTATION, ConfidentialFile
from secure_build.reference import Repository
from services.needed import need
from unit.test_confidential_pods import KINDS, of_kind

CONTRACT = "workload: hyper-protect-basic.a.b\nenv: hyper-protect-basic.c.d\n"
# Those with an expression as image are for `play` only.
PODS = [
    path for path in PLAY if b"image: '{{" not in path.read_bytes() and b'image: "{{' not in path.read_bytes()
]


def run(*command: str, given: bytes = b"") -> bytes:
    return subprocess.run(command, input=given, capture_output=True, check=True).stdout


def pod_of(item: dict[str, Any]) -> dict[str, Any] | None:
    pod = item
    for part in {"Pod": (), "CronJob": ("spec", "jobTemplate", "spec", "template")}.get(
        item["kind"], ("spec", "template")
    ):
        pod = pod.get(part, {})
    return pod if "containers" in pod.get("spec", {}) else None


def check(content: bytes, name: str) -> None:
    """kubectl reads the same in the copy, but for digests and the annotation, in each pod."""
    file = ConfidentialFile.parse(content, name)
    annotation = initdata(CONTRACT).annotation()
    copy = file.annotated(file.pinned(pins.texts(file.places)), annotation)
    before, after = kubectl(content), kubectl(copy)
    pods = 0
    for old, new in zip(map(pod_of, before), map(pod_of, after), strict=True):
        if old is None or new is None:
            continue
        pods += 1
        assert new["metadata"]["annotations"].pop(ANNOTATION) == annotation
        if not new["metadata"]["annotations"] and "annotations" not in old.get("metadata", {}):
            del new["metadata"]["annotations"]
        for key in ("initContainers", "containers"):
            for was, is_now in zip(old["spec"].get(key, ()), new["spec"].get(key, ()), strict=True):
                assert DIGEST.search(is_now["image"])
                is_now["image"] = was["image"]
    assert pods
    assert after == before


@pytest.mark.parametrize("kind", KINDS)
def test_kubectl_reads_the_same_pod_but_digests_and_init_data(kind: str) -> None:
    need("kubectl")
    version = {"Pod": "v1", "ReplicationController": "v1", "Job": "batch/v1", "CronJob": "batch/v1"}
    version |= {"DeploymentConfig": "apps.openshift.io/v1"}
    check(f"apiVersion: {version.get(kind, 'apps/v1')}\n{of_kind(kind)}".encode(), "app.yaml")


@pytest.mark.parametrize("path", PODS, ids=lambda path: path.stem)
def test_kubectl_reads_the_same_in_files_of_public_shapes(path: Path) -> None:
    need("kubectl")
    check(path.read_bytes(), path.name)


def test_gzip_and_sha384sum_read_the_init_data(tmp_path: Path) -> None:
    need("gzip", "sha384sum")
    made = initdata(CONTRACT)
    toml = run("gzip", "-dc", given=base64.b64decode(made.annotation()))
    assert CONTRACT.encode() in toml
    assert run("sha384sum", given=toml).split()[0].decode() == made.digest


def test_keys_and_certificates_of_openssl_are_taken(tmp_path: Path) -> None:
    need("openssl")
    key = tmp_path / "key.pem"
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(key))
    public = run("openssl", "ec", "-in", str(key), "-pubout")
    name = Repository.parse("us.icr.io/acme/web")
    content = section.content(policy.policy([]), {name: public})
    stored = base64.b64decode(content["config"]["cosign"][str(name)]["publicKey"])
    assert stored == run("openssl", "pkey", "-pubin", given=stored) == public
    document = run("openssl", "req", "-new", "-x509", "-key", str(key), "-subj", "/CN=host")
    hosts = section.host_attestation({"a": ("", document)})
    assert base64.b64decode(hosts["a"]["host-key-doc"]) == document
