"""A base whose tag moves, held by the lock with real builders."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from integration.access_log import AccessLog
from integration.project import Project, command, git
from services.needed import need
from services.running import RunningRegistry

Projects = Callable[..., Project]
MoveTag = Callable[[str], str]


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that is served on loopback, and its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield tmp_path, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def state(project: Project) -> str:
    """What the published image has from its base, as crane reads it."""
    need("crane")
    config = json.loads(command("crane", "config", "--insecure", project.pinned()))
    (value,) = (entry for entry in config["config"]["Env"] if entry.startswith("STATE="))
    return str(value)


def test_locked_base_stays_and_an_update_moves_it(
    builder: str, make_project: Projects, move_tag: MoveTag, registry: RunningRegistry
) -> None:
    base = move_tag("STATE=old")
    project = make_project(builder, base=base)
    project.config["images"]["web"]["build"]["platforms"] = ["linux/s390x", "linux/amd64"]
    project.commit()
    first = project.run("lock")
    lock = project.directory / "secure-build.lock"
    old = lock.read_text()
    assert f'image:\n  "{base}":\n    linux/amd64: sha256:' in old
    assert first.stdout.count("added image ") == 2
    project.commit()

    move_tag("STATE=new")
    project.run("run", "--locked")
    assert state(project) == "STATE=old"
    log = AccessLog(registry)
    again = project.run("run", "--locked")
    assert "web: unchanged, not built" in again.stderr
    assert not [it for it in log.requests() if "/moving/" in it.path]
    # Entries are kept until they are asked for anew.
    assert project.run("lock").stdout == ""
    assert lock.read_text() == old

    moved = project.run("lock", "--update")
    assert moved.stdout.count("moved image ") == 2
    project.commit()
    project.run("run", "--locked")
    assert state(project) == "STATE=new"


def test_locked_refuses_what_the_lock_does_not_have(
    builder: str, make_project: Projects, move_tag: MoveTag
) -> None:
    base = move_tag("STATE=old")
    project = make_project(builder, base=base)
    project.commit({"secure-build.lock": "version: 1\n"})
    outcome = project.run("build", "--locked", status=1)
    assert f"web: `{base}` for linux/s390x is not in `secure-build.lock`" in outcome.stderr
    assert not project.record_path.exists()
    assert not (project.workdir / "layout" / "index.json").exists()


CHANGING = """\
FROM {base}
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox head -c 16 /dev/urandom > /srv/random"]
"""


def test_building_again_gives_the_same(builder: str, make_project: Projects, move_tag: MoveTag) -> None:
    base = move_tag("STATE=old")
    project = make_project(builder, base=base)
    project.commit()
    project.run("lock")
    project.commit()

    def findings(status: int) -> list[dict[str, str]]:
        outcome = project.run("build", "--check", "--output", "json", status=status)
        found: list[dict[str, str]] = json.loads(outcome.stdout)["findings"]
        return found

    def levels(status: int) -> list[str]:
        return [finding["level"] for finding in findings(status)]

    project.run("build", "--locked")
    record = project.record()
    move_tag("STATE=new")
    assert levels(0) == ["pass"]
    assert project.record() == record

    git(project.directory, "rm", "--quiet", "secure-build.lock")
    project.commit()
    project.run("build")
    move_tag("STATE=newest")
    assert levels(5) == ["unknown"]

    project.commit({"app/Dockerfile": CHANGING.format(base=base)})
    project.run("build")
    (finding,) = findings(1)
    assert finding["level"] == "fail"
    # The one file that differs, in the layer of its step.
    assert "layer 2 of 2: another content: `srv/random`" in finding["why"]
    assert finding["why"].count("layer ") == 1


def test_a_file_that_is_fetched_is_held_to_the_lock(
    builder: str, make_project: Projects, base: str, files: tuple[Path, str]
) -> None:
    folder, address = files
    (folder / "data").write_text("first\n")
    project = make_project(builder)
    project.commit({"app/Dockerfile": f"FROM {base}\nADD {address}/data /srv/data\n"})
    if builder == "buildah":
        outcome = project.run("lock", status=1)
        assert "does not say what it pulled, so it cannot be locked" in outcome.stderr
        assert not (project.directory / "secure-build.lock").exists()
        return
    project.run("lock")
    assert f'http:\n  "{address}/data":\n' in (project.directory / "secure-build.lock").read_text()
    project.commit()
    project.run("build", "--locked")
    assert "web: unchanged, not built" in project.run("build", "--locked").stderr

    (folder / "data").write_text("second\n")
    project.commit({"app/page/index.html": "another commit\n"})
    taken = project.record()["images"][0]["materials"]
    # BuildKit still has the file with the locked digest, and takes it.
    project.run("build", "--locked")
    assert project.record()["images"][0]["materials"] == taken
    command("docker", "builder", "prune", "--all", "--force", environment=project.environment)
    project.commit({"app/page/index.html": "one more\n"})
    digest = project.digest()
    outcome = project.run("build", "--locked", status=1)
    assert "hint: what an address gives has changed: look at it, and lock it anew" in outcome.stderr
    assert project.digest() == digest
    assert project.run("lock", "--update").stdout.startswith(f"moved http {address}/data (linux/s390x): ")
    project.commit()
    project.run("build", "--locked")
