"""Passwords are where they must be and nowhere else, also after failures and whatever the umask."""

from __future__ import annotations

import base64
import gzip
import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from integration.conftest import PrivateRegistry, docker_config
from integration.processes import Sampler, running_with, wait_until
from integration.project import SECONDS, Outcome, Project
from integration.sweeping import forms

Projects = Callable[..., Project]

# What holds a password because it must: the contract's parts, for their owner only.
MAY_HOLD_SECRETS = {"workload.yaml", "workload.draft.yaml", "images.yaml", "images.draft.yaml"}


def found_in(content: bytes, passwords: dict[str, str]) -> set[str]:
    """Whose passwords occur in the content, in whatever form."""
    return {
        user
        for user, word in passwords.items()
        if any(form in content for written in forms(word).values() for form in written)
    }


def contents(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Every file, and what is in it when it is compressed."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            yield path, content
            if content.startswith(b"\x1f\x8b"):
                yield path, gzip.decompress(content)


@pytest.fixture
def private(builder: str, make_project: Projects, private_registry: PrivateRegistry) -> Project:
    """A project that uses each of the three logins. The base is pulled with `builder`'s."""
    where = private_registry
    logins = {
        "push": where.login("publisher"),
        "pull": where.login("builder"),
        "runtime": where.login("guest"),
    }
    project = make_project(builder, host=where.host, base=where.base, registries={where.host: logins})
    project.environment |= where.secrets
    return project


def sweep(project: Project, outcome: Outcome, passwords: dict[str, str]) -> None:
    """No password in what was said or written, but in files for the owner only that must hold them."""
    assert found_in((outcome.stdout + outcome.stderr).encode(), passwords) == set()
    for path, content in contents(project.directory):
        if path.name in MAY_HOLD_SECRETS:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert found_in(content, passwords) <= {"guest"}
        else:
            assert found_in(content, passwords) == set(), path
    for path, content in contents(Path(project.environment["HOME"])):
        assert found_in(content, passwords) == set(), path


def run_sampled(project: Project, *arguments: str, status: int = 0) -> tuple[Outcome, dict[bytes, bytes]]:
    process = project.start(*arguments)
    with Sampler(process.pid) as sampler:
        stdout, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == status, stderr
    return Outcome(status, stdout, stderr), sampler.seen


def shown_to_others(seen: dict[bytes, bytes], passwords: dict[str, str]) -> list[str]:
    """The programs with a password among their arguments or in their environment."""
    return [
        arguments.replace(b"\0", b" ").decode(errors="replace")
        for arguments, environment in seen.items()
        if found_in(arguments + b"\n" + environment, passwords)
    ]


def test_forms_are_found() -> None:
    """The control of the search itself."""
    passwords = {"guest": "guest?Canary&0123456789abcdef>"}
    for user in ("", "a", "ab", "abc"):
        encoded = base64.b64encode(f"{user}:{passwords['guest']}".encode())
        assert found_in(b"x" + encoded, passwords) == {"guest"}
    assert found_in(quote(passwords["guest"], safe="").encode(), passwords) == {"guest"}
    assert found_in(b"guest?Canary", passwords) == set()


def test_run_that_succeeds(private: Project, private_registry: PrivateRegistry) -> None:
    private.commit()
    outcome, seen = run_sampled(private, "run", "-v")
    passwords = private_registry.passwords
    sweep(private, outcome, passwords)
    # The controls: what is looked at holds what it must hold.
    assert found_in(private.contract_path.read_bytes(), passwords) == {"guest"}
    assert any(b"build\0" in arguments for arguments in seen)
    assert any(b"PATH=" in environment for environment in seen.values())
    assert shown_to_others(seen, passwords) == []


@pytest.mark.parametrize("verb", [("contract", "workload"), ("contract", "images")])
@pytest.mark.parametrize("form", ["text", "json"])
def test_contract_verbs(
    make_project: Projects,
    private_registry: PrivateRegistry,
    request: pytest.FixtureRequest,
    form: str,
    verb: tuple[str, ...],
) -> None:
    where = private_registry
    logins = {
        "push": where.login("publisher"),
        "pull": where.login("builder"),
        "runtime": where.login("guest"),
    }
    private = make_project("buildah", host=where.host, base=where.base, registries={where.host: logins})
    private.environment |= where.secrets
    private.commit()
    private.run("build")
    private.run("publish")
    outcome = private.run(*verb, "-v", "--output", form)
    sweep(private, outcome, where.passwords)
    assert "guest" in outcome.stdout
    assert "***" in outcome.stdout


@pytest.mark.parametrize(
    ("user", "status"), [("publisher", 3), ("builder", 1), ("guest", 1)], ids=["push", "pull", "runtime"]
)
def test_run_with_a_login_that_is_refused(
    private: Project, private_registry: PrivateRegistry, user: str, status: int
) -> None:
    wrong = f"wrong?Canary&{user}>0123456789"
    private.environment[f"{user.upper()}_PASSWORD"] = wrong
    private.commit()
    outcome, seen = run_sampled(private, "run", "-v", status=status)
    passwords = {**private_registry.passwords, "wrong": wrong}
    sweep(private, outcome, passwords)
    assert shown_to_others(seen, passwords) == []
    assert not private.contract_path.exists()


def test_step_that_fails(private: Project, private_registry: PrivateRegistry) -> None:
    """A Dockerfile cannot print what its build was not given."""
    dockerfile = (
        f'FROM {private_registry.base}\nRUN ["/bin/busybox", "sh", "-c", "/bin/busybox env; exit 7"]\n'
    )
    private.commit({"app/Dockerfile": dockerfile})
    outcome, _ = run_sampled(private, "run", "-v", status=1)
    assert "PRIVATE=yes" in outcome.stderr
    assert "PASSWORD" not in outcome.stderr
    sweep(private, outcome, private_registry.passwords)


def test_login_of_the_machine(
    builder: str, make_project: Projects, private_registry: PrivateRegistry
) -> None:
    """Logins that are not in the config are masked like the others."""
    where = private_registry
    project = make_project(
        builder, host=where.host, base=where.base, registries={where.host: {"runtime": where.login("guest")}}
    )
    project.environment["GUEST_PASSWORD"] = where.passwords["guest"]
    folder = Path(project.environment["HOME"]).with_name("config-of-the-machine")
    folder.mkdir()
    (folder / "config.json").write_text(docker_config(where.host, "publisher", where.passwords["publisher"]))
    own = Path(project.environment["HOME"]) / ".docker" / "cli-plugins"
    if own.exists():
        (folder / "cli-plugins").symlink_to(own)
    project.environment["DOCKER_CONFIG"] = str(folder)
    project.commit()
    outcome, seen = run_sampled(project, "run", "-v")
    sweep(project, outcome, where.passwords)
    assert shown_to_others(seen, where.passwords) == []


def test_files_with_secrets_whatever_the_umask(private: Project, private_registry: PrivateRegistry) -> None:
    private.commit()
    private.run("run", umask=0o000)
    private.run("contract", "workload", umask=0o000)
    private.run("contract", "images", umask=0o000)
    private_files = {
        path.name for path in private.workdir.iterdir() if stat.S_IMODE(path.stat().st_mode) == 0o600
    }
    assert private_files >= MAY_HOLD_SECRETS | {"workload.key"}
    holders = {
        path.name
        for path, content in contents(private.workdir)
        if found_in(content, private_registry.passwords)
    }
    assert holders == MAY_HOLD_SECRETS
    # The key and its contract are worth nothing to others together: neither can be read by them.
    assert not [
        path for path in private.workdir.rglob("*") if path.suffix == ".key" and path.stat().st_mode & 0o077
    ]


def test_login_of_a_builder_is_private_and_goes_away(
    private: Project, private_registry: PrivateRegistry
) -> None:
    """While a build runs, the file with the login for pulling is its owner's only; afterwards it is gone."""
    marker = "424242042"
    private.commit(
        {"app/Dockerfile": f'FROM {private_registry.base}\nRUN ["/bin/busybox", "sleep", "{marker}"]\n'}
    )
    process = private.start("run", umask=0o000)
    wait_until(lambda: running_with(marker), "the step runs")
    holders = [
        path for path, content in contents(private.workdir) if found_in(content, private_registry.passwords)
    ]
    assert [path.name for path in holders] == ["config.json"]
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(holders[0].parent.stat().st_mode) == 0o700
    assert found_in(holders[0].read_bytes(), private_registry.passwords) == {"builder"}
    json.loads(holders[0].read_text())
    process.terminate()
    process.communicate(timeout=SECONDS)
    assert not list(private.workdir.glob(".login-*"))
    assert list(Path(private.environment["TMPDIR"]).iterdir()) == []
