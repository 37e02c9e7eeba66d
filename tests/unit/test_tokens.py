"""Which build arguments look like a token or password."""

from __future__ import annotations

import base64
import random

import pytest

from secure_build.config.tokens import token_reason

WORD = "0123456789abcdefghijABCDEFGHIJ"


@pytest.mark.parametrize(
    "value",
    [
        f"ghp_{WORD}",
        f"ghs_{WORD}",
        f"github_pat_{WORD}",
        f"glpat-{WORD}",
        f"xoxb-{WORD}",
        "AKIA0123456789ABCDEF",
        f"sk-{WORD}",
        f"npm_{WORD}",
        f"  npm_{WORD}\n",
        "-----BEGIN PRIVATE KEY-----\nMIG\n",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nMIG\n",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----",
        "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl",
        "Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxMjMifQ.c2lnbmF0dXJl",
        "https://user:hunter2@example.com/simple",
        f"hf_{WORD}",
        f"sk-proj-{WORD}",
        "pypi-AgEIcHlwaS5vcmcCJDU0NzQ",
    ],
)
def test_33_tokens(value: str) -> None:
    assert token_reason("X", value)


@pytest.mark.parametrize(
    "name",
    [
        "TOKEN",
        "NPM_TOKEN",
        "npm_token",
        "DB_PASSWORD",
        "DBPASSWORD",
        "CLIENT_SECRET",
        "API_KEY",
        "APIKEY",
        "SECRET_VALUE",
    ],
)
def test_33_names(name: str) -> None:
    assert token_reason(name, "x") == "its name says so"
    assert token_reason(name, "") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VERSION", "1.27.4-alpine3.20"),
        ("COMMIT", "0123456789abcdef0123456789abcdef01234567"),
        ("DIGEST", "sha256:" + "0123456789abcdef" * 4),
        ("SHA512", "a" * 64 + "0123456789abcdef" * 4),
        ("INTEGRITY", "sha512-" + base64.b64encode(bytes(range(64))).decode()),
        ("UUID", "123e4567-e89b-12d3-a456-426614174000"),
        ("URL", "https://example.com/a/very/long/path/Release-1.2.3/file.tar.gz?x=1"),
        ("BASE", "registry.example.com/Team/project/image:2026-01-01T00-00-00"),
        ("FLAGS", "-O2 -g -fstack-protector-strong -D_FORTIFY_SOURCE=2"),
        ("FOLDER", "/usr/lib/s390x-linux-gnu/Some/Folder/With/Parts-12"),
        ("TOKENIZER", "fast"),
        ("SECRETARY", "Alice"),
        ("KEYBOARD", "de"),
        ("MONKEY", "x"),
        ("PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----"),
        ("EMPTY", " "),
        ("LIBRARY", "sk-learn-1.2.3"),
        ("INDEX", "pypi-mirror-internal"),
        ("PREFIX", "npm_config_registry"),
        ("FEATURE", "hf_transfer_enabled"),
        ("TOKEN_URL", "https://login.example.com/oauth/token"),
        ("DB_PASSWORD_FILE", "/run/secrets/db"),
        ("SECRET_NAME", "database"),
        ("TOKEN_TTL", "3600"),
        ("WITH_TOKEN", "true"),
    ],
)
def test_33_ordinary_arguments(name: str, value: str) -> None:
    assert token_reason(name, value) is None


def test_33_a_token_under_a_name_that_says_otherwise() -> None:
    assert token_reason("TOKEN_URL", "https://u:hunter@example.com/") == "it holds an address with a password"
    assert token_reason("TOKEN_NAME", f"ghp_{WORD}") == "it begins like an access token"
    assert token_reason("VAULT_SECRET_ID", "6f0a") == "its name says so"


def test_33_random_text_is_found() -> None:
    chance = random.Random(7)
    found = [token_reason("X", base64.urlsafe_b64encode(chance.randbytes(32)).decode()) for _ in range(1000)]
    assert sum(map(bool, found)) > 990
