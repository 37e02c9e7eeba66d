"""secure-build.yaml: what it gives, what it refuses, and the JSON schema that editors use.

One file per mistake, with its exact message, stands in `tests/cases/config`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import secure_build
from secure_build import config
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.reference import Digest, Reference

SCHEMA = Path(secure_build.__file__).parent / "data" / "secure-build.schema.json"

FULL = """\
# yaml-language-server: $schema=secure-build.schema.json
version: 1
target: ccrt
builder: buildx
images:
  web:
    image: us.icr.io/acme/web:1.4.0
    build:
      context: app
      dockerfile: Containerfile
      platforms: [linux/s390x, linux/amd64]
      args: {VERSION: "1.4.0"}
      target: release
    enforce: digest
  db:
    image: acme/db:2
  redis:
    use: redis:7.4
registries:
  us.icr.io:
    push: {username: iamapikey, password: {secret: ICR_PUSH_KEY}}
    pull: {username: iamapikey, password: {secret: ICR_KEY}}
    runtime: {username: iamapikey, password: {secret: ICR_PULL_KEY}}
    allow-push-credential: true
  index.docker.io:
    runtime: {username: acme, password: {secret: HUB_TOKEN}}
workload:
  compose: deploy/docker-compose.yml
"""


def load(tmp_path: Path, text: str) -> config.Loaded:
    path = tmp_path / "secure-build.yaml"
    path.write_bytes(text.encode())
    return config.load(path)


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text)
    return caught.value.message.replace(f"{tmp_path}/", "")


def test_every_key_is_read(tmp_path: Path) -> None:
    loaded = load(tmp_path, FULL)
    read = loaded.config
    assert list(read.built) == ["web", "db"]
    assert read.built["web"].image == Reference.parse("us.icr.io/acme/web:1.4.0")
    assert list(map(str, read.built["web"].build.platforms)) == ["linux/s390x", "linux/amd64"]
    assert read.built["web"].build.args == {"VERSION": "1.4.0"}
    assert read.used["redis"].use == Reference.parse("docker.io/library/redis:7.4")
    assert read.workload
    assert read.workload.compose == "deploy/docker-compose.yml"
    assert read.access("us.icr.io").allow_push_credential
    assert loaded.digest == Digest.of(FULL.encode())
    assert loaded.directory == tmp_path


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    read = load(tmp_path, FULL).config
    build = read.built["db"].build
    assert (build.context, build.dockerfile, build.platforms, build.args) == (".", "Dockerfile", (GUEST,), {})
    assert read.access("quay.io") == config.RegistryAccess()


def test_a_registry_is_found_by_any_of_its_names(tmp_path: Path) -> None:
    runtime = load(tmp_path, FULL).config.access("docker.io").runtime
    assert runtime
    assert runtime.password.secret == "HUB_TOKEN"


def test_a_config_cannot_be_changed(tmp_path: Path) -> None:
    read = load(tmp_path, FULL).config
    with pytest.raises(ValueError, match="frozen"):
        read.target = "hpvs"


PASSWORDS = [
    *("hunter2-secret 12345678 1.5e3 '*' [hunter2-secret] *hunter2-secret !hunter2-secret".split()),
    *('!hunter2!secret %hunter2-secret @hunter2-secret `hunter2-secret "hunter2-secret'.split()),
    "hunter2-secret: x",
    "|\n        hunter2-secret",
]


@pytest.mark.parametrize("password", PASSWORDS)
def test_a_literal_password_is_refused_and_never_shown(tmp_path: Path, password: str) -> None:
    text = FULL.replace(
        "push: {username: iamapikey, password: {secret: ICR_PUSH_KEY}}",
        f"push:\n      password: {password}\n      username: iamapikey",
    )
    message = refusal(tmp_path, text)
    assert not any(part in message for part in ("hunter2", "12345678", "1.5e3"))
    assert re.match(r"secure-build.yaml:\d+: ", message)


def test_the_right_form_of_a_password_is_shown(tmp_path: Path) -> None:
    message = refusal(tmp_path, FULL.replace("{secret: ICR_KEY}", "hunter2"))
    assert message == (
        "secure-build.yaml:22: registries.us.icr.io.pull.password: "
        "a password must not stand in this file; name it: `{secret: NAME}`"
    )


def test_every_mistake_has_a_line(tmp_path: Path) -> None:
    text = FULL.replace("ccrt", "ccrx").replace("context:", "contxt:").replace("redis:7.4", "REDIS")
    assert refusal(tmp_path, text).splitlines() == [
        "secure-build.yaml:3: target: must be `hpvs`, `ccrt`, `ccrv` or `ccco`",
        "secure-build.yaml:9: images.web.build.contxt: unknown key; did you mean `context`?",
        "secure-build.yaml:18: images.redis.use: `REDIS` is no image reference: it has upper-case letters",
    ]


@given(st.text())
def test_58_any_text_is_a_config_or_a_usage_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    for content in (text, FULL + text):
        path.write_bytes(content.encode())
        try:
            loaded = config.load(path)
        except UsageError:
            continue
        assert loaded.config.images


def test_a_file_that_cannot_be_read_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no config at") as caught:
        config.load(tmp_path / "secure-build.yaml")
    assert caught.value.hint
    with pytest.raises(UsageError, match="cannot read the config"):
        config.load(tmp_path)
    assert "the limit is" in refusal(tmp_path, "#" * (1 << 20) + "\n")


def test_the_schema_that_is_shipped_is_current() -> None:
    assert SCHEMA.read_text() == config.schema(), "write it anew from `secure_build.config.schema()`"


def schema() -> Any:
    return json.loads(SCHEMA.read_text())


def problems(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(schema())
    return [error.json_path for error in validator.iter_errors(yaml.safe_load(text))]


def test_the_schema_is_one_itself() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())


def test_the_schema_takes_what_the_program_takes(tmp_path: Path) -> None:
    assert problems(FULL) == []
    smallest = "version: 1\ntarget: hpvs\nimages: {web: {image: 'us.icr.io/acme/web:1'}}\n"
    assert problems(smallest) == []
    assert load(tmp_path, smallest)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"),
        ("target: ccrt", "target: ccrx"),
        ("builder: buildx", "builder: kaniko"),
        ("platforms: [linux/s390x, linux/amd64]", "platforms: []"),
        ("platforms: [linux/s390x, linux/amd64]", "platforms: linux/s390x"),
        ("platforms: [linux/s390x, linux/amd64]", "platforms: [linux/s390x, linux/s390x]"),
        ("context: app", "contxt: app"),
        ('"1.4.0"', "1.4"),
        ("use: redis:7.4", "uses: redis:7.4"),
        ("  web:", "  We b:"),
        ("enforce: digest", "enforce: notary"),
        ("{secret: ICR_KEY}", "literal"),
        ("{secret: ICR_KEY}", "{secret: NO-NAME}"),
        ("{secret: ICR_KEY}", "{}"),
        ("username: acme", "username: ab"),
        ("allow-push-credential: true", "allow-push-credential: maybe"),
        ("allow-push-credential", "allow_push_credential"),
        ("workload:\n  compose: deploy/docker-compose.yml", "workload: deploy/docker-compose.yml"),
    ],
)
def test_the_schema_refuses_what_the_program_refuses(tmp_path: Path, old: str, new: str) -> None:
    text = FULL.replace(old, new)
    assert text != FULL
    assert problems(text)
    assert refusal(tmp_path, text)


def test_every_key_of_the_schema_has_a_description_and_no_other_keys_are_let_through() -> None:
    document = schema()
    for part in (document, *document["$defs"].values()):
        assert part["additionalProperties"] is False
        assert part["description"]
        assert all(entry["description"] for entry in part["properties"].values())


def test_the_schema_says_what_editors_offer() -> None:
    document = schema()
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    platforms = document["$defs"]["Build"]["properties"]["platforms"]
    assert (platforms["default"], platforms["minItems"], platforms["items"]) == (
        ["linux/s390x"],
        1,
        {"type": "string"},
    )
    assert document["$defs"]["Login"]["properties"]["password"]["$ref"] == "#/$defs/SecretName"
    assert document["$defs"]["SecretName"]["required"] == ["secret"]
    assert "null" not in SCHEMA.read_text()
