"""examples/shop: a contract that verify accepts, and what it says of one mistake at a time.

The registry has a name without a port, as the contract's keys demand: a proxy leads there.
"""

from __future__ import annotations

import base64
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from integration.conftest import docker_config, variables_of_a_user
from integration.examples import EXAMPLES
from integration.project import Project, git
from integration.verifying import verified
from secure_build.layout import Layout
from services import certificates, images, running
from services.gpg_keys import GpgHome
from services.needed import need
from services.signatures import SignatureRegistry
from services.tunnel import TunnelProxy

EXAMPLE = EXAMPLES / "shop"
HOST = "registry.example.com"
LOGINS = {"demo-ci": "canary push", "demo-guest": "canary pull"}


EDITS: list[dict[str, Any]] = yaml.safe_load((EXAMPLE / "edits.yaml").read_text())
TITLE = "## Ten mistakes, and what verify says"


@dataclass(frozen=True)
class Shop:
    """The example, run once; `words` stand for what belongs to somebody else."""

    project: Project
    words: dict[str, str]

    @property
    def contract(self) -> Path:
        return self.project.workdir / "contract.yaml"


@pytest.fixture(scope="module")
def shop(
    tmp_path_factory: pytest.TempPathFactory, base: str, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    """The example as it stands, with our registry and base image, and what others have there."""
    need("buildah", "docker-registry", "gpg", "skopeo", "openssl", "busybox-amd64", "busybox-s390x")
    folder = tmp_path_factory.mktemp("verify")
    with ExitStack() as stack:
        short = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True))
        )
        issuer = certificates.authority(folder)
        certificate = certificates.signed(folder, issuer, HOST)
        behind = stack.enter_context(running.registry(folder / "registry", htpasswd=LOGINS))
        registry = stack.enter_context(SignatureRegistry(behind.host, certificate))
        proxy = stack.enter_context(TunnelProxy({f"{HOST}:443": registry.host}))
        gpg = GpgHome(short / "gpg")
        stack.callback(gpg.stop)
        fingerprint = gpg.make("builder", passphrase="canary phrase")
        (folder / "auth.json").write_text(docker_config(behind.host, "demo-ci", LOGINS["demo-ci"]))
        for name, architectures in (("valkey:8.1", ("s390x", "amd64")), ("amd64-only:1", ("amd64",))):
            layout = Layout.create(folder / name.partition(":")[0])
            images.busybox(layout, f"{behind.host}/valkey/{name}", architectures=architectures)
            images.push(layout, f"{behind.host}/valkey/{name}", authfile=folder / "auth.json")
        environment = variables_of_a_user(short, "buildah", request) | {
            "HTTPS_PROXY": f"http://{proxy.host}",
            "NO_PROXY": "127.0.0.1,localhost",
            "SSL_CERT_FILE": str(issuer[0]),
            "REGISTRY_PUSH": LOGINS["demo-ci"],
            "REGISTRY_PULL": LOGINS["demo-guest"],
            "GPG_KEY": gpg.private(fingerprint, passphrase="canary phrase"),
            "GPG_PASSPHRASE": "canary phrase",
            "SEED_WORKLOAD": "canary-seed-of-the-workload",
            "SEED_ENV": "canary-seed-of-the-env",
            "LOGS_KEY": "canary key of the logs",
            "SECURE_BUILD_BUILDER": "buildah",
        }
        shutil.copytree(EXAMPLE, short / "shop")
        for path in (short / "shop").rglob("Dockerfile"):
            path.write_text(re.sub(r"(?m)^ARG BASE=.*$", f"ARG BASE={base}", path.read_text()))
        config = (short / "shop" / "secure-build.yaml").read_text()
        project = Project(short / "shop", environment, yaml.safe_load(config))
        git(project.directory, "init", "--quiet")
        git(project.directory, "add", "--all")
        git(project.directory, "commit", "--quiet", "-m", "a shop")
        project.run("run")
        gpg.make("other")
        layout = Layout(folder / "amd64-only")
        ((_, descriptor),) = layout.entries()
        words = {
            "<another key>": base64.b64encode(gpg.public("other")).decode(),
            "<its digest>": str(descriptor.digest),
            "<wrong digest>": wrong(project.digest("web")),
        }
        yield Shop(project, words)


def wrong(digest: str) -> str:
    """The digest with another last character."""
    return digest[:-1] + ("1" if digest.endswith("0") else "0")


@dataclass(frozen=True)
class Line:
    """The only line of a section of the contract that has a text: its number, counted from 1."""

    number: int
    found: re.Match[str]

    @classmethod
    def of(cls, lines: list[str], section: str, text: str) -> Line:
        begin = lines.index(f"{section}: |")
        end = next((n for n in range(begin + 1, len(lines)) if lines[n][:1].strip()), len(lines))
        # What begins with spaces is a whole line.
        pattern = re.compile(
            ("^" if text.startswith(" ") else "") + re.escape(text).replace("…", r"(\S+)") + "$"
        )
        (only,) = (cls(n + 1, one) for n in range(begin, end) if (one := pattern.search(lines[n])))
        return only


def test_what_run_has_made_is_accepted(shop: Shop) -> None:
    for arguments in ((), (shop.contract,)):
        verdict, findings = verified(shop.project, *arguments)
        assert verdict == "accepted"
        assert {one.level for one in findings} == {"pass"}
        assert [one.check for one in findings].count("image") == 3
        assert "evidence" in {one.check for one in findings}


@pytest.mark.parametrize("edit", EDITS, ids=[one["mistake"] for one in EDITS])
def test_one_mistake_is_named_with_its_line_and_its_cure(
    shop: Shop, tmp_path: Path, edit: dict[str, Any]
) -> None:
    lines = shop.contract.read_text().splitlines()
    line = Line.of(lines, edit["section"], edit["find"])
    put = edit["put"].replace("…", line.found[1] if line.found.groups() else "")
    for word, meant in shop.words.items():
        put = put.replace(word, meant)
    wanted = line.number
    if "at" in edit:
        wanted = Line.of(lines, edit["section"], edit["at"]).number
    lines[line.number - 1] = line.found.re.sub(lambda _: put, lines[line.number - 1])
    changed = tmp_path / "contract.yaml"
    changed.write_text("\n".join(lines) + "\n")
    verdict, findings = verified(shop.project, changed)
    bad = [one for one in findings if one.level != "pass"]
    named = [one for one in bad if one.where == f"{changed}:{wanted}" and one.check == edit["check"]]
    (one,) = named
    assert (one.level, one.runtime_code) == (edit["level"], edit.get("code"))
    assert edit["why"] in one.why
    assert edit.get("hint", "") in (one.hint or "")
    assert sorted(other.check for other in bad if other is not one) == edit.get("also", [])
    assert verdict == ("unknown" if {one.level for one in bad} == {"unknown"} else "refused")


def table() -> str:
    """The mistakes as the docs show them."""
    rows = ["| mistake | the line | becomes | verify says | cure |", "|---|---|---|---|---|"]
    for edit in EDITS:
        code = f", {edit['code']}" if "code" in edit else ""
        cells = [
            edit["mistake"],
            f"`{edit['find'].strip()}`",
            f"`{edit['put'].strip()}`",
            f"{edit['level']}{code}: {edit['why']}",
            edit.get("hint", ""),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def test_the_docs_show_these_mistakes() -> None:
    page = (EXAMPLES.parent / "README.md").read_text()
    assert table() in page.partition(TITLE)[2], f"put this there:\n{table()}"
