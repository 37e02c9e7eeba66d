"""verify through the command line: its inputs, its ends, and that it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import yaml

from fakes.registry import FakeRegistry
from flow.conftest import Project
from flow.deployer import ENV, SECRETS, private, refused, runtime

D = f"sha256:{'a' * 64}"
SEED = {"SEED": "canary-seed-0123456789", "SEED_W": "canary-seed-of-workload"}


def whole(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A project with both halves, and its images published."""
    for name, value in {**SECRETS, **SEED}.items():
        monkeypatch.setenv(name, value)
    workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED_W"}}}}
    project.configure(**{"workload": workload, "env": ENV, **changes})
    assert project.run("run", "--offline", "--to", "oci:../out").code in (0, 5)
    assert project.run("publish").code == 0


def verified(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    outcome = project.run("verify", "--output", "json", *arguments)
    assert outcome.code == code, outcome.out + outcome.err
    for secret in (*SECRETS.values(), *SEED.values()):
        assert secret not in outcome.out + outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    schema = json.loads(project.run("schema", "--verify").out)
    jsonschema.Draft202012Validator(schema).validate(found)
    return found


def named(found: dict[str, Any], check: str) -> dict[str, Any]:
    (one,) = (one for one in found["findings"] if one["check"] == check and one["level"] != "pass")
    return one


# The config and the build record


def test_what_run_made_is_accepted_and_nothing_is_written(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    before = {path: path.read_bytes() for path in project.workdir.rglob("*") if path.is_file()}
    registry.requests.clear()
    found = verified(project)
    assert found["verdict"] == "accepted"
    (container,) = found["containers"]
    assert (container["name"], container["verdict"]) == ("service `web`", "accepted")
    assert container["proves"] == "which build runs"
    # The line of the user's own file.
    assert container["where"] == "docker-compose.yml:4"
    assert not registry.writes
    # The config of the image is here, so it takes one request.
    assert [str(one) for one in registry.requests] == [
        f"GET /v2/acme/web/manifests/{found['containers'][0]['digest']} 200"
    ]
    after = {path: path.read_bytes() for path in project.workdir.rglob("*") if path.is_file()}
    assert after == before


def test_run_says_the_same(project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(project, monkeypatch)
    outcome = project.run("run", "--offline", "--to", "oci:../out", "--output", "json")
    found = json.loads(outcome.out)["verify"]
    schema = json.loads(project.run("schema", "--verify").out)
    jsonschema.Draft202012Validator(schema).validate(found)
    assert [one["name"] for one in found["containers"]] == ["service `web`"]
    assert f"verify: {found['verdict']}: " in outcome.err.splitlines()[-1]


def test_without_a_record_it_says_what_to_run(project: Project) -> None:
    refused(project.run("verify"), 2, "secure-build build")


def test_findings_have_lines_of_the_config(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(project, monkeypatch)
    monkeypatch.setenv("SEED_W", "short")
    found = verified(project, code=1)
    lines = (project.folder / "secure-build.yaml").read_text().splitlines()
    (line,) = (number for number, line in enumerate(lines, 1) if "SEED_W" in line)
    where = named(found, "schema")["where"]
    assert where in (f"secure-build.yaml:{line}", f"secure-build.yaml:{line - 1}")


def test_an_image_that_is_gone_is_refused(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    registry.manifests.clear()
    (container,) = verified(project, code=1)["containers"]
    assert (container["verdict"], container["runtime-code"]) == ("refused", "HPL08004E")
    assert verified(project, "--offline")["verdict"] == "accepted"


def test_a_registry_that_is_down_makes_unknown(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    monkeypatch.setattr("secure_build.registry.http._PAUSES", ())
    registry.__exit__()
    found = verified(project, code=5)
    assert found["verdict"] == "unknown"
    assert "cannot reach" in found["containers"][0]["why"]


def test_run_leaves_no_contract_that_is_refused(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    assert project.run("run").code == 0
    contract = project.workdir / "contract.yaml"
    good = contract.read_bytes()
    # The same contract, and an image that is not there for the guest any more.
    monkeypatch.setattr(registry, "auth", "basic")
    registry.users["pusher"] = "push-canary-1"
    monkeypatch.setenv("PUSH", "push-canary-1")
    login = {"username": "pusher", "password": {"secret": "PUSH"}}
    workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED_W"}}}}
    project.configure(workload=workload, env=ENV, registries={project.host: {"push": login}})
    refused(project.run("run"), 1, "is private, and the contract has no login for")
    assert not contract.exists()
    assert (project.workdir / "contract.draft.yaml").read_bytes() == good


def test_a_refused_run_leaves_other_contracts_alone(
    project: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    assert project.run("run").code == 0
    good = (project.workdir / "contract.yaml").read_bytes()
    monkeypatch.setenv("SEED_W", "short")
    assert project.run("run").code == 1
    assert (project.workdir / "contract.yaml").read_bytes() == good


# Contracts with tokens


def encrypted(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    whole(project, monkeypatch, encrypt=runtime(project))
    assert project.run("run", "--offline", "--to", "oci:../out").code in (0, 5)
    assert project.run("publish").code == 0
    return project.workdir / "contract.yaml"


def test_tokens_are_proven_by_the_keyed_digest(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encrypted(project, monkeypatch)
    assert "contract-basic." in path.read_text()
    found = verified(project, str(path))
    assert [one["verdict"] for one in found["containers"]] == ["accepted"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("key", "the key of its keyed digest is not here"),
        ("secret", "the config and its secrets make another text than was encrypted"),
        ("token", "the build record does not know this token"),
        ("record", "nothing shows that this token is of the recorded text"),
    ],
)
def test_what_is_not_proven_is_unknown(
    project: Project, monkeypatch: pytest.MonkeyPatch, change: str, words: str
) -> None:
    path = encrypted(project, monkeypatch)
    if change == "key":
        (project.workdir / "workload.key").unlink()
    elif change == "secret":
        monkeypatch.setenv("SEED_W", "another-seed-0123456789")
    elif change == "record":
        # Whoever can write a record, but has no key, puts a token of their own into it.
        foreign = yaml.safe_load(path.read_text())
        foreign["workload"] = foreign["env"]
        path.write_text(yaml.safe_dump(foreign, width=1 << 20))
        record = json.loads((project.workdir / "build-record.json").read_text())
        record["sections"]["workload"]["token"] = record["sections"]["env"]["token"]
        (project.workdir / "build-record.json").write_text(json.dumps(record))
    else:
        before = path.read_text()
        assert project.run("contract", "workload", "--re-encrypt").code in (0, 5)
        record = json.loads((project.workdir / "build-record.json").read_text())
        record["earlier"] = {}
        path.write_text(before)
        (project.workdir / "build-record.json").write_text(json.dumps(record))
    found = verified(project, str(path), code=5)
    assert found["verdict"] == "unknown"
    assert found["containers"] == []
    assert words in named(found, "token")["why"]
    assert named(found, "token")["hint"]


def test_a_signature_of_other_sections_is_refused(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGNING", private("signing").decode())
    whole(project, monkeypatch, encrypt={**runtime(project), "signing-key": {"secret": "SIGNING"}})
    path = project.workdir / "contract.yaml"
    assert verified(project, str(path))["verdict"] == "accepted"
    contract = yaml.safe_load(path.read_text())
    signature = contract["envWorkloadSignature"]
    path.write_text(path.read_text().replace(signature, "AAAA" + signature[4:]))
    found = verified(project, str(path), code=1)
    assert named(found, "signature")["runtime-code"] == "HPL12001E"


# A contract without a config

PLAIN = f"""\
workload: |
  type: workload
  auths:
    HOST: {{username: puller, password: canary-password}}
  play:
    resources:
      - apiVersion: v1
        kind: Pod
        metadata: {{name: shop}}
        spec:
          containers:
            - name: web
              image: HOST/acme/web@DIGEST
            - name: api
              image: HOST/acme/api:1.0
env: |
  type: env
  logging:
    logRouter: {{hostname: logs.example.com, iamApiKey: canary-api-key-0123}}
# {D}
"""


@pytest.fixture
def alone(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with nothing but a contract, one of whose images is by tag."""
    registry = FakeRegistry(auth="basic", users={"puller": "canary-password"})
    with registry:
        digest = registry.add_image("acme/web")
        folder = tmp_path / "alone"
        folder.mkdir()
        text = PLAIN.replace("HOST", registry.host).replace("DIGEST", str(digest))
        (folder / "contract.yaml").write_text(text)
        monkeypatch.chdir(folder)
        yield folder  # type: ignore[misc]
    assert project.host


def test_a_contract_alone(project: Project, alone: Path) -> None:
    outcome = project.run("verify", "contract.yaml", "--target", "ccrt")
    assert outcome.code == 1
    assert "canary" not in outcome.out + outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "contract.yaml, for ccrt"
    assert lines[-1] == "refused: 1 of 2 containers"
    assert "at contract.yaml:15" in outcome.out
    assert "HPL15005E" in outcome.out
    assert max(map(len, lines)) <= 120
    # Nothing is left there.
    assert [path.name for path in alone.iterdir()] == ["contract.yaml"]


def test_the_runtime_must_be_known(project: Project, alone: Path) -> None:
    refused(project.run("verify", "contract.yaml"), 2, "which runtime", "--target")
    assert alone


@pytest.mark.parametrize("flags", [("--record", "r.json"), ("--image-version", "26.9.1")])
def test_flags_that_need_a_config(project: Project, alone: Path, flags: tuple[str, ...]) -> None:
    refused(project.run("verify", "contract.yaml", *flags), 2, f"`{flags[0]}` says nothing without a config")
    assert alone


def test_one_section_alone(project: Project, alone: Path) -> None:
    section = yaml.safe_load((alone / "contract.yaml").read_text())["workload"]
    (alone / "workload.yaml").write_text(section)
    outcome = project.run("verify", "workload.yaml", "--target", "ccrt", "--output", "json")
    assert outcome.code == 1
    assert [one["verdict"] for one in json.loads(outcome.out)["containers"]] == ["accepted", "refused"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a: b\n", b"[]"])
def test_what_is_no_contract(project: Project, alone: Path, content: bytes) -> None:
    (alone / "other.yaml").write_bytes(content)
    refused(project.run("verify", "other.yaml", "--target", "ccrt"), 2, "other.yaml")


def test_reports_have_the_form_of_their_ending(project: Project, alone: Path) -> None:
    names = ["r.txt", "r.json", "r.md", "r.sarif", "r.xml"]
    flags = [flag for name in names for flag in ("--report", name)]
    outcome = project.run("verify", "contract.yaml", "--target", "ccrt", *flags)
    assert outcome.code == 1
    assert (alone / "r.txt").read_text() == outcome.out
    assert json.loads((alone / "r.json").read_text())["verdict"] == "refused"
    assert "| container |" in (alone / "r.md").read_text()
    (result,) = json.loads((alone / "r.sarif").read_text())["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]) == ("contract.yaml", {"startLine": 15})
    suite = ElementTree.parse(alone / "r.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    bad = project.run("verify", "contract.yaml", "--target", "ccrt", "--report", "r.pdf")
    refused(bad, 2, "r.pdf", "ending")


def test_strict_takes_warnings_for_failures(project: Project, alone: Path) -> None:
    text = (alone / "contract.yaml").read_text()
    start = text.index("            - name: api")
    text = text[:start] + text[text.index("env: |") :]
    text = text.replace("  play:", "    quay.example.com: {username: someone, password: canary}\n  play:")
    (alone / "contract.yaml").write_text(text)
    assert project.run("verify", "contract.yaml", "--target", "ccrt").code == 0
    outcome = project.run("verify", "contract.yaml", "--target", "ccrt", "--strict")
    assert outcome.code == 1
    assert "fail      contract.yaml:5: the login for `quay.example.com`" in outcome.out
