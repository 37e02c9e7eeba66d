"""Starters from sbs-config.json: every key is accounted for, and no secret gets out."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secure_build.errors import UsageError
from secure_build.starter import KEYS, convert

# The keys of the Secure Build Server 1.3.0.20, as its client (build.py) and its documents have them.
DOCUMENTED = """
HOSTNAME CICD_PORT IMAGE_TAG CONTAINER_NAME RUNTIME_TYPE REPO_ID UUID
GITHUB_URL GITHUB_BRANCH GITHUB_KEY_FILE GITHUB_RECURSE_SUBMODULES
DOCKER_REPO DOCKER_PUSH_SERVER DOCKER_USER DOCKER_PASSWORD DOCKER_RO_USER DOCKER_RO_PASSWORD IMAGE_TAG_PREFIX
DOCKER_BASE_SERVER DOCKER_BASE_USER DOCKER_BASE_PASSWORD DOCKER_CONTENT_TRUST_BASE
DOCKER_CONTENT_TRUST_BASE_SERVER ICR_BASE_REPO ICR_BASE_REPO_PUBLIC_KEY
DOCKER_CONTENT_TRUST_PUSH_SERVER KEY_ID EMAIL ROOT_SSH_KEY_FILE
DOCKERFILE_PATH DOCKER_BUILD_PATH BUILD_SCRIPT BUILD_DIR ARG ENV_WHITELIST SECRETS ISV_SECRET EXIT_NONZERO
SECRET NEW_SECRET CAPATH CAKEYPATH CLIENT_CRT_KEY CSRPATH CERTPATH
COS_API_KEY_ID COS_RESOURCE_CRN COS_ENDPOINT COS_AUTH_ENDPOINT
MANIFEST_COS_API_KEY_ID MANIFEST_COS_RESOURCE_CRN MANIFEST_COS_ENDPOINT MANIFEST_COS_AUTH_ENDPOINT
STATE_COS_API_KEY_ID STATE_COS_RESOURCE_CRN STATE_COS_ENDPOINT STATE_COS_AUTH_ENDPOINT
MANIFEST_BUCKET_NAME STATE_BUCKET_NAME
""".split()

FULL: dict[str, Any] = {
    "RUNTIME_TYPE": "vpc",
    "GITHUB_URL": "git@git.example.com:acme/shop.git",
    "GITHUB_BRANCH": "main",
    "GITHUB_KEY_FILE": "~/.ssh/id_rsa",
    "GITHUB_RECURSE_SUBMODULES": "True",
    "DOCKER_REPO": "acme/shop",
    "DOCKER_PUSH_SERVER": "us.icr.io",
    "DOCKER_USER": "publisher",
    "DOCKER_PASSWORD": "canary-push",
    "DOCKER_RO_USER": "guest",
    "DOCKER_RO_PASSWORD": "canary-runtime",
    "DOCKER_BASE_SERVER": "de.icr.io",
    "DOCKER_BASE_USER": "builder",
    "DOCKER_BASE_PASSWORD": "canary-base",
    "IMAGE_TAG_PREFIX": "v1",
    "DOCKERFILE_PATH": "docker/Dockerfile",
    "DOCKER_BUILD_PATH": "work",
    "ARG": {"LEVEL": "3", "NPM_TOKEN": "canary-arg"},
    "SECRETS": {"LICENSE": "canary-license"},
}


def converted(values: Any) -> Any:
    return convert(json.dumps(values).encode(), "sbs-config.json")


def data(values: dict[str, Any]) -> dict[str, Any]:
    draft, _ = converted(values)
    draft.text()
    return draft.data


def test_every_documented_key_is_in_the_table_once() -> None:
    assert sorted(key.name for key in KEYS) == sorted(DOCUMENTED)


def test_every_key_has_an_outcome_that_is_explained() -> None:
    for key in KEYS:
        assert bool(key.to) == (key.outcome != "dropped"), key.name
        assert key.why or key.outcome == "carried", key.name


@pytest.mark.parametrize("name", [key.name for key in KEYS if key.outcome == "carried"])
def test_a_key_that_is_carried_makes_a_difference(name: str) -> None:
    without = {key: value for key, value in FULL.items() if key != name}
    if name == "DOCKER_REPO":
        with pytest.raises(UsageError, match="`DOCKER_REPO` is missing"):
            converted(without)
    else:
        assert data(without) != data(FULL)


@pytest.mark.parametrize("name", [key.name for key in KEYS if key.outcome == "dropped"])
def test_a_key_that_is_dropped_makes_none(name: str) -> None:
    assert data({**FULL, name: "canary"}) == data(FULL)


def test_values_of_secrets_and_of_what_is_not_carried_never_get_out() -> None:
    hidden = {key.name: f"canary-{key.name}" for key in KEYS if key.outcome != "carried"}
    hidden |= {
        "RUNTIME_TYPE": "vpc",
        "SECRETS": {"LICENSE": "canary-value"},
        "ISV_SECRET": {"k": "canary-isv"},
    }
    draft, rows = converted({**FULL, **hidden, "GITHUB_URL": "https://me:canary-url@git.example.com/a/b.git"})
    everything = draft.text() + repr(draft) + repr(rows)
    assert "canary" not in everything
    # Positive control: what is carried does get out.
    assert "publisher" in everything
    assert {row.name for row in rows} == {*FULL, *hidden}


def test_every_key_of_the_file_has_a_row_and_unknown_ones_are_said() -> None:
    draft, rows = converted({**FULL, "SOMETHING\x1b": "canary"})
    assert [row.name for row in rows if row.key is None] == ["SOMETHING\x1b"]
    assert "`SOMETHING?`" in draft.notes[-1].text
    assert "canary" not in repr((draft, rows))


def test_the_dockerfile_is_relative_to_the_context() -> None:
    """The table of four in additional-build-parameters.md."""
    found = [
        data({**FULL, "DOCKERFILE_PATH": file, "DOCKER_BUILD_PATH": context})["images"]["shop"]["build"]
        for file, context in (
            ("Dockerfile", ""),
            ("Dockerfile", "work"),
            ("work/Dockerfile", ""),
            ("work/Dockerfile", "work"),
        )
    ]
    assert [(build["context"], build.get("dockerfile")) for build in found] == [
        (".", None),
        ("work", "../Dockerfile"),
        (".", "work/Dockerfile"),
        ("work", None),
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DOCKER_REPO", "Acme/shop", "is no repository"),
        ("DOCKER_REPO", ["canary"], "must be text on one line"),
        ("DOCKER_REPO", "a\nb", "must be text on one line"),
        ("DOCKER_PUSH_SERVER", "https://canary/x/", "is no host of a registry"),
        ("IMAGE_TAG_PREFIX", "canary prefix", "is no tag"),
        ("GITHUB_URL", "ext::canary", "no address of a git repository"),
        ("GITHUB_URL", "https://x.test/a?token=canary", "has a character"),
        ("GITHUB_URL", "ssh://me:canary@x.test/a", "impossible host or user name"),
        ("GITHUB_URL", "http://x.test/canary", "for this machine only"),
        ("GITHUB_RECURSE_SUBMODULES", "canary", "must be `true` or `false`"),
        ("DOCKERFILE_PATH", "../canary", "leads out of the repository"),
        ("DOCKER_USER", "ab", "fewer than three characters"),
        ("ARG", ["canary"], "must be a mapping"),
        ("ARG", {"A": ["canary"]}, "neither text nor a number"),
        ("ARG", {"A": "\ud800canary"}, "neither text nor a number"),
        ("SECRETS", {"not a name": "canary"}, "name no variable can have"),
    ],
)
def test_a_wrong_value_is_named_by_its_key_and_not_shown(key: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        data({**FULL, key: value})
    assert message in caught.value.message
    assert key in caught.value.message
    assert "canary" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": ' * 5000, "nested too deeply"),
        (b'{"a": ' * 30 + b"1" + b"}" * 30, "nested too deeply"),
        (b'{"DOCKER_REPO": Infinity}', "NaN and Infinity are no JSON"),
        (b"\xff", "is not UTF-8 text"),
        (b"", ":1: this is not JSON"),
        (b"[" + b"0," * (1 << 20), "the limit is 1048576"),
        (b'{"A": 1, "A": 2}', "a key stands twice: A"),
    ],
)
def test_hardening_43_json_of_hostile_shape(content: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        convert(content, "sbs-config.json")


def test_hardening_43_huge_numbers_stay_the_text_they_are() -> None:
    content = b'{"DOCKER_REPO": "a/b", "CICD_PORT": 1e999, "ARG": {"N": ' + b"9" * 5000 + b', "F": 1.10}}'
    draft, _ = convert(content, "sbs-config.json")
    assert draft.data["images"]["b"]["build"]["args"] == {"N": "9" * 5000, "F": "1.10"}
    assert yaml.safe_load(draft.text()) == draft.data


scalars = st.text(max_size=20) | st.booleans() | st.integers() | st.none()
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=9), scalars, max_size=3)


@given(st.dictionaries(st.sampled_from(DOCUMENTED) | st.text(max_size=9), values, max_size=4))
def test_what_is_written_loads_whatever_the_file_says(changes: dict[str, Any]) -> None:
    try:
        draft, _ = converted({**FULL, **changes})
        text = draft.text()
    except UsageError:
        return
    assert yaml.safe_load(text) == draft.data
