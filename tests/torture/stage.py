"""A project that is built, and all that it takes to publish it again and again from there."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from integration.project import Project
from secure_build import record
from services import running
from services.tokens import TokenService
from torture.faulty import FaultyProxy, Spoiled
from torture.zygote import Run

ALL = os.environ.get("TORTURE") == "all"
# So many points are tried side by side, each on a stage of its own.
STAGES = (os.cpu_count() or 1) if ALL else 1
Content = dict[str, bytes]
One = TypeVar("One")
_PUSH, _GUEST = "canary-password-of-the-builder", "canary-password-of-the-guest"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, and what it said."""

    code: int
    said: str


@dataclass
class Stage:
    """The project as it is before publishing, and what it looks like once all is done.

    `front` stands before the registry, and `spoiling` before what is spoiled, which may be the same.
    Statements are made about the images in `described`, repositories of the registry.
    """

    project: Project
    data: Path
    front: FaultyProxy
    spoiling: FaultyProxy
    described: frozenset[str]
    folder: Path
    zygote: subprocess.Popen[str]
    whole: Content = field(default_factory=dict)
    requests: int = 0
    changes: int = 0

    def set_up(self) -> None:
        """Back to the state before publishing, with an empty registry."""
        for source, target in (
            (self.folder / "before", self.project.directory),
            (self.folder / "empty", self.data),
        ):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        self.forget()

    def forget(self) -> None:
        """Forget what was asked of the services."""
        for proxy in (self.front, self.spoiling):
            proxy.forget()

    def keep(self) -> None:
        """Take the state as it is now for the one before publishing, and see how a run ends from there."""
        shutil.copytree(self.project.directory, self.folder / "before", symlinks=True)
        self.data.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.data, self.folder / "empty", symlinks=True)
        self.forget()
        ended = self.run(strike="count")
        assert ended.code == 0, ended.said
        self.whole = self.outcome()
        self.requests = len(self.spoiling.requests)

    def run(self, spoiled: Spoiled | None = None, *, strike: str = "", at: int = 0) -> Ended:
        """`secure-build run`, with this done to it."""
        output = self.folder / "output"
        for proxy in (self.front, self.spoiling):
            proxy.start(spoiled if proxy is self.spoiling else None)
        run = Run(str(self.project.directory), ("run",), self.project.environment, str(output), at, strike)
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(run.line())
        self.zygote.stdin.flush()
        self.spoiling.victim = int(self.zygote.stdout.readline())
        code = int(self.zygote.stdout.readline())
        self.front.settle()
        if strike == "count":
            self.changes = len(output.with_name("output.changes").read_text())
        return Ended(code, output.read_text(errors="replace"))

    # What there is

    def outcome(self) -> Content:
        """What a run came to: what the registry has, by path, and the record and the contract.

        Without uploads that have not ended, and without findings, which tell when something was seen.
        """
        place = self.project.workdir
        known = json.loads((place / "build-record.json").read_text())
        known.pop("findings", None)
        for section in known.get("sections", {}).values():
            section.pop("plaintext_keyed", None)
        return {
            **self.published(),
            "record": json.dumps(known, sort_keys=True).encode(),
            "workload": (place / "workload.yaml").read_bytes(),
        }

    def published(self) -> Content:
        """The files of the registry by path; blobs are named by what is in them."""
        return {
            str(path.relative_to(self.data)): path.read_bytes() if path.name == "link" else b""
            for path in sorted(_files(self.data))
        }

    @property
    def tags(self) -> dict[str, str]:
        """What each tag names, by repository and tag."""
        found = {}
        for name, content in self.published().items():
            place, is_tag, tag = name.removesuffix("/current/link").partition("/_manifests/tags/")
            if is_tag and name.endswith("/current/link"):
                found[f"{place.partition('/repositories/')[2]}:{tag}"] = content.decode()
        return found

    # What must always be so

    def check_clear(self, ended: Ended, told: str) -> None:
        """The end is one that is documented, and says why in our words; no login went to another host."""
        assert ended.code in range(6), f"{told}: {ended.code}\n{ended.said}"
        assert "Traceback" not in ended.said, f"{told}:\n{ended.said}"
        if ended.code in (2, 3, 4):
            assert "error: " in ended.said, f"{told}:\n{ended.said}"
        assert not any(self.spoiling.elsewhere), f"{told}: a login went to another host"

    def check_always(self, told: str) -> None:
        """What holds after any end: no tag of half an image, a record that can be read, nothing open."""
        blobs = {path.parent.name for path in _files(self.data) if path.name == "data"}
        for digest in self.tags.values():
            self._check_whole(digest.removeprefix("sha256:"), blobs, told)
        self._check_writes(told)
        known, _ = record.load(self.project.record_path)
        if (self.project.workdir / "workload.yaml").exists():
            assert not [one for one in known.findings if one.level == "fail"], told
        for path in self.project.workdir.rglob("*"):
            if path.is_file() and b"canary-password" in path.read_bytes():
                assert path.stat().st_mode & 0o077 == 0, f"{told}: {path}"

    def _check_writes(self, told: str) -> set[str]:
        """No blob is sent more than twice; a tag comes after the list of what is signed about its image.

        Gives the repositories in which there is such a list.
        """
        listed: set[str] = set()
        sent: Counter[str] = Counter()
        for path in (one.path for one in self.front.requests if (one.method, one.status) == ("PUT", 201)):
            place, _, name = path.rpartition("/")
            repository = place.removeprefix("/v2/").removesuffix("/manifests")
            if "/blobs/uploads/" in path:
                digest = path.rpartition("digest=")[2]
                blob = f"{path.partition('/blobs/')[0]} {digest}"
                sent[blob] += 1
                assert sent[blob] <= 2, f"{told}: {blob} was sent {sent[blob]} times"
            elif name.startswith("sha256-"):
                listed.add(repository)
            elif not name.startswith("sha256:"):
                is_due = repository in listed or repository not in self.described
                assert is_due, f"{told}: {path} before what is signed about it"
        return listed

    def _check_whole(self, digest: str, blobs: set[str], told: str) -> None:
        assert digest in blobs, f"{told}: a tag names {digest}, which is not there"
        path = self.data / "docker" / "registry" / "v2" / "blobs" / "sha256" / digest[:2] / digest / "data"
        manifest = json.loads(path.read_bytes())
        for part in [*manifest.get("layers", []), *([manifest["config"]] if "config" in manifest else [])]:
            assert part["digest"].removeprefix("sha256:") in blobs, f"{told}: {digest} lacks {part['digest']}"
        for member in manifest.get("manifests", []):
            self._check_whole(member["digest"].removeprefix("sha256:"), blobs, told)

    def check_goes_on(self, told: str) -> None:
        """The next run, with which nothing is wrong, comes to the same end as one alone."""
        again = self.run()
        assert again.code == 0, f"{told}, and then:\n{again.said}"
        assert self._check_writes(told) == self.described, told
        assert self.outcome() == self.whole, told


def _files(data: Path) -> Iterator[Path]:
    """What a registry keeps, but for uploads that have not ended: those come and go by themselves."""
    for folder, folders, names in os.walk(data):
        folders[:] = [name for name in folders if name != "_uploads"]
        yield from (Path(folder) / name for name in names)


@contextmanager
def opened(
    folder: Path,
    signed: dict[str, list[str]],
    signing: dict[str, Any],
    *,
    secrets: Mapping[str, str] = MappingProxyType({}),
    spoiling: FaultyProxy | None = None,
    first: Sequence[str] = ("build",),
    stage: Callable[..., Stage] = Stage,
) -> Iterator[Stage]:
    """A stage on which these images are signed in these ways; its verbs `first` are done beforehand.

    What is spoiled is the registry, unless something else is given.
    """
    home = folder / "home"
    home.mkdir(parents=True)
    users, rights = {"builder": _PUSH, "guest": _GUEST}, {"builder": {"pull", "push"}, "guest": {"pull"}}
    with (
        TokenService(folder, users, rights) as tokens,
        FaultyProxy(tokens=tokens.host) as front,
        running.registry(
            folder / "registry", tokens=replace(tokens.trust, realm=f"http://{front.host}/token")
        ) as registry,
    ):
        front.upstream = registry.host
        images = {
            name: {"image": f"{front.host}/acme/{name}:1.0", "build": {"context": name}, "sign": kinds}
            for name, kinds in signed.items()
        }
        config = {
            "version": 1,
            "target": "ccrt",
            "builder": "buildah",
            "images": images,
            "registries": {
                front.host: {
                    "push": {"username": "builder", "password": {"secret": "REGISTRY_PUSH"}},
                    "runtime": {"username": "guest", "password": {"secret": "REGISTRY_PULL"}},
                }
            },
            "signing": signing,
            "attestations": {"sbom": []},
            "workload": {"compose": "docker-compose.yml"},
        }
        logins = {"REGISTRY_PUSH": _PUSH, "REGISTRY_PULL": _GUEST, "HOME": str(home)}
        project = Project(folder / "project", {**running.environment(), **secrets, **logins}, config)
        project.directory.mkdir()
        services = "".join(f"  {name}:\n    image: {one['image']}\n" for name, one in images.items())
        files = {f"{name}/Dockerfile": "FROM scratch\nCOPY Dockerfile /\n" for name in images}
        project.commit({**files, "docker-compose.yml": f"services:\n{services}"})
        for verb in first:
            project.run(verb)
        # Where anything can be signed with, something is stated about every image.
        described = frozenset(f"acme/{name}" for name in images if signing.keys() & {"cosign", "keyless"})
        with _zygote(project.environment) as process:
            data = folder / "registry" / "data"
            made = stage(project, data, front, spoiling or front, described, folder, process)
            made.keep()
            yield made


@contextmanager
def _zygote(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "torture.zygote"],
        cwd=Path(__file__).parents[1],
        env={**environment, "PYTHONPATH": os.fspath(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sample(everything: Sequence[One], every: int) -> Sequence[One]:
    """All there is for `make torture`, else one in so many, the same each time."""
    return everything if ALL else everything[::every]


def on_any(
    stages: Sequence[Stage], points: Sequence[One], act: Callable[[Stage, One], None]
) -> Iterator[One]:
    """Try each point on the stage that is free, and give it when that went well."""
    free: queue.SimpleQueue[Stage] = queue.SimpleQueue()
    for stage in stages:
        free.put(stage)

    def one(point: One) -> One:
        stage = free.get()
        try:
            stage.set_up()
            act(stage, point)
        finally:
            free.put(stage)
        return point

    with ThreadPoolExecutor(len(stages)) as threads:
        yield from threads.map(one, points)


def whole_or_clear(stage: Stage, point: Spoiled) -> None:
    """Whatever is done to a request: the whole, right result or a clear error, and the next run goes on."""
    ended, told = stage.run(point), str(point)
    stage.check_clear(ended, told)
    stage.check_always(told)
    if ended.code == 0:
        assert stage.outcome() == stage.whole, told
    stage.check_goes_on(told)


def survived(stage: Stage, point: Spoiled) -> None:
    """Whenever a run is killed, the next one goes on."""
    ended, told = stage.run(point), str(point)
    assert ended.code == -9, f"{told}: {ended.said}"
    stage.check_always(told)
    stage.check_goes_on(told)
