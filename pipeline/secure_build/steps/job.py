"""One invocation: what the command line decided, the config, and what the steps share."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from secure_build import __version__, config, files, lock, process, record, secret
from secure_build.config import Loaded, Login
from secure_build.errors import UsageError
from secure_build.layout import Layout
from secure_build.lock import Lock
from secure_build.model import BuilderName, BuildRecord, Credential, Platform, UsedImage
from secure_build.reference import Reference, Repository
from secure_build.registry.auth import machine_credential
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport, at_once
from secure_build.report import Report
from secure_build.source import Checkout, open_source

if TYPE_CHECKING:
    from secure_build.contract.deployment.forms import Form
    from secure_build.steps.certificates import CheckedCertificate
    from secure_build.steps.keys import Keys
    from secure_build.steps.signing import Signer

OCI = "oci:"
RECORD_NAME = "build-record.json"
# Folders in the work folder that live as long as a run.
TEMPORARY = (".staging-*", ".context-*", ".login-*", ".secrets-*", ".again-*", ".keys-*", ".sbom-*")
# The most that is read of a file of the source.
LARGEST_FILE = 8 << 20


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line decides. `records` are files, or records in registries, by digest."""

    config: Path
    workdir: Path
    records: tuple[str, ...] = ()
    jobs: int = 4
    builder: BuilderName | None = None
    platform: Platform | None = None
    allow_dirty: bool = False
    locked: bool = False
    by_digest: bool = False
    hand_on: bool = False
    probe_push: bool = False
    images: tuple[str, ...] = ()
    to: str | None = None
    with_evidence: bool = False
    into: Path | None = None
    offline: bool = False
    insecure_unverified_certificate: bool = False
    re_encrypt: bool = False
    workload: Path | None = None
    env: Path | None = None
    pods: Path | None = None
    form: Form | None = None
    section: Literal["workload", "env"] | None = None
    plain: Path | None = None
    old_record: Path | None = None
    image_version: str | None = None

    @property
    def requests(self) -> int:
        """How many requests to registries may be under way."""
        return at_once(self.jobs)


@dataclass(frozen=True, slots=True)
class Job:
    """One invocation: options, the config they name, and what is opened once and shared."""

    options: Options
    report: Report
    loaded: Loaded
    transport: Transport
    layout: Layout
    # What inputs have to be; empty where there is no lock.
    lock: Lock = field(default_factory=Lock)
    # Third-party images that this invocation has resolved; a tag is asked for once.
    resolved: dict[Reference, UsedImage] = field(default_factory=dict)
    clients: dict[tuple[str, Credential | None, bool], RemoteRegistry] = field(default_factory=dict)
    machine_logins: dict[Repository, Credential | None] = field(default_factory=dict)
    # The encryption certificate, read and checked once: all sections are encrypted for the same one.
    certificates: list[CheckedCertificate] = field(default_factory=list)
    # Who signs the contract, if anybody: an RSA key is checked when it is opened, which takes its time.
    signers: list[Signer | None] = field(default_factory=list)
    # The keys and identities to sign images with, opened once.
    keys: list[Keys] = field(default_factory=list)
    # What is opened for the whole of the job, such as a folder with keys, and closed with it.
    exits: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _opened: list[Checkout] = field(default_factory=list)

    @property
    def record_path(self) -> Path:
        return self.options.workdir / RECORD_NAME

    @property
    def lock_path(self) -> Path:
        return lock.path_of(self.loaded.path)

    def last_record(self) -> BuildRecord | None:
        """The record that is there, whatever it is of; None when it cannot be used."""
        if not self.record_path.exists():
            return None
        try:
            return record.read(self.record_path)
        except UsageError as error:
            self.report.step(f"not used: {error.message}")
            return None

    def current_record(self) -> BuildRecord:
        """The record, when it is of this config; raises UsageError otherwise."""
        current = record.read(self.record_path)
        self.require_config(current, str(self.record_path))
        return current

    def record_or_new(self) -> BuildRecord:
        """The record of this config, or a new one: for what needs no images."""
        last = self.last_record()
        if last is not None and last.config == self.loaded.digest:
            return last
        earlier = last.emitted if last is not None else {}
        return BuildRecord(tool=__version__, config=self.loaded.digest, earlier=earlier)

    def require_config(self, current: BuildRecord, name: str) -> None:
        if current.config != self.loaded.digest:
            raise UsageError(
                f"`{name}` was made with another content of `{self.loaded.path}`",
                hint="run `secure-build build` again",
            )

    def require_commit(self, current: BuildRecord, checkout: Checkout) -> None:
        """Raise UsageError when the images are of another commit than the one at hand."""
        if checkout.source.commit != current.built_from.commit:
            raise UsageError(
                f"the images were built from commit {current.built_from.commit}, "
                f"and commit {checkout.source.commit} is checked out",
                hint="run `secure-build build` again",
            )

    def chosen(self, current: BuildRecord) -> set[str]:
        """The built images to work on; raises UsageError for one that has not been built."""
        built = {image.name for image in current.images}
        wanted = set(self.selected()) if self.options.images else built
        if absent := wanted - built:
            raise UsageError(f"`{min(absent)}` has not been built", hint="run `secure-build build` first")
        return wanted

    def checkout(self, *, commit: str | None = None, allow_dirty: bool | None = None) -> Checkout:
        """The source, opened once for all steps and closed with the job.

        `commit` is that of the build record: of a repository on a server it is taken, whatever
        the branch names by now; one on this machine has its commit checked out, or another.
        """
        if not self._opened:
            self._opened.append(
                open_source(
                    self.loaded.config.source,
                    self.loaded.directory,
                    self.options.workdir,
                    allow_dirty=self.options.allow_dirty if allow_dirty is None else allow_dirty,
                    commit=commit,
                )
            )
        return self._opened[0]

    def close(self) -> None:
        try:
            self.exits.close()
        finally:
            while self._opened:
                self._opened.pop().close()

    def selected(self) -> list[str]:
        """The images to work on; raises UsageError for a name that the config does not build."""
        built = self.loaded.config.built
        unknown = [name for name in self.options.images if name not in built]
        if unknown:
            raise UsageError(
                f"`{unknown[0]}` is no image that `{self.loaded.path}` builds",
                hint="it builds " + ", ".join(f"`{name}`" for name in built),
            )
        return list(self.options.images or built)

    def platforms_of(self, name: str) -> tuple[Platform, ...]:
        """The platforms that this run builds an image for."""
        wanted, asked = self.loaded.config.built[name].build.platforms, self.options.platform
        if asked is None:
            return wanted
        if asked not in wanted:
            raise UsageError(
                f"{name} is not built for {asked}", hint=f"add it under `images: {name}: build: platforms:`"
            )
        return (asked,)

    def require_whole(self) -> None:
        """Raise UsageError when images are to be built in part, since a part gets no tag."""
        for name in self.selected():
            image = self.loaded.config.built[name]
            if set(self.platforms_of(name)) != set(image.build.platforms):
                raise UsageError(
                    f"`run` publishes whole images, and {name} would be built for "
                    f"{self.options.platform} only",
                    hint="run `secure-build build --platform` for each platform, "
                    "then `secure-build run --record A --record B`",
                )

    @property
    def mirrors(self) -> bool:
        """Whether publishing also copies third-party images: to registries, and with tags, all of them."""
        return not (self.options.to or self.options.by_digest or self.options.images)

    def login(self, registry: str, use: str) -> Credential | None:
        """The config's login for a use: `push`, `pull` or `runtime`."""
        named: Login | None = getattr(self.loaded.config.access(registry), use)
        if named is None:
            return None
        return Credential(registry, named.username, secret.look_up(named.password.secret))

    def machine_login(self, repository: Repository) -> Credential | None:
        """The login that this machine keeps for a repository; a helper is asked once."""
        if repository not in self.machine_logins:
            self.machine_logins[repository] = machine_credential(repository)
        return self.machine_logins[repository]

    def reader(self, repository: Repository) -> RemoteRegistry:
        """The repository's registry to read from, with the login for pulling or the machine's own."""
        login = self.login(repository.registry, "pull") or self.machine_login(repository)
        return self._client(repository.registry, login, push=False)

    def writer(self, repository: Repository) -> RemoteRegistry:
        """The repository's registry to write to, with the login for pushing or the machine's own."""
        return self._client(repository.registry, self.push_login(repository), push=True)

    def push_login(self, repository: Repository) -> Credential | None:
        """The login for pushing, or the machine's own."""
        return self.login(repository.registry, "push") or self.machine_login(repository)

    def _client(self, registry: str, login: Credential | None, *, push: bool) -> RemoteRegistry:
        """One client for each registry, login and use, so that its tokens are shared."""
        way = (registry, login, push)
        found = self.clients.get(way)
        # Of two threads that open it at once, both use what one of them opened.
        return found or self.clients.setdefault(
            way, RemoteRegistry(registry, login, self.transport, push=push)
        )

    def own_reader(self, repository: Repository) -> RemoteRegistry:
        """A registry to read one's own images from, and what is said of them, with `own_login`."""
        return self._client(repository.registry, self.own_login(repository), push=False)

    def own_login(self, repository: Repository) -> Credential | None:
        """The login for pulling, or another of the config's that is here; else the machine's own."""
        registry = repository.registry
        for use in ("pull", "push", "runtime"):
            named: Login | None = getattr(self.loaded.config.access(registry), use)
            if named is not None and secret.is_known(named.password.secret):
                return self.login(registry, use)
        return self.login(registry, "pull") or self.machine_login(repository)


def layout_directory(destination: str) -> Path:
    """The folder in `oci:DIR`; raises UsageError for another destination."""
    folder = destination.removeprefix(OCI)
    if not destination.startswith(OCI) or not folder:
        raise UsageError(
            f"`--to {destination}`: images can go to `{OCI}DIRECTORY`",
            hint="leave it out to use the registries",
        )
    return Path(folder)


@contextlib.contextmanager
def opened(options: Options, report: Report) -> Iterator[Job]:
    """Load the config and take the work folder; raises UsageError when another run has it.

    So it does when images are to go to a folder that is used for something else.
    """
    loaded = config.load(options.config)
    if not loaded.config.images and loaded.config.env is None:
        raise UsageError(
            f"`{options.config}` has neither `images` nor `env`", hint="it is for `secure-build audit` only"
        )
    if options.to is not None:
        Layout.at(layout_directory(options.to))
    locked = _load_lock(options, loaded)
    secret.take(loaded.config.secret_names)
    # Variables such as GIT_DIR make git look at another repository than the one at hand.
    process.forget_variables("GIT_")
    prepare(options.workdir)
    with (options.workdir / ".lock").open("w") as guard:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another run is using `{options.workdir}`", hint="wait for it, or name another `--workdir`"
            ) from None
        # A run that was killed could not tidy up.
        for pattern in TEMPORARY:
            for left in options.workdir.glob(pattern):
                shutil.rmtree(left, ignore_errors=True)
        layout = Layout.create(options.workdir / "layout")
        with Transport() as transport:
            opened = Job(options, report, loaded, transport, layout, locked)
            with contextlib.closing(opened):
                yield opened


def _load_lock(options: Options, loaded: Loaded) -> Lock:
    path = lock.path_of(loaded.path)
    found = lock.load(path)
    if found is None and options.locked:
        raise UsageError(
            f"there is no `{path}`, and `--locked` builds with nothing else",
            hint="run `secure-build lock` and commit what it writes",
        )
    return found or Lock()


def prepare(workdir: Path) -> None:
    """Make the work folder; raises UsageError for a folder that is used for something else."""
    if set(':,"\n') & set(str(workdir.absolute())):
        raise UsageError(
            f"the work folder `{workdir.absolute()}` has a character that builders give a meaning",
            hint="name one without `:`, `,` and quotes: `--workdir DIR`",
        )
    # The root of a volume may have a `lost+found` of its file system.
    others = any(path.name != "lost+found" for path in workdir.iterdir()) if workdir.exists() else False
    if others and not (workdir / ".lock").exists():
        raise UsageError(
            f"`{workdir}` holds other files, so it is no work folder",
            hint="name a folder that does not exist yet: `--workdir DIR`",
        )
    workdir.mkdir(parents=True, exist_ok=True)
    # What is kept here is not part of the source.
    if not (ignore := workdir / ".gitignore").exists():
        (workdir / ".lock").touch()
        files.write(ignore, b"*\n")
