"""The release workflow, run by act on this repository, and its files before tools that are not ours."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from action.github.act import ROOT, Run, Runner
from action.github.conftest import download_wheels
from integration.cosigns import Cosigns
from integration.project import command, git
from secure_build import __version__
from services import running, step_image
from services.needed import need
from services.running import RunningRegistry
from services.sigstore import LocalSigstore

SECONDS = 900
pytestmark = pytest.mark.timeout(SECONDS)
TAG = f"v{__version__}"
REPOSITORY = "secure-build/secure-build"
WORKFLOW = f"{REPOSITORY}/.github/workflows/release.yml@refs/tags/{TAG}"
CLAIMS = {
    "sub": f"repo:{REPOSITORY}:ref:refs/tags/{TAG}",
    "repository": REPOSITORY,
    "ref": f"refs/tags/{TAG}",
    "event_name": "push",
    "job_workflow_ref": WORKFLOW,
}
SIGNER = (
    *("--certificate-identity", f"https://github.com/{WORKFLOW}"),
    *("--certificate-oidc-issuer", "https://token.actions.githubusercontent.com"),
)
SOMEBODY = WORKFLOW.replace("secure-build/", "another/", 1)
SOMEBODY_ELSE = tuple(part.replace(WORKFLOW, SOMEBODY) for part in SIGNER)
# What GitHub's runners have, and this machine too.
BRINGS = "sudo apt-get update && sudo apt-get install --yes buildah qemu-user-static"
# In the place of GitHub's own command: it keeps what would be published, and how that was asked for.
GH = """\
#!/bin/sh
set -eu
[ -n "$GH_TOKEN" ]
mkdir "$KEPT/published"
printf '%s\\n' "$@" >"$KEPT/asked"
for file; do case $file in dist/*) cp "$file" "$KEPT/published" ;; esac; done
"""


@dataclass(frozen=True)
class Releasing:
    """A clone of this repository whose commit has the tag, and the runner that its workflow runs on."""

    tree: Path
    runner: Runner
    registry: RunningRegistry
    sigstore: LocalSigstore
    cosigns: Cosigns

    def run(self) -> Run:
        workflow = self.tree / ".github" / "workflows" / "release.yml"
        return self.runner.run(
            self.tree, workflow, secrets={"GITHUB_TOKEN": "of-the-job"}, ref=f"refs/tags/{TAG}"
        )

    def kept(self, name: str) -> Path:
        return Path(self.runner.variables["KEPT"]) / name

    @property
    def files(self) -> list[Path]:
        """Those of the published files that SHA256SUMS lists."""
        lines = (self.kept("published") / "SHA256SUMS").read_text().splitlines()
        return [self.kept("published") / line.partition("  ")[2] for line in lines]

    @property
    def commit(self) -> str:
        return git(self.tree, "rev-parse", "HEAD").strip()

    def program(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the program that makes releases."""
        return self._python(self.tree / "actions" / "release" / "release.py", *arguments, **variables)

    def secure_build(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self._python("-m", "secure_build", *arguments)

    def _python(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**running.environment(), "COLUMNS": "200", **variables}
        return subprocess.run(
            [sys.executable, *arguments], cwd=self.tree, env=environment, check=False, capture_output=True,
            text=True,
        )  # fmt: skip

    def cosign(self, verb: str, *arguments: str | Path, who: tuple[str, ...] = SIGNER) -> bool:
        """Whether cosign believes it, which trusts the sigstore here."""
        root = ("--trusted-root", self.sigstore.files.trusted_root)
        ended = self.cosigns.run("cosign3", verb, *root, *who, *arguments)
        assert "unknown flag" not in ended.stderr
        return ended.returncode == 0


@pytest.fixture(scope="module")
def releasing(
    actions: Mapping[str, Path], registry: RunningRegistry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Releasing]:
    """This repository, changed in nothing but where its base, its registry and its sigstore are."""
    need("buildah", "cosign3", "git", "mmdebstrap", "openssl", "skopeo")
    wheels = download_wheels(tmp_path_factory.mktemp("wheels"), lock="dev")
    with (
        tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True) as temporary,
        LocalSigstore(tmp_path_factory.mktemp("sigstore")) as sigstore,
        step_image.build_arguments(registry) as arguments,
    ):
        folder = Path(temporary)
        tree = tagged(folder / "tree", registry, sigstore, arguments)
        sigstore.claims = CLAIMS
        for name in ("kept", "programs"):
            (folder / name).mkdir()
        (folder / "programs" / "gh").write_text(GH)
        (folder / "programs" / "gh").chmod(0o755)
        variables = {
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_COMPILE": "1",
            "KEPT": str(folder / "kept"),
            "PATH": f"{folder}/programs:{sys.base_prefix}/bin:{running.environment()['PATH']}",
            **job_of(sigstore),
        }
        runner = Runner(folder, variables, actions)
        yield Releasing(tree, runner, registry, sigstore, Cosigns(folder))


def tagged(tree: Path, registry: RunningRegistry, sigstore: LocalSigstore, arguments: list[str]) -> Path:
    """A clone of this repository with a commit for this machine, which has the tag."""
    command("git", "clone", "--quiet", "--no-hardlinks", ROOT, tree)
    git(tree, "remote", "set-url", "origin", f"https://github.com/{REPOSITORY}.git")
    workflow = tree / ".github" / "workflows" / "release.yml"
    assert BRINGS in workflow.read_text()
    workflow.write_text(workflow.read_text().replace(BRINGS, "buildah --version"))
    changes = tree / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## Unreleased", f"## {__version__} - 2026-01-01"))
    folder = tree / "actions" / "release"
    (folder / "sigstore.json").write_bytes(sigstore.files.trust_config.read_bytes())
    given = dict(one.removeprefix("--build-arg=").split("=", 1) for one in arguments)
    given["BASE"], _, digest = given["BASE"].partition("@")
    locked = {"version": 1, "image": {given["BASE"]: {"linux/amd64": digest}}}
    (folder / "secure-build.lock").write_text(yaml.safe_dump(locked))
    config = yaml.safe_load((folder / "secure-build.yaml").read_text().replace("ghcr.io", registry.host))
    config["images"]["step"]["build"] |= {"platforms": ["linux/amd64"], "args": given}
    config["signing"]["keyless"]["instance"] = {"file": "sigstore.json"}
    (folder / "secure-build.yaml").write_text(yaml.safe_dump(config))
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "-m", "another world")
    git(tree, "tag", TAG)
    return tree


def job_of(sigstore: LocalSigstore) -> dict[str, str]:
    """What a job with `id-token: write` has."""
    return {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{sigstore.url}/token?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": sigstore.request_token,
    }


@pytest.fixture(scope="module")
def released(releasing: Releasing) -> Releasing:
    """The same, once the workflow has run."""
    run = releasing.run()
    assert run.code == 0, run.text
    assert releasing.sigstore.request_token not in run.text
    return releasing


def test_a_tag_is_released(released: Releasing) -> None:
    base = f"secure_build-{__version__}"
    files = [f"{base}-py3-none-any.whl", f"{base}.cdx.json", f"{base}.tar.gz"]
    assert [path.name for path in released.files] == files
    assert {path.name for path in released.kept("published").iterdir()} == {
        *(f"{name}{ending}" for name in (*files, "SHA256SUMS") for ending in ("", ".sigstore.json")),
        *("provenance.sigstore.json", "build-record.json", "build-record.keyless.json"),
    }
    command("env", f"--chdir={released.kept('published')}", "sha256sum", "--check", "--quiet", "SHA256SUMS")
    asked = released.kept("asked").read_text().splitlines()
    assert asked[:4] == ["release", "create", TAG, "--verify-tag"]


def test_cosign_believes_every_file_of_the_workflow_and_nothing_else(
    released: Releasing, tmp_path: Path
) -> None:
    for path in (*released.files, released.kept("published") / "SHA256SUMS"):
        bundle = ("--bundle", path.with_name(f"{path.name}.sigstore.json"))
        assert released.cosign("verify-blob", *bundle, path), path
        assert not released.cosign("verify-blob", *bundle, path, who=SOMEBODY_ELSE), path
        tampered = tmp_path / path.name
        tampered.write_bytes(path.read_bytes() + b"\n")
        assert not released.cosign("verify-blob", *bundle, tampered), path


def test_cosign_believes_where_they_come_from(released: Releasing, tmp_path: Path) -> None:
    bundle = released.kept("published") / "provenance.sigstore.json"
    asked = ("--bundle", bundle, "--type", "slsaprovenance1")
    for path in released.files:
        assert released.cosign("verify-blob-attestation", *asked, path), path
        assert not released.cosign("verify-blob-attestation", *asked, path, who=SOMEBODY_ELSE), path
    sums = released.kept("published") / "SHA256SUMS"
    assert not released.cosign("verify-blob-attestation", *asked, sums)
    said = json.loads(base64.b64decode(json.loads(bundle.read_text())["dsseEnvelope"]["payload"]))
    definition = said["predicate"]["buildDefinition"]
    source = {"repository": f"https://github.com/{REPOSITORY}", "ref": f"refs/tags/{TAG}"}
    assert definition["externalParameters"] == {"source": source}
    (commit,) = definition["resolvedDependencies"]
    assert commit["digest"] == {"gitCommit": released.commit}
    assert said["predicate"]["runDetails"]["builder"] == {"id": f"https://github.com/{WORKFLOW}"}


def test_files_that_were_changed_do_not_verify(released: Releasing, tmp_path: Path) -> None:
    folder = tmp_path / "download"
    shutil.copytree(released.kept("published"), folder)
    assert released.program("verify", folder).returncode == 0
    sums, wheel = folder / "SHA256SUMS", folder / released.files[0].name
    added = wheel.rename(folder / f"another-{wheel.name}")
    shutil.copy(added, wheel)
    ended = released.program("verify", folder)
    assert (ended.returncode, "is no part of the release" in ended.stderr) == (1, True), ended.stderr
    added.unlink()
    wheel.write_bytes(wheel.read_bytes() + b"\n")
    ended = released.program("verify", folder)
    assert (ended.returncode, "is not what SHA256SUMS lists" in ended.stderr) == (1, True), ended.stderr
    # And with a list that agrees.
    before = hashlib.sha256(released.files[0].read_bytes()).hexdigest()
    sums.write_text(sums.read_text().replace(before, hashlib.sha256(wheel.read_bytes()).hexdigest()))
    ended = released.program("verify", folder)
    assert (ended.returncode, "FAIL:" in ended.stderr) == (1, True), ended.stderr


def test_files_of_another_commit_do_not_verify(released: Releasing, tmp_path: Path) -> None:
    other = tmp_path / "tree"
    command("git", "clone", "--quiet", released.tree, other)
    git(other, "commit", "--quiet", "--allow-empty", "-m", "later")
    ended = dataclasses.replace(released, tree=other).program("verify", released.kept("published"))
    assert ended.returncode == 1
    assert "comes from another commit than" in ended.stderr


def test_nobody_else_signs_a_release(released: Releasing, tmp_path: Path) -> None:
    """Not even another workflow of the same repository at the same tag."""
    folder = tmp_path / "dist"
    shutil.copytree(released.kept("built") / "dist", folder)
    claims = {**CLAIMS, "job_workflow_ref": WORKFLOW.replace("release.yml", "test.yml")}
    released.sigstore.claims = claims
    try:
        ended = released.program("sign", folder, GITHUB_ACTIONS="true", **job_of(released.sigstore))
    finally:
        released.sigstore.claims = CLAIMS
    assert ended.returncode == 1
    assert f"who should sign is https://github.com/{WORKFLOW}" in ended.stderr
    assert not list(folder.glob("*.sigstore.json"))


def test_the_image_verifies_by_what_is_published_and_as_nobody_elses(
    released: Releasing, tmp_path: Path
) -> None:
    record = released.kept("published") / "build-record.json"
    (image,) = json.loads(record.read_text())["images"]
    name = f"{released.registry.host}/secure-build/step"
    pinned = f"{name}@{image['descriptor']['digest']}"
    raw = command("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{name}:{__version__}")
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == image["descriptor"]["digest"]
    asked = ("--type", "https://sigstore.dev/cosign/sign/v1", pinned)
    assert released.cosign("verify-attestation", *asked)
    assert not released.cosign("verify-attestation", *asked, who=SOMEBODY_ELSE)

    config = released.tree / "actions" / "release" / "secure-build.yaml"
    verify = ("verify", "--strict", "--config", config, "--record", record, "--workdir")
    ended = released.secure_build(*verify, tmp_path / "first")
    assert ended.returncode == 0, ended.stdout
    # Somebody who may write to the registry signs it in the place of the workflow.
    fallback = image["descriptor"]["digest"].replace(":", "-")
    command("skopeo", "delete", "--tls-verify=false", f"docker://{name}:{fallback}")
    token = tmp_path / "token"
    token.write_text(released.sigstore.token({**CLAIMS, "job_workflow_ref": SOMEBODY}))
    files = released.sigstore.files
    services = ("--signing-config", files.signing_config, "--trusted-root", files.trusted_root)
    released.cosigns.done("cosign3", "sign", "--yes", *services, "--identity-token", token, pinned)
    assert released.cosign("verify-attestation", *asked, who=SOMEBODY_ELSE)
    ended = released.secure_build(*verify, tmp_path / "second")
    assert ended.returncode == 1, ended.stdout
    assert "somebody else" in ended.stdout, ended.stdout


@pytest.mark.parametrize(
    ("file", "edit", "said"),
    [
        ("pipeline/secure_build/__init__.py", (__version__, "9.9.9"), "the tag is `v"),
        ("actions/release/secure-build.yaml", (f"step:{__version__}", "step:9.9.9"), "the image in"),
        ("actions/release/secure-build.yaml", (f"tags/{TAG}", "tags/v9.9.9"), "the identity in"),
        ("CHANGELOG.md", (f"## {__version__} - ", "## Unreleased "), "CHANGELOG.md has no section"),
    ],
)
def test_a_tag_that_is_not_the_version_is_not_released(
    releasing: Releasing, tmp_path: Path, file: str, edit: tuple[str, str], said: str
) -> None:
    assert releasing.program("check", TAG).returncode == 0
    tree = tmp_path / "tree"
    command("git", "clone", "--quiet", releasing.tree, tree)
    text = (tree / file).read_text()
    assert edit[0] in text
    (tree / file).write_text(text.replace(*edit))
    ended = dataclasses.replace(releasing, tree=tree).program("check", TAG)
    assert (ended.returncode, said in ended.stderr) == (2, True), ended.stderr
