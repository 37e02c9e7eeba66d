"""A project with a secret of its own in every slot for credentials, and commands in it under watch."""

from __future__ import annotations

import base64
import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.conftest import base, bases, registry, short_path, variables
from integration.processes import Sampler
from integration.project import SECONDS, SECURE_BUILD, Outcome, Project
from integration.sweeping import Search, Snapshots, secrets_of
from integration.test_signed import HOST, POD, World, world
from integration.test_source import served
from services import certificates
from services.belongings import fingerprint
from services.git_servers import certificate as git_certificate
from services.git_servers import http_git
from services.needed import need

__all__ = ["base", "bases", "registry", "short_path", "variables", "world"]

ALL = os.environ.get("TORTURE") == "all"
# The slots of secrets that are words. What may stand in a seed is only letters and digits.
WORDS = (
    *("push", "pull", "guest", "phrase", "pass", "root", "targets"),
    *("GIT_TOKEN", "BUILD_SECRET", "LOGS_API_KEY", "KMS_API_KEY", "VOLUME_API_KEY"),
    *("GREETING", "WHOLE_VALUE", "ENV_LOGIN", "SIGNING_PASSPHRASE", "AUDITOR_PASSPHRASE"),
)
# The program gets this one only where it is to open something.
LATER = "AUDITOR_PASSPHRASE"
SEEDS = ("SEED_WORKLOAD", "SEED_WORKLOAD_BEFORE", "SEED_ENV", "SEED_ENV_BEFORE", "SEED_MORE")
WORKLOAD = frozenset({"REGISTRY_PULL", "SEED_WORKLOAD", "SEED_WORKLOAD_BEFORE", "SEED_MORE", "GREETING"})
ENV = frozenset(
    {
        "GREP11_KEY",
        *("SEED_ENV", "SEED_ENV_BEFORE", "LOGS_API_KEY", "KMS_API_KEY", "VOLUME_API_KEY", "AES_KEY_BLOB"),
        *("WHOLE_VALUE", "ENV_LOGIN"),
    }
)
# The contract's parts as plain text, for their owner only. That they are private is checked too.
MAY_HOLD = {
    "workload.yaml": WORKLOAD,
    "workload.draft.yaml": WORKLOAD,
    "images.yaml": frozenset({"REGISTRY_PULL"}),
    "images.draft.yaml": frozenset({"REGISTRY_PULL"}),
    "env.yaml": ENV,
    "env.draft.yaml": ENV,
}
# What is private while it is written or used: parts of the contract, logins and secrets of builds, keys.
KEPT = {f".secure-build/{name}" for name in MAY_HOLD}
PASSING = re.compile(
    r"\.secure-build/(?:\.(?:workload|env|images)(?:\.draft)?\.yaml\.\w+|\.(?:login|secrets|keys)-\w+/.*"
    r"|buildah/overlay-containers/\w+/userdata/secrets/word)"
)
DOCKERFILE = """\
FROM {base}
RUN --mount=type=secret,id=word ["/bin/busybox", "cat", "/run/secrets/word"]
COPY page/ /srv/www/
"""


@pytest.fixture
def words() -> dict[str, str]:
    """Every one unique, and with characters that are written differently in every form."""
    return {name: f'{name}?Canary&{secrets.token_hex(8)}>"é' for name in WORDS}


@dataclass
class Canaries:
    """A project with a secret in every slot, and everything that holds or shows what it does."""

    world: World
    secrets: dict[str, str]
    # Keys and certificates of its people.
    own: Path

    def __post_init__(self) -> None:
        self.search = Search(secrets_of(self.secrets), may_hold)

    @property
    def project(self) -> Project:
        return self.world.project

    def run(
        self, *arguments: str | Path, status: int = 0, program: tuple[str, ...] = (), **variables: str
    ) -> Outcome:
        """Run a command (`program` instead of the command line) under watch, and search what it leaves."""
        project, search, what = self.project, self.search, " ".join(map(str, (*program, *arguments)))[:60]
        process = subprocess.Popen(
            [*(program or (str(SECURE_BUILD),)), *map(str, arguments)],
            cwd=project.directory,
            env=project.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        home = Path(project.environment["HOME"])
        with Sampler(process.pid) as sampler, Snapshots(project.directory, home) as snapshots:
            stdout, stderr = (text.decode() for text in process.communicate(timeout=SECONDS))
        assert process.returncode == status, f"{what}: {process.returncode}\n{stdout}\n{stderr}"
        search.look("outputs", f"{what}: stdout", unmasked(stdout))
        search.look("outputs", f"{what}: stderr", unmasked(stderr))
        for command, environment in sampler.seen.items():
            search.look("command lines", f"{what}: {command[:200]!r}", command)
            search.look("environments", f"{what}: {command[:200]!r}", environment)
        for (path, content), private in snapshots.seen.items():
            name = str(path.relative_to(home if path.is_relative_to(home) else project.directory))
            if name == "secure-build.yaml":
                # It is the user's, and has a secret where one is to be refused.
                continue
            if private and (name in KEPT or PASSING.fullmatch(name)):
                search.places["private files in passing"] += 1
            else:
                search.look("temporary files", name, content)
        search.look_below("work folder", project.directory, without=["secure-build.yaml"])
        search.look_below("home", home)
        assert not list(Path(project.environment["TMPDIR"]).iterdir())
        assert not [
            path.name for path in project.workdir.glob(".*") if path.name not in (".gitignore", ".lock")
        ]
        assert self.leaks() == set()
        return Outcome(status, stdout, stderr)

    def leaks(self) -> set[str]:
        return {f"{leak.place}: {leak.secret} ({leak.form})" for leak in self.search.leaks}


@pytest.fixture
def canaries(
    world: World, words: dict[str, str], base: str, short_path: Path, tmp_path: Path
) -> Iterator[Canaries]:
    need("git", "openssl")
    folder = tmp_path / "own"
    folder.mkdir()
    issuer = certificates.authority(folder)
    runtime = certificates.self_signed(folder, "runtime", "rsa:4096")
    signing = certificates.private_key(folder, "signing", passphrase=words["SIGNING_PASSPHRASE"])
    expiry = certificates.certificate_of(signing, "contract", issuer, words["SIGNING_PASSPHRASE"])
    (folder / "expiry.pem").write_bytes(expiry)
    auditor = certificates.private_key(folder, "auditor")
    (folder / "auditor.pem").write_bytes(certificates.public_key(auditor))
    locked = certificates.openssl(
        *("pkey", "-in", str(auditor), "-aes-256-cbc", "-passout", "stdin"),
        input=f"{words['AUDITOR_PASSPHRASE']}\n".encode(),
    )
    (folder / "locked.key").write_bytes(locked)
    client = certificates.signed(folder, issuer, "grep11.example.com")
    project = world.project
    project.environment |= {name: words[name] for name in WORDS if name.isupper() and name != LATER}
    project.environment |= {name: f"{name.replace('_', '')}{secrets.token_hex(8)}" for name in SEEDS}
    project.environment |= {
        "AES_KEY_BLOB": base64.b64encode(secrets.token_bytes(33)).decode(),
        "REGISTRY_BUILD": words["pull"],
        "SIGNING_KEY": signing.read_text(),
        "GREP11_KEY": client[1].read_text(),
    }
    configure(project, folder, fingerprint(runtime[0]))
    project.write({"app/Dockerfile": DOCKERFILE.format(base=base)})
    authority, tls = git_certificate(folder)
    (folder / "served").mkdir()
    with http_git(folder / "served", users={"acme": words["GIT_TOKEN"]}, tls=tls) as git:
        _, place = served(project, git.root)
        url = f"{git.url}/{place.name}/.git"
        project.config["source"] = {"url": url, "username": "acme", "token": {"secret": "GIT_TOKEN"}}
        project.write({"secure-build.yaml": yaml.safe_dump(project.config, sort_keys=False)})
        trusted = tmp_path / "authorities.pem"
        trusted.write_bytes(authority.read_bytes() + Path(project.environment["SSL_CERT_FILE"]).read_bytes())
        project.environment["SSL_CERT_FILE"] = str(trusted)
        named = {name: value for name, value in project.environment.items() if is_secret(name)}
        named |= {LATER: words[LATER], "AUDITOR_KEY": auditor.read_text()}
        yield Canaries(world, named, folder)


def sample(*items: Any) -> tuple[Any, ...]:
    """All of it in `make torture`, else every third."""
    return items if ALL else items[::3]


def may_hold(place: str) -> frozenset[str]:
    return MAY_HOLD.get(Path(place).name, frozenset()) if place.startswith(".secure-build/") else frozenset()


def unmasked(said: str) -> str:
    """What the runner's log has: what it is to mask is told to it in the clear."""
    return "".join(line for line in said.splitlines(keepends=True) if not line.startswith("::add-mask::"))


def is_secret(name: str) -> bool:
    return (
        name in WORDS
        or name in SEEDS
        or name.startswith(("REGISTRY_", "GPG_", "COSIGN_", "NOTARY_"))
        or (name in ("AES_KEY_BLOB", "OIDC_TOKEN", "SIGNING_KEY", "GREP11_KEY"))
    )


def configure(project: Project, folder: Path, pinned: str) -> None:
    """Put every slot into the config that the world has not."""
    config = project.config
    one = {name: config["images"][name] for name in ("pod", "tagged")}
    for image in one.values():
        image["build"] |= {"platforms": ["linux/s390x"], "secrets": {"word": {"secret": "BUILD_SECRET"}}}
    config["images"] = one
    config["registries"][HOST]["pull"] = {"username": "demo-build", "password": {"secret": "REGISTRY_BUILD"}}

    def named(name: str) -> dict[str, str]:
        return {"secret": name}

    config["workload"] |= {
        "env": {"GREETING": named("GREETING")},
        "volumes": {
            "data": {
                "mount": "/mnt/data",
                "seed": named("SEED_WORKLOAD"),
                "previous-seed": named("SEED_WORKLOAD_BEFORE"),
            },
            "more": {"mount": "/mnt/more", "seed": named("SEED_MORE")},
        },
    }
    grep11 = {
        "address": "192.0.2.1:9876",
        "client-cert": {"file": str(folder / "grep11.example.com.pem")},
        "client-key": named("GREP11_KEY"),
        "ca-cert": {"file": str(folder / "authority.pem")},
        "metadata": {"aes-key-blob": named("AES_KEY_BLOB")},
    }
    kms = {"api-key": named("KMS_API_KEY"), "crn": "crn:v1:bluemix:public:kms:us-south:a/1:2:key:3"}
    config["env"] = {
        "logging": {"log-router": {"hostname": "logs.example.com", "iam-api-key": named("LOGS_API_KEY")}},
        "env": {"WHOLE": named("WHOLE_VALUE")},
        "auths": {"us.icr.io": {"username": "iamapikey", "password": named("ENV_LOGIN")}},
        "volumes": {
            "data": {
                "seed": named("SEED_ENV"),
                "previous-seed": named("SEED_ENV_BEFORE"),
                "kms": [kms],
                "api-key": named("VOLUME_API_KEY"),
                "volume-name": "data",
            },
            "more": {"uv-secret-id": "index-1", "grep11": grep11},
        },
    }
    config["encrypt"] = {
        "certificate": {"file": str(folder / "runtime.pem"), "sha256": pinned},
        "image-version": "99.0.0",
        "signing-key": {
            **named("SIGNING_KEY"),
            "passphrase": named("SIGNING_PASSPHRASE"),
            "certificate": str(folder / "expiry.pem"),
        },
        "attestation-public-key": {"file": str(folder / "auditor.pem")},
        "auditor-disclosure": {"key": str(folder / "auditor.pem")},
    }
    names = ("pod", "tagged")
    containers = "".join(f"    - {{name: {one}, image: '{HOST}/demo/{one}:1.0.0'}}\n" for one in names)
    project.write({"pod.yaml": POD + containers})
