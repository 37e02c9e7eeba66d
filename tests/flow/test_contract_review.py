"""What the contract verbs must not do: lose, leave over, or tell what nobody asked for."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from fakes.keys import rsa_key
from flow.conftest import Project, git
from flow.deployer import ENV, SECRETS, deployer, private, public, refused, runtime, value
from secure_build.contract.encryption import disclosure


def to_layout(project: Project, *arguments: str) -> Any:
    return project.run(*arguments, "--to", f"oci:{project.folder.parent / 'out'}")


def whole(project: Project, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """A config with both sections, encrypted."""
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    workload = {"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED"}}}}
    project.configure(workload=workload, env=ENV, encrypt=runtime(project), **changes)


def tokens(project: Project) -> dict[str, str]:
    return {name: value(project.workdir / f"{name}.encrypted.yaml", name) for name in ("workload", "env")}


# Tokens stay


def test_what_is_equal_keeps_its_token_over_commits_and_changes_elsewhere_in_the_config(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    assert to_layout(project, "run").code in (0, 5)
    before = tokens(project)
    project.write("app/hello.txt", "another\n")
    project.commit()
    assert to_layout(project, "run").code in (0, 5)
    assert tokens(project)["env"] == before["env"]
    changed = tokens(project)["workload"]
    assert changed != before["workload"]
    whole(project, monkeypatch, builder="buildah")
    assert to_layout(project, "run").code in (0, 5)
    assert tokens(project) == {"env": before["env"], "workload": changed}
    assert to_layout(project, "run", "--re-encrypt").code in (0, 5)
    assert not set(tokens(project).values()) & {before["env"], changed}


def test_a_section_of_an_earlier_commit_is_no_part_of_a_contract(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    assert to_layout(project, "run").code in (0, 5)
    project.write("app/hello.txt", "another\n")
    project.commit()
    assert project.run("build").code == 0
    assert "workload" in project.record["earlier"]
    refused(project.run("contract", "assemble"), 2, "is of another config or commit")


# The auditor


def test_another_auditor_gets_a_token_that_can_be_re_created(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployer(project, monkeypatch)
    encrypt = runtime(project) | {"auditor-disclosure": {"key": "auditor.pem"}}
    project.configure(images=None, workload=None, env=ENV, encrypt=encrypt)
    path = project.workdir / "env.disclosure.json"
    seen = []
    for name in ("one", "one", "other"):
        project.write("auditor.pem", public(name).decode())
        assert project.run("contract", "env").code in (0, 5)
        made = value(project.workdir / "env.encrypted.draft.yaml")
        disclosed = disclosure.unseal(path.read_bytes(), rsa_key(name), "the disclosure")
        assert disclosed.token.hexadecimal == project.record["sections"]["env"]["token"].split(":")[1]
        seen.append(made)
    assert seen[0] == seen[1] != seen[2]
    path.unlink()
    assert project.run("contract", "env").code in (0, 5)
    assert path.exists()


def test_the_plan_tells_the_auditor_of_keys_of_sealed_secrets(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    project.write("auditor.pem", public("auditor").decode())
    project.write("open.pem", private("open").decode())
    project.write("pods.yaml", PODS.format(host=project.host, name="a"))
    sealed = {"verification-key": {"file": "auditor.pem"}, "decryption-key": {"file": "open.pem"}}
    project.configure(
        target="ccco",
        workload={"pods": "pods.yaml", "confidential-containers": {"secret": sealed}},
        env=None,
        encrypt={"auditor-disclosure": {"key": "auditor.pem"}},
    )
    planned = json.loads(to_layout(project, "plan", "--output", "json").out)
    assert planned["disclosed"] == ["workload.confidential-containers.secret.decryptionKey"]


# Pods

PODS = """\
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  runtimeClassName: kata-remote
  containers:
    - name: web
      image: {host}/acme/web:1.0
      command: [/web]
"""


@pytest.fixture
def pods(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name, secret in SECRETS.items():
        monkeypatch.setenv(name, secret)
    for name in ("a.yaml", "in/b.yml"):
        project.write(f"pods/{name}", PODS.format(host=project.host, name=name[-5]))
    env = {"env": {"GREETING": "hello"}}
    project.configure(target="ccco", workload={"pods": "pods"}, env=env)
    assert to_layout(project, "run").code in (0, 5)
    return project


def ready(project: Project, folder: str = "pods.ready") -> list[str]:
    root = project.workdir / folder
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_pod_that_is_gone_from_the_commit_does_not_go_to_the_cluster(pods: Project) -> None:
    assert ready(pods) == ["a.yaml", "in/b.yml"]
    git(pods.folder, "rm", "--quiet", "pods/in/b.yml")
    pods.commit()
    assert to_layout(pods, "run").code in (0, 5)
    assert ready(pods) == ready(pods, "pods") == ["a.yaml"]


def test_pods_with_a_plain_contract_in_them_are_for_their_owner_only(pods: Project) -> None:
    folder = pods.workdir / "pods.ready"
    assert {(folder / name).stat().st_mode & 0o777 for name in ready(pods)} == {0o600}
    pods.configure(target="ccco", workload={"pods": "pods"}, env={"env": {"A": "b"}}, encrypt=runtime(pods))
    assert to_layout(pods, "run").code in (0, 5)
    assert {(folder / name).stat().st_mode & 0o777 for name in ready(pods)} == {0o644}


def test_pods_that_are_named_must_be_there_before_a_contract_is_written(pods: Project) -> None:
    refused(pods.run("contract", "assemble", "--pods", "nothing"), 2, "cannot read `nothing`")
    assert not (pods.workdir / "contract.draft.yaml").exists()


def test_pods_are_for_their_runtime_only(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(project, monkeypatch)
    assert to_layout(project, "run").code in (0, 5)
    refused(
        project.run("contract", "assemble", "--pods", "app"), 2, "`--pods` is for the contracts of `ccco`"
    )


# Messages


def test_what_an_earlier_run_wrote_is_said_to_be_of_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole(project, monkeypatch)
    assert to_layout(project, "run").code in (0, 5)
    # The two sections no longer agree on a volume's name, which is found before they are written.
    workload = {"compose": "docker-compose.yml", "volumes": {"other": {"seed": {"secret": "SEED"}}}}
    project.configure(workload=workload, env=ENV, encrypt=runtime(project))
    outcome = to_layout(project, "run")
    earlier = [f"{name}.yaml` is that of an earlier run" for name in ("workload", "env", "contract")]
    refused(outcome, 1, *earlier)


def test_a_key_in_a_variable_that_would_be_its_file_is_not_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = private("runtime").decode()
    monkeypatch.setenv("SECURE_BUILD_KEY", key)
    outcome = project.run("contract", "show", "docker-compose.yml")
    refused(outcome, 2, "names the file of a key")
    assert key.splitlines()[1] not in outcome.err


def test_flags_that_must_be_there_can_be_variables(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECURE_BUILD_SECTION", "env")
    refused(project.run("contract", "re-encrypt"), 2, "there is no build record")


@pytest.mark.parametrize(
    "named",
    [
        {"attestation-public-key": {"file": "missing.pem"}},
        {"auditor-disclosure": {"key": "missing.pem"}},
    ],
)
def test_what_is_missing_for_the_contract_is_found_before_anything_is_built(
    project: Project, monkeypatch: pytest.MonkeyPatch, named: dict[str, Any]
) -> None:
    whole(project, monkeypatch)
    project.configure(env=ENV, encrypt=runtime(project) | named)
    planned = to_layout(project, "plan")
    assert planned.code == 1
    assert "missing.pem" in planned.out
    refused(to_layout(project, "run"), 2, "cannot read", "missing.pem")
    assert not project.builder.recipes


def test_a_private_key_is_no_public_file(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    deployer(project, monkeypatch)
    project.write("guest.pem", private("guest").decode())
    env = ENV | {"cacerts": {"mine": {"file": "guest.pem"}}}
    project.configure(images=None, workload=None, env=env)
    refused(project.run("contract", "env"), 2, "`guest.pem` holds a private key")


def test_a_signing_command_runs_beside_the_config(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    whole(project, monkeypatch)
    project.write("keys/signer.pem", private("signer").decode())
    project.write("keys/signer.pub", public("signer").decode())
    project.write("keys/sign", '#!/bin/sh\nexec openssl pkeyutl -sign -inkey keys/signer.pem "$@"\n')
    (project.folder / "keys/sign").chmod(0o755)
    command = {"command": ["keys/sign", "-pkeyopt", "digest:sha256"], "public-key": "keys/signer.pub"}
    project.configure(
        workload={"compose": "docker-compose.yml", "volumes": {"data": {"seed": {"secret": "SEED"}}}},
        env=ENV,
        encrypt=runtime(project) | {"signing-key": command},
    )
    monkeypatch.chdir(project.folder.parent)
    places = ("--config", "project/secure-build.yaml", "--workdir", "project/.secure-build")
    outcome = to_layout(project, "run", *places)
    assert outcome.code in (0, 5), outcome.err
    contract = project.workdir / "contract.yaml"
    signed = value(contract, "workload") + value(contract, "env")
    signature = base64.b64decode(value(contract, "envWorkloadSignature"))
    rsa_key("signer").public_key().verify(signature, signed.encode(), PKCS1v15(), SHA256())
