"""examples/pods: a registry with TLS and tokens and one with basic auth, pods, a ConfigMap, in one run."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from integration.access_log import AccessLog
from integration.project import Project, command
from services import certificates, running
from services.needed import need
from services.pushed import planned, pushed
from services.running import RunningRegistry
from services.tokens import TokenService

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "pods"
SECRETS = {
    "PUBLIC_PUSH": "public-push-canary-1f",
    "PRIVATE_PUSH": "private-push-canary-2f",
    "PRIVATE_PULL": "private-pull-canary-3f",
    "CATALOGUE_KEY": "catalogue-canary-4f",
}


@dataclass(frozen=True, slots=True)
class Registries:
    """The public one takes tokens over TLS, the private one a basic login; `authority` signed the former."""

    public: RunningRegistry
    private: RunningRegistry
    tokens: TokenService
    authority: Path


@pytest.fixture
def registries(tmp_path: Path) -> Iterator[Registries]:
    need("docker-registry", "openssl")
    authority = certificates.authority(tmp_path)
    server = certificates.signed(tmp_path, authority, "registry.test", ("127.0.0.1",))
    users = {"shop-ci": SECRETS["PUBLIC_PUSH"]}
    rights = {"shop-ci": {"pull", "push"}, "": {"pull"}}
    logins = {"shop-ci": SECRETS["PRIVATE_PUSH"], "shop-guest": SECRETS["PRIVATE_PULL"]}
    with (
        TokenService(tmp_path, users, rights, tls=server) as tokens,
        running.registry(tmp_path / "public", tls=server, tokens=tokens.trust) as public,
        running.registry(tmp_path / "private", htpasswd=logins) as private,
    ):
        yield Registries(public, private, tokens, authority[0])


@pytest.fixture
def upstream(bases: Callable[..., str], registry: RunningRegistry, base: str) -> tuple[str, str]:
    """What the shop takes from others: a base, and an image that it uses as it is."""
    bases(f"{registry.host}/valkey/valkey:8.1", variable="VALKEY=yes")
    return base, f"{registry.host}/valkey/valkey:8.1"


@pytest.fixture
def shop(
    builder: str,
    registries: Registries,
    short_path: Path,
    variables: Callable[..., dict[str, str]],
    upstream: tuple[str, str],
) -> Project:
    """The example, committed, with registries and images as they are here."""
    base, valkey = upstream
    folder = short_path / "shop"
    shutil.copytree(EXAMPLE, folder)
    names = {
        "registry.example.com": registries.public.host,
        "private.example.com": registries.private.host,
        "docker.io/valkey/valkey:8.1": valkey,
    }
    for path in [folder / "secure-build.yaml", *folder.glob("deploy/*.yaml")]:
        text = path.read_text()
        for name, here in names.items():
            text = text.replace(name, here)
        path.write_text(text)
    for path in (folder / "web" / "Dockerfile", folder / "api" / "Containerfile"):
        path.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={base}", path.read_text()))
    environment = variables(builder) | SECRETS | {"SECURE_BUILD_BUILDER": builder}
    for host in (registries.public.host, registries.tokens.host):
        trusted = Path(environment["HOME"]) / ".config" / "containers" / "certs.d" / host
        trusted.mkdir(parents=True)
        shutil.copy(registries.authority, trusted / "ca.crt")
    project = Project(folder, environment, yaml.safe_load((folder / "secure-build.yaml").read_text()))
    project.commit()
    return project


def test_two_registries_in_one_run_as_planned(shop: Project, registries: Registries) -> None:
    shop.run("build")
    # Of basic auth nobody knows beforehand whether it may push; tokens say so.
    plan = json.loads(shop.run("plan", "--output", "json", status=5).stdout)
    rights = {finding["what"]: finding["level"] for finding in plan["findings"]}
    assert rights == {
        f"pushing to `{registries.public.host}/shop/web`": "pass",
        f"pushing to `{registries.private.host}/shop/api`": "unknown",
    }
    logs = {one.host: AccessLog(one) for one in (registries.public, registries.private)}
    outcome = shop.run("run")
    done = {write for host, log in logs.items() for write in pushed(host, log.requests())}
    assert done == planned(plan)
    assert {kind for kind, _, _ in done} == {"blob", "manifest", "tag"}
    for value in SECRETS.values():
        assert value not in outcome.stdout + outcome.stderr

    section = shop.workload()
    images = shop.record()["images"]
    pins = {
        image["name"]: image["reference"].rpartition(":")[0] + "@" + image["descriptor"]["digest"]
        for image in images
    }
    resources, templates = section["play"]["resources"], section["play"]["templates"]
    assert [one["kind"] for one in resources] == ["ConfigMap", "Pod"]
    pod = resources[1]["spec"]
    assert pod["initContainers"][0]["image"] == pod["containers"][0]["image"] == pins["api"]
    assert re.fullmatch(r".+/valkey/valkey@sha256:[0-9a-f]{64}", pod["containers"][1]["image"])
    assert templates[0]["spec"]["containers"][0]["image"] == pins["web"]
    assert templates[0]["spec"]["containers"][0]["env"][0]["value"] == "{{ .Env.SHOP_NAME }}"
    # The guest needs a login for the private registry only, and gets no other.
    assert section["auths"] == {
        registries.private.host: {"username": "shop-guest", "password": SECRETS["PRIVATE_PULL"]}
    }
    # Somebody else's client finds both, each in its own way.
    for name, how in (
        ("web", (f"--cert-dir={registries.authority.parent / 'trusted'}",)),
        ("api", ("--tls-verify=false", f"--creds=shop-guest:{SECRETS['PRIVATE_PULL']}")),
    ):
        trusted = registries.authority.parent / "trusted"
        trusted.mkdir(exist_ok=True)
        shutil.copy(registries.authority, trusted / "ca.crt")
        found = json.loads(
            command("skopeo", "inspect", "--override-arch=s390x", *how, f"docker://{pins[name]}")
        )
        assert (found["Digest"], found["Architecture"]) == (pins[name].partition("@")[2], "s390x")

    # Nothing changed: nothing is built, written or sent.
    logs = {one.host: AccessLog(one) for one in (registries.public, registries.private)}
    again = shop.run("run")
    assert not [one for log in logs.values() for one in log.requests() if one.writes]
    assert "web: unchanged, not built" in again.stderr
    assert "workload: unchanged, not written" in again.stderr
