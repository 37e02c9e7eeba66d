"""Images signed in every way that their consumers know, in one run, and seen with programs that are not ours.

The registry has a name without a port, as the contract's keys demand: a proxy leads there.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ibm_schema import problems
from integration.conftest import docker_config
from integration.examples import EXAMPLES
from integration.processes import descendants, wait_until
from integration.project import DOCKERFILE, Project
from integration.test_secrets import contents, found_in, run_sampled
from services import certificates, running
from services.gpg_keys import GpgHome
from services.needed import need
from services.notary import Client, NotaryServer, notary
from services.signatures import SignatureRegistry
from services.sigstore import GITHUB, LocalSigstore
from services.tunnel import TunnelProxy

HOST = "registry.example.com"
SECRETS = {
    *("GPG_KEY", "GPG_KEY_PASSPHRASE", "COSIGN_KEY", "COSIGN_PASSWORD", "NOTARY_ROOT", "NOTARY_TARGETS"),
    *("NOTARY_ROOT_PASSPHRASE", "NOTARY_TARGETS_PASSPHRASE", "REGISTRY_PUSH", "REGISTRY_PULL", "OIDC_TOKEN"),
}
KINDS = ("pod", "tagged", "keyed", "named")
IDENTITY = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
POD = """\
apiVersion: v1
kind: Pod
metadata: {name: all}
spec:
  containers:
"""


@dataclass(frozen=True)
class World:
    """A project whose images are signed in four ways, and everything that looks at them."""

    project: Project
    notary: NotaryServer
    sigstore: LocalSigstore
    gpg: GpgHome
    folder: Path
    environment: dict[str, str]
    registry: SignatureRegistry

    def program(self, *command: str | Path, status: int = 0, **variables: str) -> str:
        """Run another program, which must end so; what it wrote."""
        name, *arguments = map(str, command)
        ended = subprocess.run(
            [running.tool(name), *arguments],
            env={**self.environment, **variables},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (ended.returncode == 0) == (status == 0), ended.stdout + ended.stderr
        return ended.stdout

    def image(self, name: str) -> dict[str, Any]:
        return next(one for one in self.project.record()["images"] if one["name"] == name)

    def pinned(self, name: str) -> str:
        image = self.image(name)
        return f"{image['reference'].rpartition(':')[0]}@{image['descriptor']['digest']}"


@pytest.fixture
def world(
    short_path: Path,
    variables: Callable[..., dict[str, str]],
    base: str,
    tmp_path: Path,
    words: dict[str, str],
) -> Iterator[World]:
    need("buildah", "docker-registry", "notary", "gpg", "skopeo", "cosign3", "crane", "openssl")
    with ExitStack() as stack:
        issuer = certificates.authority(tmp_path)
        certificate = certificates.signed(tmp_path, issuer, HOST)
        logins = {"demo-ci": words["push"], "demo-guest": words["guest"], "demo-build": words["pull"]}
        behind = stack.enter_context(running.registry(tmp_path / "registry", htpasswd=logins))
        registry = stack.enter_context(SignatureRegistry(behind.host, certificate))
        proxy = stack.enter_context(TunnelProxy({f"{HOST}:443": registry.host}))
        server = stack.enter_context(notary(tmp_path / "notary"))
        sigstore = stack.enter_context(LocalSigstore(tmp_path / "sigstore"))
        gpg = GpgHome(short_path / "gpg")
        fingerprint = gpg.make("builder", passphrase=words["phrase"])
        stack.callback(gpg.stop)
        environment = variables("buildah") | {
            "HTTPS_PROXY": f"http://{proxy.host}",
            "NO_PROXY": "127.0.0.1,localhost",
            "SSL_CERT_FILE": str(issuer[0]),
        }
        docker = tmp_path / "docker"
        docker.mkdir()
        (docker / "config.json").write_text(docker_config(HOST, "demo-guest", logins["demo-guest"]))
        others = {"DOCKER_CONFIG": str(docker), "COSIGN_PASSWORD": words["pass"]}
        made = World(
            Project(short_path / "project", dict(environment)),
            *(server, sigstore, gpg, tmp_path, environment | others, registry),
        )
        made.program("cosign3", "generate-key-pair")
        for role in ("root", "targets"):
            certificates.private_key(tmp_path, role, "ec:prime256v1", passphrase=words[role])
        made.project.environment |= {
            "GPG_KEY": gpg.private(fingerprint, passphrase=words["phrase"]),
            "GPG_KEY_PASSPHRASE": words["phrase"],
            "COSIGN_KEY": (tmp_path / "cosign.key").read_text(),
            "COSIGN_PASSWORD": words["pass"],
            "NOTARY_ROOT": (tmp_path / "root.key").read_text(),
            "NOTARY_TARGETS": (tmp_path / "targets.key").read_text(),
            "NOTARY_ROOT_PASSPHRASE": words["root"],
            "NOTARY_TARGETS_PASSPHRASE": words["targets"],
            "REGISTRY_PUSH": logins["demo-ci"],
            "REGISTRY_PULL": logins["demo-guest"],
            "OIDC_TOKEN": sigstore.token(),
        }
        made.project.config = config(made)
        files = {"app/Dockerfile": DOCKERFILE.format(base=base)}
        files |= {f"app/{name}/page/index.html": f"<h1>{name}</h1>\n" for name in KINDS}
        containers = [f"    - {{name: {name}, image: '{HOST}/demo/{name}:1.0.0'}}\n" for name in KINDS]
        files["pod.yaml"] = POD + "".join(containers)
        made.project.commit(files)
        yield made


def locked(name: str) -> dict[str, Any]:
    return {"key": {"secret": name}, "passphrase": {"secret": f"{name}_PASSPHRASE"}}


def config(world: World) -> dict[str, Any]:
    def image(name: str, **more: Any) -> dict[str, Any]:
        build = {"context": f"app/{name}", "dockerfile": "../Dockerfile"}
        platforms = ["linux/s390x", "linux/amd64"] if name == "pod" else ["linux/s390x"]
        return {"image": f"{HOST}/demo/{name}:1.0.0", "build": build | {"platforms": platforms}, **more}

    return {
        "version": 1,
        "target": "ccrt",
        "builder": "buildah",
        "registries": {
            HOST: {
                "push": {"username": "demo-ci", "password": {"secret": "REGISTRY_PUSH"}},
                "runtime": {"username": "demo-guest", "password": {"secret": "REGISTRY_PULL"}},
            }
        },
        "images": {
            "pod": image("pod", enforce="rhs"),
            "tagged": image("tagged", sign=["dct", "rhs", "cosign", "keyless"]),
            "keyed": image("keyed", sign=["cosign"]),
            "named": image("named", sign=["keyless"]),
        },
        "signing": {
            "rhs": locked("GPG_KEY"),
            "dct": {
                "server": world.notary.url,
                "ca": {"file": str(world.notary.authority)},
                "root": locked("NOTARY_ROOT"),
                "targets": locked("NOTARY_TARGETS"),
            },
            "cosign": {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSWORD"}},
            "keyless": {
                "instance": {"file": str(world.sigstore.files.trust_config)},
                "token": {"secret": "OIDC_TOKEN"},
                "identity": IDENTITY,
                "issuer": GITHUB,
            },
        },
        "workload": {"play": "pod.yaml"},
    }


def test_four_images_signed_in_four_ways_are_accepted_by_the_programs_that_check_them(world: World) -> None:
    project = world.project
    keeps_secrets(project)
    rhs_is_accepted(world)
    dct_is_accepted(world)
    flags = ("--insecure-ignore-tlog", "--key", "cosign.pub")
    by_name = ("--certificate-identity", IDENTITY, "--certificate-oidc-issuer", GITHUB)
    root = ("--trusted-root", str(world.sigstore.files.trusted_root))
    # One of them is signed in every way at once.
    for name in ("keyed", "tagged"):
        world.program("cosign3", "verify", *flags, world.pinned(name))
    for name in ("named", "tagged"):
        world.program("cosign3", "verify", *by_name, *root, world.pinned(name))
    for name in KINDS:
        for kind in ("slsaprovenance1", "spdxjson", "cyclonedx"):
            member = member_of(world, name) if kind != "slsaprovenance1" else world.pinned(name)
            said = world.program("cosign3", "verify-attestation", *flags, "--type", kind, member)
            envelope = json.loads(said.splitlines()[0])
            statement = json.loads(base64.b64decode(envelope["payload"]))
            assert statement["subject"][0]["digest"]["sha256"] in {
                world.pinned(name).rpartition(":")[2],
                member.rpartition(":")[2],
            }
        # The same is there for people who have crane only.
        tag = world.pinned(name).replace("@sha256:", ":sha256-")
        listed = json.loads(world.program("crane", "manifest", tag))
        assert {one["artifactType"] for one in listed["manifests"]} == {
            "application/vnd.dev.sigstore.bundle.v0.3+json"
        }
    # What the contract says is what IBM's recipe gives.
    section = project.workload()
    recipe = world.program("sh", "-c", f"gpg --homedir {world.gpg.folder} -a --export builder | base64 -w0")
    assert section["images"] == {"rhs": {world.image("pod")["reference"]: {"publicKey": recipe}}}
    if "IBM_CONTRACT_SCHEMAS" in os.environ:
        assert not problems("ccrt", section)
    (pod,) = section["play"]["resources"]
    images = {one["name"]: one["image"] for one in pod["spec"]["containers"]}
    commit = project.record()["source"]["commit"]
    assert images["pod"] == f"{HOST}/demo/pod:1.0.0-{commit[:12]}"
    assert images["keyed"] == world.pinned("keyed")
    # Nothing is left of keys, and nothing is made anew.
    assert not [*project.workdir.glob(".keys-*"), *Path(project.environment["TMPDIR"]).glob("gpg-*")]
    before = project.record_path.read_bytes()
    project.run("run")
    assert project.record_path.read_bytes() == before


def keeps_secrets(project: Project) -> None:
    """Run, and find no key and no passphrase in what is said, written or given to other programs."""
    secrets = {name: word for name, word in project.environment.items() if name in SECRETS}
    assert len(secrets) == len(SECRETS)
    # Of keys in PEM no line may be seen.
    passwords = {
        f"{name} {number}": line
        for name, word in secrets.items()
        for number, line in enumerate(word.splitlines())
        if line and "-----" not in line and (len(line) > 20 or "\n" not in word)
    }
    outcome, seen = run_sampled(project, "run")
    assert not found_in((outcome.stdout + outcome.stderr).encode(), passwords)
    for arguments, environment in seen.items():
        assert not found_in(arguments + environment, passwords), arguments
    assert any(b"gpg" in arguments for arguments in seen)
    assert any(b"notary" in arguments for arguments in seen)
    for path, content in contents(project.directory):
        # The guest's login has to be in the section.
        assert found_in(content, passwords) <= {"REGISTRY_PULL 0"}, path


def test_a_registry_without_a_place_for_signatures_is_found_before_anything_is_built(world: World) -> None:
    world.registry.has_extension = False
    said = world.project.run("run", status=2).stderr
    assert f"`{HOST}` has no place for OpenPGP signatures" in said
    assert "building" not in said
    assert f"`{HOST}` has no place for OpenPGP signatures" in world.project.run("plan", status=1).stdout


@pytest.mark.parametrize("program", ["gpg", "notary"])
def test_no_key_is_left_behind_by_a_run_that_is_terminated(world: World, program: str) -> None:
    project = world.project
    process = project.start("run")
    wait_until(lambda: list(project.workdir.glob(".keys-*")), "keys are in use")
    wait_until(lambda: [one for one in descendants(process.pid) if program in command_of(one)], program)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not list(project.workdir.glob(".keys-*"))
    assert not list(Path(project.environment["TMPDIR"]).iterdir())
    wait_until(lambda: not agents_in(project.environment["TMPDIR"]), "agents have gone")


def command_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def agents_in(folder: str) -> list[str]:
    """Programs that have something below the folder among their arguments."""
    found = [command_of(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [one for one in found if folder in one]


def test_another_image_that_the_key_signed_under_the_tag_is_refused(world: World) -> None:
    project = world.project
    project.config["images"] = {"pod": project.config["images"]["pod"]}
    project.config["images"]["pod"]["build"]["platforms"] = ["linux/s390x"]
    project.config["signing"] = {"rhs": project.config["signing"]["rhs"]}
    project.commit({"pod.yaml": POD + f"    - {{name: pod, image: '{HOST}/demo/pod:1.0.0'}}\n"})
    project.run("run")
    rhs_is_accepted(world)
    another_image_under_the_tag_is_refused(world, "pod")
    rhs_is_accepted(world)


def test_the_contract_for_compose_has_the_root_certificate_and_the_notary(world: World) -> None:
    project = world.project
    image = project.config["images"]["tagged"] | {"enforce": "dct", "sign": []}
    project.config |= {"images": {"tagged": image}, "workload": {"compose": "docker-compose.yml"}}
    del project.config["signing"]["cosign"], project.config["signing"]["keyless"]
    project.commit({"docker-compose.yml": f"services: {{web: {{image: '{HOST}/demo/tagged:1.0.0'}}}}\n"})
    project.run("run")
    signed = world.image("tagged")["reference"]
    assert project.compose()["services"]["web"]["image"] == signed
    root = project.workdir / "notary" / signed.rpartition(":")[0] / "_trust" / "root.json"
    recipe = ".signed.keys[.signed.roles.root.keyids[0]].keyval.public"
    public = world.program("jq", "-j", recipe, root)
    entry = {"notary": world.notary.url, "publicKey": public}
    assert project.workload()["images"] == {"dct": {signed.rpartition(":")[0]: entry}}
    dct_is_accepted(world)
    another_image_under_the_tag_is_refused(world, "tagged")
    dct_is_accepted(world)


def another_image_under_the_tag_is_refused(world: World, name: str) -> None:
    """The same commit with another config: the runtime would take either image under this tag."""
    project = world.project
    project.config["images"][name]["build"]["platforms"] = ["linux/amd64", "linux/s390x"]
    project.write({"secure-build.yaml": yaml.safe_dump(project.config)})
    before = world.image(name)
    refused = project.run("run", "--allow-dirty", status=1).stderr
    assert f"names {before['descriptor']['digest']}, which the same key has signed" in refused
    named = world.program("crane", "digest", before["reference"]).strip()
    assert named == before["descriptor"]["digest"]
    # On purpose, with a tag of its own.
    project.config["images"][name]["reuse-tag"] = True
    project.write({"secure-build.yaml": yaml.safe_dump(project.config)})
    project.run("run", "--allow-dirty")
    assert world.image(name)["reference"] == f"{HOST}/demo/{name}:1.0.0"
    said = project.run("plan", "--allow-dirty").stdout
    assert "the runtime takes every image that was ever signed under it" in said


def test_the_contract_for_openshift_has_the_key_that_signed(world: World) -> None:
    project = world.project
    image = project.config["images"]["keyed"] | {"enforce": "cosign", "sign": []}
    project.config |= {"target": "ccco", "images": {"keyed": image}, "workload": {"pods": "pod.yaml"}}
    project.config["signing"] = {"cosign": project.config["signing"]["cosign"]}
    project.config["attestations"] = {"sbom": []}
    project.commit({"pod.yaml": POD + f"    - {{name: keyed, image: '{HOST}/demo/keyed:1.0.0'}}\n"})
    project.run("run")
    recipe = world.program("base64", "-w0", "cosign.pub")
    keys = project.workload()["confidential-containers"]["config"]["cosign"]
    assert keys == {f"{HOST}/demo/keyed": {"publicKey": recipe}}
    flags = ("--insecure-ignore-tlog", "--key", "cosign.pub")
    # By the tag that is made from the digest, which is all that this version reads.
    world.program("cosign2", "verify", *flags, world.pinned("keyed"))


def member_of(world: World, name: str) -> str:
    """The image for s390x, by digest."""
    found = json.loads(world.program("crane", "manifest", world.pinned(name)))
    for member in found.get("manifests", []):
        if member["platform"]["architecture"] == "s390x":
            return f"{world.pinned(name).partition('@')[0]}@{member['digest']}"
    return world.pinned(name)


def rhs_is_accepted(world: World, *, status: int = 0) -> None:
    """skopeo copies the image for a policy that demands the key, by the name that was signed."""
    section = world.project.workload()
    ((name, entry),) = section["images"]["rhs"].items()
    demand = {"type": "signedBy", "keyType": "GPGKeys", "keyData": entry["publicKey"]}
    policy = {"default": [{"type": "reject"}], "transports": {"docker": {name: [demand]}}}
    # Nothing is said of where signatures are: the registry has them.
    registries = world.folder / "registries.d"
    registries.mkdir(exist_ok=True)
    (world.folder / "policy.json").write_text(json.dumps(policy))
    target = world.folder / f"copied-{os.urandom(4).hex()}"
    world.program(
        *("skopeo", "--policy", "policy.json", "--registries.d", registries, "--override-arch", "s390x"),
        *("copy", f"docker://{name}", f"dir:{target}"),
        status=status,
    )


def dct_is_accepted(world: World, name: str = "tagged") -> None:
    client = Client.at(world.folder / f"client-{os.urandom(4).hex()}", world.notary, world.notary.authority)
    image = world.image(name)
    repository, _, tag = image["reference"].rpartition(":")
    said = client.do("lookup", repository, tag)
    assert image["descriptor"]["digest"].removeprefix("sha256:") in said


def copy_example(world: World, example: str, base: str) -> Project:
    """An example as it stands, with our base image, Notary and sigstore in the place of yours."""
    folder = world.folder / example
    shutil.copytree(EXAMPLES / example, folder)
    recipe = folder / "app" / "Dockerfile"
    recipe.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={base}", recipe.read_text()))
    config = (folder / "secure-build.yaml").read_text()
    config = config.replace("https://notary.example.com", world.notary.url)
    shutil.copy(world.notary.authority, folder / "notary-ca.pem")
    shutil.copy(world.sigstore.files.trust_config, folder / "sigstore.json")
    environment = world.project.environment | {
        "GPG_PASSPHRASE": "canary phrase",
        "SIGSTORE_ID_TOKEN": world.sigstore.token(),
        "SECURE_BUILD_BUILDER": "buildah",
    }
    project = Project(folder, environment, yaml.safe_load(config))
    project.commit()
    return project


def test_the_example_with_pods_runs_as_it_stands(world: World, base: str) -> None:
    project = copy_example(world, "signed-play", base)
    project.run("run")
    signed = replace(world, project=project)
    rhs_is_accepted(signed)
    flags = ("--insecure-ignore-tlog", "--key", "cosign.pub")
    world.program("cosign3", "verify", *flags, signed.pinned("web"))
    world.program("cosign3", "verify", *flags, member_of(signed, "web"))


def test_the_example_with_a_notary_runs_as_it_stands(world: World, base: str) -> None:
    project = copy_example(world, "signed-compose", base)
    project.run("run")
    (image,) = project.record()["images"]
    assert project.compose()["services"]["web"]["image"] == image["reference"]
    dct_is_accepted(replace(world, project=project), "web")


def test_the_keyless_example_runs_as_it_stands(world: World, base: str) -> None:
    project = copy_example(world, "keyless", base)
    project.run("run")
    pinned = replace(world, project=project).pinned("web")
    assert project.compose()["services"]["web"]["image"] == pinned
    by_name = ("--certificate-identity", IDENTITY, "--certificate-oidc-issuer", GITHUB)
    root = ("--trusted-root", str(world.sigstore.files.trusted_root))
    world.program("cosign3", "verify", *by_name, *root, pinned)
    world.program("cosign3", "verify-attestation", "--type", "slsaprovenance1", *by_name, *root, pinned)
