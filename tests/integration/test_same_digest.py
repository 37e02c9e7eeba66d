"""The same commit gives the same digest: elsewhere, for somebody else, at another time, without a cache."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from integration.project import Project, command, git
from services import running
from services.needed import give_up, need
from services.running import Engine

NOBODY = 54321
SUBORDINATE = 0x7A000000

# In a mount namespace of its own, so that the machine's user table stays as it is. The capability
# lets the user read the programs, which may lie in a home that is not theirs.
AS_SOMEBODY = """
set -e
for file in passwd subuid subgid; do mount --bind "$1/$file" "/etc/$file"; done
user=$2 groups=$3
shift 3
exec setpriv --reuid="$user" --regid="$user" $groups \
    --inh-caps=+dac_read_search --ambient-caps=+dac_read_search "$@"
"""


def become_somebody(folder: Path, groups: str) -> tuple[str, ...]:
    """What to put in front of a command line to run it as a user who owns nothing here."""
    need("unshare", "setpriv", "newuidmap")
    if os.geteuid() != 0:
        give_up("running as another user needs root")
    folder.mkdir()
    entry = f"somebody:x:{NOBODY}:{NOBODY}::/nonexistent:/bin/sh\n"
    (folder / "passwd").write_text(Path("/etc/passwd").read_text() + entry)
    for name in ("subuid", "subgid"):
        (folder / name).write_text(f"somebody:{SUBORDINATE}:65536\n")
        if not Path("/etc", name).exists():
            give_up(f"`/etc/{name}` not found (Debian package uidmap)")
    return ("unshare", "--mount", "sh", "-c", AS_SOMEBODY, "sh", str(folder), str(NOBODY), groups)


def clone(project: Project, directory: Path, environment: dict[str, str]) -> Project:
    git(project.directory.parent, "clone", "--quiet", str(project.directory), str(directory))
    return replace(project, directory=directory, environment=environment)


def give_away(*folders: Path) -> None:
    """Make everything in the folders the other user's."""
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def scatter_times(folder: Path) -> None:
    """Give every file a time of its own, as a checkout on another day would."""
    chance = random.Random(20260101)
    for path in sorted(folder.rglob("*")):
        if ".git" not in path.parts and not path.is_symlink():
            moment = chance.randrange(10**9, 2 * 10**9)
            os.utime(path, (moment, moment))


@pytest.fixture
def fresh_engine(builder: str, tmp_path: Path) -> Iterator[Engine | None]:
    """For buildx, an engine that has never built anything; buildah's store is new in any work folder."""
    if builder == "buildx":
        with running.engine(tmp_path / "engine") as engine:
            yield engine
    else:
        yield None


def test_other_folder_user_umask_times_and_no_cache(
    builder: str,
    fresh_engine: Engine | None,
    make_project: Callable[..., Project],
    variables: Callable[..., dict[str, str]],
    short_path: Path,
) -> None:
    project = make_project(builder)
    project.commit({"app/page/run.sh": "#!/bin/busybox sh\n", "app/page/deep/er/page.html": "deep\n"})
    (project.directory / "app/page/link").symlink_to("index.html")
    (project.directory / "app/page/run.sh").chmod(0o755)
    project.commit()

    ours = clone(project, short_path / "ours", project.environment)
    ours.run("build", umask=0o022)

    theirs = clone(project, short_path / "another" / "place", variables(builder))
    groups = "--clear-groups"
    if fresh_engine is not None:
        theirs.environment["DOCKER_HOST"] = fresh_engine.host
        groups = f"--groups={Path(fresh_engine.host.removeprefix('unix://')).stat().st_gid}"
        # Looking for a program on the path asks as the user, without the capability.
        programs = short_path / "programs"
        programs.mkdir()
        shutil.copy(running.tool("docker"), programs)
        theirs.environment["PATH"] = f"{programs}:{theirs.environment['PATH']}"
    theirs.runner = become_somebody(short_path / "somebody", groups)
    scatter_times(theirs.directory)
    give_away(theirs.directory, Path(theirs.environment["HOME"]))
    short_path.chmod(0o755)
    theirs.run("build", umask=0o077)

    assert theirs.record_path.stat().st_uid == NOBODY
    assert theirs.digest() == ours.digest()
    blobs = [
        sorted(path.name for path in (it.workdir / "layout/blobs/sha256").iterdir()) for it in (ours, theirs)
    ]
    assert blobs[0] == blobs[1]


def test_next_commit_gives_another_digest(builder: str, make_project: Callable[..., Project]) -> None:
    """The control: what makes digests equal does not make all of them equal."""
    project = make_project(builder)
    project.commit()
    project.run("build")
    first = project.digest()
    project.commit({"app/page/index.html": "<h1>It still runs</h1>\n"})
    project.run("build")
    assert project.digest() != first


def test_what_was_built_before_does_not_matter(
    builder: str, fresh_engine: Engine | None, make_project: Callable[..., Project], short_path: Path
) -> None:
    """Steps that an earlier commit has in common must not bring their times with them."""
    project = make_project(builder)
    project.commit()
    project.run("build")
    # Whole seconds: the next commit must be later than what the first build wrote.
    time.sleep(1.1)
    project.commit({"README.md": "not part of the image\n"})
    project.run("build")

    elsewhere = clone(project, short_path / "elsewhere", dict(project.environment))
    if fresh_engine is not None:
        elsewhere.environment["DOCKER_HOST"] = fresh_engine.host
    elsewhere.run("build")
    assert project.digest() == elsewhere.digest()


def test_every_file_has_the_time_of_the_commit(
    builder: str, make_project: Callable[..., Project], tmp_path: Path
) -> None:
    need("crane")
    project = make_project(builder)
    project.commit()
    project.run("run")
    image = tmp_path / "image.tar"
    command("crane", "export", "--insecure", "--platform=linux/s390x", project.image, image)
    listing = command("tar", "--full-time", "--utc", "-tvf", image, "srv/www").decode()
    moment = datetime.fromisoformat(git(project.directory, "log", "-1", "--format=%cI").strip())
    expected = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    assert [" ".join(line.split()[3:5]) for line in listing.splitlines()] == [expected] * 3
