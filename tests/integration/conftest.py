"""Real parts for all tests here: a registry with a base image, an engine, and projects to build."""

from __future__ import annotations

import base64
import itertools
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fakes.transport import checked_transport
from integration import examples
from integration.project import DOCKERFILE, Project
from secure_build.layout import Layout
from secure_build.registry.http import Transport
from services import belongings, images, running
from services import step_image as step_images
from services.belongings import Belongings
from services.needed import give_up, need
from services.running import Engine, RunningRegistry
from services.sigstore import LocalSigstore

BUILDERS = ("buildx", "buildah")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """A registry without logins; tests keep apart by using repositories of their own."""
    need("docker-registry")
    with running.registry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Publishes a base image with busybox under a name, and returns the name with its digest."""
    need("skopeo", "busybox-amd64", "busybox-s390x")

    def publish(name: str, *, authfile: Path | None = None, variable: str = "") -> str:
        layout = Layout.create(tmp_path_factory.mktemp("base"))
        digest = images.busybox(layout, name, variable=variable)
        images.push(layout, name, authfile=authfile)
        return f"{name}@{digest}"

    return publish


@dataclass(frozen=True, slots=True)
class PrivateRegistry:
    """A registry that answers nobody without a login, with a private base image in it."""

    running: RunningRegistry
    base: str
    passwords: dict[str, str]

    @property
    def host(self) -> str:
        return self.running.host

    def login(self, user: str) -> dict[str, object]:
        """A login as the config names it; the password is in the variable of this name."""
        return {"username": user, "password": {"secret": f"{user.upper()}_PASSWORD"}}

    @property
    def secrets(self) -> dict[str, str]:
        """The variables that the logins name."""
        return {f"{user.upper()}_PASSWORD": password for user, password in self.passwords.items()}


def docker_config(host: str, user: str, password: str) -> str:
    """What `docker login` writes."""
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": encoded}}})


@pytest.fixture(scope="session")
def private_registry(
    tmp_path_factory: pytest.TempPathFactory, bases: Callable[..., str]
) -> Iterator[PrivateRegistry]:
    """A registry with the users `publisher`, `builder` and `guest`."""
    need("docker-registry")
    # Characters that base64 and URLs write differently, so that every form of a password differs.
    passwords = {user: f"{user}?Canary&{secrets.token_hex(8)}>" for user in ("publisher", "builder", "guest")}
    folder = tmp_path_factory.mktemp("private-registry")
    with running.registry(folder, htpasswd=passwords) as started:
        name = f"{started.host}/base/busybox:1"
        authfile = folder / "auth.json"
        authfile.write_text(docker_config(started.host, "publisher", passwords["publisher"]))
        bases(name, authfile=authfile, variable="PRIVATE=yes")
        yield PrivateRegistry(started, name, passwords)


@pytest.fixture(scope="session")
def base(registry: RunningRegistry, bases: Callable[..., str]) -> str:
    """The name of a base image in the registry, by tag."""
    bases(f"{registry.host}/base/busybox:1")
    return f"{registry.host}/base/busybox:1"


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A container engine with buildx, of our own where none answers."""
    need("docker", "docker-buildx")
    try:
        with running.engine(tmp_path_factory.mktemp("engine")) as started:
            yield started
    except running.MissingTool as missing:
        give_up(str(missing))


@pytest.fixture(scope="session")
def step_image(engine: Engine, registry: RunningRegistry) -> str:
    """The image of the Tekton steps, in the engine and in the registry."""
    need("mmdebstrap", "skopeo")
    return step_images.built(engine, registry)


@pytest.fixture(params=BUILDERS)
def builder(request: pytest.FixtureRequest) -> str:
    """The name of a builder that works here."""
    if request.param == "buildx":
        request.getfixturevalue("engine")
    else:
        need(request.param)
    return str(request.param)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder with a short name: buildah puts paths into mount options, which have a limit."""
    with tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def variables_of_a_user(folder: Path, builder: str | None, request: pytest.FixtureRequest) -> dict[str, str]:
    """The environment of a user who has nothing but a home, the programs and a builder."""
    home = folder / f"home{next(_numbers)}"
    (home / "tmp").mkdir(parents=True)
    result = {
        "PATH": running.environment()["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "LC_ALL": "C.UTF-8",
    }
    if builder and builder.partition(":")[0] in ("buildx", "engine"):
        engine: Engine = request.getfixturevalue("engine")
        config = home / ".docker"
        shutil.copytree(engine.environment["DOCKER_CONFIG"], config, symlinks=True)
        return result | {"DOCKER_HOST": engine.host}
    return result | {"BUILDAH_ISOLATION": running.environment()["BUILDAH_ISOLATION"]}


@pytest.fixture
def variables(short_path: Path, request: pytest.FixtureRequest) -> Callable[..., dict[str, str]]:
    """Makes environments of users, by the name of their builder."""
    return lambda builder: variables_of_a_user(short_path, builder, request)


@pytest.fixture
def make_project(
    short_path: Path, variables: Callable[..., dict[str, str]], registry: RunningRegistry, base: str
) -> Callable[..., Project]:
    """Makes a project with one image, `web`, and a contract for it; not committed yet."""

    def make(builder: str | None, *, host: str | None = None, base: str = base, **config: Any) -> Project:
        number = next(_numbers)
        project = Project(
            directory=short_path / f"project{number}",
            environment=variables(builder),
            config={
                "version": 1,
                "target": "ccrt",
                **({"builder": builder} if builder else {}),
                "images": {
                    "web": {
                        "image": f"{host or registry.host}/test{os.getpid()}-{number}/web:1.0.0",
                        "build": {"context": "app"},
                    }
                },
                "workload": {"compose": "docker-compose.yml"},
                **config,
            },
        )
        project.write(
            {
                "app/Dockerfile": DOCKERFILE.format(base=base),
                "app/page/index.html": "<h1>It runs</h1>\n",
                "docker-compose.yml": f"services:\n  web:\n    image: {project.image}\n",
            }
        )
        return project

    return make


@pytest.fixture(scope="session")
def owned(tmp_path_factory: pytest.TempPathFactory) -> Belongings:
    """Keys, certificates and secrets for the examples."""
    need("openssl")
    return belongings.make(tmp_path_factory.mktemp("belongings"))


@pytest.fixture(scope="session")
def examples_registry(
    tmp_path_factory: pytest.TempPathFactory, owned: Belongings
) -> Iterator[RunningRegistry]:
    """A registry for the logins that the examples name."""
    need("docker-registry")
    users = {"demo-ci": owned.secrets["REGISTRY_PUSH"], "demo-guest": owned.secrets["REGISTRY_PULL"]}
    with running.registry(tmp_path_factory.mktemp("logins"), htpasswd=users) as started:
        yield started


@pytest.fixture(scope="session")
def copy_example(
    examples_registry: RunningRegistry, base: str, owned: Belongings
) -> Callable[[str, Path], None]:
    """Copies an example to a folder, with registry, base image and certificate of ours."""
    return lambda example, folder: examples.copy(example, folder, examples_registry, base, owned)


@pytest.fixture
def move_tag(
    registry: RunningRegistry, bases: Callable[..., str], request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Lets a tag that only this test uses name an image with this variable; returns the name."""
    name = f"{registry.host}/moving/{abs(hash(request.node.nodeid))}:1"

    def move(variable: str) -> str:
        assert bases(name, variable=variable).startswith(name)
        return name

    return move


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor1", "rekor2"])
def any_sigstore(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalSigstore]:
    """A sigstore with each version of the log, for what does not change it."""
    need("openssl")
    with LocalSigstore(tmp_path_factory.mktemp("sigstore"), rekor_version=request.param) as started:
        yield started


@pytest.fixture
def sigstore(tmp_path: Path) -> Iterator[LocalSigstore]:
    """A sigstore that misbehaves as the test likes."""
    need("openssl")
    with LocalSigstore(tmp_path / "sigstore") as started:
        yield started


@pytest.fixture
def hasty() -> Iterator[Transport]:
    """A transport that does not wait for long."""
    with checked_transport(read_seconds=0.3, deadline_seconds=1) as transport:
        yield transport


@pytest.fixture
def transport() -> Iterator[Transport]:
    with checked_transport() as transport:
        yield transport


@pytest.fixture
def words() -> dict[str, str]:
    """Passwords and passphrases for whoever signs in every way."""
    return {name: f"canary {name}" for name in ("push", "pull", "guest", "phrase", "pass", "root", "targets")}
