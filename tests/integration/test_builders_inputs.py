"""Build secrets, arguments, contexts and caches, from the config to the image."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

from integration.access_log import AccessLog
from integration.conftest import PrivateRegistry
from integration.processes import Sampler, running_with, wait_until
from integration.project import SECONDS, Project, command
from integration.test_secrets import contents, found_in, run_sampled, shown_to_others, sweep
from services.running import RunningRegistry

Projects = Callable[..., Project]
CANARY = {"named": "Named?Canary&0123456789>", "of a file": "Filed?Canary&9876543210>"}
# It shows both, and keeps a digest of one: the step did have it.
SECRETS = """\
FROM {base}
RUN --mount=type=secret,id=named --mount=type=secret,id=npm.rc \\
    ["/bin/busybox", "sh", "-c", \
"cd /run/secrets && /bin/busybox cat named npm.rc && \
/bin/busybox sha256sum named npm.rc > /srv/sums{end}"]
"""


def with_secrets(make_project: Projects, builder: str, base: str, *, end: str = "") -> Project:
    project = make_project(builder)
    project.config["images"]["web"]["build"]["secrets"] = {
        "named": {"secret": "NAMED_SECRET"},
        "npm.rc": {"file": "../npm.rc"},
    }
    project.environment["NAMED_SECRET"] = CANARY["named"]
    path = project.directory.parent / "npm.rc"
    path.write_text(f"token={CANARY['of a file']}\n")
    path.chmod(0o600)
    project.commit({"app/Dockerfile": SECRETS.format(base=base, end=end)})
    return project


def test_32_build_secrets_reach_the_step_and_nothing_else(
    builder: str, make_project: Projects, base: str, registry: RunningRegistry
) -> None:
    project = with_secrets(make_project, builder, base)
    outcome, seen = run_sampled(project, "run", "-v")
    # Masked where the step shows them; in no layer (compressed or not), history, record or argument.
    sweep(project, outcome, CANARY)
    assert shown_to_others(seen, CANARY) == []
    assert "***" in outcome.stderr
    # The control: the step had the very bytes.
    sums = [content for _, content in contents(project.workdir / "layout") if b"  named\n" in content]
    assert any(hashlib.sha256(CANARY["named"].encode()).hexdigest().encode() in content for content in sums)
    assert not list(project.workdir.glob(".secrets-*"))
    # The controls of the sweep: the options were on the command line.
    assert any(b"--secret=id=named,src=" in arguments for arguments in seen)


def test_30_build_secrets_of_a_step_that_fails(builder: str, make_project: Projects, base: str) -> None:
    project = with_secrets(make_project, builder, base, end="; exit 7")
    outcome, seen = run_sampled(project, "run", "-v", status=1)
    sweep(project, outcome, CANARY)
    assert shown_to_others(seen, CANARY) == []
    assert not list(project.workdir.glob(".secrets-*"))


def test_32_files_of_build_secrets_are_private_and_go_away(
    builder: str, make_project: Projects, base: str
) -> None:
    marker = f"4242{os.getpid()}"
    project = with_secrets(make_project, builder, base, end="; exec /bin/busybox sleep " + marker)
    process = project.start("run", umask=0o000)
    with Sampler(process.pid):
        wait_until(lambda: running_with(marker), "the step runs")
        holders = [path for path, content in contents(project.workdir) if found_in(content, CANARY)]
        # buildah has copies in its store while the step runs.
        assert len([path for path in holders if path.parent.name.startswith(".secrets-")]) == 2
        for path in holders:
            if path.parent.name.startswith(".secrets-"):
                modes = (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode))
                assert modes == (0o600, 0o700)
            assert is_private(path)
        process.terminate()
        process.communicate(timeout=SECONDS)
    assert [path for path, content in contents(project.workdir) if found_in(content, CANARY)] == []
    assert list(Path(project.environment["TMPDIR"]).iterdir()) == []


def is_private(path: Path) -> bool:
    """Whether the file, or one of the folders above it, is closed to everybody but the owner."""
    return any(stat.S_IMODE(it.stat().st_mode) & 0o077 == 0 for it in (path, *path.parents[:-2]))


def test_missing_build_secret_is_explained_before_anything_is_built(
    builder: str, make_project: Projects, base: str
) -> None:
    project = with_secrets(make_project, builder, base)
    del project.environment["NAMED_SECRET"]
    assert "`NAMED_SECRET` is missing" in project.run("build", status=2).stderr


def test_33_argument_that_looks_like_a_token(builder: str, make_project: Projects, base: str) -> None:
    project = make_project(builder)
    project.config["images"]["web"]["build"]["args"] = {"NPM": "npm_0123456789abcdefghijABCDEFGHIJ012345"}
    project.commit({"app/Dockerfile": f'FROM {base}\nARG NPM\nRUN ["/bin/busybox", "env"]\n'})
    outcome = project.run("build", status=2)
    assert "`NPM` looks like a token" in outcome.stderr
    assert "npm_0123" not in outcome.stderr
    project.config["images"]["web"]["build"]["allow-token-args"] = ["NPM"]
    project.commit()
    project.run("build")


def test_contexts_are_folders_of_the_commit(
    builder: str, make_project: Projects, base: str, bases: Callable[..., str]
) -> None:
    host = base.partition("/")[0]
    tools = bases(f"{host}/contexts/flow:1", variable="TOOLS=yes").replace(":1@", "@")
    project = make_project(builder)
    project.config["images"]["web"]["build"]["contexts"] = {
        "pages": "other/pages",
        "tools": f"docker-image://{tools}",
    }
    project.commit(
        {
            "app/Dockerfile": "FROM tools\nCOPY --from=pages . /srv/\n",
            "other/pages/committed": "committed page\n",
            ".gitignore": "ignored\n",
        }
    )
    project.write({"other/pages/ignored": "not in the commit\n"})
    project.run("build")
    image = project.record()["images"][0]
    assert [item["name"] for item in image["materials"]] == [tools]
    layers = b"".join(content for _, content in contents(project.workdir / "layout"))
    assert b"committed page" in layers
    assert b"not in the commit" not in layers


def test_context_that_the_commit_does_not_have(builder: str, make_project: Projects) -> None:
    project = make_project(builder)
    project.config["images"]["web"]["build"]["contexts"] = {"pages": "missing"}
    project.commit()
    outcome = project.run("build", status=2)
    assert "no folder `missing` for the context `pages`" in outcome.stderr


RANDOM = 'FROM {base}\nRUN ["/bin/busybox", "cp", "/proc/sys/kernel/random/uuid", "/srv/random"]\n'


def test_cache_in_a_private_registry(
    builder: str, make_project: Projects, private_registry: PrivateRegistry, base: str
) -> None:
    """A second build elsewhere takes the step from the cache, with the config's logins only."""
    where = private_registry
    cache = f"{where.host}/cache/{builder}"
    logins = {where.host: {"pull": where.login("builder"), "push": where.login("publisher")}}
    written = []
    for number in range(2):
        project = make_project(builder, registries=logins)
        for user in ("builder", "publisher"):
            project.environment[f"{user.upper()}_PASSWORD"] = where.passwords[user]
        if builder == "buildx":
            prune(project)
        reference = cache if builder == "buildah" else f"{cache}:main"
        project.config["images"]["web"]["build"]["cache"] = {"from": [reference], "to": reference}
        project.config["images"]["web"]["build"]["platforms"] = ["linux/amd64"]
        project.commit({"app/Dockerfile": RANDOM.format(base=base)})
        log = AccessLog(where.running)
        outcome, seen = run_sampled(project, "build", "-v")
        sweep(project, outcome, where.passwords)
        assert shown_to_others(seen, where.passwords) == []
        image = project.record()["images"][0]
        assert not image["reproducible"]
        assert image["materials"] is None or all("cache/" not in it["name"] for it in image["materials"])
        assert number > 0 or any(it.method == "PUT" and "/cache/" in it.path for it in log.requests())
        written.append(drawn(project))
    # The step draws a number: an equal one was not drawn again.
    assert written[0] == written[1]


def test_without_a_cache_a_step_runs_again(builder: str, make_project: Projects, base: str) -> None:
    """The control: two builds of the same step differ where nothing is cached."""
    written = []
    for _ in range(2):
        project = make_project(builder)
        project.config["images"]["web"]["build"]["platforms"] = ["linux/amd64"]
        project.commit({"app/Dockerfile": RANDOM.format(base=base)})
        project.run("build")
        assert project.record()["images"][0]["reproducible"]
        written.append(drawn(project))
    assert written[0] != written[1]


def prune(project: Project) -> None:
    command("docker", "buildx", "prune", "--all", "--force", environment=project.environment)


def drawn(project: Project) -> bytes:
    """What the step wrote, from the last layer."""
    digest = project.digest().removeprefix("sha256:")
    blobs = project.workdir / "layout/blobs/sha256"
    layer = json.loads((blobs / digest).read_text())["layers"][-1]["digest"]
    return command("tar", "-xOf", blobs / layer.removeprefix("sha256:"), "srv/random")


def test_push_secret_is_not_needed_where_nothing_is_pushed(builder: str, make_project: Projects) -> None:
    project = make_project(builder)
    host = project.image.partition("/")[0]
    push = {"username": "publisher", "password": {"secret": "NOT_THERE"}}
    project.config["registries"] = {host: {"push": push}}
    project.commit()
    project.run("build")
