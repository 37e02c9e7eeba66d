"""A project that is built and signed, and all that it takes to run it again and again from there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from integration.access_log import AccessLog
from integration.project import Project
from secure_build import record
from services.running import RunningRegistry
from torture.faulty import FaultyProxy, Spoiled
from torture.zygote import Run

Content = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended, and what it said."""

    code: int
    said: str


@dataclass
class Stage:
    """The project as it is before publishing, and what it looks like once all is done."""

    project: Project
    registry: RunningRegistry
    data: Path
    proxy: FaultyProxy
    folder: Path
    zygote: subprocess.Popen[str]
    whole: Content = field(default_factory=dict)
    published: Content = field(default_factory=dict)
    requests: int = 0
    changes: int = 0
    # What the registry was asked since it was empty; also what nobody waited for any more.
    _log: AccessLog | None = None

    def set_up(self) -> None:
        """Back to the state before publishing, with an empty registry."""
        for source, target in (
            (self.folder / "before", self.project.directory),
            (self.folder / "empty", self.data),
        ):
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)
        self._log = AccessLog(self.registry)

    def keep(self) -> None:
        """Take the state as it is now for the one before publishing."""
        shutil.copytree(self.project.directory, self.folder / "before", symlinks=True)
        self.data.mkdir(parents=True, exist_ok=True)
        shutil.copytree(self.data, self.folder / "empty", symlinks=True)

    def run(self, spoiled: Spoiled | None = None, *, strike: str = "", at: int = 0) -> Ended:
        """`secure-build run`, with this done to it."""
        output = self.folder / "output"
        self.proxy.start(spoiled)
        run = Run(str(self.project.directory), ("run",), self.project.environment, str(output), at, strike)
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write(run.line())
        self.zygote.stdin.flush()
        self.proxy.victim = int(self.zygote.stdout.readline())
        code = int(self.zygote.stdout.readline())
        if strike == "count":
            self.changes = len(output.with_name("output.changes").read_text())
        return Ended(code, output.read_text(errors="replace"))

    # What there is

    def at_registry(self) -> Content:
        """What the registry has: its files by path, without uploads that have not ended."""
        return {
            str(path.relative_to(self.data)): path.read_bytes() if path.name == "link" else b""
            for path in sorted(_files(self.data))
        }

    def in_folder(self) -> Content:
        """The record and the contract; findings tell when something was seen, and are left out."""
        place = self.project.workdir
        known = json.loads((place / "build-record.json").read_text())
        known.pop("findings", None)
        for section in known.get("sections", {}).values():
            section.pop("plaintext_keyed", None)
        contract = place / "workload.yaml"
        return {
            "record": json.dumps(known, sort_keys=True).encode(),
            "workload": contract.read_bytes() if contract.exists() else b"",
        }

    # What must always be so

    def check_always(self, told: str) -> None:
        """What holds after any end: no tag of half an image, a record that can be read, nothing open."""
        files = list(_files(self.data))
        blobs = {path.parent.name for path in files if path.name == "data"}
        for link in (path for path in files if path.match("_manifests/tags/*/current/link")):
            self._check_whole(link.read_text().removeprefix("sha256:"), blobs, told)
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
        asked = self._log.requests() if self._log is not None else []
        for path in (one.path for one in asked if one.method == "PUT" and one.status == 201):
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
                assert repository in listed, f"{told}: {path} before what is signed about it"
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
        assert self._check_writes(told) == {"acme/web", "acme/worker"}, told
        assert self.in_folder() == self.whole, told
        assert self.at_registry() == self.published, told


def _files(data: Path) -> Iterator[Path]:
    """What a registry keeps, but for uploads that have not ended: those come and go by themselves."""
    for folder, folders, names in os.walk(data):
        folders[:] = [name for name in folders if name != "_uploads"]
        yield from (Path(folder) / name for name in names)


@contextmanager
def zygote(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
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
