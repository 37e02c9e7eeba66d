"""The image of the Tekton steps, run as platforms would: what is in it, and what it can do there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from action.tekton import security
from action.tekton.security import KUBERNETES, OPENSHIFT_PIPELINES, RESTRICTED_V2, Platform
from integration.project import SECONDS, Project, command
from secure_build import __version__
from services import running
from services import step_image as step_images
from services.needed import need
from services.running import Engine, RunningRegistry

Projects = Callable[..., Project]
LARGEST_BYTES = 100_000_000
ANYBODY = 1000650000


@dataclass(frozen=True)
class Image:
    """The image in an engine."""

    engine: Engine
    reference: str

    def run(
        self, *argv: str, user: int = 1000, flags: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run this in a container, with this machine's network, where the services of the tests are."""
        return subprocess.run(
            [
                *(
                    running.tool("docker"),
                    "run",
                    "--rm",
                    "--pull=never",
                    "--network=host",
                    f"--user={user}:0",
                ),
                *(*flags, self.reference, *argv),
            ],
            env=self.engine.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def secure_build(
        self, project: Project, *arguments: str, user: int = 1000, flags: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run the tool on a project, which belongs to the user."""
        for path in (project.directory, *project.directory.rglob("*")):
            os.lchown(path, user, 0)
        mount = f"--mount=type=bind,source={project.directory},target=/work"
        return self.run("secure-build", *arguments, user=user, flags=(*flags, mount, "--workdir=/work"))


@pytest.fixture(scope="session")
def image(engine: Engine, step_image: str) -> Image:
    return Image(engine, step_image)


def with_account(folder: Path, image: Image) -> tuple[str, ...]:
    """What CRI-O does for a user that the image does not know."""
    accounts = folder / "passwd"
    known = image.run("cat", "/etc/passwd").stdout
    accounts.write_text(f"{known}anybody:x:{ANYBODY}:0:anybody:/home/build:/sbin/nologin\n")
    accounts.chmod(0o644)
    return (f"--mount=type=bind,source={accounts},target=/etc/passwd,readonly",)


# What is in it


def test_it_is_small(step_image: str, registry: RunningRegistry) -> None:
    size = sum(layer["size"] for layer in step_images.layers(registry, step_image))
    assert size <= LARGEST_BYTES, f"{size / 1e6:.1f} MB"


def test_nothing_is_in_it_that_is_not_needed(image: Image) -> None:
    absent = ("pip", "pip3", "cc", "gcc", "ld", "strip", "setcap", "skopeo", "podman", "runc", "crun")
    assert image.run("sh", "-c", 'for name; do command -v "$name"; done', "sh", *absent).stdout == ""
    assert image.run("python3", "-c", "import pip").returncode == 1
    left = image.run(
        *("find", "/var/cache", "/var/lib/apt/lists", "/var/log", "/tmp", "/root/.cache", "/home/build"),
        *("-type", "f"),
        user=0,
    )
    assert left.stdout == ""
    # Programs that may do more than who runs them: the two that map users, and what a base of Debian has.
    privileged = image.run("find", "/", "-xdev", "-perm", "/6000", "-type", "f", user=0).stdout.split()
    assert {"/usr/bin/newuidmap", "/usr/bin/newgidmap"}.isdisjoint(privileged)


def test_only_modules_of_the_image_count(image: Image, tmp_path: Path) -> None:
    """A step starts in a stranger's source, which may have modules of these names."""
    (tmp_path / "secure_build").mkdir()
    for name in ("secure_build/__init__.py", "json.py", "yaml.py"):
        (tmp_path / name).write_text("raise SystemExit('a stranger')\n")
    flags = (f"--mount=type=bind,source={tmp_path},target=/work", "--workdir=/work", "--env=HOME=/work")
    for argv in (("secure-build", "--version"), ("python3", "-m", "secure_build", "--version")):
        ended = image.run(*argv, flags=flags)
        assert (ended.returncode, ended.stdout.split()[-1]) == (0, __version__), ended.stderr
    door = image.run("python3", "-m", "secure_build.doors.tekton", flags=flags)
    assert "a stranger" not in door.stderr
    assert door.returncode == 2, door.stderr


def test_git_fetches_over_https(image: Image) -> None:
    """git's Perl is left out, and what serves others: the programs that fetch are not."""
    ended = image.run("git", "ls-remote", "https://127.0.0.1:1/nothing.git")
    assert "Failed to connect" in ended.stderr or "Could not connect" in ended.stderr


# What works everywhere: all that builds nothing


@pytest.fixture
def built(make_project: Projects) -> Project:
    """A project whose image is built and published."""
    need("buildah")
    project = make_project("buildah")
    project.commit()
    project.run("build")
    project.run("publish")
    return project


@pytest.mark.parametrize("user", [0, 1000, ANYBODY])
def test_contract_and_verify_need_no_rights(image: Image, built: Project, user: int) -> None:
    confined = (*security.flags({}, RESTRICTED_V2), "--read-only", "--tmpfs=/tmp:mode=1777")
    for verb in (("contract", "workload"), ("verify",)):
        ended = image.secure_build(built, *verb, user=user, flags=confined)
        assert ended.returncode == 0, ended.stderr
    # What one verb makes by itself is a draft.
    (built.workdir / "workload.draft.yaml").rename(built.contract_path)
    assert built.pinned().endswith(f"@{built.digest()}")


# Building

SETFCAP = {"capabilities": {"add": ["SETFCAP"]}}
BUILDING = [(KUBERNETES, 0), (KUBERNETES, 1000), (OPENSHIFT_PIPELINES, 0), (OPENSHIFT_PIPELINES, 1000)]


def test_building_needs_setfcap_and_nothing_privileged(image: Image, make_project: Projects) -> None:
    """An image whose steps run programs and one from nothing: everybody builds the same."""
    project = make_project("buildah")
    build = {"context": "app", "platforms": ["linux/amd64", "linux/s390x"]}
    page = {"image": project.image.replace("/web", "/page"), "build": {**build, "dockerfile": "Page"}}
    project.config["images"] = {"web": {"image": project.image, "build": build}, "page": page}
    project.commit({"app/Page": "FROM scratch\nCOPY page/ /srv/\n"})
    made = set()
    for platform, user in BUILDING:
        flags = tuple(security.flags(SETFCAP, platform))
        ended = image.secure_build(project, "build", user=user, flags=flags)
        assert ended.returncode == 0, f"{platform} {user}: {ended.stderr}"
        made.add((project.digest("web"), project.digest("page")))
        shutil.rmtree(project.workdir)
    assert len(made) == 1


NO_ESCALATION = {"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": False}
NOT_BUILDING: dict[str, tuple[Platform, dict[str, Any], int, int, str]] = {
    "no SETFCAP": (OPENSHIFT_PIPELINES, {}, 0, 3, "`securityContext: {capabilities: {add: [SETFCAP]}}`"),
    "restricted-v2": (RESTRICTED_V2, {}, ANYBODY, 3, "seccomp profile has to allow `unshare`"),
    "no escalation": (KUBERNETES, NO_ESCALATION, 1000, 1, "`allowPrivilegeEscalation` must not be false"),
}


@pytest.mark.parametrize("case", NOT_BUILDING)
def test_what_building_lacks_is_said(image: Image, make_project: Projects, case: str) -> None:
    platform, context, user, status, words = NOT_BUILDING[case]
    project = make_project("buildah")
    project.commit()
    flags = (*security.flags(context, platform), *with_account(project.directory.parent, image))
    ended = image.secure_build(project, "build", user=user, flags=flags)
    assert (ended.returncode, words in ended.stderr) == (status, True), ended.stderr


def test_a_user_without_an_account_is_told(image: Image, make_project: Projects) -> None:
    project = make_project("buildah")
    project.commit()
    ended = image.secure_build(project, "build", user=ANYBODY)
    assert (ended.returncode, "no line in `/etc/passwd`" in ended.stderr) == (3, True), ended.stderr


# The other builder, and the other platform


def test_buildah_builds_it_too(registry: RunningRegistry, short_path: Path) -> None:
    need("buildah", "mmdebstrap", "skopeo")
    store = (f"--root={short_path}/store", f"--runroot={short_path}/run")
    with step_images.build_arguments(registry) as arguments:
        built = (*store, "build", "--quiet", "--network=host", "--tls-verify=false", *arguments)
        identity = command("buildah", *built, f"--file={step_images.CONTAINERFILE}", step_images.ROOT)
    container = command("buildah", *store, "from", identity.decode().strip()).decode().strip()
    said = command("buildah", *store, "run", "--user=1000:0", container, "secure-build", "--version")
    assert said.decode().split()[-1] == __version__


@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not os.environ.get("TEST_ALL"), reason="takes minutes under qemu: `make test-all` runs it"
)
def test_s390x(engine: Engine, registry: RunningRegistry, built: Project) -> None:
    need("mmdebstrap", "skopeo")
    image = Image(engine, step_images.built(engine, registry, architecture="s390x"))
    confined = ("--platform=linux/s390x", *security.flags({}, RESTRICTED_V2))
    assert image.run("uname", "-m", flags=confined).stdout.strip() == "s390x"
    for verb in (("contract", "workload"), ("verify",)):
        ended = image.secure_build(built, *verb, user=ANYBODY, flags=confined)
        assert ended.returncode == 0, ended.stderr
