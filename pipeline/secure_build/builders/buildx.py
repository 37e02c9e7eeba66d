"""buildx: Docker's BuildKit front end, exporting into an OCI layout or pushing by digest.

Attestations are off, since BuildKit's change the index on every build; timestamps are rewritten to
the commit's. What was read from outside is in the metadata file, which names it since buildx 0.14.
A builder of another driver than `docker` may run elsewhere: it can put layers where they are to be
published, so that they need not pass through this machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from secure_build import files, process
from secure_build.builders import Builder, Built, Recipe, Surroundings, build_failed
from secure_build.builders.logins import docker_config
from secure_build.builders.policy import at_commit, check_pins, source_policy
from secure_build.errors import MachineError, SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.manifest import load_object
from secure_build.model import BuilderVersion, Descriptor, Material
from secure_build.process import ProcessError, Program
from secure_build.reference import Digest, Reference, Repository

# An engine over SSH asks the agent for keys, and the Kubernetes driver looks for its cluster.
DOCKER = Program("docker", "docker-cli", variables=("SSH_AUTH_SOCK", "KUBECONFIG"))
_PROBE_SECONDS = 60.0
# A builder in a container or a cluster is started, for which an image may have to be pulled.
_BOOT_SECONDS = 300.0
_IMAGE_STORE = "io.containerd.snapshotter.v1"
_POLICY_VARIABLE = "EXPERIMENTAL_BUILDKIT_SOURCE_POLICY"
_IMAGE = "pkg:docker/"


@dataclass(frozen=True, slots=True)
class Instance:
    """One of buildx's own builders: its name (None: the selected one), driver, and versions."""

    name: str | None
    driver: str
    version: BuilderVersion

    @property
    def pushes(self) -> bool:
        """Whether it can push by digest; an engine's own BuildKit gives it a tag."""
        return self.driver != "docker"


class Buildx:
    """A builder of `docker buildx ls`."""

    def __init__(self, instance: Instance, surroundings: Surroundings) -> None:
        self.version = instance.version
        self._instance = instance
        self._surroundings = surroundings

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        target = recipe.push if self._instance.pushes else None
        with tempfile.TemporaryDirectory(prefix="secure-build-") as folder, self._logins(recipe) as logins:
            metadata, policy = Path(folder) / "metadata.json", Path(folder) / "policy.json"
            environment = dict(logins)
            if recipe.pins:
                files.write(policy, source_policy(recipe.pins))
                environment[_POLICY_VARIABLE] = str(policy)
            command = arguments(
                recipe,
                metadata,
                output=_pushed(target) if target else _exported(staging),
                instance=self._instance.name,
            )
            try:
                process.run(DOCKER, command, environment=environment, on_line=on_line)
            except ProcessError as error:
                raise build_failed("buildx", error.output.strip()) from None
            written = metadata.read_bytes()
        found = materials(written, recipe.pins)
        check_pins(recipe.pins, found or ())
        return Built(
            descriptor=described(written) if target else _staged(staging),
            materials=found,
            sparse=target is not None,
            reproducible=not _caches(recipe),
        )

    @contextlib.contextmanager
    def _logins(self, recipe: Recipe) -> Iterator[dict[str, str]]:
        """Where buildx finds logins. When something is written, only the config's own, and of
        those for writing only the ones that this needs."""
        targets = [recipe.cache_to.repository] if recipe.cache_to else []
        if recipe.push and self._instance.pushes:
            targets.append(recipe.push)
        around = self._surroundings
        logins = {login.registry: login for login in around.logins}
        for target in targets:
            if login := around.push_login(target):
                logins[target.registry] = login
        with docker_config(list(logins.values()), around.folder, store="", only=bool(targets)) as made:
            yield {"DOCKER_CONFIG": str(made)} if made else {}


def arguments(recipe: Recipe, metadata: Path, *, output: str, instance: str | None = None) -> list[str]:
    """The command line for one image and platform; the time of the commit is `SOURCE_DATE_EPOCH`."""
    options = {
        "--platform": str(recipe.platform),
        "--file": str(recipe.dockerfile),
        "--metadata-file": str(metadata),
        "--output": f"{output},rewrite-timestamp=true",
        "--progress": "plain",
    }
    if instance:
        options["--builder"] = instance
    if recipe.target:
        options["--target"] = recipe.target
    if recipe.cache_to:
        options["--cache-to"] = (
            f"type=registry,ref={recipe.cache_to},mode=max,image-manifest=true,oci-mediatypes=true"
        )
    build_arguments = {**recipe.arguments, "SOURCE_DATE_EPOCH": str(recipe.epoch)}
    contexts = {
        name: where if isinstance(where, str) else str(where.absolute())
        for name, where in recipe.contexts.items()
    }
    return [
        *("buildx", "build", "--provenance=false", "--sbom=false", "--pull"),
        # Cached steps keep the times they were made at: rewriting only lowers times to the commit's.
        *([] if _caches(recipe) else ["--no-cache"]),
        *(f"{name}={value}" for name, value in options.items()),
        *(f"--build-arg={name}={value}" for name, value in sorted(build_arguments.items())),
        *(f"--secret=id={name},src={path}" for name, path in sorted(recipe.secrets.items())),
        *(f"--build-context={name}={where}" for name, where in sorted(contexts.items())),
        *(f"--cache-from=type=registry,ref={reference}" for reference in recipe.cache_from),
        str(recipe.context),
    ]


def _caches(recipe: Recipe) -> bool:
    return bool(recipe.cache_from or recipe.cache_to)


def _exported(staging: Layout) -> str:
    return f"type=oci,tar=false,dest={staging.directory}"


def _pushed(repository: Repository) -> str:
    """Into the repository by digest, without a tag, and nothing kept by the builder."""
    return (
        f"type=image,name={repository},push=true,push-by-digest=true,name-canonical=true,"
        "store=false,oci-mediatypes=true"
    )


def _staged(staging: Layout) -> Descriptor:
    entries = staging.entries()
    if len(entries) != 1:
        raise ServiceError(f"buildx exported {len(entries)} images where one was built")
    return entries[0][1]


def described(metadata: bytes) -> Descriptor:
    """The manifest that a metadata file says was made."""
    try:
        entry = load_object(metadata)["containerimage.descriptor"]
        return Descriptor(str(entry["mediaType"]), Digest.parse(entry["digest"]), int(entry["size"]))
    except (ValueError, KeyError, TypeError, SecureBuildError) as error:
        raise ServiceError(f"buildx wrote a metadata file that names no manifest: {error}") from None


def materials(metadata: bytes, pins: Mapping[str, str] | None = None) -> tuple[Material, ...] | None:
    """The external inputs in a metadata file's provenance (slsa.dev, 0.2 and 1), the frontend too.

    None when buildx wrote no provenance or lists an input without saying its digest. What was
    pinned has the name of its pin, not the one that BuildKit read in its place.
    """
    try:
        provenance = load_object(metadata).get("buildx.build.provenance")
        if not provenance:
            return None
        predicate = provenance.get("predicate", provenance)
        listed = predicate.get("materials")
        if listed is None:
            listed = predicate.get("buildDefinition", {}).get("resolvedDependencies") or []
        found = [_material(entry, pins or {}) for entry in listed]
    except (ValueError, KeyError, TypeError, AttributeError, SecureBuildError) as error:
        raise ServiceError(f"buildx wrote a metadata file that cannot be read: {error}") from None
    known = {material for material in found if material}
    return tuple(sorted(known)) if None not in found else None


def _material(entry: Mapping[str, Any], pins: Mapping[str, str]) -> Material | None:
    uri, digests = str(entry["uri"]), entry.get("digest") or {}
    digest = next((f"{kind}:{digests[kind]}" for kind in ("sha256", "sha1") if kind in digests), None)
    # Images of a local layout and single blobs of a registry are nothing that we have a name for.
    if digest is None or (uri.startswith("pkg:") and not uri.startswith(_IMAGE)) or "ref_type=" in uri:
        return None
    if uri.startswith(_IMAGE):
        return Material("image", _image_name(uri, digest, pins), digest)
    if "sha1" in digests or not uri.startswith(("http://", "https://")):
        locked = (
            name for name, commit in pins.items() if at_commit(name, commit) == uri and commit == digest
        )
        return Material("git", next(locked, uri), digest)
    return Material("http", uri, digest)


def _image_name(uri: str, digest: str, pins: Mapping[str, str]) -> str:
    # A package URL: pkg:docker/HOST%3APORT/PATH@TAG?digest=sha256:…&platform=…
    parts = urlsplit(uri.removeprefix(_IMAGE))
    name, _, tag = unquote(parts.path).rpartition("@") if "@" in parts.path else (unquote(parts.path), "", "")
    by_tag = str(Reference.parse(f"{name}:{tag}" if tag else name))
    if "digest" not in parse_qs(parts.query) or pins.get(by_tag) == digest:
        return by_tag
    return str(Reference.parse(f"{name}@{digest}"))


def open_buildx(
    surroundings: Surroundings, name: str | None = None
) -> contextlib.AbstractContextManager[Builder]:
    """buildx with the builder of this name, or the one that is selected (`docker buildx use`).

    Raises MachineError when it is missing, does not answer or cannot export layouts.
    """
    return contextlib.nullcontext(Buildx(_probe(name), surroundings))


def _probe(name: str | None) -> Instance:
    if DOCKER.find() is None:
        raise MachineError("`docker` is not on this machine", hint="install the package `docker-cli`")
    try:
        text = process.run(DOCKER, ["buildx", "version"], timeout=_PROBE_SECONDS).decode(errors="replace")
        # The name of the program, the version, the commit.
        plugin = text.split()[1].removeprefix("v")
    except (ProcessError, IndexError):
        raise MachineError(
            "Docker's buildx plugin is missing", hint="install the package `docker-buildx`"
        ) from None
    inspected = _inspect(name)
    driver = next(iter(inspected.get("driver", ())), "")
    if driver == "docker" or not driver:
        # Without an engine that answers, buildx names no driver.
        return Instance(name, "docker", BuilderVersion("buildx", f"{plugin}, engine {_engine(name)}"))
    inspected = _inspect(name, boot=True)
    if "running" not in inspected.get("status", ()):
        raise MachineError(f"the builder{f' `{name}`' if name else ''} of buildx does not run")
    kit = " and ".join(sorted({*inspected.get("buildkit version", ()), *inspected.get("buildkit", ())}))
    return Instance(name, driver, BuilderVersion("buildx", f"{plugin}, BuildKit {kit or 'unknown'}"))


def _inspect(name: str | None, *, boot: bool = False) -> dict[str, list[str]]:
    """What buildx says of a builder and all of its nodes; with `boot`, it is started first."""
    options = ["--bootstrap"] if boot else []
    try:
        output = process.run(
            DOCKER,
            ["buildx", "inspect", *options, *([name] if name else [])],
            timeout=_BOOT_SECONDS if boot else _PROBE_SECONDS,
        )
    except ProcessError as error:
        last = (error.output.strip().splitlines() or [error.ending])[-1]
        raise MachineError(
            f"buildx's builder {f'`{name}` ' if name else ''}does not answer: {last.removeprefix('ERROR: ')}",
            hint="`docker buildx ls` lists the builders of this machine",
        ) from None
    result: dict[str, list[str]] = {}
    for key, value in re.findall(r"(?m)^\s*([A-Za-z ]+):[ \t]+(\S+)", output.decode(errors="replace")):
        result.setdefault(key.lower(), []).append(value)
    return result


def _engine(context: str | None) -> str:
    """The version of the engine behind a builder of the driver `docker`; checks that it can do it."""
    where = ["--context", context] if context else []
    try:
        output = process.run(DOCKER, [*where, "info", "--format", "{{json .}}"], timeout=_PROBE_SECONDS)
        engine = json.loads(output)
    except (ProcessError, ValueError):
        engine = {}
    if not engine.get("ServerVersion"):
        reason = "; ".join(engine.get("ServerErrors") or [])
        raise MachineError(
            f"the Docker engine does not answer{f': {reason}' if reason else ''}",
            hint="start it, or set `DOCKER_HOST`",
        )
    if _IMAGE_STORE not in [value for _, value in engine.get("DriverStatus") or []]:
        raise MachineError(
            "this Docker engine cannot export image layouts: it does not use the containerd image store",
            hint='put `"features": {"containerd-snapshotter": true}` into its `daemon.json` and restart it, '
            "make another builder (`docker buildx create --use`), or use the builder `engine`",
        )
    return str(engine["ServerVersion"])
