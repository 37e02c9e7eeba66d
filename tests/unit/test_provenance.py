"""What provenance says, read by sigstore's own models, and what it never says."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import pytest
from sigstore.dsse import Statement
from sigstore.dsse._predicate import SLSAPredicateV1_0

from secure_build import ci
from secure_build.attestations import provenance, statement
from secure_build.errors import RefusedError
from secure_build.model import (
    BuilderVersion,
    Descriptor,
    Image,
    Invocation,
    Material,
    Platform,
    Source,
    Submodule,
)
from secure_build.reference import Digest, Reference

DIGEST, OTHER, CONFIG = (Digest.of(word) for word in (b"image", b"member", b"config"))
COMMIT = "c" * 40
S390X, AMD64 = Platform("linux", "s390x"), Platform("linux", "amd64")
SOURCE = Source(
    url="https://example.com/acme/app.git",
    commit=COMMIT,
    ref="main",
    clean=True,
    committed_at=datetime(2026, 1, 1, tzinfo=UTC),
    subdir="deploy",
)
IMAGE = Image(
    name="web",
    reference=Reference.parse("us.icr.io/acme/web:1.4.0"),
    descriptor=Descriptor("application/vnd.oci.image.index.v1+json", DIGEST, 7),
    platforms=(S390X, AMD64),
    builder=BuilderVersion("buildx", "0.29, BuildKit 0.26"),
    materials=(Material("image", "docker.io/library/busybox:1", str(OTHER), AMD64),),
    invocation=Invocation(
        "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main",
        "https://github.com/acme/app/actions/runs/1/attempts/1",
        datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        datetime(2026, 1, 2, 3, 5, tzinfo=UTC),
    ),
)
PARAMETERS = provenance.Parameters("app", "Dockerfile", (S390X, AMD64))
CANARY = "ghp_Canary?And/some+more=0123456789"


def predicate(image: Image = IMAGE, source: Source = SOURCE, **changes: Any) -> dict[str, Any]:
    return provenance.predicate(image, source, replace(PARAMETERS, **changes), config=CONFIG, tool="1.0")


def written(said: dict[str, Any]) -> bytes:
    subjects = [("us.icr.io/acme/web", digest) for digest in (DIGEST, OTHER)]
    return statement.statement(provenance.PREDICATE, said, subjects)


def dependencies(said: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = said["buildDefinition"]["resolvedDependencies"]
    return listed


def test_sigstore_reads_it() -> None:
    said = predicate(
        arguments={"MODE": "fast"},
        secrets=("npm",),
        target="final",
        cache_to=Reference.parse("example.com/c:1"),
    )
    content = written(said)
    Statement(content)
    read = SLSAPredicateV1_0.model_validate(json.loads(content)["predicate"])
    assert read.build_definition.build_type == provenance.BUILD_TYPE
    assert read.build_definition.external_parameters == {
        "source": {"repository": "https://example.com/acme/app.git", "ref": "main", "directory": "deploy"},
        "config": {"sha256": CONFIG.hexadecimal},
        "image": {"name": "web", "reference": "us.icr.io/acme/web:1.4.0"},
        "build": {
            "context": "app",
            "dockerfile": "Dockerfile",
            "platforms": ["linux/s390x", "linux/amd64"],
            "target": "final",
            "args": {"MODE": "fast"},
            "secrets": ["npm"],
            "cache": {"to": "example.com/c:1"},
        },
    }
    source, base = read.build_definition.resolved_dependencies or []
    assert (source.uri, source.digest) == (
        f"git+https://example.com/acme/app.git@{COMMIT}",
        type(source.digest)({"gitCommit": COMMIT}),
    )
    assert (base.uri, base.annotations) == ("oci://docker.io/library/busybox:1", {"platform": "linux/amd64"})
    assert read.run_details.builder.id.endswith("/release.yml@refs/heads/main")
    assert read.run_details.builder.version == {"secure-build": "1.0", "buildx": "0.29, BuildKit 0.26"}
    assert read.run_details.metadata is not None
    assert read.run_details.metadata.started_on == "2026-01-02T03:04:05Z"
    assert read.run_details.metadata.invocation_id == "https://github.com/acme/app/actions/runs/1/attempts/1"


def test_equal_input_gives_equal_bytes() -> None:
    one = predicate(arguments={"A": "1", "B": "2"}, contexts={"x": "a", "y": "b"}, hidden=("B", "A"))
    two = predicate(arguments={"B": "2", "A": "1"}, contexts={"y": "b", "x": "a"}, hidden=("A", "B"))
    assert written(one) == written(two)


@pytest.mark.parametrize(
    "value",
    ['line\nline\r\n"},{"x":"', "\u2028\u202e\x00\x1b[2J", "\ud800", "$(touch X)`id`", "ü" * 100_000],
)
def test_hostile_values_are_plain_text(value: str) -> None:
    content = written(predicate(arguments={"VALUE": value}))
    content.decode("ascii")
    (line,) = content.splitlines()
    build = json.loads(line)["predicate"]["buildDefinition"]["externalParameters"]["build"]
    assert build["args"] == {"VALUE": value.replace("\ud800", "?")}
    assert statement.predicate(content, predicate_type=provenance.PREDICATE, subject=OTHER)


def test_what_is_not_known_is_not_said() -> None:
    said = predicate(replace(IMAGE, materials=None, invocation=None), replace(SOURCE, url=None, ref=None))
    SLSAPredicateV1_0.model_validate(said)
    assert dependencies(said) == [{"digest": {"gitCommit": COMMIT}, "name": "source"}]
    assert said["buildDefinition"]["externalParameters"]["source"] == {"directory": "deploy"}
    assert said["buildDefinition"]["internalParameters"]["materials"] == "unknown"
    assert said["runDetails"]["builder"]["id"] == provenance.UNKNOWN_HOST
    assert "metadata" not in said["runDetails"]


def test_a_dirty_tree_says_so() -> None:
    for clean, word in ((True, "clean"), (False, "dirty")):
        said = predicate(source=replace(SOURCE, clean=clean))
        assert said["buildDefinition"]["internalParameters"]["workingTree"] == word


def test_submodules_and_all_kinds_of_materials() -> None:
    submodule = Submodule("lib", "d" * 40, "git@example.com:acme/lib.git")
    materials = (
        Material("git", "https://example.com/tool.git#v1", "sha1:" + "e" * 40),
        Material("http", "https://example.com/file?token=x", str(OTHER)),
    )
    said = predicate(replace(IMAGE, materials=materials), replace(SOURCE, submodules=(submodule,)))
    SLSAPredicateV1_0.model_validate(said)
    assert dependencies(said)[1:] == [
        {
            "uri": f"git+ssh://example.com/acme/lib.git@{'d' * 40}",
            "digest": {"gitCommit": "d" * 40},
            "name": "source/lib",
        },
        {"uri": f"git+https://example.com/tool.git@{'e' * 40}", "digest": {"gitCommit": "e" * 40}},
        {"uri": "https://example.com/file", "digest": {"sha256": OTHER.hexadecimal}},
    ]


@pytest.mark.parametrize(
    ("url", "repository"),
    [
        ("https://user:word@example.com:8443/a.git?x=1#y", "https://example.com:8443/a.git"),
        ("ssh://git@example.com:22/a.git", "ssh://example.com:22/a.git"),
        ("git@example.com:a/b.git", "ssh://example.com/a/b.git"),
        ("git@example.com:/srv/b.git", "ssh://example.com/srv/b.git"),
        ("/home/someone/app", None),
        ("../app.git", None),
        ("file:///home/someone/app", None),
        ("ext::sh -c id", None),
        ("https://[broken/app", None),
        (None, None),
    ],
)
def test_addresses_have_no_login_and_no_place_of_this_machine(
    url: str | None, repository: str | None
) -> None:
    said = predicate(source=replace(SOURCE, url=url))
    assert said["buildDefinition"]["externalParameters"]["source"].get("repository") == repository
    assert dependencies(said)[0].get("uri") == (repository and f"git+{repository}@{COMMIT}")


def holds(content: bytes, word: str) -> bool:
    """Whether the word is there plainly, in an address, or in base64 of whatever alignment."""
    found = [word, quote(word), quote(word, safe="")]
    for before in range(3):
        encoded = base64.b64encode(b" " * before + word.encode()).decode()
        found.append(encoded[4 if before else 0 : len(encoded) // 4 * 4 - 4])
    return any(form.encode() in content for form in found)


def test_30_no_secret_is_said() -> None:
    login = f"https://user:{quote(CANARY, safe='')}@example.com"
    image = replace(
        IMAGE,
        materials=(
            Material("http", f"{login}/file?sig={CANARY}", str(OTHER)),
            Material("git", f"{login}/tool.git#{CANARY}", "sha1:" + "e" * 40),
        ),
    )
    source = replace(
        SOURCE, url=f"{login}/app.git", submodules=(Submodule("lib", "d" * 40, f"{login}/lib.git"),)
    )
    said = predicate(image, source, arguments={"API_TOKEN": CANARY}, hidden=("API_TOKEN", "absent"))
    assert not holds(written(said), CANARY)
    assert said["buildDefinition"]["externalParameters"]["build"]["hiddenArgs"] == ["API_TOKEN"]
    assert "args" not in said["buildDefinition"]["externalParameters"]["build"]
    # The control: it is found where it is not hidden, in each form.
    for value in (
        CANARY,
        quote(CANARY),
        *(base64.b64encode(f"{a}{CANARY}".encode()).decode() for a in ("", "a", "ab")),
    ):
        assert holds(written(predicate(image, source, arguments={"API_TOKEN": value})), CANARY)


@pytest.mark.parametrize(
    ("predicate_type", "subject", "reason"),
    [
        (provenance.PREDICATE, CONFIG, "is not about"),
        ("https://spdx.dev/Document", DIGEST, "is of the type `https://slsa.dev/provenance/v1`"),
    ],
)
def test_a_statement_of_something_else_is_refused(predicate_type: str, subject: Digest, reason: str) -> None:
    content = written(predicate())
    assert statement.predicate(content, predicate_type=provenance.PREDICATE, subject=DIGEST)
    with pytest.raises(RefusedError, match=reason):
        statement.predicate(content, predicate_type=predicate_type, subject=subject)


GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "acme/app",
    "GITHUB_WORKFLOW_REF": "acme/app/.github/workflows/release.yml@refs/heads/main",
    "GITHUB_RUN_ID": "17",
    "GITHUB_RUN_ATTEMPT": "2",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_PROJECT_URL": "https://gitlab.com/acme/app",
    "CI_RUNNER_ID": "5",
    "CI_JOB_URL": "https://gitlab.com/acme/app/-/jobs/9",
}


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        (
            GITHUB,
            ci.Host(
                "https://github.com/acme/app/.github/workflows/release.yml@refs/heads/main",
                "https://github.com/acme/app/actions/runs/17/attempts/2",
            ),
        ),
        (GITLAB, ci.Host("https://gitlab.com/acme/app/-/runners/5", "https://gitlab.com/acme/app/-/jobs/9")),
        (
            {"TEKTON_TASKRUN_UID": "6f9619ff-8b86"},
            ci.Host("urn:x-secure-build:host:tekton", "urn:uuid:6f9619ff-8b86"),
        ),
        ({}, ci.LOCAL),
        ({"HOSTNAME": "secret-host", "CI": "true"}, ci.LOCAL),
        (GITHUB | {"GITHUB_WORKFLOW_REF": "a\nb"}, ci.LOCAL),
        (GITLAB | {"CI_JOB_URL": ""}, ci.LOCAL),
    ],
)
def test_hosts(environment: dict[str, str], host: ci.Host) -> None:
    assert ci.host(environment) == host
