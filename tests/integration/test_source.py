"""The source on real servers: HTTPS with a token, and OpenSSH with a key; and where those are seen."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from integration.processes import Sampler, alive, descendants, wait_until
from integration.project import SECONDS, Outcome, Project
from integration.project import git as commit_as_tests
from integration.test_secrets import contents, found_in, shown_to_others
from services.git_servers import HttpGit, SshGit, certificate, http_git, ssh_git
from services.needed import give_up, need
from services.running import ServiceFailed

Projects = Callable[..., Project]
TOKEN = "source?Canary&0123456789abcdef>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="module")
def https(folder: Path) -> Iterator[tuple[HttpGit, Path]]:
    """A server that wants the token, and the certificate of its authority."""
    need("openssl")
    authority, tls = certificate(folder)
    (folder / "served").mkdir()
    with http_git(folder / "served", users={"acme": TOKEN}, tls=tls) as started:
        yield started, authority


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshGit]:
    need("sshd", "ssh", "ssh-keygen")
    try:
        with ssh_git(tmp_path_factory.mktemp("sshd")) as started:
            yield started
    except ServiceFailed as failed:
        give_up(str(failed))


def served(project: Project, place: Path) -> tuple[Project, Path]:
    """Move the project's source to a server's folder, and leave only the config, in no repository."""
    project.commit()
    place = place / project.directory.name
    place.mkdir()
    for path in list(project.directory.iterdir()):
        path.rename(place / path.name)
    return project, place


def configure(project: Project, **source: object) -> None:
    project.config["source"] = source
    project.write({"secure-build.yaml": yaml.safe_dump(project.config, sort_keys=False)})


def sampled(project: Project, *arguments: str, status: int = 0) -> tuple[Outcome, dict[bytes, bytes]]:
    process = project.start(*arguments, umask=0)
    with Sampler(process.pid) as sampler:
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == status, stderr
    return Outcome(status, stdout, stderr), sampler.seen


def sweep(project: Project, outcome: Outcome, seen: dict[bytes, bytes], word: str) -> None:
    """The secret is in no output, no file that is left, no argument and no environment."""
    passwords = {"source": word}
    assert found_in((outcome.stdout + outcome.stderr).encode(), passwords) == set()
    for place in (project.directory, Path(project.environment["HOME"])):
        for path, content in contents(place):
            assert found_in(content, passwords) == set(), path
    assert shown_to_others(seen, passwords) == []
    assert not list(project.workdir.glob(".login-*"))
    assert list(Path(project.environment["TMPDIR"]).iterdir()) == []


@pytest.fixture
def over_https(make_project: Projects, https: tuple[HttpGit, Path]) -> tuple[Project, Path]:
    need("buildah")
    server, authority = https
    project, place = served(make_project("buildah"), server.root)
    configure(
        project,
        url=f"{server.url}/{place.name}/.git",
        username="acme",
        token={"secret": "SOURCE_TOKEN"},
    )
    project.environment |= {"SOURCE_TOKEN": TOKEN, "SSL_CERT_FILE": str(authority)}
    return project, place


def test_run_from_https(over_https: tuple[Project, Path], https: tuple[HttpGit, Path]) -> None:
    project, place = over_https
    https[0].requests.clear()
    outcome, seen = sampled(project, "run", "-v")
    source = project.record()["source"]
    assert source["commit"] == head(place)
    assert (source["url"], source["clean"]) == (project.config["source"]["url"], True)
    assert "is used as it is here" not in outcome.stderr
    # The controls: git was seen, and it did show the token.
    assert any(b"fetch\0" in arguments for arguments in seen)
    assert any(b"remote-https" in arguments for arguments in seen)
    assert any(login for _, login in https[0].requests)
    sweep(project, outcome, seen, TOKEN)
    # All steps shared what was fetched: one look at the refs and one fetch.
    looks = [path for path, login in https[0].requests if "info/refs" in path and login]
    assert len(looks) == 2
    assert stat.S_IMODE((project.workdir / "source").stat().st_mode) == 0o700


def head(place: Path) -> str:
    command = ["git", "-C", str(place), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_contract_takes_the_commit_that_was_built(over_https: tuple[Project, Path]) -> None:
    project, place = over_https
    project.run("build")
    built = head(place)
    (place / "docker-compose.yml").write_text("services: {}\n")
    commit_as_tests(place, "add", "--all")
    commit_as_tests(place, "commit", "--quiet", "-m", "later")
    project.run("publish")
    project.run("contract", "workload")
    assert project.record()["source"]["commit"] == built
    project.run("build")
    assert project.record()["source"]["commit"] == head(place) != built


def test_a_token_that_is_refused(over_https: tuple[Project, Path]) -> None:
    project, _ = over_https
    wrong = "wrong?Canary&0123456789abcdef>"
    project.environment["SOURCE_TOKEN"] = wrong
    outcome, seen = sampled(project, "run", "-v", status=3)
    assert "the server refuses the login" in outcome.stderr
    sweep(project, outcome, seen, wrong)


def test_the_token_is_private_while_it_is_needed_and_goes_away(
    over_https: tuple[Project, Path], https: tuple[HttpGit, Path]
) -> None:
    project, _ = over_https
    https[0].silent.set()
    process = project.start("run", umask=0)
    try:
        wait_until(lambda: list(project.workdir.glob(".login-*/token")), "git is asking the server")
        (holder,) = project.workdir.glob(".login-*/token")
        assert found_in(holder.read_bytes(), {"source": TOKEN}) == {"source"}
        assert stat.S_IMODE(holder.stat().st_mode) == 0o600
        assert stat.S_IMODE(holder.parent.stat().st_mode) == 0o700
        # The file is there before git is.
        wait_until(lambda: descendants(process.pid), "git has started")
        children = descendants(process.pid)
        process.terminate()
        stdout, stderr = process.communicate(timeout=SECONDS)
    finally:
        https[0].silent.clear()
    assert process.returncode == 143, stderr
    wait_until(lambda: not alive(children), "git has ended")
    sweep(project, Outcome(143, stdout, stderr), {}, TOKEN)


def test_an_authority_that_is_not_trusted(over_https: tuple[Project, Path]) -> None:
    project, _ = over_https
    del project.environment["SSL_CERT_FILE"]
    outcome = project.run("run", status=1)
    assert "certificate is not trusted" in outcome.stderr
    assert "SSL_CERT_FILE" in outcome.stderr


@pytest.fixture
def over_ssh(make_project: Projects, sshd: SshGit, folder: Path) -> tuple[Project, Path]:
    need("buildah")
    place = folder / "over-ssh"
    place.mkdir(exist_ok=True)
    project, moved = served(make_project("buildah"), place)
    configure(
        project, url=sshd.url(moved), **{"ssh-key": {"secret": "SOURCE_KEY"}, "known-hosts": "known_hosts"}
    )
    project.write({"known_hosts": sshd.known_hosts})
    project.environment["SOURCE_KEY"] = sshd.key
    return project, moved


def secret_part(key: str) -> str:
    """A line of the private key that is in no other key."""
    return key.splitlines()[-3]


def test_run_over_ssh(over_ssh: tuple[Project, Path], sshd: SshGit) -> None:
    project, place = over_ssh
    # What a user's own settings would do to it.
    trap = Path(project.environment["HOME"]) / ".ssh"
    trap.mkdir()
    (trap / "config").write_text("Host *\n  ProxyCommand touch /nowhere/ran\n")
    outcome, seen = sampled(project, "run", "-v")
    assert project.record()["source"]["commit"] == head(place)
    assert any(arguments.startswith((b"ssh\0", b"/usr/bin/ssh\0")) for arguments in seen)
    sweep(project, outcome, seen, secret_part(sshd.key))


def test_a_host_with_another_key_is_refused(over_ssh: tuple[Project, Path], sshd: SshGit) -> None:
    project, _ = over_ssh
    other = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    for known in (f"[127.0.0.1]:{sshd.port} ssh-ed25519 {other}\n", ""):
        project.write({"known_hosts": known})
        outcome, seen = sampled(project, "run", "-v", status=1)
        assert "the server does not have the key that `known-hosts` says" in outcome.stderr
        sweep(project, outcome, seen, secret_part(sshd.key))


def test_a_key_that_is_refused(over_ssh: tuple[Project, Path], tmp_path: Path) -> None:
    project, _ = over_ssh
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "other")]
    subprocess.run(command, check=True)
    project.environment["SOURCE_KEY"] = (tmp_path / "other").read_text()
    outcome, seen = sampled(project, "run", "-v", status=3)
    assert "the server refuses the login" in outcome.stderr
    sweep(project, outcome, seen, secret_part(project.environment["SOURCE_KEY"]))
