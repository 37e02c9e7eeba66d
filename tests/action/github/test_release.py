"""The release workflow, run by act on this repository, and its files before tools that are not ours."""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from action.github.act import ROOT, Run, Runner
from action.github.conftest import download_wheels
from integration.cosigns import Cosigns
from integration.project import IDENTITY, command, git
from secure_build import __version__
from services import running, step_image
from services.needed import need
from services.running import RunningRegistry
from services.sigstore import LocalSigstore

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

    def cosign(self, verb: str, *arguments: str | Path, who: tuple[str, ...] = SIGNER) -> bool:
        """Whether cosign believes it, which trusts the sigstore here."""
        root = ("--trusted-root", self.sigstore.files.trusted_root)
        ended = self.cosigns.run("cosign3", verb, *root, *who, *arguments)
        assert "unknown flag" not in ended.stderr
        return ended.returncode == 0


@pytest.fixture(scope="module")
def wheels_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return download_wheels(tmp_path_factory.mktemp("wheels"), lock="dev")


@pytest.fixture
def releasing(
    short_path: Path,
    runner: Runner,
    wheels_of_all: Path,
    registry: RunningRegistry,
    sigstore: LocalSigstore,
) -> Iterator[Releasing]:
    """This repository, changed in nothing but where its base, its registry and its sigstore are."""
    need("buildah", "cosign3", "git", "mmdebstrap", "skopeo")
    tree = short_path / "tree"
    command("git", "clone", "--quiet", "--no-hardlinks", ROOT, tree)
    git(tree, "remote", "set-url", "origin", f"https://github.com/{REPOSITORY}.git")
    workflow = tree / ".github" / "workflows" / "release.yml"
    assert BRINGS in workflow.read_text()
    workflow.write_text(workflow.read_text().replace(BRINGS, "buildah --version"))
    changes = tree / "CHANGELOG.md"
    changes.write_text(changes.read_text().replace("## Unreleased", f"## {__version__} - 2026-01-01"))
    sigstore.claims = CLAIMS
    folder = tree / "actions" / "release"
    (folder / "sigstore.json").write_bytes(sigstore.files.trust_config.read_bytes())
    with step_image.build_arguments(registry) as arguments:
        given = dict(one.removeprefix("--build-arg=").split("=", 1) for one in arguments)
        given["BASE"], _, digest = given["BASE"].partition("@")
        (folder / "secure-build.lock").write_text(
            yaml.safe_dump({"version": 1, "image": {given["BASE"]: {"linux/amd64": digest}}})
        )
        text = (folder / "secure-build.yaml").read_text().replace("ghcr.io", registry.host)
        config = yaml.safe_load(text)
        config["images"]["step"]["build"] |= {"platforms": ["linux/amd64"], "args": given}
        config["signing"]["keyless"]["instance"] = {"file": "sigstore.json"}
        (folder / "secure-build.yaml").write_text(yaml.safe_dump(config))
        git(tree, "commit", "--quiet", "--all", "-m", "another world")
        git(tree, "tag", TAG)
        programs = short_path / "programs"
        programs.mkdir()
        (programs / "gh").write_text(GH)
        (programs / "gh").chmod(0o755)
        job = {
            "PIP_FIND_LINKS": str(wheels_of_all),
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{sigstore.url}/token?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": sigstore.request_token,
            "GITHUB_REPOSITORY": REPOSITORY,
        }
        job["PATH"] = f"{programs}:{Path(sys.base_prefix) / 'bin'}:{running.environment()['PATH']}"
        on = dataclasses.replace(runner, variables={**runner.variables, **job})
        yield Releasing(tree, on, registry, sigstore, Cosigns(short_path))


@pytest.mark.timeout(900)
def test_a_tag_is_released(releasing: Releasing) -> None:
    run = releasing.run()
    assert run.code == 0, run.text
    print(sorted(path.name for path in releasing.kept("published").iterdir()))
    print(releasing.kept("asked").read_text())
    assert 0, run.text
