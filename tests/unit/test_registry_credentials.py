"""Where this machine keeps logins: Docker's config, Podman's auth.json, and the order of both."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from secure_build import process
from secure_build.errors import MachineError, UsageError
from secure_build.model import Credential
from secure_build.process import ProcessError, Program
from secure_build.reference import Repository
from secure_build.registry.auth import machine_credential


@pytest.fixture(autouse=True)
def no_logins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that keeps none."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Writes Docker's config."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))

    def write(document: Any) -> None:
        text = document if isinstance(document, str) else json.dumps(document)
        (tmp_path / "config.json").write_text(text)

    return write


@pytest.fixture
def helpers(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | Exception]:
    """Credential helpers by name and what they answer; `asked` has their input."""
    answers: dict[str, bytes | Exception] = {}

    def run(program: Program, arguments: list[str], *, stdin: bytes, **_: object) -> bytes:
        assert arguments == ["get"]
        answer = answers[program.name.removeprefix("docker-credential-") + " " + stdin.decode()]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(process, "run", run)
    return answers


def of_registry(registry: str) -> Credential | None:
    """The login for an image that no key names by its path."""
    return machine_credential(Repository(registry, "some/image"))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def told(credential: Credential | None) -> tuple[str, str] | None:
    return (credential.username, credential.password.reveal()) if credential else None


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("us.icr.io", "us.icr.io"),
        ("us.icr.io", "https://us.icr.io"),
        ("us.icr.io", "https://us.icr.io/v1/"),
        ("us.icr.io", "http://us.icr.io/v2"),
        ("localhost:5000", "localhost:5000"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
        ("docker.io", "index.docker.io"),
    ],
)
def test_hardening_34_the_login_in_auths(config: Callable[[Any], None], registry: str, key: str) -> None:
    config({"auths": {"other.example": {"auth": "!"}, key: {"auth": encoded("ann:pass:word")}}})
    assert told(of_registry(registry)) == ("ann", "pass:word")


@pytest.mark.parametrize("key", ["us.icr.io/acme", "us.icr.io:5000", "xus.icr.io", "us.icr.io.evil.example"])
def test_the_login_of_another_place_is_not_taken(config: Callable[[Any], None], key: str) -> None:
    config({"auths": {key: {"auth": encoded("ann:word")}}})
    assert of_registry("us.icr.io") is None


def test_the_plain_name_goes_before_older_spellings(config: Callable[[Any], None]) -> None:
    config(
        {
            "auths": {
                "https://us.icr.io/v1/": {"auth": encoded("old:word")},
                "us.icr.io": {"auth": encoded("new:word")},
            }
        }
    )
    assert told(of_registry("us.icr.io")) == ("new", "word")


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"username": "ann", "password": "word"}, ("ann", "word")),
        ({"identitytoken": "refresh", "auth": encoded("ann:")}, ("<token>", "refresh")),
        ({"auth": encoded("ann:word\0\0")}, ("ann", "word")),
        ({}, None),
        (None, None),
    ],
)
def test_hardening_34_forms_of_a_login(
    config: Callable[[Any], None], entry: Any, login: tuple[str, str] | None
) -> None:
    config({"auths": {"us.icr.io": entry}})
    assert told(of_registry("us.icr.io")) == login


@pytest.mark.parametrize("entry", [{"auth": "!"}, {"auth": encoded("no colon")}, {"auth": 5}, "text", [1]])
def test_hardening_34_a_damaged_login_is_named(config: Callable[[Any], None], entry: Any) -> None:
    config({"auths": {"us.icr.io": entry}})
    with pytest.raises(UsageError, match=r"the login for us\.icr\.io in `.*config\.json` is damaged"):
        of_registry("us.icr.io")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"auths": 5}', '{"auths": {}, "auths": {}}', '{"credHelpers": ["x"]}', "[" * 50_000],
)
def test_a_config_that_cannot_be_read_is_named(config: Callable[[Any], None], text: str) -> None:
    config(text)
    with pytest.raises(UsageError, match=r"the logins in `.*config\.json` cannot be read"):
        of_registry("us.icr.io")


def test_without_a_config_there_is_no_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "absent"))
    assert of_registry("us.icr.io") is None
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert of_registry("us.icr.io") is None
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(
        json.dumps({"auths": {"us.icr.io": {"auth": encoded("ann:word")}}})
    )
    assert told(of_registry("us.icr.io")) == ("ann", "word")


def test_hardening_34_helpers_go_before_the_store_and_the_store_before_auths(
    config: Callable[[Any], None], helpers: dict[str, bytes | Exception]
) -> None:
    config(
        {
            "credHelpers": {"us.icr.io": "icr"},
            "credsStore": "desktop",
            "auths": {"us.icr.io": {"auth": encoded("file:word")}, "quay.io": {"auth": encoded("file:word")}},
        }
    )
    helpers["icr us.icr.io"] = b'{"Username": "helper", "Secret": "word"}'
    helpers["desktop quay.io"] = b'{"ServerURL": "quay.io", "Username": "store", "Secret": "word"}'
    helpers["desktop https://index.docker.io/v1/"] = b'{"Username": "hub", "Secret": "word"}'
    assert told(of_registry("us.icr.io")) == ("helper", "word")
    assert told(of_registry("quay.io")) == ("store", "word")
    assert told(of_registry("docker.io")) == ("hub", "word")


def test_a_helper_may_know_no_login(
    config: Callable[[Any], None], helpers: dict[str, bytes | Exception]
) -> None:
    config({"credsStore": "desktop"})
    helpers["desktop us.icr.io"] = ProcessError(
        "failed", status=1, output="credentials not found in native keychain", ending="ended with status 1"
    )
    assert of_registry("us.icr.io") is None


@pytest.mark.parametrize("name", ["../../bin/sh", "-x", "a b", "x" * 10 + "\n", "$(id)"])
def test_a_helper_that_has_no_proper_name_is_refused(config: Callable[[Any], None], name: str) -> None:
    config({"credsStore": name})
    with pytest.raises(UsageError, match="is no name of a Docker credential helper"):
        of_registry("us.icr.io")


def test_a_helper_that_is_absent_is_named(
    config: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    config({"credHelpers": {"1.dkr.ecr.eu-west-1.amazonaws.com": "ecr-login"}})
    with pytest.raises(MachineError, match="`docker-credential-ecr-login` is not on this machine") as raised:
        of_registry("1.dkr.ecr.eu-west-1.amazonaws.com")
    assert raised.value.hint == "install the package `amazon-ecr-credential-helper`"


# Several files, and entries for parts of a registry


PLACES = {
    "named": "named.json",
    "docker": "docker/config.json",
    "home": "home/.docker/config.json",
    "runtime": "runtime/containers/auth.json",
    "config": "config/containers/auth.json",
    "own": "home/.config/containers/auth.json",
}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Writes a login for us.icr.io, whose user is called like the place, into each of these files."""

    def write(*names: str) -> None:
        for name in names:
            path = tmp_path / PLACES[name]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"auths": {"us.icr.io": {"auth": encoded(f"{name}:word")}}}))

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    return write


def variables(monkeypatch: pytest.MonkeyPatch, **values: Path) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))


WEB = Repository("us.icr.io", "acme/team/web")


def test_hardening_34_the_order_of_the_files(
    places: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert machine_credential(WEB) is None
    places("own")
    assert told(machine_credential(WEB)) == ("own", "word")
    places("runtime")
    assert told(machine_credential(WEB)) == ("runtime", "word")
    places("home")
    assert told(machine_credential(WEB)) == ("home", "word")
    variables(monkeypatch, DOCKER_CONFIG=tmp_path / "docker")
    assert told(machine_credential(WEB)) == ("runtime", "word")
    places("docker")
    assert told(machine_credential(WEB)) == ("docker", "word")
    places("named")
    variables(monkeypatch, REGISTRY_AUTH_FILE=tmp_path / "named.json")
    assert told(machine_credential(WEB)) == ("named", "word")


def test_hardening_34_a_named_file_is_the_only_one(
    places: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places("docker", "home", "runtime", "own")
    (tmp_path / "named.json").write_text('{"auths": {"quay.io": {"auth": "YTpi"}}}')
    variables(monkeypatch, REGISTRY_AUTH_FILE=tmp_path / "named.json", DOCKER_CONFIG=tmp_path / "docker")
    assert machine_credential(WEB) is None
    variables(monkeypatch, REGISTRY_AUTH_FILE=tmp_path / "absent.json")
    assert machine_credential(WEB) is None


def test_hardening_34_the_config_home_can_be_elsewhere(
    places: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    places("config", "own")
    variables(monkeypatch, XDG_CONFIG_HOME=tmp_path / "config")
    assert told(machine_credential(WEB)) == ("config", "word")


def test_hardening_34_a_file_without_the_login_is_passed_over(
    places: Callable[..., None], tmp_path: Path
) -> None:
    places("own", "runtime")
    (tmp_path / PLACES["runtime"]).write_text('{"auths": {"us.icr.io": {}, "quay.io": {"auth": "YTpi"}}}')
    assert told(machine_credential(WEB)) == ("own", "word")


@pytest.mark.parametrize(
    ("path", "user"),
    [
        ("acme/team/web", "repository"),
        ("acme/team/webs", "team"),
        ("acme/team/web/more", "repository"),
        ("acme/teams/web", "namespace"),
        ("other/web", "host"),
        ("acme", "namespace"),
    ],
)
def test_hardening_34_the_most_specific_entry_wins(
    config: Callable[[Any], None], path: str, user: str
) -> None:
    keys = {
        "us.icr.io": "host",
        "us.icr.io/acme": "namespace",
        "us.icr.io/acme/team": "team",
        "us.icr.io/acme/team/web": "repository",
    }
    config({"auths": {key: {"auth": encoded(f"{name}:word")} for key, name in keys.items()}})
    assert told(machine_credential(Repository("us.icr.io", path))) == (user, "word")


def test_hardening_34_a_namespace_of_docker_hub(config: Callable[[Any], None]) -> None:
    config(
        {
            "auths": {
                "https://index.docker.io/v1/": {"auth": encoded("all:word")},
                "docker.io/acme": {"auth": encoded("acme:word")},
            }
        }
    )
    assert told(machine_credential(Repository("docker.io", "acme/web"))) == ("acme", "word")
    assert told(machine_credential(Repository("docker.io", "library/alpine"))) == ("all", "word")


def test_hardening_34_helpers_and_identity_tokens_of_podman(
    tmp_path: Path, places: Callable[..., None], helpers: dict[str, bytes | Exception]
) -> None:
    path = tmp_path / PLACES["runtime"]
    path.parent.mkdir(parents=True)
    document = {
        "credHelpers": {"quay.io": "vault"},
        "auths": {"us.icr.io/acme": {"identitytoken": "refresh"}},
    }
    path.write_text(json.dumps(document))
    helpers["vault quay.io"] = b'{"Username": "<token>", "Secret": "refresh-too"}'
    assert told(machine_credential(WEB)) == ("<token>", "refresh")
    assert told(machine_credential(Repository("quay.io", "acme/web"))) == ("<token>", "refresh-too")


def test_hardening_34_a_helper_that_knows_nothing_leaves_it_to_the_file(
    config: Callable[[Any], None], helpers: dict[str, bytes | Exception]
) -> None:
    config({"credsStore": "desktop", "auths": {"us.icr.io/acme": {"auth": encoded("ann:word")}}})
    helpers["desktop us.icr.io"] = ProcessError(
        "failed", status=1, output="credentials not found in native keychain", ending="ended with status 1"
    )
    assert told(machine_credential(WEB)) == ("ann", "word")


def test_hardening_34_a_broken_helper_is_not_passed_over(
    config: Callable[[Any], None], helpers: dict[str, bytes | Exception]
) -> None:
    """Another login than the one that was meant is no help."""
    config({"credsStore": "desktop", "auths": {"us.icr.io": {"auth": encoded("ann:word")}}})
    helpers["desktop us.icr.io"] = ProcessError("failed", status=1, output="locked", ending="ended badly")
    with pytest.raises(MachineError, match=r"names for us\.icr\.io, failed: ended badly"):
        machine_credential(WEB)
