"""`auths`: the contract's spelling of registries, and the credentials that must not go into it."""

from __future__ import annotations

import base64
import json

import pytest

from secure_build.contract import auths
from secure_build.errors import UsageError
from secure_build.model import Credential
from secure_build.reference import registry_name
from secure_build.secret import Secret


@pytest.mark.parametrize(
    ("registry", "key"),
    [
        ("us.icr.io", "us.icr.io"),
        ("ghcr.io", "ghcr.io"),
        ("quay.io", "quay.io"),
        ("localhost:5000", "localhost:5000"),
        ("10.0.0.1:5000", "10.0.0.1:5000"),
        ("10.0.0.1", "10.0.0.1"),
        ("registry-a.b-c.example:443", "registry-a.b-c.example:443"),
        ("US.ICR.IO", "us.icr.io"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("index.docker.io", "https://index.docker.io/v1/"),
        ("registry-1.docker.io", "https://index.docker.io/v1/"),
    ],
)
def test_a_registry_has_one_spelling_in_the_contract(registry: str, key: str) -> None:
    assert auths.contract_key(registry_name(registry)) == key


@pytest.mark.parametrize(
    "registry",
    [
        "123456789012.dkr.ecr.us-east-1.amazonaws.com",
        "1reg.io",
        "my_reg.io",
        "[::1]:5000",
        "https://us.icr.io",
        "https://index.docker.io/v1",
        "us.icr.io/ns",
        "reg-.io",
        "us.icr.io:",
        "us.icr.io\n",
        "10.0.0.1.2",
    ],
)
def test_a_registry_that_the_schema_cannot_express_is_refused(registry: str) -> None:
    with pytest.raises(UsageError) as caught:
        auths.contract_key(registry)
    assert f"`{registry}`" in caught.value.message
    assert caught.value.hint


def token(payload: object) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'none'})}.{part(payload)}.c2lnbmF0dXJl"


def credential(username: str = "iamapikey", password: str = "a-long-lived-key") -> Credential:
    return Credential("us.icr.io", username, Secret(password))


def refusal(runtime: Credential, push: Credential | None = None, *, allow_push: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        auths.check_runtime(runtime, push, allow_push=allow_push)
    assert runtime.password.reveal() not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize(
    ("runtime", "why"),
    [
        (credential(username="iambearer"), "short-lived (user `iambearer` logs in with an access token)"),
        (credential(username="oauth2accesstoken"), "short-lived (user `oauth2accesstoken`"),
        (credential(username="AWS"), "short-lived (user `AWS`"),
        (credential(username="gitlab-ci-token"), "short-lived (user `gitlab-ci-token`"),
        (credential(password="ghs_0123456789"), "short-lived (it is the token of a GitHub Actions job)"),
        (credential(password=token({"exp": 3600})), "short-lived (it is a token that expires)"),
        (credential(password=token({"exp": 3600, "iat": 0})), "short-lived (it is a token that expires)"),
        (credential(username="ab"), "need at least 3 characters each"),
        (credential(password="é€"), "need at least 3 characters each"),
    ],
)
def test_35_a_credential_that_will_not_last_is_refused_even_when_push_is_allowed(
    runtime: Credential, why: str
) -> None:
    assert why in refusal(runtime)
    assert why in refusal(runtime, allow_push=True)


@pytest.mark.parametrize(
    "password",
    [
        "ghp_0123456789",
        "a.b.c",
        "...",
        token({"sub": "robot"}),
        token({"exp": "never"}),
        token([1]),
        token({"exp": 366 * 86400, "iat": 0}),
    ],
)
def test_a_credential_that_lasts_is_taken(password: str) -> None:
    auths.check_runtime(credential(password=password), None, allow_push=False)


def test_35_the_credential_that_publishes_is_refused_unless_allowed() -> None:
    push = credential()
    assert "this is the credential that publishes" in refusal(credential(), push)
    assert "this is the credential that publishes" in refusal(credential(username="other"), push)
    auths.check_runtime(credential(), push, allow_push=True)
    auths.check_runtime(credential(password="another-key"), push, allow_push=False)
