"""The example of each runtime, from its folder to a signed contract, read by programs that are not ours.

Everything is made once by a real `run`; `openssl`, `skopeo`, `tar`, `gzip` and a Rego evaluator look at it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import stat
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import ibm_schema
from integration import examples
from integration.conftest import variables_of_a_user
from integration.project import Outcome, Project, command
from integration.test_secrets import contents, found_in, run_sampled, shown_to_others
from services import opened
from services.belongings import Belongings
from services.needed import need
from unit.test_confidential_policy import runs

# Each with a builder that really builds.
BUILDERS = {"hpvs": "buildah", "ccrt": "buildx", "ccrv": "buildah", "ccco": "buildx"}
SECTIONS = ("workload", "env")
ANNOTATION = "io.katacontainers.config.hypervisor.cc_init_data"


@dataclass(frozen=True)
class Example:
    """An example that has been run, what it said, and what each program that it started was given."""

    target: str
    project: Project
    outcome: Outcome
    seen: dict[bytes, bytes]
    owned: Belongings

    @property
    def contract(self) -> dict[str, str]:
        return examples.contract(self.project.workdir / "contract.yaml")

    def plaintext(self, section: str) -> bytes:
        return opened.plaintext(self.contract[section], self.owned.runtime[1])

    def section(self, name: str) -> dict[str, Any]:
        data: dict[str, Any] = yaml.safe_load(self.plaintext(name))
        return data

    def plain(self, section: str) -> bytes:
        """What stands in the file of the plain section."""
        return examples.contract(self.project.workdir / f"{section}.yaml")[section].encode()

    @property
    def canaries(self) -> dict[str, str]:
        """What must not be where it does not belong; of a key, a line of its middle."""
        given = self.project.environment
        lines = {name: given[name].splitlines() for name in self.owned.secrets if name in given}
        return {name: value[len(value) // 2] for name, value in lines.items()}

    @property
    def pinned(self) -> str:
        """The image by the digest that the registry has it under, as skopeo says."""
        repository, _, tag = self.project.image.rpartition(":")
        credentials = f"--creds=demo-guest:{self.owned.secrets['REGISTRY_PULL']}"
        image = f"docker://{repository}:{tag}"
        found = json.loads(
            command(*("skopeo", "inspect", "--tls-verify=false", "--override-arch=s390x", credentials, image))
        )
        assert found["Architecture"] == "s390x"
        return f"{repository}@{found['Digest']}"


@pytest.fixture(scope="module")
def run_example(
    copy_example: Callable[[str, Path], None], owned: Belongings, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Example]]:
    """Runs the example of a target, the first time that it is asked for."""
    done: dict[str, Example] = {}
    with contextlib.ExitStack() as stack:

        def run(target: str) -> Example:
            if target not in done:
                need("skopeo")
                if BUILDERS[target] == "buildah":
                    need("buildah")
                short = tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True)
                folder = Path(stack.enter_context(short))
                environment = variables_of_a_user(folder, BUILDERS[target], request)
                project = folder / "example"
                copy_example(target, project)
                done[target] = _run(target, project, environment, owned)
            return done[target]

        yield run


def _run(target: str, folder: Path, environment: dict[str, str], owned: Belongings) -> Example:
    config = yaml.safe_load((folder / "secure-build.yaml").read_text())
    secrets = examples.secrets(folder, owned.secrets)
    project = Project(folder, {**environment, **secrets, "SECURE_BUILD_BUILDER": BUILDERS[target]}, config)
    project.commit()
    outcome, seen = run_sampled(project, "run", "-v")
    return Example(target, project, outcome, seen, owned)


@pytest.fixture(params=BUILDERS)
def example(request: pytest.FixtureRequest, run_example: Callable[[str], Example]) -> Example:
    return run_example(request.param)


def test_openssl_opens_the_sections_to_the_byte(example: Example) -> None:
    for name in SECTIONS:
        assert example.plaintext(name) == example.plain(name)
        # What is handed on says the same.
        handed = examples.contract(example.project.workdir / f"{name}.encrypted.yaml")
        assert handed == {name: example.contract[name]}


def test_ibms_schema_takes_what_openssl_opened(example: Example) -> None:
    document = example.contract | {name: example.section(name) for name in SECTIONS}
    if "attestationPublicKey" in document:
        document["attestationPublicKey"] = example.plaintext("attestationPublicKey").decode()
    assert ibm_schema.document_problems(example.target, document) == []


def test_openssl_verifies_the_signature_with_the_key_in_env(example: Example) -> None:
    contract, key = example.contract, example.section("env")["signingKey"]
    parts = contract["workload"], contract["env"], contract["envWorkloadSignature"], key
    assert opened.verified(*parts) == "Verified OK\n"
    other = contract["workload"][:-8] + "AAAAAAA="
    assert opened.verified(other, *parts[1:]).lower() == "verification failure\n"


def test_the_contract_runs_the_image_that_skopeo_finds(example: Example) -> None:
    section = example.section("workload")
    if example.target == "ccrv":
        (pod,) = section["play"]["resources"]
        assert [one["image"] for one in pod["spec"]["containers"]] == [example.pinned]
    elif example.target == "ccco":
        policy = base64.b64decode(section["confidential-containers"]["regoValidator"]["policy"]).decode()
        assert example.pinned in policy
    else:
        archive = base64.b64decode(section["compose"]["archive"])
        compose = yaml.safe_load(command("tar", "-xzO", "docker-compose.yml", stdin=archive))
        assert {one["image"] for one in compose["services"].values()} == {example.pinned}
    if "auths" in section:
        login = section["auths"][example.pinned.partition("/")[0]]
        assert login == {"username": "demo-guest", "password": example.owned.secrets["REGISTRY_PULL"]}


def test_secrets_are_in_plain_sections_only_and_those_are_their_owners(example: Example) -> None:
    canaries = example.canaries
    said = example.outcome.stdout + example.outcome.stderr
    assert found_in(said.encode(), canaries) == set()
    assert shown_to_others(example.seen, canaries) == []
    plain = {"images.yaml", *(f"{name}.yaml" for name in SECTIONS)}
    private = {*plain, *(f"{name}.key" for name in (*SECTIONS, "attestationPublicKey"))}
    for path, content in contents(example.project.workdir):
        if path.name in private or "disclosure" in path.name:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        if path.name not in plain:
            assert found_in(content, canaries) == set(), path
    # What goes into other people's contracts has the guest's login, and nothing else of this one.
    assert found_in((example.project.workdir / "images.yaml").read_bytes(), canaries) <= {"REGISTRY_PULL"}
    # The control: this is where they are.
    assert "SEED_WORKLOAD" not in canaries or found_in(example.plain("workload"), canaries) >= {
        "SEED_WORKLOAD",
        "REGISTRY_PULL",
    }


def test_ccrt_expires_and_is_open_to_its_auditor(run_example: Callable[[str], Example]) -> None:
    example = run_example("ccrt")
    # The certificate in base64 of its own, one line, once.
    key = example.section("env")["signingKey"]
    assert base64.b64decode(key, validate=True).startswith(b"-----BEGIN CERTIFICATE-----\n")
    assert base64.b64decode(key) == example.owned.files["expiry.pem"]
    # The attestation key is hidden as the sections are.
    auditor = example.owned.files["auditor.pem"]
    assert example.plaintext("attestationPublicKey") == auditor
    for name in SECTIONS:
        disclosure = (example.project.workdir / f"{name}.disclosure.json").read_bytes()
        found = opened.disclosed(disclosure, example.contract[name], example.owned.auditor)
        assert found == example.plain(name)
    assert example.section("workload")["env"]["GREETING"] == example.owned.secrets["GREETING"]


def test_ccco_pods_carry_the_contract_and_only_they_may_run(run_example: Callable[[str], Example]) -> None:
    example = run_example("ccco")
    contract = (example.project.workdir / "contract.yaml").read_bytes()
    assert not list(example.project.workdir.glob("*.draft*"))
    pod, service = yaml.safe_load_all((example.project.workdir / "pods.ready" / "pods.yaml").read_text())
    assert (pod["kind"], service["kind"]) == ("Pod", "Service")
    assert pod["spec"]["containers"][0]["image"] == example.pinned
    packed = command("base64", "-d", stdin=pod["metadata"]["annotations"][ANNOTATION].encode())
    document = tomllib.loads(command("gunzip", stdin=packed).decode())
    assert document["data"]["contract.yaml"].encode() == contract
    assert list(example.contract)[-1] == "boot"
    header = yaml.safe_load(example.contract["boot"])["sehdr"]
    assert base64.b64decode(header) == example.owned.files["se-hdr.bin"]

    section = example.section("workload")["confidential-containers"]
    policy = base64.b64decode(section["regoValidator"]["policy"]).decode()
    command_line = ("/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/srv/www")
    repository = example.pinned.partition("@")[0]
    assert runs(policy, example.pinned, *command_line)
    assert not runs(policy, f"{repository}@sha256:{'1' * 64}", *command_line)
    assert not runs(policy, example.pinned, "/bin/busybox", "sh")
    key = base64.b64decode(section["config"]["cosign"][repository]["publicKey"])
    assert key == example.owned.files["cosign.pub"]
    host = example.section("env")["host-attestation"]["first"]
    assert base64.b64decode(host["host-key-doc"]) == example.owned.files["HKD-8562-0001.crt"]


def test_again_changes_nothing_until_it_is_told_to_encrypt_anew(example: Example) -> None:
    project, before = example.project, example.contract

    def state() -> dict[Path, tuple[bytes, int]]:
        return {
            path: (content, path.stat().st_mtime_ns)
            for path, content in contents(project.workdir)
            if path.suffix == ".yaml"
        }

    written = state()
    record = project.record()
    assert project.run("run").stdout == example.outcome.stdout
    assert state() == written
    assert project.record() == record
    plain = {name: example.plain(name) for name in SECTIONS}
    project.run("run", "--re-encrypt")
    for name in SECTIONS:
        assert example.contract[name] != before[name]
        assert example.plaintext(name) == example.plain(name) == plain[name]
    assert example.contract["envWorkloadSignature"] != before["envWorkloadSignature"]
