"""`secure-build init` on real git repositories, up to images built from what it wrote."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from flow import contract_file
from flow.conftest import Project, git
from secure_build import config
from services.git_servers import HttpGit, http_git

ROOT = Path(__file__).resolve().parents[2]
MONOREPO = ROOT / "examples" / "monorepo"
LOGINS = ("--push", "shop-ci=SHOP_PUSH", "--runtime", "shop-guest=SHOP_PULL")
SECRETS = {"SHOP_PUSH": "canary-push-password", "SHOP_PULL": "canary-pull-password"}


@pytest.fixture
def bare(project: Project) -> Project:
    """The project without its config, committed."""
    git(project.folder, "rm", "--quiet", "secure-build.yaml")
    project.commit()
    return project


@pytest.fixture
def monorepo(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """The example in a repository of its own, with this test's registry in it."""
    project.folder = tmp_path / "shop"
    shutil.copytree(MONOREPO, project.folder)
    for path in project.folder.rglob("*.yaml"):
        path.write_text(path.read_text().replace("registry.example.com", project.host))
    git(project.folder, "init", "--quiet", "--initial-branch=main")
    project.commit()
    monkeypatch.chdir(project.folder)
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    return project


def assert_every_image_is_pinned(shop: Project) -> None:
    """The pods in the contract run the ten images of the build record, each by its digest."""
    built = {
        image["reference"].rpartition(":")[0]: image["descriptor"]["digest"]
        for image in shop.record["images"]
    }
    section = contract_file.section(shop.workdir / "workload.yaml")
    assert section["auths"][shop.host]["username"] == "shop-guest"
    packed = io.BytesIO(base64.b64decode(section["play"]["archive"], validate=True))
    with tarfile.open(fileobj=packed, mode="r:gz") as tar:
        pods = [yaml.safe_load(tar.extractfile(member) or b"") for member in tar.getmembers()]
    named = {container["image"] for pod in pods for container in pod.get("spec", {}).get("containers", [])}
    assert len(named) == 10
    assert named == {f"{repository}@{digest}" for repository, digest in built.items()}


# The main way


def test_from_a_repository_without_a_config_to_a_contract(bare: Project) -> None:
    outcome = bare.run("init")
    assert (outcome.code, outcome.out) == (0, "secure-build.yaml\n")
    assert "next:\n  `git add secure-build.yaml && git commit -m 'Add secure-build.yaml'`\n" in outcome.err
    # What it tells to do is what has to be done.
    assert bare.run("run").code == 1
    bare.commit()
    assert bare.run("run").code == 0
    assert (bare.workdir / "workload.yaml").exists()


def test_the_config_is_never_overwritten(bare: Project) -> None:
    (bare.folder / "secure-build.yaml").symlink_to("nowhere")
    outcome = bare.run("init")
    assert outcome.code == 2
    assert "`secure-build.yaml` is there already, and is never overwritten" in outcome.err
    assert "hint: name another file with `--config FILE`" in outcome.err
    outcome = bare.run("init", "--config", "other.yaml")
    assert (outcome.code, outcome.out) == (0, "other.yaml\n")
    assert "`secure-build run --config other.yaml`" in outcome.err
    assert config.load(bare.folder / "other.yaml")


def test_only_the_commit_counts_and_that_is_said(bare: Project) -> None:
    bare.write("docker-compose.yml", "services: {}\n")
    bare.write("untracked/Dockerfile", "FROM scratch\n")
    outcome = bare.run("init")
    assert outcome.code == 0
    assert "note: the working tree differs from the commit" in outcome.err
    assert "untracked" not in outcome.err
    assert list(config.load(bare.folder / "secure-build.yaml").config.images) == ["web"]


def test_for_a_folder_below(bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare.write("two words/compose.yml", "services: {web: {image: 'us.icr.io/a/web:1', build: ../app}}\n")
    bare.commit()
    outcome = bare.run("init", "two words")
    assert (outcome.code, outcome.out) == (0, "two words/secure-build.yaml\n")
    assert "`git -C 'two words' add secure-build.yaml" in outcome.err
    assert "`secure-build run --config 'two words/secure-build.yaml'`" in outcome.err
    written = config.load(bare.folder / "two words" / "secure-build.yaml").config
    assert written.built["web"].build.context == "../app"


def test_as_json(bare: Project) -> None:
    outcome = bare.run("init", "--output", "json", *LOGINS)
    result = json.loads(outcome.out)
    assert result["path"] == "secure-build.yaml"
    assert result["images"] == ["web"]
    assert result["secrets"] == ["SHOP_PULL", "SHOP_PUSH"]
    assert result["notes"] == []
    assert result["next"][0].startswith("set the secrets SHOP_PULL, SHOP_PUSH")


def test_init_needs_no_work_folder(bare: Project) -> None:
    assert bare.run("init").code == 0
    assert not bare.workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ref", "main"], "`--ref` goes with `--source`"),
        (["--from", "x.json", "--registry", "us.icr.io/a"], "`--from` and `--registry` do not go together"),
        (["--from", "x.json"], "cannot read `x.json`: No such file or directory"),
        (["--compose", "absent.yml"], "the commit has no file `absent.yml`"),
        (["--play", "app"], "the commit has no pod there"),
        (["--push", "canary"], "a login is `USER=SECRET_NAME`"),
        (["--push", "shop-ci=ghp_canary0123456789abcdef"], "a login is `USER=SECRET_NAME`"),
        (
            ["--source", "https://git.test/a.git", "--token", "ghp_canary0123456789abcdef"],
            "never the secret itself",
        ),
        (["--registry", "acme"], "`acme` names no registry"),
        (["elsewhere"], "`elsewhere` is not in a git repository"),
    ],
)
def test_what_is_wrong_writes_nothing(bare: Project, arguments: list[str], message: str) -> None:
    before = sorted(bare.folder.rglob("*"))
    outcome = bare.run("init", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert "canary" not in outcome.err
    assert [path for path in sorted(bare.folder.rglob("*")) if ".git" not in path.parts] == [
        path for path in before if ".git" not in path.parts
    ]


def test_hardening_37_links_out_of_the_repository(bare: Project, tmp_path: Path) -> None:
    (tmp_path / "secret.yml").write_text("services: {web: {image: 'us.icr.io/a/canary:1'}}\n")
    (bare.folder / "docker-compose.yml").unlink()
    (bare.folder / "docker-compose.yml").symlink_to(tmp_path / "secret.yml")
    bare.commit()
    outcome = bare.run("init")
    assert outcome.code == 2
    assert "is a symbolic link to" in outcome.err
    assert "outside the repository" in outcome.err
    assert not (bare.folder / "secure-build.yaml").exists()


# From the Secure Build Server


def test_from_a_secure_build_server(bare: Project) -> None:
    values = {
        "DOCKER_REPO": "acme/web",
        "DOCKER_PUSH_SERVER": bare.host,
        "DOCKER_USER": "publisher",
        "DOCKER_PASSWORD": "canary-push",
        "DOCKER_BUILD_PATH": "app",
        "DOCKERFILE_PATH": "app/Dockerfile",
        "ENV_WHITELIST": ["A"],
        "SECRET": "canary-secret",
        "ODD": "canary-odd",
    }
    bare.write("sbs-config.json", json.dumps(values))
    outcome = bare.run("init", "--from", "sbs-config.json")
    assert (outcome.code, outcome.out) == (0, "secure-build.yaml\n")
    said = outcome.err + (bare.folder / "secure-build.yaml").read_text()
    assert "canary" not in said
    rows = {line.split()[0]: line.split()[1] for line in outcome.err.splitlines() if line[:3].isupper()}
    assert rows == {
        "DOCKER_REPO": "carried",
        "DOCKER_PUSH_SERVER": "carried",
        "DOCKER_USER": "carried",
        "DOCKER_PASSWORD": "replaced",
        "DOCKER_BUILD_PATH": "carried",
        "DOCKERFILE_PATH": "carried",
        "ENV_WHITELIST": "dropped",
        "SECRET": "dropped",
        "ODD": "unknown",
    }
    (bare.folder / "sbs-config.json").unlink()
    bare.commit()
    assert bare.run("build").code == 0
    assert bare.record["images"][0]["reference"] == f"{bare.host}/acme/web:0.1.0"


def test_from_a_secure_build_server_as_json(bare: Project) -> None:
    bare.write("sbs-config.json", '{"DOCKER_REPO": "acme/web", "DOCKER_PASSWORD": "canary", "UUID": "x"}')
    outcome = bare.run("init", "--from", "sbs-config.json", "--target", "ccrt", "--output", "json")
    result = json.loads(outcome.out)
    assert {row["key"]: row["outcome"] for row in result["keys"]} == {
        "DOCKER_REPO": "carried",
        "DOCKER_PASSWORD": "replaced",
        "UUID": "dropped",
    }
    assert "canary" not in outcome.out + outcome.err
    assert config.load(bare.folder / "secure-build.yaml").config.target == "ccrt"


# The example


def test_the_monorepo_needs_init_and_two_names_of_secrets(monorepo: Project) -> None:
    outcome = monorepo.run("init", *LOGINS)
    assert outcome.code == 0
    expected = (ROOT / "tests" / "flow" / "monorepo.yaml").read_text()
    written = (
        (monorepo.folder / "secure-build.yaml").read_text().replace(monorepo.host, "registry.example.com")
    )
    # The host on the loopback begins with a digit, and so its names stand in quotes.
    assert written.replace('"', "") == expected.replace('"', "")
    loaded = config.load(monorepo.folder / "secure-build.yaml").config
    assert len(loaded.built) == 10
    assert not loaded.used
    assert loaded.secret_names == {"SHOP_PUSH", "SHOP_PULL"}
    # Every image of the pods is one that is built.
    named = {
        container["image"]
        for path in sorted((monorepo.folder / "deploy").glob("*.yaml"))
        for container in yaml.safe_load(path.read_text()).get("spec", {}).get("containers", [])
    }
    assert named == {str(image.image) for image in loaded.built.values()}
    monorepo.commit()
    assert monorepo.run("run").code == 0
    assert_every_image_is_pinned(monorepo)
    builds = {name: image.build for name, image in loaded.built.items()}
    assert (builds["payment"].target, builds["payment-audit"].target) == ("service", "audit")
    assert builds["gateway"].args == {"TITLE": "Shop"}
    assert {builds[name].context for name in ("mailer", "invoices", "stock")} == {"workers"}


def test_the_monorepo_is_as_its_readme_says() -> None:
    readme = (MONOREPO / "README.md").read_text()
    assert f"secure-build init {' '.join(LOGINS)}" in readme
    assert not (MONOREPO / "secure-build.yaml").exists()


def test_the_page_on_migrating_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    import runpy

    runpy.run_path(str(ROOT / "docs" / "migration.py"), run_name="__main__")
    page = (ROOT / "docs" / "migrate-from-secure-build-server.md").read_text()
    assert page == capsys.readouterr().out, "run `make schema`"


# A repository on a server


@pytest.fixture
def served(monorepo: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpGit]:
    """The example on a git server, and this process in an empty folder."""
    served = tmp_path / "served"
    git(tmp_path, "clone", "--quiet", "--bare", str(monorepo.folder), str(served / "shop.git"))
    monorepo.folder = tmp_path / "elsewhere"
    monorepo.folder.mkdir()
    monkeypatch.chdir(monorepo.folder)
    with http_git(served) as server:
        yield server


def test_the_monorepo_on_a_server_needs_no_clone(monorepo: Project, served: HttpGit) -> None:
    outcome = monorepo.run("init", "--source", f"{served.url}/shop.git", *LOGINS)
    assert outcome.code == 0
    assert "git add" not in outcome.err
    written = config.load(monorepo.folder / "secure-build.yaml").config
    assert str(written.source.url) == f"{served.url}/shop.git"
    assert len(written.built) == 10
    # Nothing but the new file is left behind.
    assert [path.name for path in monorepo.folder.iterdir()] == ["secure-build.yaml"]
    assert monorepo.run("run").code == 0
    assert_every_image_is_pinned(monorepo)


def test_a_repository_on_a_server_that_wants_a_token(
    monorepo: Project, served: HttpGit, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.users = {"x-access-token": "canary-token"}
    url = f"{served.url}/shop.git"
    monkeypatch.setenv("SHOP_TOKEN", "canary-token")
    outcome = monorepo.run("init", "--source", url, "--ref", "main", "--token", "SHOP_TOKEN", *LOGINS)
    assert outcome.code == 0
    text = (monorepo.folder / "secure-build.yaml").read_text()
    assert "token: {secret: SHOP_TOKEN}" in text
    assert "ref: main" in text
    assert "canary" not in text + outcome.err + outcome.out
    assert "SHOP_TOKEN" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ref", "absent"], "has no branch or tag `absent`"),
        (["--token", "canary-token"], "the name of a secret has letters, digits and `_` only"),
        (["--token", "NOT_SET"], "the secret `NOT_SET` is missing"),
    ],
)
def test_what_is_wrong_with_a_repository_on_a_server(
    monorepo: Project, served: HttpGit, arguments: list[str], message: str
) -> None:
    outcome = monorepo.run("init", "--source", f"{served.url}/shop.git", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert "canary" not in outcome.err
    assert list(monorepo.folder.iterdir()) == []


@pytest.mark.parametrize(
    "url", ["ext::sh -c canary", "/srv/git", "file:///srv/git", "https://u:canary@x.test/a"]
)
def test_hardening_37_addresses_that_are_not_handed_to_git(bare: Project, url: str) -> None:
    outcome = bare.run("init", "--source", url)
    assert outcome.code == 2
    assert "canary" not in outcome.err
