"""Credential helpers, which are programs of the user: started for real, and broken in every way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from secure_build.errors import MachineError
from secure_build.reference import Repository
from secure_build.registry import auth
from secure_build.registry.auth import machine_credential


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install a shell script as Docker's credential store."""
    (tmp_path / "config.json").write_text('{"credsStore": "test"}')
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def install(script: str) -> None:
        path = tmp_path / "docker-credential-test"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    return install


def credential() -> tuple[str, str] | None:
    found = machine_credential(Repository("us.icr.io", "acme/web"))
    return (found.username, found.password.reveal()) if found else None


def test_hardening_34_a_helper_is_asked_by_standard_input(helper: Callable[[str], None]) -> None:
    helper(
        """read host; printf '{"ServerURL": "%s", "Username": "%s", "Secret": "word-%s"}' $host $1 $host"""
    )
    assert credential() == ("get", "word-us.icr.io")


def test_hardening_34_a_helper_that_knows_nothing(helper: Callable[[str], None]) -> None:
    helper("echo credentials not found in native keychain; exit 1")
    assert credential() is None


def test_hardening_34_a_helper_that_fails_is_named_without_its_output(
    helper: Callable[[str], None], tmp_path: Path
) -> None:
    helper("""echo '{"Username": "ann", "Secret": "canary"}'; echo canary >&2; exit 1""")
    with pytest.raises(MachineError) as raised:
        credential()
    assert raised.value.message == (
        f"`docker-credential-test`, which `{tmp_path}/config.json` names for us.icr.io, failed: "
        "ended with status 1"
    )
    assert raised.value.hint == "try it by hand: `echo us.icr.io | docker-credential-test get`"


@pytest.mark.parametrize(
    "answer",
    ["", "canary", "[]", '{"Username": "ann"}', '{"Secret": "canary"}', '{"Secret": "canary"', '"canary"'],
)
def test_hardening_34_a_helper_that_prints_rubbish_is_named_without_it(
    helper: Callable[[str], None], answer: str
) -> None:
    helper(f"printf '%s' '{answer}'")
    with pytest.raises(MachineError) as raised:
        credential()
    assert raised.value.message == "`docker-credential-test` gave an answer for us.icr.io that is no login"


def test_hardening_34_a_helper_that_hangs_is_given_up(
    helper: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "_HELPER_SECONDS", 0.1)
    helper("sleep 1000")
    with pytest.raises(MachineError, match=r"failed: took longer than 0.1 seconds"):
        credential()


def test_hardening_34_a_helper_sees_the_variables_of_its_cloud_and_no_others(
    helper: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "acme")
    monkeypatch.setenv("PUSH_KEY", "canary")
    helper("""printf '{"Username": "%s", "Secret": "word%s"}' "$AWS_PROFILE" "$PUSH_KEY" """)
    assert credential() == ("acme", "word")
