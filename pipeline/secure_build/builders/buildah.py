"""buildah: builds without a daemon, in a store of its own that lives in the work folder.

The private store makes two things sure: what buildah says it pulled is what this project's builds
pulled, and after an interrupted build every container in it is ours to remove.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from secure_build import process
from secure_build.builders import Builder, Built, Recipe, Surroundings, build_failed
from secure_build.builders.logins import docker_config
from secure_build.errors import MachineError, SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.model import BuilderVersion, Descriptor, Material
from secure_build.process import ProcessError, Program
from secure_build.reference import Reference

BUILDAH = Program("buildah", "buildah")
_PROBE_SECONDS = 60.0
_PULLED = re.compile(r"Trying to pull (\S+?)(?:\.\.\.)?$")
_LOOPBACK = re.compile(r"(?<![\w.-])(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?(?![\w.-])")


class Buildah:
    """buildah with a private store."""

    def __init__(self, version: BuilderVersion, store: Sequence[str], environment: dict[str, str]) -> None:
        self.version = version
        self._store = store
        self._environment = environment
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._exports: dict[str, Descriptor] = {}

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        pulled: set[str] = set()

        def follow(line: str) -> None:
            if match := _PULLED.match(line):
                pulled.add(match[1])
            on_line(line)

        with tempfile.TemporaryDirectory(prefix="secure-build-") as folder:
            image_id = Path(folder) / "image-id"
            environment = {}
            if plain := loopback_registries(recipe):
                environment["CONTAINERS_REGISTRIES_CONF"] = str(_registries_conf(Path(folder), plain))
            try:
                self._run(*arguments(recipe, image_id), on_line=follow, environment=environment)
            except ProcessError as error:
                raise build_failed("buildah", error.output.strip()) from None
            descriptor = self._exported(image_id.read_text().strip(), staging)
        return Built(descriptor, self._materials(pulled))

    def tidy(self) -> None:
        """Remove what is not worth keeping: containers of interrupted builds, and images without a name.

        Those are what was built, which the layout has, and bases whose tag has moved. Not while
        anything builds: images that are alike are one image in the store.
        """
        self._run("rm", "--all")
        self._run("rmi", "--prune")

    def _exported(self, identity: str, staging: Layout) -> Descriptor:
        """The manifest of an image of the store, written into the staging layout.

        buildah writes manifests in place, so one that somebody may be reading is not written again.
        """
        with self._lock:
            turn = self._turns.setdefault(identity, threading.Lock())
        with turn:
            if identity not in self._exports:
                self._run("push", "--quiet", identity, f"oci:{staging.directory}:image")
                entries = staging.entries()
                if len(entries) != 1:
                    raise ServiceError(f"buildah exported {len(entries)} images where one was built")
                self._exports[identity] = entries[0][1]
            return self._exports[identity]

    def _materials(self, pulled: set[str]) -> tuple[Material, ...]:
        """The digests of what was pulled, from the store; the log only says which names count."""
        listed = json.loads(self._run("images", "--json", "--no-trunc"))
        digests = {name: image["digest"] for image in listed for name in image.get("names") or []}
        references = (Reference.parse(name) for name in sorted(pulled))
        return tuple(
            Material("image", str(reference), str(reference.digest or digests[str(reference)]))
            for reference in references
            if reference.digest or str(reference) in digests
        )

    def _run(
        self,
        *arguments: str,
        on_line: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        return process.run(
            BUILDAH,
            [*self._store, *arguments],
            environment={**self._environment, **(environment or {})},
            on_line=on_line,
        )


def arguments(recipe: Recipe, image_id: Path) -> list[str]:
    """The command line for one image and platform, with the commit's time everywhere."""
    return [
        *("build", "--format=oci", "--pull-always", "--omit-history", "--identity-label=false"),
        f"--platform={recipe.platform}",
        f"--timestamp={recipe.epoch}",
        f"--file={recipe.dockerfile}",
        f"--iidfile={image_id}",
        *([f"--target={recipe.target}"] if recipe.target else []),
        *(f"--build-arg={name}={value}" for name, value in sorted(recipe.arguments.items())),
        str(recipe.context),
    ]


def loopback_registries(recipe: Recipe) -> set[str]:
    """Registries on this machine that the Dockerfile or a build argument may pull from.

    Docker's engine speaks plain HTTP to all of this machine; buildah wants each by name.
    """
    texts = [recipe.dockerfile.read_text(errors="replace"), *recipe.arguments.values()]
    return {name for text in texts for name in _LOOPBACK.findall(text)}


def open_buildah(surroundings: Surroundings) -> contextlib.AbstractContextManager[Builder]:
    """buildah; raises MachineError when it is missing or cannot keep images here."""
    root = f"--root={surroundings.folder / 'buildah'}"
    version = _probe(root)

    @contextlib.contextmanager
    def opened() -> Iterator[Builder]:
        with _state() as state, docker_config(surroundings.logins, surroundings.folder) as logins:
            environment = {"REGISTRY_AUTH_FILE": str(logins / "config.json")} if logins else {}
            builder = Buildah(version, (root, _runroot(state)), environment)
            try:
                yield builder
            finally:
                # What is left all the same is removed by the next run.
                with contextlib.suppress(SecureBuildError):
                    builder.tidy()

    return opened()


def _probe(root: str) -> BuilderVersion:
    text = process.run(BUILDAH, ["--version"], timeout=_PROBE_SECONDS).decode(errors="replace")
    match = re.match(r"buildah version (\S+)", text)
    if match is None:
        raise MachineError(f"`buildah --version` gives no version: {text[:100]}")
    try:
        with _state() as state:
            # Also removes what a build left that was killed; whoever builds has the work folder alone.
            process.run(BUILDAH, [root, _runroot(state), "rm", "--all"], timeout=_PROBE_SECONDS)
    except ProcessError as error:
        raise MachineError(
            f"buildah does not work here: {error.output.strip()}",
            hint="without root it needs the package `uidmap` and ranges for this user in `/etc/subuid`",
        ) from None
    return BuilderVersion("buildah", match[1])


@contextlib.contextmanager
def _state() -> Iterator[Path]:
    """A folder for what buildah keeps while it runs; short, since it ends up in mount options."""
    with tempfile.TemporaryDirectory(prefix="secure-build-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _runroot(state: Path) -> str:
    return f"--runroot={state / 'run'}"


def _registries_conf(folder: Path, registries: Collection[str]) -> Path:
    """Plain HTTP for registries on this machine, and for no other."""
    path = folder / "registries.conf"
    entries = (f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n' for registry in sorted(registries))
    path.write_text("".join(entries))
    return path
