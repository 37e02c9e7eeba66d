"""The main job and its verbs, one by one and together."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

import pytest
import yaml

from fakes.registry import FakeRegistry
from flow import contract_file
from flow.conftest import COMPOSE, Project


def test_run_ends_with_a_contract_that_names_the_published_digest(
    project: Project, registry: FakeRegistry
) -> None:
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    path = project.workdir / "workload.yaml"
    files = contract_file.archive(path)
    digest = registry.tags["acme/web", "1.0"]
    assert files == {
        "docker-compose.yml": COMPOSE.format(host=project.host)
        .replace(f"{project.host}/acme/web:1.0", f'"{project.host}/acme/web@{digest}"')
        .replace("    build: app   # for laptops\n", "")
        .encode()
    }
    assert contract_file.section(path).keys() == {"type", "compose"}
    assert path.stat().st_mode & 0o777 == 0o600
    # Standard output is the result and nothing else.
    assert yaml.safe_load(outcome.out) == yaml.safe_load(path.read_text())


def test_the_tag_comes_last(project: Project, registry: FakeRegistry) -> None:
    project.run("run")
    changes = [
        (request.method, request.path) for request in registry.requests if request.method in ("POST", "PUT")
    ]
    assert changes[-1] == ("PUT", "/v2/acme/web/manifests/1.0")
    assert all("/manifests/1.0" not in path for _, path in changes[:-1])


def test_a_second_run_builds_uploads_and_writes_nothing(project: Project, registry: FakeRegistry) -> None:
    project.run("run")
    kept = {path: path.read_bytes() for path in project.workdir.rglob("*") if path.is_file()}
    registry.requests.clear()
    outcome = project.run("run")
    assert outcome.code == 0
    assert len(project.builder.recipes) == 1
    assert registry.writes == []
    assert {path: path.read_bytes() for path in project.workdir.rglob("*") if path.is_file()} == kept
    for said in (
        "web: unchanged, not built",
        "web: unchanged, not uploaded",
        "workload: unchanged, not written",
    ):
        assert said in outcome.err


def test_a_new_commit_builds_again(project: Project) -> None:
    project.run("run")
    project.write("app/hello.txt", "again\n")
    project.commit()
    first = (project.workdir / "workload.yaml").read_bytes()
    assert project.run("run").code == 0
    assert len(project.builder.recipes) == 2
    assert (project.workdir / "workload.yaml").read_bytes() != first


def test_an_image_whose_builder_does_not_say_what_it_pulled_is_built_again(project: Project) -> None:
    project.builder.materials = None
    project.run("build")
    project.run("build")
    assert len(project.builder.recipes) == 2


def test_a_moved_third_party_tag_changes_only_the_contract(project: Project, registry: FakeRegistry) -> None:
    registry.add_image("library/redis", "7", platforms=["linux/amd64", "linux/s390x"])
    project.write(
        "docker-compose.yml",
        COMPOSE.format(host=project.host) + f"  cache:\n    image: {project.host}/library/redis:7\n",
    )
    project.commit()
    assert project.run("run").code == 0
    before = project.record["used"]
    moved = registry.add_image("library/redis", "7", platforms=["linux/s390x"])
    outcome = project.run("run")
    assert len(project.builder.recipes) == 1
    assert "workload: written" in outcome.err
    assert (
        str(moved).encode() in contract_file.archive(project.workdir / "workload.yaml")["docker-compose.yml"]
    )
    assert project.record["used"] != before


def test_the_verbs_one_by_one_through_the_build_record(project: Project, registry: FakeRegistry) -> None:
    built = project.run("build")
    assert built.code == 0
    assert registry.requests == []
    digest = project.record["images"][0]["descriptor"]["digest"]
    assert built.out == f"{project.host}/acme/web@{digest}\n"
    assert project.run("publish").code == 0
    assert str(registry.tags["acme/web", "1.0"]) == digest
    assert project.run("contract", "workload").code == 0
    assert (
        digest.encode()
        in contract_file.archive(project.workdir / "workload.draft.yaml")["docker-compose.yml"]
    )


def test_an_index_for_several_platforms_holds_only_them(project: Project, registry: FakeRegistry) -> None:
    build = {"context": "app", "platforms": ["linux/s390x", "linux/amd64"]}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    assert project.run("run").code == 0
    index = json.loads(registry.manifests["acme/web", registry.tags["acme/web", "1.0"]][1])
    platforms = [
        (member["platform"]["os"], member["platform"]["architecture"]) for member in index["manifests"]
    ]
    assert platforms == [("linux", "amd64"), ("linux", "s390x")]


def test_one_platform_of_several_can_be_built_alone(project: Project) -> None:
    build = {"context": "app", "platforms": ["linux/s390x", "linux/amd64"]}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    assert project.run("build", "--platform", "linux/amd64").code == 0
    assert project.record["images"][0]["platforms"] == ["linux/amd64"]


def test_to_a_layout_and_later_to_the_registry(
    project: Project, registry: FakeRegistry, tmp_path: Path
) -> None:
    outcome = project.run("run", "--to", f"oci:{tmp_path / 'handed-on'}")
    assert outcome.code == 0
    assert registry.requests == []
    assert "deferred: " in outcome.err
    index = json.loads((tmp_path / "handed-on" / "index.json").read_text())
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
    assert names == [f"{project.host}/acme/web:1.0"]
    assert project.run("publish").code == 0
    assert "deferred" not in {finding["level"] for finding in project.record["findings"]}
    assert str(registry.tags["acme/web", "1.0"]) == index["manifests"][0]["digest"]
    outcome = project.run("contract", "workload")
    assert "deferred" not in outcome.err
    assert {finding["level"] for finding in project.record["findings"]} == {"pass"}


def test_images_side_by_side(project: Project, registry: FakeRegistry) -> None:
    names = ["one", "two", "three"]
    project.write(
        "docker-compose.yml",
        "services:\n" + "".join(f"  {name}:\n    image: {project.host}/acme/{name}:1.0\n" for name in names),
    )
    for name in names:
        project.write(f"{name}/Dockerfile", "FROM scratch\nCOPY . /\n")
    project.configure(
        images={
            name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": name}} for name in names
        }
    )
    assert project.run("run", "--jobs", "3").code == 0
    assert registry.tags.keys() == {(f"acme/{name}", "1.0") for name in names}
    assert [image["name"] for image in project.record["images"]] == names


def test_private_images_with_logins_of_their_own(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSH", "push-canary-1")
    monkeypatch.setenv("PULL", "pull-canary-2")
    with FakeRegistry(
        auth="token", users={"pusher": "push-canary-1", "puller": "pull-canary-2"}, readers=["puller"]
    ) as private:
        project.host = private.host
        project.write("docker-compose.yml", COMPOSE.format(host=private.host))
        access = {
            "push": {"username": "pusher", "password": {"secret": "PUSH"}},
            "runtime": {"username": "puller", "password": {"secret": "PULL"}},
        }
        unused = {"runtime": {"username": "puller", "password": {"secret": "PULL"}}}
        project.configure(registries={private.host: access, "unused.example.com": unused})
        outcome = project.run("run", "-v")
        assert outcome.code == 0, outcome.err
        path = project.workdir / "workload.yaml"
        # Only the registry that is used, and only its runtime login.
        assert contract_file.section(path)["auths"] == {
            private.host: {"username": "puller", "password": "pull-canary-2"}
        }
        masked = yaml.safe_load(yaml.safe_load(outcome.out)["workload"])
        assert masked["auths"] == {private.host: {"username": "puller", "password": "***"}}
        for secret in ("push-canary-1", "pull-canary-2"):
            assert secret not in outcome.out + outcome.err + json.dumps(project.record)

        project.configure(registries={private.host: {"push": access["push"]}})
        outcome = project.run("run")
        assert outcome.code == 1
        assert "is private, and the contract has no login for" in outcome.err
        assert f"`registries: {private.host}: runtime:`" in outcome.err

        # A wrong password is found before anything is built or published.
        monkeypatch.setenv("PULL", "not-the-password")
        project.configure(registries={private.host: access})
        private.requests.clear()
        built = len(project.builder.recipes)
        outcome = project.run("run")
        assert outcome.code == 1
        assert "the guest could not log in" in outcome.err
        assert (private.writes, len(project.builder.recipes)) == ([], built)
        outcome = project.run("plan")
        assert outcome.code == 1
        assert "fail: the logins for the guest: the guest could not log in" in outcome.out

        monkeypatch.setenv("PULL", "pull-canary-2")
        monkeypatch.setenv("PUSH", "not-the-password-either")
        private.requests.clear()
        outcome = project.run("run")
        assert outcome.code == 3
        assert "refuses the login of user `pusher`" in outcome.err
        # A wrong password is tried once.
        assert len([one for one in private.requests if one.status == 401 and one.authorization]) == 1


def test_the_keyed_digest_needs_the_key_beside_the_section(project: Project) -> None:
    project.run("run")
    path = project.workdir / "workload.yaml"
    key = path.with_suffix(".key")
    assert key.stat().st_mode & 0o777 == 0o600
    text = yaml.safe_load(path.read_text())["workload"]
    section = project.record["sections"]["workload"]
    keyed = hmac.new(bytes.fromhex(key.read_text().strip()), text.encode(), hashlib.sha256)
    assert section["plaintext_keyed"] == keyed.hexdigest()
    assert section["plaintext_masked"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_files_beside_the_compose_file_come_from_the_commit(project: Project) -> None:
    project.write("conf/nginx.conf", "committed\n")
    project.write("conf/run.sh", "#!/bin/sh\n")
    (project.folder / "conf" / "run.sh").chmod(0o755)
    project.write(
        "docker-compose.yml",
        COMPOSE.format(host=project.host)
        + "    volumes:\n      - ./conf:/etc/conf:ro\n      - ./data:/data\n",
    )
    project.commit()
    outcome = project.run("run")
    files = contract_file.archive(project.workdir / "workload.yaml")
    assert files.keys() == {"docker-compose.yml", "conf/nginx.conf", "conf/run.sh"}
    assert "warn: docker-compose.yml:9: `./data` is not in the commit" in outcome.err


def test_fragment_for_a_contract_of_ones_own(project: Project, registry: FakeRegistry) -> None:
    redis = registry.add_image("library/redis", "7", platforms=["linux/s390x"])
    images = {
        "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}},
        "redis": {"use": f"{project.host}/library/redis:7"},
    }
    project.configure(images=images, workload=None)
    assert project.run("run").code == 0
    outcome = project.run("contract", "images")
    assert outcome.code == 0
    assert yaml.safe_load(outcome.out) == {"images": {}, "auths": {}}
    assert "so the runtime needs no key" in outcome.out
    assert f"#   redis: {project.host}/library/redis@{redis}\n" in outcome.out
    printed = json.loads(project.run("contract", "images", "--output", "json").out)
    assert printed["images"] == {}
    assert printed["references"]["redis"] == f"{project.host}/library/redis@{redis}"


def test_fragment_merged_into_an_existing_contract(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PULL", "pull-canary-3")
    with FakeRegistry(auth="basic", users={"puller": "pull-canary-3", "pusher": "push-canary-3"}) as private:
        monkeypatch.setenv("PUSH", "push-canary-3")
        project.host = private.host
        project.write("docker-compose.yml", COMPOSE.format(host=private.host))
        access = {
            "push": {"username": "pusher", "password": {"secret": "PUSH"}},
            "runtime": {"username": "puller", "password": {"secret": "PULL"}},
        }
        project.configure(registries={private.host: access})
        assert project.run("run").code == 0
        own = tmp_path / "own.yaml"
        own.write_text("# mine\nworkload: |\n  type: workload   # kept\n  compose:\n    archive: QUJD\n")
        outcome = project.run("contract", "images", "--into", str(own))
        assert outcome.code == 0, outcome.err
        assert own.read_text().startswith(
            "# mine\nworkload: |\n  type: workload   # kept\n  compose:\n    archive: QUJD\n  auths:\n"
        )
        assert contract_file.section(own)["auths"][private.host]["password"] == "pull-canary-3"
        assert own.stat().st_mode & 0o777 == 0o600
        assert "pull-canary-3" not in outcome.out
        once = own.read_bytes()
        project.run("contract", "images", "--into", str(own))
        assert own.read_bytes() == once


def test_json_output_is_the_result_and_nothing_else(project: Project) -> None:
    outcome = project.run("run", "--output", "json")
    result = json.loads(outcome.out)
    assert result["images"][0]["pinned"].startswith(f"{project.host}/acme/web@sha256:")
    assert result["workload"]["path"] == ".secure-build/workload.yaml"
    assert result["record"] == ".secure-build/build-record.json"


def test_quiet_says_nothing_when_all_is_well(project: Project) -> None:
    assert project.run("run", "--quiet").err == ""


@pytest.mark.parametrize("target", ["hpvs", "ccrt"])
def test_targets(project: Project, target: str) -> None:
    project.configure(target=target)
    assert project.run("run").code == 0


def test_hpvs_and_ccrt_contracts_are_the_same_plain_text(project: Project) -> None:
    texts = set()
    for target in ("hpvs", "ccrt"):
        project.configure(target=target)
        project.run("run")
        texts.add((project.workdir / "workload.yaml").read_bytes())
    assert len(texts) == 1
