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
from secure_build.builders.policy import check_pins, image_pins, spellings
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.model import BuilderVersion, Descriptor, Material
from secure_build.process import ProcessError, Program
from secure_build.reference import Digest, Reference

BUILDAH = Program("buildah", "buildah")
_PROBE_SECONDS = 60.0
_PULLED = re.compile(r"Trying to pull (\S+?)(?:\.\.\.)?$")
_ADDED = re.compile(r"STEP \d+/\d+: ADD\s+(.*)", re.IGNORECASE)
_STAGE = re.compile(r"(?im)^\s*FROM\s.*\sAS\s+(\S+)\s*$")
_FROM = re.compile(r"(?im)^\s*FROM\s+(?:--platform=\S+\s+)?(\S*\$\S*)")
_ARG = re.compile(r"(?im)^\s*ARG\s+([A-Za-z_]\w*)(?:=(\S*))?\s*$")
_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::-([^}]*))?\})")
_LOOPBACK = re.compile(r"(?<![\w.-])(?:localhost|127(?:\.[0-9]{1,3}){3}|\[::1\])(?::[0-9]+)?(?![\w.-])")

# What it says where it may not do what it needs, why that is, and what helps.
_REFUSALS = (
    (
        "Error during unshare",
        "it may not make a user namespace",
        "the container's seccomp profile has to allow `unshare`; `RuntimeDefault` does not",
    ),
    (
        "unknown userid",
        "this user has no line in `/etc/passwd`",
        "run it as a user that the image knows: root, or 1000 in the image of our Tekton task",
    ),
    (
        "uid_map: operation not permitted",
        "root lacks the capability `SETFCAP`, without which it may not map users",
        "let the container have it: `securityContext: {capabilities: {add: [SETFCAP]}}`",
    ),
)
_UNPRIVILEGED = "without root it needs the package `uidmap` and ranges for this user in `/etc/subuid`"


class Buildah:
    """buildah with a private store."""

    def __init__(self, version: BuilderVersion, store: Sequence[str], surroundings: Surroundings) -> None:
        self.version = version
        self._store = store
        self._surroundings = surroundings
        # One build at a time: builds in one store that have a stage in common make the same image, and
        # the one that is done with it removes it under the other.
        self._building = threading.Lock()
        self._has_built = False
        self._lock = threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        self._exports: dict[str, Descriptor] = {}

    def build(self, recipe: Recipe, staging: Layout, on_line: Callable[[str], None]) -> Built:
        account = _Account()

        def follow(line: str) -> None:
            account.read(line)
            on_line(line)

        with tempfile.TemporaryDirectory(prefix="secure-build-") as folder, self._logins(recipe) as logins:
            image_id = Path(folder) / "image-id"
            environment = dict(logins)
            if plain := loopback_registries(recipe):
                environment["CONTAINERS_REGISTRIES_CONF"] = str(_registries_conf(Path(folder), plain))
            try:
                with self._building:
                    self._has_built = True
                    self._run(*arguments(recipe, image_id), on_line=follow, environment=environment)
            except ProcessError as error:
                raise build_failed("buildah", error.output.strip()) from None
            descriptor = self._exported(image_id.read_text().strip(), staging)
        found = self._materials(account.pulled, recipe)
        check_pins(recipe.pins, found or ())
        if account.fetched and any("://" in name for name in recipe.pins):
            raise RefusedError(
                "buildah does not hold what `ADD` fetches to the digest that is locked",
                hint="use the builder `buildx`, or copy the file into the source",
            )
        return Built(
            descriptor,
            # It does not say what an address gave.
            None if account.fetched else found,
            reproducible=not (recipe.cache_from or recipe.cache_to),
        )

    def tidy(self) -> None:
        """Remove what is not worth keeping: containers of interrupted builds, and images without a name.

        Those are what was built, which the layout has, and bases whose tag has moved. Not while
        anything builds: images that are alike are one image in the store.
        """
        if not self._has_built:
            return
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

    def _materials(self, pulled: set[str], recipe: Recipe) -> tuple[Material, ...] | None:
        """The digests of what was pulled, from the store; the log only says which names count.

        None when one of them cannot be read there, or is not in the store.
        """
        pinned: dict[str, list[str]] = {}
        for reference, image in image_pins(recipe.pins).items():
            pinned.setdefault(image, []).append(str(reference))
        found = []
        for name in sorted(pulled):
            try:
                reference = Reference.parse(name)
            except UsageError:
                # A secret of the build hides a part of it in the log.
                return None
            digest = reference.digest or self._digest(reference)
            if digest is None:
                return None
            # What was pinned has the name of its pin; of several that are one image, each counts.
            names = pinned.get(str(reference), [str(reference)])
            found += [Material("image", name, str(digest)) for name in names]
        return tuple(sorted(found))

    def _digest(self, reference: Reference) -> Digest | None:
        """The digest that an image of this name has in the store.

        Asked for by name: a list of all images fails when another build removes one meanwhile.
        """
        try:
            (listed,) = json.loads(self._run("images", "--json", "--no-trunc", str(reference)))
            return Digest.parse(listed["digest"])
        except (ProcessError, ValueError, KeyError, UsageError):
            return None

    @contextlib.contextmanager
    def _logins(self, recipe: Recipe) -> Iterator[dict[str, str]]:
        """Where buildah finds logins; the one for writing the cache is for its repository alone."""
        around = self._surroundings
        cache = recipe.cache_to.repository if recipe.cache_to else None
        login = around.push_login(cache) if cache else None
        repositories = {cache: login} if cache and login else {}
        with docker_config(around.logins, around.folder, repositories=repositories) as made:
            yield {"REGISTRY_AUTH_FILE": str(made / "config.json")} if made else {}

    def _run(
        self,
        *arguments: str,
        on_line: Callable[[str], None] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> bytes:
        return process.run(
            BUILDAH,
            [*self._store, *arguments],
            environment=environment,
            on_line=on_line,
        )


class _Account:
    """What buildah's log says of external inputs. What a step prints can add to it, never take away."""

    def __init__(self) -> None:
        self.pulled: set[str] = set()
        self.fetched = False

    def read(self, line: str) -> None:
        if match := _PULLED.match(line):
            self.pulled.add(match[1])
        # An argument may be an address; steps of a base's `ONBUILD` are listed like others.
        if (match := _ADDED.match(line)) and ("://" in match[1] or "$" in match[1] or "git@" in match[1]):
            self.fetched = True


def arguments(recipe: Recipe, image_id: Path) -> list[str]:
    """The command line for one image and platform, with the commit's time everywhere."""
    contexts: dict[str, Path | str] = {**_pinned_contexts(recipe), **recipe.contexts}
    caches = recipe.cache_from or recipe.cache_to
    return [
        *("build", "--format=oci", "--pull-always", "--identity-label=false"),
        # Its cache knows a step by the history of the image that it made.
        *([] if caches else ["--omit-history"]),
        f"--timestamp={recipe.epoch}",
        f"--platform={recipe.platform}",
        f"--file={recipe.dockerfile}",
        f"--iidfile={image_id}",
        *([f"--target={recipe.target}"] if recipe.target else []),
        *(f"--build-arg={name}={value}" for name, value in sorted(recipe.arguments.items())),
        *(f"--secret=id={name},src={path}" for name, path in sorted(recipe.secrets.items())),
        *(f"--build-context={name}={where}" for name, where in sorted(contexts.items())),
        *(["--layers"] if caches else []),
        # It tags each step by itself.
        *(f"--cache-from={reference.repository}" for reference in recipe.cache_from),
        *([f"--cache-to={recipe.cache_to.repository}"] if recipe.cache_to else []),
        str(recipe.context),
    ]


def _pinned_contexts(recipe: Recipe) -> dict[str, str]:
    """What a Dockerfile calls an image, with the image to take instead.

    buildah compares names as they are written, in `FROM` before arguments are put in, and would
    take such a name for a build stage of that name too.
    """
    text = recipe.dockerfile.read_text(errors="replace")
    stages = {name.lower() for name in _STAGE.findall(text)}
    contexts = {
        name: f"docker-image://{image}"
        for reference, image in image_pins(recipe.pins).items()
        for name in spellings(reference)
        if name not in stages
    }
    for written in set(_FROM.findall(text)):
        if (name := _expanded(written, text, recipe.arguments)) in contexts:
            contexts[written] = contexts[name]
    return contexts


def _expanded(written: str, dockerfile: str, arguments: Mapping[str, str]) -> str:
    """A `FROM` with the arguments put in that stand before the first one; other forms stay."""
    head = re.split(r"(?im)^\s*FROM\s", dockerfile)[0]
    values: dict[str, str] = {}
    for name, default in _ARG.findall(head):
        values[name] = _substituted(arguments.get(name, default.strip("\"'")), values)
    return _substituted(written, values)


def _substituted(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: values.get(found[1] or found[2], "") or found[3] or found[0], text)


def loopback_registries(recipe: Recipe) -> set[str]:
    """Registries on this machine that the Dockerfile or a build argument may pull from.

    Docker's engine speaks plain HTTP to all of this machine; buildah wants each by name.
    """
    texts = [recipe.dockerfile.read_text(errors="replace"), *recipe.arguments.values()]
    texts += [where for where in recipe.contexts.values() if isinstance(where, str)]
    texts += map(str, (*recipe.cache_from, recipe.cache_to or ""))
    return {name for text in texts for name in _LOOPBACK.findall(text)}


def open_buildah(surroundings: Surroundings) -> contextlib.AbstractContextManager[Builder]:
    """buildah; raises MachineError when it is missing or cannot keep images here."""
    root = f"--root={surroundings.folder / 'buildah'}"
    version = _probe(root)

    @contextlib.contextmanager
    def opened() -> Iterator[Builder]:
        with _state() as state:
            builder = Buildah(version, (root, *_driver(), _runroot(state)), surroundings)
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
            process.run(BUILDAH, [root, *_driver(), _runroot(state), "rm", "--all"], timeout=_PROBE_SECONDS)
    except ProcessError as error:
        raise _refused(error.output.strip()) from None
    return BuilderVersion("buildah", match[1])


def _refused(output: str) -> MachineError:
    for sign, reason, hint in _REFUSALS:
        if sign in output:
            return MachineError(f"buildah does not work here, since {reason}:\n{output}", hint=hint)
    return MachineError(f"buildah does not work here: {output}", hint=_UNPRIVILEGED)


@contextlib.contextmanager
def _state() -> Iterator[Path]:
    """A folder for what buildah keeps while it runs; short, since it ends up in mount options."""
    with tempfile.TemporaryDirectory(prefix="secure-build-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _runroot(state: Path) -> str:
    return f"--runroot={state / 'run'}"


def _driver() -> list[str]:
    """The storage driver of the environment, which buildah does not look at where it is given a root."""
    driver = process.passed_on("STORAGE_DRIVER")
    return [f"--storage-driver={driver}"] if driver else []


def _registries_conf(folder: Path, registries: Collection[str]) -> Path:
    """Plain HTTP for registries on this machine, and for no other."""
    path = folder / "registries.conf"
    entries = (f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n' for registry in sorted(registries))
    path.write_text("".join(entries))
    return path
