"""A secret of its own in every slot for credentials, and a search of everything that is written or shown.

What must hold a secret is told by name in `MAY_HOLD`; all else must not, in any form, after a run that
succeeds, one that fails, and every verb that looks at what was made.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import resource
import secrets
import signal
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.conftest import base, bases, registry, short_path, variables
from integration.examples import contract as sections_of
from integration.processes import Sampler, descendants, wait_until
from integration.project import SECONDS, SECURE_BUILD, Outcome, Project
from integration.sweeping import Search, Snapshots, forms, secrets_of, slot
from integration.test_signed import HOST, POD, World, world
from integration.test_source import served
from services import certificates, opened
from services.belongings import fingerprint
from services.git_servers import certificate as git_certificate
from services.git_servers import http_git
from services.needed import need
from services.notary import Client

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
_WORKLOAD = frozenset({"REGISTRY_PULL", "SEED_WORKLOAD", "SEED_WORKLOAD_BEFORE", "SEED_MORE", "GREETING"})
_ENV = frozenset(
    {
        "GREP11_KEY",
        *("SEED_ENV", "SEED_ENV_BEFORE", "LOGS_API_KEY", "KMS_API_KEY", "VOLUME_API_KEY", "AES_KEY_BLOB"),
        *("WHOLE_VALUE", "ENV_LOGIN"),
    }
)
# The contract's parts as plain text, for their owner only. That they are private is checked too.
MAY_HOLD = {
    "workload.yaml": _WORKLOAD,
    "workload.draft.yaml": _WORKLOAD,
    "images.yaml": frozenset({"REGISTRY_PULL"}),
    "images.draft.yaml": frozenset({"REGISTRY_PULL"}),
    "env.yaml": _ENV,
    "env.draft.yaml": _ENV,
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


def refusing(canaries: Canaries) -> Callable[..., tuple[int, list[tuple[str, str]], bytes]]:
    """A registry that lets nobody push, and tells everybody with which login that was tried."""
    ask = type(canaries.world.registry).ask.__get__(canaries.world.registry)

    def answer(
        method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        if method != "POST":
            return ask(method, path, headers, body)
        login = headers.get("Authorization", "").partition(" ")[2]
        said = f"not for {login}, which is {base64.b64decode(login).decode()}"
        document = {"errors": [{"code": "DENIED", "message": said}]}
        return 403, [("Content-Type", "application/json")], json.dumps(document).encode()

    return answer


def test_no_secret_is_anywhere_but_where_it_must_be(canaries: Canaries, figures: Counter[str]) -> None:
    project, own, world = canaries.project, canaries.own, canaries.world
    fails(canaries)
    canaries.run("run", "-v")
    for arguments in sample(
        *(("plan", "-v"), ("plan", "--probe-push", "--output", "json"), ("plan", "--output", "markdown")),
        *(("contract", part, "--output", "json") for part in ("env", "workload", "images", "assemble")),
        *(("contract", part, "-v") for part in ("workload", "env", "images")),
        *(("run", "--output", "json"), ("run", "--output", "markdown", "-v")),
    ):
        canaries.run(*arguments)
    reports = [f"--report=report.{ending}" for ending in ("txt", "json", "md", "sarif", "xml")]
    canaries.run("verify", "-v", *reports)
    canaries.run("verify", ".secure-build/contract.yaml", "--output", "json")
    for part in ("contract", "workload", "env"):
        for form in sample("text", "json"):
            canaries.run("contract", "show", f".secure-build/{part}.yaml", "--output", form)
    audited(canaries)
    doors(canaries)
    stored(canaries)
    # The control: each of what the contract holds was found there, in the form that it has there.
    named = {slot(name) for name in canaries.search.held}
    assert named == _WORKLOAD | _ENV
    assert canaries.leaks() == set()
    assert world.gpg.folder.exists()
    assert own.exists()
    figures["canaries"] += len(canaries.secrets)
    figures["canary places searched"] += canaries.search.places.total()
    assert set(canaries.search.places) >= {
        *(
            "outputs",
            "command lines",
            "environments",
            "temporary files",
            "work folder",
            "home (names)",
            "results",
        ),
        *("registry", "notary", "log", "signatures"),
    }
    assert project.contract_path.exists()


def fails(canaries: Canaries) -> None:
    """Runs that end badly, each with a secret that is wrong, or with a service that tells secrets."""
    world, wrong = canaries.world, f'wrong?Canary&{secrets.token_hex(8)}>"é'
    canaries.search = Search(secrets_of(canaries.secrets | {"WRONG": wrong}), may_hold)
    said_by_steps = 0
    for name, status, said in sample(
        ("REGISTRY_PUSH", 3, "login"),
        ("GIT_TOKEN", 3, "refuses the login"),
        ("COSIGN_PASSWORD", 2, "passphrase"),
        ("GPG_KEY_PASSPHRASE", 2, "the passphrase is wrong"),
        ("NOTARY_TARGETS_PASSPHRASE", 2, "passphrase is wrong"),
        ("SIGNING_PASSPHRASE", 2, "passphrase"),
        ("OIDC_TOKEN", 2, "OIDC token"),
    ):
        ended = canaries.run("run", "-v", status=status, **{name: wrong})
        assert said in ended.stderr, ended.stderr
        said_by_steps += ended.stderr.count("***STEP 3/3")
    # The control: one got as far as the steps that show what they were given.
    assert said_by_steps == 2
    world.registry.ask = refusing(canaries)  # type: ignore[method-assign]
    refused = canaries.run("run", "-v", status=3)
    assert "not for ***, which is demo-ci:***)" in refused.stderr, refused.stderr
    del world.registry.ask
    path = canaries.project.directory / "secure-build.yaml"
    config = path.read_text()
    document = yaml.safe_load(config)
    document["images"]["pod"]["build"]["args"] = {"API_TOKEN": wrong}
    path.write_text(yaml.safe_dump(document))
    assert "API_TOKEN" in canaries.run("plan", "-v", status=2).stderr
    path.write_text(config)


def audited(canaries: Canaries) -> None:
    """The machine has started, and its auditor opens what it has measured."""
    project, own = canaries.project, canaries.own
    lines = [
        f"{hashlib.sha256(text.encode()).hexdigest()} contract:{name}\n"
        for name, text in sections_of(project.workdir / "contract.yaml").items()
    ]
    sealed = opened.sealed("".join(lines).encode(), (own / "auditor.pem").read_bytes())
    project.write({"se-checksums.txt.enc": sealed})
    key = ("--key", own / "locked.key", "--passphrase", LATER)
    word = {LATER: canaries.secrets[LATER]}
    assert "contract:env" in canaries.run("contract", "show", "se-checksums.txt.enc", *key, **word).stdout
    given: tuple[str | Path, ...] = (
        *("--contract", ".secure-build/contract.yaml", "--encryption-certificate", own / "runtime.pem"),
        *("--record", ".secure-build/build-record.json"),
        *(f"--disclosure=.secure-build/{name}.disclosure.json" for name in ("workload", "env")),
    )
    for form in sample("html", "json", "markdown", "text"):
        canaries.run("audit", "se-checksums.txt.enc", *key, *given, "--output", form, status=5, **word)


def doors(canaries: Canaries) -> None:
    """What GitHub's and Tekton's doors hand to others."""
    folder = canaries.project.directory / "results"
    folder.mkdir()
    github = {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for path in github.values():
        Path(path).touch()
    common = {"SECURE_BUILD_COMMAND": "run", "SECURE_BUILD_VERBOSE": "true"}
    ended = canaries.run(
        *("-m", "secure_build.doors.github"),
        program=(sys.executable,),
        **(common | github | {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(canaries.project.directory)}),
    )
    assert "::add-mask::" in ended.stdout + ended.stderr
    results = {f"RESULT_{name}": str(folder / name) for name in ("STATUS", "RECORD", "IMAGES", "CONTRACT")}
    canaries.run("-m", "secure_build.doors.tekton", program=(sys.executable,), **common, **results)
    assert (folder / "STATUS").read_text() == "done"
    assert "digest" in (folder / "GITHUB_OUTPUT").read_text()
    canaries.search.look_below("results", folder)


def stored(canaries: Canaries) -> None:
    """What the services have kept of it all, and logged."""
    world, search = canaries.world, canaries.search
    search.look_below("registry", world.folder / "registry")
    search.look_below("notary", world.folder / "notary")
    client = Client.at(world.folder / "notary-client", world.notary, world.notary.authority)
    client.do("list", f"{HOST}/demo/tagged")
    search.look_below("notary", world.folder / "notary-client")
    search.look("log", "the entries", json.dumps(list(world.sigstore._log._entries.values())))
    for key, kept in world.registry.kept.items():
        search.look("signatures", str(key), json.dumps(kept))


# What the machine may keep of a process that ends in the middle


CRASH = """
import importlib, sys, traceback
from secure_build import cli
def stop(*_):
    frames = traceback.StackSummary.extract(traceback.walk_stack(None), capture_locals=True)
    sys.stderr.write("".join(frames.format()))
    raise RuntimeError("in the middle")
module, name = sys.argv[1:3]
setattr(importlib.import_module(module), name, stop)
raise SystemExit(cli.main(sys.argv[3:]))
"""


def test_no_secret_is_in_a_traceback_even_with_all_variables(
    canaries: Canaries, figures: Counter[str]
) -> None:
    # The controls: what names secrets is shown, and what holds them.
    for place, shown in (
        (("secure_build.record", "write"), "SecretName(secret="),
        (("secure_build.signers.rhs", "sign"), "_passphrase=***"),
    ):
        ended = canaries.run("-c", CRASH, *place, "run", "-v", status=70, program=(sys.executable,))
        assert "RuntimeError: in the middle" in ended.stderr
        assert shown in ended.stderr
    figures["canary places searched"] += canaries.search.places.total()


def test_no_core_is_left_of_a_process_that_is_aborted(canaries: Canaries, figures: Counter[str]) -> None:
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    if limit[1] != resource.RLIM_INFINITY:
        pytest.skip("this machine lets nobody keep cores")
    project = canaries.project
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, limit[1]))
    try:
        process = project.start("run", environment={"PYTHONFAULTHANDLER": "1"})
        wait_until(lambda: b"buildah\0" in b"".join(commands(process.pid)), "the build runs")
        family = {process.pid} | descendants(process.pid)
        for pid in family:
            with contextlib.suppress(OSError):
                assert re.search(r"Max core file size +[01] +[01] ", Path(f"/proc/{pid}/limits").read_text())
        process.send_signal(signal.SIGABRT)
        _, said = process.communicate(timeout=SECONDS)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, limit)
        for pid in descendants(process.pid):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in said
    canaries.search.look("outputs", "stderr of what was aborted", said)
    assert not list(project.directory.rglob("core*"))
    assert canaries.leaks() == set()
    figures["canary places searched"] += canaries.search.places.total()


def commands(ancestor: int) -> Iterator[bytes]:
    for pid in descendants(ancestor):
        with contextlib.suppress(OSError):
            yield Path(f"/proc/{pid}/cmdline").read_bytes()


# The controls of the search

CANARY = 'control?Canary&0123456789abcdef>"é'
KINDS = tuple(forms(CANARY))


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_secret_is_found_in_every_form_and_place(
    kind: str, tmp_path: Path, figures: Counter[str]
) -> None:
    for written in forms(CANARY)[kind]:
        around = b"before " + written + b" after"
        for name, content in planted(around).items():
            search = Search({"A": CANARY})
            assert search.look("a place", name, content), (kind, name)
            assert {leak.secret for leak in search.leaks} == {"A"}
            figures["planted secrets found"] += 1
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(forms(CANARY)[kind][0])
    search = Search({"A": CANARY})
    search.look_below("files", folder)
    assert search.leaks


def planted(content: bytes) -> dict[str, bytes]:
    """The ways in which places hold what is written there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        header = tarfile.TarInfo("a")
        header.size = len(content)
        tar.addfile(header, io.BytesIO(content))
    layer = gzip.compress(buffer.getvalue())
    payload = base64.b64encode(json.dumps({"a": 1}).encode() + content)
    return {
        "output": content,
        "tar": buffer.getvalue(),
        "layer": layer,
        "archive of a contract": b"workload: |\n  compose:\n    archive: " + base64.b64encode(layer) + b"\n",
        "envelope": b'{"payload": "' + payload + b'"}',
        "envelope in an envelope": b'{"a": "' + base64.b64encode(b'{"b": "' + payload + b'"}') + b'"}',
    }


def test_what_is_no_secret_is_not_found() -> None:
    search = Search({"A": CANARY})
    for content in (b"", b"control?Canary&", CANARY.swapcase().encode(), bytes(1000)):
        assert not search.look("a place", "x", content)


def test_a_secret_of_a_process_that_starts_or_writes_is_found(tmp_path: Path) -> None:
    """In an argument, in an environment, and in a file that is there for a moment."""
    script = (
        "import os, pathlib, subprocess, sys, time\n"
        "p = pathlib.Path('passing'); p.write_text(os.environ['WORD']); time.sleep(1); p.unlink()\n"
        "subprocess.run(['sleep', '1', sys.argv[1][:0] or '0'], env={'WORD': os.environ['WORD']})\n"
        "subprocess.run(['/bin/sh', '-c', 'sleep 1; :', os.environ['WORD']], env={})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, ""], cwd=tmp_path, env=os.environ | {"WORD": CANARY}
    )
    with Sampler(process.pid) as sampler, Snapshots(tmp_path) as snapshots:
        assert process.wait(timeout=60) == 0
    search = Search({"A": CANARY})
    for command, environment in sampler.seen.items():
        search.look("command lines", "a", command)
        search.look("environments", "b", environment)
    for path, content in snapshots.seen:
        search.look("temporary files", path.name, content)
    assert {leak.place for leak in search.leaks} == {
        *("command lines: a", "environments: b", "temporary files: passing")
    }


def test_a_core_and_a_file_that_others_can_read_are_found(tmp_path: Path) -> None:
    """Of a process that keeps cores there is one, and it holds what the process held."""
    if not re.fullmatch(r"[^|/]*", Path("/proc/sys/kernel/core_pattern").read_text().strip()):
        pytest.skip("this machine takes cores elsewhere")
    word = CANARY[:10] + secrets.token_hex(8)
    program = "import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (-1, -1)); os.abort()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env={"WORD": word}, check=False)
    search = Search({"A": word})
    search.look_below("core", tmp_path)
    assert search.leaks
    held = tmp_path / ".secure-build" / "env.yaml"
    held.parent.mkdir()
    for mode, leaks in ((0o600, set()), (0o640, {"files: .secure-build/env.yaml"})):
        search = Search({"SEED_ENV": word}, may_hold)
        held.write_text(word)
        held.chmod(mode)
        search.look_below("files", tmp_path, without=["core"])
        assert {leak.place for leak in search.leaks} == leaks
        assert search.held == {"SEED_ENV"}
