"""buildx: Docker's BuildKit front end, exporting into an OCI layout directory.

Attestations are off, since BuildKit's change the index on every build; timestamps are rewritten to
the commit's. What was pulled is read from the metadata file, which names it since buildx 0.14.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from secure_build import process
from secure_build.builders import Builder, Built, Recipe, Surroundings, build_failed
from secure_build.builders.logins import docker_config
from secure_build.errors import MachineError, SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.manifest import load_object
from secure_build.model import BuilderVersion, Material
from secure_build.process import ProcessError, Program
from secure_build.reference import Reference

DOCKER = Program("docker", "docker-cli")
_PROBE_SECONDS = 60.0
_IMAGE_STORE = "io.containerd.snapshotter.v1"


class Buildx:
    """The buildx builder that is selected on this machine (`docker buildx use`)."""

    def __init__(self, version: BuilderVersion, environment: dict[str, str]) -> None:
        self.version = version
        self._environment = environment

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        with tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
            metadata = Path(folder) / "metadata.json"
            lines: list[str] = []

            def follow(line: str) -> None:
                lines.append(line)
                on_line(line)

            try:
                process.run(
                    DOCKER,
                    arguments(recipe, staging, metadata),
                    environment=self._environment,
                    on_line=follow,
                )
            except ProcessError as error:
                raise build_failed("buildx", error.output.strip()) from None
            entries = staging.entries()
            if len(entries) != 1:
                raise ServiceError(f"buildx exported {len(entries)} images where one was built")
            return Built(entries[0][1], materials(metadata.read_bytes()))


def arguments(recipe: Recipe, staging: Layout, metadata: Path) -> list[str]:
    """The command line for one image and platform; the time of the commit is `SOURCE_DATE_EPOCH`."""
    options = {
        "--platform": str(recipe.platform),
        "--file": str(recipe.dockerfile),
        "--metadata-file": str(metadata),
        "--output": f"type=oci,tar=false,dest={staging.directory},rewrite-timestamp=true",
        "--progress": "plain",
    }
    if recipe.target:
        options["--target"] = recipe.target
    build_arguments = {**recipe.arguments, "SOURCE_DATE_EPOCH": str(recipe.epoch)}
    return [
        # Cached steps keep the times they were made at: rewriting only lowers times to the commit's.
        *("buildx", "build", "--provenance=false", "--sbom=false", "--pull", "--no-cache"),
        *(f"{name}={value}" for name, value in options.items()),
        *(f"--build-arg={name}={value}" for name, value in sorted(build_arguments.items())),
        str(recipe.context),
    ]


def materials(metadata: bytes) -> tuple[Material, ...] | None:
    """The images in a metadata file's provenance; None when buildx wrote no provenance."""
    try:
        provenance = load_object(metadata).get("buildx.build.provenance")
        if not provenance:
            return None
        listed = provenance.get("materials") or provenance.get("predicate", {}).get("materials") or []
        found = {_material(entry) for entry in listed if str(entry["uri"]).startswith("pkg:docker/")}
        return tuple(sorted(found))
    except (ValueError, KeyError, TypeError, AttributeError, SecureBuildError) as error:
        raise ServiceError(f"buildx wrote a metadata file that cannot be read: {error}") from None


def _material(entry: dict[str, Any]) -> Material:
    # A package URL: pkg:docker/HOST%3APORT/PATH@TAG?digest=sha256:…&platform=…
    parts = urlsplit(entry["uri"].removeprefix("pkg:docker/"))
    name, _, tag = unquote(parts.path).rpartition("@") if "@" in parts.path else (unquote(parts.path), "", "")
    pinned = parse_qs(parts.query).get("digest")
    text = f"{name}:{tag}" if tag and not pinned else name
    reference = Reference.parse(f"{text}@{pinned[0]}" if pinned else text)
    return Material("image", str(reference), f"sha256:{entry['digest']['sha256']}")


def open_buildx(surroundings: Surroundings) -> contextlib.AbstractContextManager[Builder]:
    """buildx; raises MachineError when it or its engine is missing or cannot export layouts."""
    version = _probe()

    @contextlib.contextmanager
    def opened() -> Iterator[Builder]:
        with docker_config(surroundings.logins, surroundings.folder, store="") as folder:
            yield Buildx(version, {"DOCKER_CONFIG": str(folder)} if folder else {})

    return opened()


def _probe() -> BuilderVersion:
    try:
        engine = json.loads(process.run(DOCKER, ["info", "--format", "{{json .}}"], timeout=_PROBE_SECONDS))
    except (ProcessError, ValueError):
        raise MachineError(
            "the Docker engine does not answer", hint="start it, or set `DOCKER_HOST`"
        ) from None
    if not engine.get("ServerVersion"):
        reason = "; ".join(engine.get("ServerErrors") or []) or "no reason given"
        raise MachineError(
            f"the Docker engine does not answer: {reason}", hint="start it, or set `DOCKER_HOST`"
        )
    plugins = {plugin.get("Name"): plugin for plugin in (engine.get("ClientInfo") or {}).get("Plugins") or []}
    if "buildx" not in plugins:
        raise MachineError("Docker's buildx plugin is missing", hint="install the package `docker-buildx`")
    buildx = str(plugins["buildx"].get("Version", "")).removeprefix("v")
    try:
        text = process.run(DOCKER, ["buildx", "inspect"], timeout=_PROBE_SECONDS).decode(errors="replace")
    except ProcessError as error:
        raise MachineError(f"buildx has no builder that answers: {error.output.strip()}") from None
    inspected = {name.lower(): value for name, value in re.findall(r"(?m)^\s*([A-Za-z ]+):\s+(\S+)", text)}
    if inspected.get("driver") != "docker":
        kit = inspected.get("buildkit version", "unknown")
        return BuilderVersion("buildx", f"{buildx}, BuildKit {kit}")
    stores = [value for _, value in engine.get("DriverStatus") or []]
    if _IMAGE_STORE not in stores:
        raise MachineError(
            "this Docker engine cannot export image layouts: it does not use the containerd image store",
            hint='put `"features": {"containerd-snapshotter": true}` into its `daemon.json` and restart it, '
            "or make another builder: `docker buildx create --use`",
        )
    return BuilderVersion("buildx", f"{buildx}, engine {engine['ServerVersion']}")
