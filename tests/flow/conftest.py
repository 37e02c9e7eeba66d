"""The whole command line, in this process, with a fake builder and a loopback registry.

The builder is the only part that is not real: it packs the exported context into an image.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes.registry import FakeRegistry
from secure_build import builders, cli, manifest
from secure_build.builders import Builder, Built, Recipe, Surroundings
from secure_build.layout import Layout
from secure_build.model import BuilderName, BuilderVersion, Material
from secure_build.reference import Digest, Reference
from services.images import document

COMPOSE = """\
# kept
services:
  web:
    image: {host}/acme/web:1.0
    build: app   # for laptops
    ports: ["8080:8080"]
"""


@dataclass
class FakeBuilder:
    """Packs the context into one layer; `recipes` has what it was asked for."""

    version: BuilderVersion = field(default_factory=lambda: BuilderVersion("buildah", "0"))
    recipes: list[Recipe] = field(default_factory=list)
    materials: tuple[Material, ...] | None = ()
    # What it takes from outside for a recipe, as a real one finds out when it builds.
    pull: Callable[[Recipe], tuple[Material, ...] | None] | None = None
    reproducible: bool = True
    architecture: str | None = None
    before: Callable[[], None] = lambda: None

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        self.recipes.append(recipe)
        self.before()
        on_line("STEP 1/1: COPY . /")
        materials = self.pull(recipe) if self.pull else self.materials
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for path in sorted(recipe.context.rglob("*")):
                tar.add(path, path.relative_to(recipe.context), recursive=False)
        layer = staging.write(
            gzip.compress(packed.getvalue(), mtime=0), "application/vnd.oci.image.layer.v1.tar+gzip"
        )
        config = staging.write(
            json.dumps(
                {
                    "os": recipe.platform.os,
                    "architecture": self.architecture or recipe.platform.architecture,
                    "config": {"Labels": {material.name: material.digest for material in materials or ()}},
                    "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(packed.getvalue()))]},
                }
            ).encode(),
            "application/vnd.oci.image.config.v1+json",
        )
        written = {
            "schemaVersion": 2,
            "mediaType": manifest.OCI_MANIFEST,
            "config": document(config),
            "layers": [document(layer)],
        }
        descriptor = staging.write(json.dumps(written).encode(), manifest.OCI_MANIFEST)
        staging.name(Reference.parse("example.com/staged:1"), descriptor)
        return Built(descriptor, materials, reproducible=self.reproducible)


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class Project:
    """A git repository with a config, and a way to run commands in it."""

    folder: Path
    host: str
    builder: FakeBuilder
    capture: pytest.CaptureFixture[str]

    @property
    def workdir(self) -> Path:
        return self.folder / ".secure-build"

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.workdir / "build-record.json").read_text())

    def write(self, name: str, content: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def configure(self, **changes: Any) -> None:
        """Write the config with these top-level keys changed; commits."""
        config: dict[str, Any] = {
            "version": 1,
            "target": "ccrt",
            "images": {"web": {"image": f"{self.host}/acme/web:1.0", "build": {"context": "app"}}},
            "workload": {"compose": "docker-compose.yml"},
        }
        config |= changes
        self.write(
            "secure-build.yaml",
            yaml.safe_dump({k: v for k, v in config.items() if v is not None}, sort_keys=False),
        )
        self.commit()

    def commit(self) -> None:
        git(self.folder, "add", ".")
        git(self.folder, "commit", "--quiet", "--allow-empty", "-m", "change")

    def run(self, *arguments: str) -> Outcome:
        self.capture.readouterr()
        try:
            code = cli.main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        captured = self.capture.readouterr()
        return Outcome(code, captured.out, captured.err)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    # Images hold the commit's time: equal for all commits, so that only content makes a difference.
    environment = {**os.environ, "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as registry:
        yield registry


@pytest.fixture
def project(
    tmp_path: Path,
    registry: FakeRegistry,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Project:
    """A project with one image and a compose file, committed, and this process inside it."""
    builder = FakeBuilder()

    def open_fake(
        name: BuilderName | None, _surroundings: Surroundings
    ) -> contextlib.AbstractContextManager[Builder]:
        if name is not None:
            builder.version = BuilderVersion(name.kind, "0")
        return contextlib.nullcontext(builder)

    monkeypatch.setattr(builders, "open_builder", open_fake)
    for name in [name for name in os.environ if name.startswith("SECURE_BUILD_")]:
        monkeypatch.delenv(name)
    # A machine that keeps no logins.
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for name in ("DOCKER_CONFIG", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    made = Project(folder, registry.host, builder, capsys)
    made.write("app/Dockerfile", "FROM scratch\nCOPY . /\n")
    made.write("app/hello.txt", "hello\n")
    made.write("docker-compose.yml", COMPOSE.format(host=registry.host))
    made.configure()
    monkeypatch.chdir(folder)
    return made
