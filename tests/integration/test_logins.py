"""Registries that want a login, a certificate of one's own authority, or no writers at all."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.access_log import AccessLog
from integration.conftest import PrivateRegistry, docker_config
from integration.project import Project, command
from services import running
from services.needed import need

Projects = Callable[..., Project]
HOST = "registry.secure-build.test"


@pytest.fixture
def private(builder: str, make_project: Projects, private_registry: PrivateRegistry) -> Project:
    """A project whose base and image are in the private registry, with a login for each use."""
    where = private_registry
    project = make_project(
        builder,
        host=where.host,
        base=where.base,
        registries={
            where.host: {
                "push": where.login("publisher"),
                "pull": where.login("builder"),
                "runtime": where.login("guest"),
            }
        },
    )
    project.environment |= where.secrets
    return project


def access(project: Project) -> dict[str, Any]:
    """The logins in the config, to change them."""
    (found,) = project.config["registries"].values()
    result: dict[str, Any] = found
    return result


def test_each_login_for_its_own_use(private: Project, private_registry: PrivateRegistry) -> None:
    private.commit()
    outcome = private.run("run")
    guest = {"username": "guest", "password": private_registry.passwords["guest"]}
    assert private.workload()["auths"] == {private_registry.host: guest}
    shown = yaml.safe_load(yaml.safe_load(outcome.stdout)["workload"])
    assert shown["auths"] == {private_registry.host: {**guest, "password": "***"}}
    assert private.record()["images"][0]["materials"][0]["name"] == private_registry.base
    # Podman's and skopeo's way of logging in agrees that the guest can pull what the contract names.
    credentials = f"--creds=guest:{guest['password']}"
    command(
        *("skopeo", "inspect", "--tls-verify=false", "--override-arch=s390x", credentials),
        f"docker://{private.pinned()}",
    )


def test_private_image_without_a_login_for_the_guest(private: Project) -> None:
    del access(private)["runtime"]
    private.commit()
    outcome = private.run("run", status=1)
    assert "is private, and the contract has no login for" in outcome.stderr
    assert "runtime:`" in outcome.stderr
    assert not private.contract_path.exists()


def test_login_that_publishes_is_not_for_the_guest(
    private: Project, private_registry: PrivateRegistry
) -> None:
    access(private)["runtime"] = private_registry.login("publisher")
    private.commit()
    outcome = private.run("run", status=2)
    assert "who reads the contract could replace images" in outcome.stderr
    assert not private.contract_path.exists()


def test_wrong_push_password_fails_once_and_clearly(
    private: Project, private_registry: PrivateRegistry
) -> None:
    private.commit()
    private.run("build")
    log = AccessLog(private_registry.running)
    outcome = private.run("publish", status=3, environment={"PUBLISHER_PASSWORD": "not-this-one"})
    assert outcome.stderr.count("error:") == 1
    assert "refuses the login of user `publisher`" in outcome.stderr
    requests = log.requests()
    # The challenge, and one attempt to answer it.
    assert [request.status for request in requests] == [401, 401]
    assert not any(request.writes for request in requests)


def test_wrong_runtime_password_publishes_nothing(
    private: Project, private_registry: PrivateRegistry
) -> None:
    private.commit()
    log = AccessLog(private_registry.running)
    outcome = private.run("run", status=1, environment={"GUEST_PASSWORD": "not-this-one"})
    assert "the guest could not log in" in outcome.stderr
    assert not private.contract_path.exists()
    assert not any(request.writes for request in log.requests())


def test_missing_pull_login_is_explained(private: Project) -> None:
    del access(private)["pull"]
    private.commit()
    outcome = private.run("build", status=1)
    assert "could not build the image" in outcome.stderr
    assert not private.record_path.exists()


def test_login_of_the_machine_serves_too(private: Project, private_registry: PrivateRegistry) -> None:
    """`docker login` is enough: for the base, to publish, and never for the guest."""
    private.config["registries"] = {private_registry.host: {"runtime": private_registry.login("guest")}}
    config = Path(private.environment["HOME"]) / ".docker"
    config.mkdir(exist_ok=True)
    path = config / "config.json"
    path.write_text(
        docker_config(private_registry.host, "publisher", private_registry.passwords["publisher"])
    )
    private.environment["DOCKER_CONFIG"] = str(config)
    private.commit()
    before = path.read_bytes()
    private.run("run")
    assert private.workload()["auths"][private_registry.host]["username"] == "guest"
    assert path.read_bytes() == before


CONTRACT = """\
# a section of somebody's own
type: workload
compose:
  archive: H4sIAAAAAAAAA=    # made elsewhere
env:
  GREETING: "hello"
  DATABASE_PASSWORD: 'a-password-of-the-workload'
volumes:
  data: {mount: /data, seed: a-seed-of-the-workload, filesystem: ext4}
"""


def test_logins_go_into_a_contract_of_ones_own(private: Project, private_registry: PrivateRegistry) -> None:
    private.commit()
    private.run("build")
    private.run("publish")
    own = private.directory / "mine.yaml"
    own.write_text(CONTRACT)
    outcome = private.run("contract", "images", "--into", "mine.yaml")
    merged = own.read_text()
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert [line for line in merged.splitlines() if line in CONTRACT.splitlines()] == CONTRACT.splitlines()
    added = {"username": "guest", "password": private_registry.passwords["guest"]}
    assert yaml.safe_load(merged) == yaml.safe_load(CONTRACT) | {"auths": {private_registry.host: added}}
    for secret in (added["password"], "a-password-of-the-workload", "a-seed-of-the-workload"):
        assert secret not in outcome.stdout + outcome.stderr


# A certificate authority of one's own


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Certificates that openssl made: the authority's, and the registry's with its key."""
    need("openssl")
    folder = tmp_path_factory.mktemp("authority")
    own, own_key, certificate, key = (folder / name for name in ("ca.pem", "ca.key", "host.pem", "host.key"))
    made = (
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    )
    command(*made, "-subj", "/CN=an authority for tests", "-keyout", own_key, "-out", own)
    extensions = (
        "-addext",
        f"subjectAltName=IP:127.0.0.1,DNS:{HOST}",
        "-addext",
        "basicConstraints=CA:FALSE",
    )
    signed = ("-CA", own, "-CAkey", own_key)
    command(*made, *signed, *extensions, "-subj", "/CN=127.0.0.1", "-keyout", key, "-out", certificate)
    return own, certificate, key


@pytest.fixture
def trusted(
    authority: tuple[Path, Path, Path], bases: Callable[..., str], make_project: Projects, short_path: Path
) -> Iterator[Project]:
    """A project whose base and image are in a registry with a certificate of our own authority.

    It has a name, since plain HTTP is spoken on the loopback addresses; the name is known in a mount
    namespace of the command line's own.
    """
    need("unshare", "buildah", "skopeo")
    own, certificate, key = authority
    with running.registry(short_path / "registry", tls=(certificate, key)) as registry:
        bases(f"{registry.host}/base/busybox:1")
        named = registry.host.replace("127.0.0.1", HOST)
        hosts = short_path / "hosts"
        hosts.write_text(f"127.0.0.1 localhost {HOST}\n")
        project = make_project("buildah", host=named, base=f"{named}/base/busybox:1")
        with_hosts = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
        project.runner = ("unshare", "--mount", "sh", "-c", with_hosts, "sh", str(hosts))
        project.environment["SSL_CERT_FILE"] = str(own)
        project.commit()
        yield project


def test_certificate_of_an_authority_of_ones_own(trusted: Project) -> None:
    trusted.run("run")
    known = {"SSL_CERT_FILE": trusted.environment["SSL_CERT_FILE"]}
    reference = trusted.pinned().replace(HOST, "127.0.0.1")
    command("skopeo", "inspect", "--override-arch=s390x", f"docker://{reference}", environment=known)


def test_certificate_of_an_unknown_authority(trusted: Project) -> None:
    trusted.run("build")
    del trusted.environment["SSL_CERT_FILE"]
    outcome = trusted.run("publish", status=4)
    assert outcome.stderr.count("error:") == 1
    assert "certificate verify failed" in outcome.stderr
    assert "`SSL_CERT_FILE`" in outcome.stderr


def test_builder_does_not_trust_an_unknown_authority(trusted: Project) -> None:
    del trusted.environment["SSL_CERT_FILE"]
    outcome = trusted.run("build", status=1)
    assert "certificate" in outcome.stderr


# A registry that takes nothing


def test_read_only_registry(builder: str, make_project: Projects, short_path: Path) -> None:
    folder = short_path / "registry"
    with running.registry(folder, readonly=True) as registry:
        project = make_project(builder, host=registry.host)
        project.commit()
        outcome = project.run("run", status=4)
        assert outcome.stderr.count("error:") == 1
        assert "405" in outcome.stderr
        written = [request for request in AccessLog(registry, whole=True).requests() if request.writes]
        # An attempt for each blob at most, and none is repeated.
        assert {(request.method, request.status) for request in written} == {("POST", 405)}
        assert len(written) <= len(list((project.workdir / "layout" / "blobs" / "sha256").iterdir()))
    assert not project.contract_path.exists()
    assert project.record()["images"][0]["published"] is None
    assert list(folder.glob("data/**/tags")) == []

    # The same folder, now with a registry that takes what is sent: nothing of the failure is in the way.
    with running.registry(folder) as registry:
        project.config["images"]["web"]["image"] = f"{registry.host}/again/web:1.0.0"
        project.commit({"docker-compose.yml": f"services:\n  web:\n    image: {project.image}\n"})
        project.run("run")
        assert command("crane", "ls", "--insecure", f"{registry.host}/again/web") == b"1.0.0\n"
