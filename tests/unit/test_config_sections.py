"""`env:` of the config, field by field: what it is called in the contract, and what is no value for it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from secure_build.config import Env
from secure_build.contract import schema

SECRET, FILE = {"secret": "A"}, {"file": "a.pem"}
ROUTER = {"hostname": "a.example.com", "iam-api-key": SECRET}
SYSLOG = {"hostname": "192.0.2.1", "server": FILE, "cert": FILE, "key": SECRET}


def names(model: type[BaseModel]) -> set[str]:
    """The contract's names of the fields of a model of the config."""
    return {field.serialization_alias or name for name, field in model.model_fields.items()}


def contract_names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def test_the_config_has_every_field_of_the_contract() -> None:
    known = contract_names(schema.models("ccrt").env) | contract_names(schema.models("ccco").env)
    # The type is always the same, and the signing key that of `encrypt`.
    assert names(Env) == known - {"type", "signingKey"}


@pytest.mark.parametrize(
    "env",
    [
        {"logging": {}},
        {"logging": {"log-router": ROUTER, "syslog": SYSLOG}},
        {"logging": {"logRouter": ROUTER}},
        {"logging": {"log-router": ROUTER | {"port": 0}}},
        {"logging": {"log-router": ROUTER | {"port": "443"}}},
        {"logging": {"log-router": ROUTER | {"iam-api-key": "a-literal-key"}}},
        {"logging": {"syslog": SYSLOG | {"key": "a-literal-key"}}},
        {"logging": {"syslog": SYSLOG | {"server": "a-literal-key"}}},
        {"logging": {"syslog": SYSLOG | {"server": {"file": ""}}}},
        {"volumes": {"data": {}}},
        {"volumes": {"data": {"seed": SECRET, "uv-secret-id": "index-1"}}},
        {"volumes": {"data": {"seed": "a-literal-key"}}},
        {"volumes": {"Data": {"seed": SECRET}}},
        {"volumes": {"data": {"seed": SECRET, "kms": [{"api-key": "a-literal-key", "crn": "crn:v1"}]}}},
        {"auths": {"icr.io": {"username": "iamapikey", "password": "a-literal-key"}}},
        {"auths": {"icr.io": {"username": "ab", "password": SECRET}}},
        {"env": {"1A": "b"}},
        {"env": {"A": 1}},
        {"env": {"A": {"file": "a-literal-key"}}},
        {"cacerts": {"mine": "a-literal-key"}},
        {"cacerts": {"../mine": FILE}},
        {"host-attestation": {"m 1": {"host-key-doc": FILE}}},
        {"signing-key": SECRET},
    ],
)
def test_what_is_no_value_is_refused_and_not_repeated(env: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refused:
        Env.model_validate(env)
    assert "a-literal-key" not in str(refused.value)
