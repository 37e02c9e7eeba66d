"""What is said of a published image, as cosign, syft and crane find it, with a real build and registry."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration.cosigns import COSIGNS, PASSPHRASE, Cosigns
from integration.project import Project, command
from integration.test_secrets import contents, found_in
from secure_build.attestations import sbom
from secure_build.reference import Pinned
from services.needed import need
from services.running import RunningRegistry

BOTH = ["linux/s390x", "linux/amd64"]
PROVENANCE = "https://slsa.dev/provenance/v1"
DOCKERFILE = """\
FROM {base}
COPY packages/ /
RUN --mount=type=secret,id=npm ["/bin/busybox", "sh", "-c", "/bin/busybox uname -m > /srv/machine.txt"]
"""
# Debian's, in the form of dpkg.
PACKAGES = {
    "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n',
    "var/lib/dpkg/status": "Package: libc6\nStatus: install ok installed\nArchitecture: s390x\n"
    "Version: 2.36-9\nMaintainer: nobody <nobody@example.com>\nDescription: C library\n\n",
    "usr/lib/python3/dist-packages/flask-3.0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: flask\n"
    "Version: 3.0.0\n",
}
CANARY = "npm?Canary&0123456789abcdef>"


@pytest.fixture
def cosigns(tmp_path: Path) -> Cosigns:
    need(*COSIGNS, "crane")
    return Cosigns(tmp_path)


@pytest.fixture
def keys(cosigns: Cosigns) -> tuple[Path, Path]:
    return cosigns.make_key("cosign3", "own")


@pytest.fixture
def project(
    make_project: Callable[..., Project], keys: tuple[Path, Path], registry: RunningRegistry, base: str
) -> Project:
    """An image for two platforms with packages, signed with cosign's key."""
    private, _ = keys
    secret = {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSPHRASE"}}
    project = make_project("buildah", signing={"cosign": secret})
    project.config["images"]["web"]["build"] |= {"platforms": BOTH, "secrets": {"npm": {"secret": "NPM"}}}
    project.environment |= {
        "COSIGN_KEY": private.read_text(),
        "COSIGN_PASSPHRASE": PASSPHRASE,
        "NPM": CANARY,
    }
    packages = {f"app/packages/{name}": content for name, content in PACKAGES.items()}
    project.commit({"app/Dockerfile": DOCKERFILE.format(base=base), **packages})
    project.run("run")
    return project


def statements(cosigns: Cosigns, public: Path, image: str, kind: str) -> list[dict[str, Any]]:
    """The statements of a kind that cosign finds beside an image."""
    said = cosigns.done(
        *("cosign3", "verify-attestation", "--type", kind, "--key", public),
        *("--insecure-ignore-tlog=true", image),
    )
    payloads = [json.loads(line)["payload"] for line in said.splitlines() if line]
    return [json.loads(base64.b64decode(payload)) for payload in payloads]


def members(image: str) -> dict[str, str]:
    """The reference of each platform's manifest, by crane."""
    index = json.loads(command("crane", "manifest", "--insecure", image))
    repository = image.partition("@")[0]
    return {one["platform"]["architecture"]: f"{repository}@{one['digest']}" for one in index["manifests"]}


def test_cosign_finds_what_is_said(
    project: Project, cosigns: Cosigns, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    public = keys[1]
    image = f"{project.image.rpartition(':')[0]}@{project.digest()}"
    parts = members(image)
    commit = project.record()["source"]["commit"]
    for one in (image, *parts.values()):
        (said,) = statements(cosigns, public, one, "slsaprovenance1")
        assert {subject["digest"]["sha256"] for subject in said["subject"]} == {
            name.rpartition(":")[2] for name in (image, *parts.values())
        }
        definition = said["predicate"]["buildDefinition"]
        assert definition["externalParameters"]["build"]["secrets"] == ["npm"]
        source, base = definition["resolvedDependencies"]
        assert source["digest"] == {"gitCommit": commit}
        assert base["digest"]["sha256"] in command("crane", "digest", "--insecure", base["uri"][6:]).decode()
    for architecture, one in parts.items():
        (spdx,) = statements(cosigns, public, one, "spdxjson")
        (cyclonedx,) = statements(cosigns, public, one, "cyclonedx")
        assert spdx["subject"][0]["digest"]["sha256"] == one.rpartition(":")[2]
        for kind, document in (("spdx", spdx), ("cyclonedx", cyclonedx)):
            # Read by a program that is not ours.
            (tmp_path / kind).write_text(json.dumps(document["predicate"]))
            read = json.loads(command(sbom._syft().name, "convert", tmp_path / kind, "-o", "syft-json", "-q"))
            names = {package["name"] for package in read["artifacts"]}
            assert {"libc6", "flask", "busybox"} <= names, (architecture, kind)
        for program in COSIGNS:
            assert cosigns.verify_attestation(program, public, Pinned.parse(one), PROVENANCE)
    # An SBOM is about a platform, and nothing is by another key.
    assert not cosigns.verify_attestation("cosign3", public, Pinned.parse(image), "https://spdx.dev/Document")
    _, other = cosigns.make_key("cosign3", "other")
    assert not cosigns.verify_attestation("cosign3", other, Pinned.parse(image), PROVENANCE)


def test_cosign_verifies_the_build_record(
    project: Project, cosigns: Cosigns, keys: tuple[Path, Path]
) -> None:
    def verified(record: Path) -> bool:
        more = ("--type", "urn:x-secure-build:build-record:v1", "--insecure-ignore-tlog=true")
        bundle = project.workdir / "build-record.cosign.json"
        ended = cosigns.run(
            *("cosign3", "verify-blob-attestation", "--bundle", bundle, "--key", keys[1]),
            *more,
            record,
        )
        return ended.returncode == 0

    assert verified(project.record_path)
    changed = cosigns.folder / "changed.json"
    changed.write_bytes(project.record_path.read_bytes().replace(b'"clean": true', b'"clean": false'))
    assert not verified(changed)


def test_said_once(project: Project) -> None:
    before = project.record_path.read_bytes()
    outcome = project.run("run")
    assert "unchanged, its 5 statements are kept" in outcome.stderr
    assert project.record_path.read_bytes() == before


def test_30_no_secret_is_said(project: Project) -> None:
    key = project.environment["COSIGN_KEY"].splitlines()[2]
    passwords = {"npm": CANARY, "key": key, "passphrase": PASSPHRASE}
    # The control: what stands in every statement, in base64, is found by the same search.
    told = {"digest": project.digest().removeprefix("sha256:")}
    bundles = []
    for path, content in contents(project.workdir):
        assert found_in(content, passwords) == set(), path
        if b"dsseEnvelope" in content:
            bundles.append(found_in(content, told))
    assert len(bundles) == 6
    assert {"digest"} in bundles
