"""The workflows of examples/github, run by act as they stand, each with a sibling that must fail and does."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from action.github.act import Run, Runner
from action.github.conftest import Repositories, Repository
from integration import examples
from integration.project import Project, command
from services import opened
from services.belongings import Belongings
from services.needed import need
from services.sigstore import LocalSigstore


def skopeo_digest(repository: Repository, image: str) -> str:
    login = f"--creds=demo-guest:{repository.secrets['REGISTRY_PULL']}"
    flags = ("--raw", "--tls-verify=false", login)
    return f"sha256:{hashlib.sha256(command('skopeo', 'inspect', *flags, f'docker://{image}')).hexdigest()}"


def errors(run: Run) -> str:
    """What the errors of a run that failed say."""
    assert run.code == 1
    return "\n".join(one["text"] for one in run.annotations("error"))


def check_contract(repository: Repository, run: Run, owned: Belongings) -> None:
    """The contract that was kept is that of the outputs, and names what the registry has."""
    contract = examples.contract(repository.kept("contract") / "contract.yaml")
    found = run.outputs("run")
    lines = [line.split() for line in found["expected-attestation"].splitlines()]
    assert lines == [
        [hashlib.sha256(text.encode()).hexdigest(), f"contract:{name}"] for name, text in contract.items()
    ]
    (image,) = json.loads(found["images"])
    assert image["digest"] == found["digest"] == skopeo_digest(repository, image["reference"])
    assert found["image"] == image["pinned"]
    assert found["status"] == "done"
    workload = yaml.safe_load(opened.plaintext(contract["workload"], owned.runtime[1]))
    assert yaml.safe_load(found["images-section"])["auths"] == {
        host: {**login, "password": "***"} for host, login in workload["auths"].items()
    }


def test_a_single_image_and_whether_it_stays(repository: Repositories, owned: Belongings) -> None:
    need("skopeo", "openssl")
    one = repository("hpvs")
    run = one.run("single")
    assert run.code == 0, run.text
    check_contract(one, run, owned)
    assert "accepted: 1 container" in run.summary
    assert run.outputs("run")["digest"] in run.summary
    assert {"build", "publish", "contract", "install"} <= run.groups
    for name in one.secrets:
        # act hides what it is given as a secret by itself: what is masked is what the action names.
        assert set(one.secrets[name].splitlines()) <= run.masks, name
        assert not any(line in run.text for line in one.secrets[name].splitlines())

    record = run.outputs("record")["record"]
    settings = {"DEPLOYED_REF": one.commit, "DEPLOYED_RECORD": record}
    # What happens to the source is no drift.
    one.edit("app/page/index.html", ("It works.", "It works better."))
    # Nor is a tag that moves: the contract names digests.
    (image,) = json.loads(run.outputs("run")["images"])
    secret = one.secrets["REGISTRY_PUSH"]
    base = (one.folder / "app" / "Dockerfile").read_text().partition("BASE=")[2].split()[0]
    flags = ("--src-tls-verify=false", "--dest-tls-verify=false", f"--dest-creds=demo-ci:{secret}")
    command("skopeo", "copy", "--quiet", *flags, f"docker://{base}", f"docker://{image['reference']}")
    assert skopeo_digest(one, image["reference"]) != image["digest"]
    checked = one.run("drift", event="schedule", settings=settings)
    assert checked.code == 0, checked.text
    assert "accepted: 1 container" in checked.summary

    command(
        "skopeo", "delete", "--tls-verify=false", f"--creds=demo-ci:{secret}", f"docker://{image['pinned']}"
    )
    gone = one.run("drift", event="schedule", settings=settings)
    assert "does not exist" in errors(gone)
    assert "## secure-build verify: unavailable" in gone.summary


def test_a_contract_that_would_be_refused_is_not_kept(repository: Repositories) -> None:
    one = repository("hpvs")
    one.edit("secure-build.yaml", ("[linux/s390x]", "[linux/amd64]"))
    run = one.run("single")
    assert "is not made for linux/s390x, but for linux/amd64" in errors(run)
    (error,) = run.annotations("error")
    assert (error["file"], error["line"]) == ("docker-compose.yml", "3")
    assert run.outputs("run") | {"status": "refused", "contract": ""} == run.outputs("run")
    assert not one.kept("contract").exists()


def test_without_an_engine_it_says_what_to_add(repository: Repositories) -> None:
    one = repository("hpvs")
    one.edit("secure-build.yaml", ("builder: buildah", "builder: buildx"))
    run = one.run("single", variables={"DOCKER_HOST": "unix:///nowhere"})
    assert "- run: sudo apt-get update && sudo apt-get install --yes buildah" in errors(run)
    # Said before anything else was done.
    assert "build" not in run.groups


def test_keyless(repository: Repositories, sigstore: LocalSigstore) -> None:
    one = repository("keyless")
    shutil.copy(sigstore.files.trust_config, one.folder / "sigstore.json")
    job = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{sigstore.url}/token?api-version=2.0",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": sigstore.request_token,
    }
    run = one.run("keyless", variables=job)
    assert run.code == 0, run.text
    assert "keyless" in run.summary
    assert sigstore.request_token not in run.text

    assert "id-token: write" in errors(one.run("keyless"))


def test_a_matrix_of_machines(repository: Repositories, owned: Belongings) -> None:
    need("skopeo", "openssl")
    one = repository("hpvs")
    one.edit("secure-build.yaml", ("[linux/s390x]", "[linux/s390x, linux/amd64]"))
    built = one.run("matrix", job="build")
    assert built.code == 0, built.text
    # act keeps the outputs of one leg only, where GitHub keeps each that has a value.
    records = {leg["platform"]: found["record"] for leg, found in built.legs("publish")}
    assert set(records) == {"linux/s390x", "linux/amd64"}
    needed = [(f"${{{{ needs.build.outputs.{name.partition('/')[2]} }}}}", records[name]) for name in records]
    one.edit_workflow("matrix", ("    needs: build\n", ""), *needed)
    run = one.run("matrix", job="contract")
    assert run.code == 0, run.text
    check_contract(one, run, owned)
    (image,) = json.loads(run.outputs("run")["images"])
    assert image["platforms"] == ["linux/s390x", "linux/amd64"]

    one.edit_workflow("matrix", (records["linux/amd64"], ""))
    said = errors(one.run("matrix", job="contract"))
    assert "web was not built for linux/amd64" in said


def test_a_workflow_that_others_maintain(repository: Repositories, owned: Belongings) -> None:
    need("skopeo", "openssl")
    one = repository("hpvs")
    run = one.run("reusable")
    assert run.code == 0, run.text
    check_contract(one, run, owned)

    one.edit_workflow("reusable", ("      REGISTRY_PUSH: ${{ secrets.REGISTRY_PUSH }}\n", ""))
    assert "the secret `REGISTRY_PUSH` is missing" in errors(one.run("reusable"))


@pytest.fixture
def handed_over(
    short_path: Path,
    variables: Callable[..., dict[str, str]],
    copy_example: Callable[[str, Path], None],
    owned: Belongings,
) -> Path:
    """What the deployer gets from the provider."""
    need("buildah", "openssl")
    folder = short_path / "provider"
    copy_example("personas/provider", folder)
    secrets = {**examples.secrets(folder, owned.secrets), "SECURE_BUILD_BUILDER": "buildah"}
    config = yaml.safe_load((folder / "secure-build.yaml").read_text())
    provider = Project(folder, variables("buildah") | secrets, config)
    provider.commit()
    provider.run("run")
    return provider.workdir / "workload.encrypted.yaml"


def check_assembled(repository: Repository, run: Run, owned: Belongings) -> None:
    """The contract that was kept has the provider's token, and is signed as its env section says."""
    assert run.code == 0, run.text
    contract = examples.contract(repository.kept("contract") / "contract.draft.yaml")
    texts = [contract[name] for name in ("workload", "env", "envWorkloadSignature")]
    env = yaml.safe_load(opened.plaintext(contract["env"], owned.runtime[1]))
    assert opened.verified(*texts, env["signingKey"]) == "Verified OK\n"
    handed_over = examples.contract(repository.folder / "workload.encrypted.yaml")
    assert contract["workload"] == handed_over["workload"]
    assert run.outputs("verify")["status"] == "unknown"


def test_a_deployer_who_opens_nothing(repository: Repositories, handed_over: Path, owned: Belongings) -> None:
    one = repository("personas/deployer")
    shutil.copy(handed_over, one.folder)
    check_assembled(one, one.run("deployer"), owned)

    # Signed by somebody else than the env section says.
    shutil.rmtree(one.kept("contract"))
    wrong = "provider; anybody may read it\n        env:\n          SIGNING_KEY: ${{ secrets."
    one.edit_workflow("deployer", (f"{wrong}SIGNING_KEY", f"{wrong}OTHER_KEY"))
    refused = one.run("deployer", secrets={**one.secrets, "OTHER_KEY": owned.auditor.read_text()})
    assert "is not of these two sections by the `signingKey` in `env` [HPL12001E]" in errors(refused)
    assert not one.kept("contract").exists()


def test_a_deployer_in_a_container(
    repository: Repositories, handed_over: Path, owned: Belongings, container: Runner
) -> None:
    one = dataclasses.replace(repository("personas/deployer"), runner=container)
    shutil.copy(handed_over, one.folder)
    check_assembled(one, one.run("deployer"), owned)
