"""What nobody outside IBM knows of the runtimes, and the safe thing that is done about each.

The numbers are stable; others of them are `unknown N` in tests/cases/contract and in the tests of checks.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from fakes import pins
from secure_build import config
from secure_build.contract import archive, enforcement, schema
from secure_build.contract.archive import Member
from secure_build.contract.auths import contract_key
from secure_build.contract.compose import ComposeFile
from secure_build.contract.confidential import section
from secure_build.contract.document import Contract
from secure_build.contract.encryption.token import DEFAULT_PREFIX, PREFIXES
from secure_build.contract.play import PlayFile
from secure_build.errors import UsageError
from secure_build.reference import Digest, Reference

DIGEST = Digest.of(b"image")


def parsed(text: str) -> config.Config:
    return config.parse(text.encode(), Path("secure-build.yaml")).config


def test_unknown_1_the_prefix_is_one_for_each_target_and_can_be_chosen() -> None:
    assert {target: DEFAULT_PREFIX[target] for target in schema.TARGETS} == {
        "hpvs": "hyper-protect-basic",
        "ccrt": "contract-basic",
        "ccrv": "contract-basic",
        "ccco": "hyper-protect-basic",
    }
    for prefix in PREFIXES:
        text = f"version: 1\ntarget: ccrt\nimages: {{a: {{use: nginx}}}}\nencrypt: {{prefix: {prefix}}}\n"
        assert parsed(text).encrypt.prefix == prefix


def test_unknown_2_a_tag_beside_a_digest_is_not_written() -> None:
    image = f"us.icr.io/acme/web:1.0@{DIGEST}"
    compose = ComposeFile.parse(f"services: {{web: {{image: '{image}'}}}}".encode(), "compose.yaml")
    assert b":1.0" not in compose.pinned(pins.texts(compose.places))
    containers = f"[{{name: a, image: '{image}'}}]"
    pod = f"{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: {containers}}}}}"
    play = PlayFile.parse(pod.encode(), "pod.yaml", templates=False)
    assert b":1.0" not in play.pinned(pins.texts(play.places))


@pytest.mark.parametrize(
    ("choice", "workload"),
    [("rhs", "compose: a.yml"), ("dct", "play: pods"), ("cosign", "compose: a.yml")],
)
def test_unknown_3_and_11_images_are_pinned_unless_the_runtime_looks_at_signatures(
    choice: str, workload: str
) -> None:
    image = f"web: {{image: us.icr.io/acme/web:1.0, enforce: {choice}}}"
    keys = (
        "rhs: {key: {file: a}}, dct: {server: https://a.b, root: {key: {file: a}}}, cosign: {key: {file: a}}"
    )
    with pytest.raises(UsageError, match=f"`web`: `enforce: {choice}` is for"):
        parsed(
            f"version: 1\ntarget: ccrt\nimages: {{{image}}}\nsigning: {{{keys}}}\nworkload: {{{workload}}}\n"
        )
    assert parsed("version: 1\ntarget: ccrt\nimages: {web: {image: us.icr.io/acme/web:1.0}}\n").built[
        "web"
    ].enforce == ("digest")
    first = enforcement.worth("ccrt", "compose", Reference.parse("us.icr.io/acme/web:1.0"))[0]
    assert (first.choice, first.possible) == ("digest", True)


def test_unknown_4_names_are_written_out_in_full() -> None:
    compose = ComposeFile.parse(b"services: {web: {image: nginx}}", "compose.yaml")
    assert b"docker.io/library/nginx@sha256:" in compose.pinned(pins.texts(compose.places))
    assert contract_key("docker.io") == "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    "name", [".env", "compose.yaml", "compose.override.yml", "docker-compose.override.yml"]
)
def test_unknown_7_files_that_compose_would_read_of_itself_are_reserved(name: str) -> None:
    assert name in archive.RESERVED_NAMES


def test_unknown_8_an_archive_has_one_compose_file_and_plain_names() -> None:
    assert archive.COMPOSE_NAME == "docker-compose.yml"
    packed = archive.build({PurePosixPath(archive.COMPOSE_NAME): Member(b"services: {}\n")})
    assert [str(name) for name in archive.read(packed.base64())] == ["docker-compose.yml"]
    assert b"./docker" not in packed.tar
    assert "docker-compose.yaml" in archive.RESERVED_NAMES


def test_unknown_9_cosign_keys_stand_under_the_repository() -> None:
    assert parsed(
        "version: 1\ntarget: ccco\nimages: {web: {image: 'us.icr.io/acme/web:1.0'}}\n"
        "workload: {pods: pods.yaml, confidential-containers: "
        "{cosign: {us.icr.io/acme/web: {public-key: {file: cosign.pub}}}}}\n"
    ).workload
    repository = Reference.parse("us.icr.io/acme/web").repository
    (finding,) = section.cosign_findings({repository: b""})
    assert (finding.level, finding.basis) == ("warn", "inferred")


def test_unknown_10_the_newest_published_schema_counts() -> None:
    # Images before 26 took seeds of three characters.
    document = schema.json_schema("hpvs")
    assert '"minLength": 15' in document or "{15,}" in document


def test_unknown_12_what_only_the_runtime_understands_is_passed_on() -> None:
    assert '"allowedContainers"' in schema.json_schema("ccco")
    for target in schema.TARGETS:
        assert '"cacerts"' in schema.json_schema(target)


def test_unknown_13_keys_beyond_the_published_schema_are_refused_and_not_guessed() -> None:
    with pytest.raises(UsageError, match="unknown key"):
        Contract.parse(b"workload: a\nenv: b\nattestation: c\n", "contract.yaml")
