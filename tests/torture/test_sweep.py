"""A secret of its own in every slot for credentials, and a search of everything that is written or shown.

What must hold a secret is told by name in `MAY_HOLD`; all else must not, in any form, after a run that
succeeds, one that fails, and every verb that looks at what was made.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import resource
import secrets
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from integration.conftest import base, bases, registry, short_path, variables
from integration.examples import contract as sections_of
from integration.processes import descendants, wait_until
from integration.project import SECONDS
from integration.sweeping import Search, secrets_of, slot
from integration.test_signed import HOST, world
from services import opened
from services.notary import Client
from torture.canaries import ENV, LATER, WORKLOAD, Canaries, canaries, may_hold, sample, words

__all__ = ["base", "bases", "canaries", "registry", "short_path", "variables", "words", "world"]


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
    assert named == WORKLOAD | ENV
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
