"""Pods and compose files through the whole command line: what stands in the contract in the end."""

from __future__ import annotations

import base64
import io
import itertools
import tarfile
from typing import Any

import pytest
import yaml

import ibm_schema
from fakes.registry import FakeRegistry
from flow import contract_file
from flow.conftest import COMPOSE, Project, git
from secure_build.contract.checks.sections import section_findings
from secure_build.contract.document import read_section

POD = """\
# kept, with its order
apiVersion: v1
kind: Pod
metadata:
  name: app   # the name
spec:
  containers:
  - name: web
    image: "{host}/acme/web:1.0"   # ours
    ports:
    - {{containerPort: 80, hostPort: 80}}
"""
CONFIG_MAP = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {MODE: '0644'}\n"
OTHER = "sha256:" + "a" * 64


def play(project: Project) -> dict[str, Any]:
    part: dict[str, Any] = contract_file.section(project.workdir / "workload.yaml")["play"]
    return part


def pods(project: Project, text: str = POD, **changes: Any) -> None:
    """The project with pods instead of a compose file."""
    project.write("deploy/pod.yaml", text.format(host=project.host))
    project.configure(**{"workload": {"play": "deploy/pod.yaml"}, **changes})


def pinned(registry: FakeRegistry) -> str:
    return f"{registry.host}/acme/web@{registry.tags['acme/web', '1.0']}"


@pytest.mark.parametrize("target", ["hpvs", "ccrt", "ccrv"])
def test_a_file_of_pods_becomes_resources(project: Project, registry: FakeRegistry, target: str) -> None:
    pods(project, POD + "---\n" + CONFIG_MAP.replace("{", "{{").replace("}", "}}"), target=target)
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    pod, config_map = play(project)["resources"]
    assert pod["spec"]["containers"][0]["image"] == pinned(registry)
    assert 'MODE: "0644"' in (project.workdir / "workload.yaml").read_text()
    assert config_map["metadata"]["name"] == "settings"
    section = project.record["sections"]["workload"]
    assert section["archive_tar"] is section["archive_gzip"] is None
    assert "unchanged, not written" in project.run("run").err


def test_a_folder_of_pods_becomes_an_archive(project: Project, registry: FakeRegistry) -> None:
    project.write("deploy/settings.yml", CONFIG_MAP)
    project.write("deploy/www/index.html", "hello\n")
    project.write("deploy/www/image.yaml", "image: nginx\n")
    volumes = "  volumes:\n  - name: www\n    hostPath: {{path: ./www}}\n"
    pods(project, POD + volumes, workload={"play": "deploy"})
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    assert "is not in the archive" not in outcome.err
    assert play(project).keys() == {"archive"}
    assert contract_file.archive(project.workdir / "workload.yaml") == {
        "pod.yaml": (POD + volumes)
        .format(host=project.host)
        .replace(f"{project.host}/acme/web:1.0", pinned(registry))
        .encode(),
        "settings.yml": CONFIG_MAP.encode(),
        "www/index.html": b"hello\n",
        "www/image.yaml": b"image: nginx\n",
    }
    packed = io.BytesIO(base64.b64decode(play(project)["archive"]))
    with tarfile.open(fileobj=packed) as tar:
        assert {(member.type, member.mode, member.mtime, member.uid) for member in tar} == {
            (tarfile.REGTYPE, 0o644, 0, 0),
            (tarfile.DIRTYPE, 0o755, 0, 0),
        }


def test_resources_templates_and_archive_together(project: Project, registry: FakeRegistry) -> None:
    project.write("deploy/settings.yaml", CONFIG_MAP)
    project.write("archive/third.yaml", POD.format(host=project.host).replace("name: app", "name: third"))
    template = POD.replace('"{host}/acme/web:1.0"', '"{{{{ .Env.REGISTRY }}}}/web:1.0"')
    pods(
        project,
        template.replace("name: app", 'name: "{{{{ .Env.NAME }}}}"'),
        workload={
            "play": {
                "resources": ["deploy/settings.yaml"],
                "templates": ["deploy/pod.yaml"],
                "archive": "archive",
            }
        },
    )
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    part = play(project)
    assert part.keys() == {"resources", "templates", "archive"}
    digest = registry.tags["acme/web", "1.0"]
    assert part["templates"][0]["metadata"]["name"] == "{{ .Env.NAME }}"
    container = part["templates"][0]["spec"]["containers"][0]
    assert container["image"] == f"{{{{ .Env.REGISTRY }}}}/web@{digest}"
    assert "the deployer chooses the registry" in outcome.err
    assert pinned(registry).encode() in contract_file.archive(project.workdir / "workload.yaml")["third.yaml"]


def test_somebody_elses_images_of_pods_are_resolved(project: Project, registry: FakeRegistry) -> None:
    redis = registry.add_image("library/redis", "7", platforms=["linux/amd64", "linux/s390x"])
    registry.add_image("library/old", "1", platforms=["linux/amd64"])
    init = "  initContainers:\n  - {{name: init, image: {host}/library/redis:7}}\n"
    pods(project, POD + init)
    assert project.run("run").code == 0
    spec = play(project)["resources"][0]["spec"]
    assert spec["initContainers"][0]["image"] == f"{project.host}/library/redis@{redis}"
    pods(project, POD + init.replace("redis:7", "old:1"))
    outcome = project.run("run")
    assert outcome.code == 1
    assert "is not made for linux/s390x" in outcome.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("kind: Pod", "kind: Deployment"),
            "deploy/pod.yaml:3: the runtime takes `Pod`",
        ),
        (("acme/web:1.0", "acme/web:0.9"), "deploy/pod.yaml:9: container `web` of pod `app` uses"),
        (("name: app", "name: [app]"), "deploy/pod.yaml:3: this Pod has no name"),
    ],
)
def test_mistakes_in_pods_are_found_before_building(
    project: Project, change: tuple[str, str], message: str
) -> None:
    pods(project, POD.replace(*change))
    outcome = project.run("run")
    assert outcome.code == 2
    assert message in outcome.err
    assert project.builder.recipes == []


def test_files_that_cannot_be_objects_or_descriptors(project: Project) -> None:
    pods(project, workload={"play": {"resources": ["deploy"]}})
    assert project.run("run").code == 0
    project.write("deploy/README.md", "hello\n")
    project.commit()
    outcome = project.run("run")
    assert outcome.code == 2
    assert "`deploy/README.md` is no descriptor" in outcome.err
    project.write("empty/www/a.yaml", POD.format(host=project.host))
    for path, said in (
        ("empty", "has no descriptor right in it"),
        ("missing.yaml", "has no file `missing.yaml`"),
    ):
        project.configure(workload={"play": path})
        outcome = project.run("run")
        assert outcome.code == 2
        assert said in outcome.err


def test_a_yaml_file_that_is_no_descriptor_belongs_into_a_folder(project: Project) -> None:
    project.write("deploy/values.yaml", "a: b\n")
    pods(project, workload={"play": "deploy"})
    outcome = project.run("run")
    assert outcome.code == 2
    assert "deploy/values.yaml:1: this is no descriptor" in outcome.err
    assert "other YAML files go into a folder" in outcome.err


def test_hardening_41_a_link_out_of_the_commit_cannot_go_into_an_archive(project: Project) -> None:
    pods(project, workload={"play": "deploy"})
    (project.folder / "deploy" / "link").symlink_to("/etc/passwd")
    project.commit()
    outcome = project.run("run")
    assert outcome.code == 2
    assert "`deploy/link` is a symbolic link to `/etc/passwd`, outside the repository" in outcome.err


def test_hardening_41_a_submodule_cannot_go_into_an_archive(project: Project) -> None:
    pods(project, workload={"play": "deploy"})
    git(project.folder, "update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},deploy/module")
    git(project.folder, "commit", "--quiet", "-m", "module")
    (project.folder / "deploy" / "module").mkdir()
    outcome = project.run("run", "--allow-dirty")
    assert outcome.code == 2
    assert "`deploy/module` is no regular file, so it cannot go into the archive" in outcome.err


def test_hardening_41_a_link_inside_the_commit_becomes_the_file(project: Project) -> None:
    pods(project, workload={"play": "deploy"})
    (project.folder / "deploy" / "link.txt").symlink_to("../app/hello.txt")
    project.commit()
    assert project.run("run").code == 0
    assert contract_file.archive(project.workdir / "workload.yaml")["link.txt"] == b"hello\n"


def compose_image(project: Project, image: str, **changes: Any) -> None:
    project.write("docker-compose.yml", f"services:\n  web:\n    image: {image}\n")
    project.configure(**changes)


def result_image(project: Project) -> str:
    files = contract_file.archive(project.workdir / "workload.yaml")
    image: str = yaml.safe_load(files["docker-compose.yml"])["services"]["web"]["image"]
    return image


def test_the_deployers_registry_with_our_image(project: Project, registry: FakeRegistry) -> None:
    compose_image(project, "${REGISTRY}/web:1.0")
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    digest = registry.tags["acme/web", "1.0"]
    assert result_image(project) == f"${{REGISTRY}}/web@{digest}"
    assert "the deployer chooses the registry" in outcome.err
    # Where it will be pulled from is not known, so no login of ours is needed, and none was tried.
    assert [finding for finding in project.record["findings"] if finding["check"] == "delivery"] == []


def test_the_deployers_registry_with_a_default(project: Project, registry: FakeRegistry) -> None:
    compose_image(project, f"${{REGISTRY:-{project.host}/acme}}/web:1.0")
    assert project.run("run").code == 0
    digest = registry.tags["acme/web", "1.0"]
    assert result_image(project) == f"${{REGISTRY:-{project.host}/acme}}/web@{digest}"
    delivery = [finding for finding in project.record["findings"] if finding["check"] == "delivery"]
    assert [(finding["level"], finding["what"]) for finding in delivery] == [("pass", pinned(registry))]


def test_the_deployers_registry_with_somebody_elses_image(project: Project, registry: FakeRegistry) -> None:
    redis = registry.add_image("library/redis", "7")
    images = {"redis": {"use": f"{project.host}/library/redis:7"}}
    compose_image(project, "${REGISTRY}/redis:7", images=images)
    assert project.run("run").code == 0
    assert result_image(project) == f"${{REGISTRY}}/redis@{redis}"
    compose_image(project, f"${{REGISTRY}}/any/redis@{redis}", images=images)
    outcome = project.run("run")
    # Nobody knows what that digest is.
    assert outcome.code == 5
    assert "unknown: docker-compose.yml:3: service `web`" in outcome.err
    assert result_image(project) == f"${{REGISTRY}}/any/redis@{redis}"
    compose_image(
        project,
        f"${{REGISTRY}}/any/redis@{redis}",
        images={"redis": {"use": f"{project.host}/library/redis@{redis}"}},
    )
    assert project.run("run").code == 0


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("${REGISTRY}/web:2.0", "docker-compose.yml:3: service `web` uses `${REGISTRY}/web:2.0`, and"),
        ("${REGISTRY}/other:1.0", "`${REGISTRY}/other:1.0` names no image that `secure-build.yaml` knows"),
        ("${REGISTRY}/eb:1.0", "`${REGISTRY}/eb:1.0` names no image that"),
        ("${IMAGE}", "docker-compose.yml:3: the image of service `web`: `${IMAGE}` has a variable without"),
        (f"${{REGISTRY}}/web@${{DIGEST:-{OTHER}}}", "has a variable in its digest"),
    ],
)
def test_variables_that_would_choose_the_image(project: Project, image: str, message: str) -> None:
    compose_image(project, image)
    outcome = project.run("run")
    assert outcome.code == 2
    assert message in outcome.err
    assert project.builder.recipes == []


def test_two_images_that_the_deployers_registry_could_mean(project: Project) -> None:
    image = {"image": f"{project.host}/other/web:1.0", "build": {"context": "app"}}
    own = {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}}
    compose_image(project, "${REGISTRY}/web:1.0", images={"one": own, "two": image})
    assert "and `secure-build.yaml` builds" in project.run("run").err
    compose_image(project, "${REGISTRY}/other/web:1.0", images={"one": own, "two": image})
    assert project.run("run").code == 0


def test_a_default_is_pinned_and_said(project: Project, registry: FakeRegistry) -> None:
    compose_image(project, f"${{IMAGE:-{project.host}/acme/web:1.0}}")
    outcome = project.run("run")
    assert outcome.code == 0
    assert result_image(project) == pinned(registry)
    assert "the deployer can no longer choose it" in outcome.err
    said = [finding for finding in project.record["findings"] if finding["check"] == "image"]
    assert {(finding["level"], finding["basis"]) for finding in said} == {
        ("pass", "documented"),
        ("warn", "inferred"),
    }


def test_a_file_of_variables_beside_the_compose_file_is_said_to_be_unused(project: Project) -> None:
    project.write(".env", "A=b\n")
    project.commit()
    assert "warn: `.env` is not used" in project.run("run").err


def test_several_containers_with_compose_are_reported(project: Project, registry: FakeRegistry) -> None:
    registry.add_image("library/redis", "7")
    redis = f"  cache:\n    image: {project.host}/library/redis:7\n"
    project.write("docker-compose.yml", COMPOSE.format(host=project.host) + redis)
    project.commit()
    outcome = project.run("run")
    assert outcome.code == 0
    assert "warn: docker-compose.yml:2: the file starts 2 containers: IBM supports one" in outcome.err


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        *itertools.product(("resources", "archive", "templates"), ("hpvs", "ccrt", "ccrv")),
        ("compose", "hpvs"),
        ("compose", "ccrt"),
    ],
)
def test_the_section_is_what_our_checks_and_the_published_schema_want(
    project: Project, target: str, kind: str
) -> None:
    workload: dict[str, Any] = {"compose": "docker-compose.yml"}
    if kind != "compose":
        path = "deploy" if kind == "archive" else ["deploy/pod.yaml"]
        workload = {"play": {kind: path}}
    pods(project, target=target, workload=workload)
    assert project.run("run").code == 0
    path = project.workdir / "workload.yaml"
    checked = section_findings(read_section(path.read_bytes(), path.name, "workload"), target)
    assert {finding.level for finding in checked} == {"pass"}
    section = contract_file.section(path)
    assert ibm_schema.problems(target, section) == []
    # The check can fail.
    assert ibm_schema.problems(target, {**section, "play": {"resources": [{"kind": "Deployment"}]}})


def test_a_secret_of_the_build_stays_out_of_the_archive(project: Project) -> None:
    compose = COMPOSE.format(host=project.host).replace(
        "build: app ", "build: {context: app, secrets: [npm]}\n    secrets: [tls] "
    )
    secrets = "secrets:\n  npm: {file: npm-token.txt}\n  tls: {file: tls.pem}\n"
    project.write("docker-compose.yml", compose + secrets)
    project.write("npm-token.txt", "canary")
    project.commit()
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    assert contract_file.archive(project.workdir / "workload.yaml").keys() == {"docker-compose.yml"}
    assert "`tls.pem` is not in the commit" in outcome.err
    assert "hint: take the secret from the contract's variables" in outcome.err


@pytest.mark.parametrize("image", ["{host}/acme/redis:7", "${{REGISTRY}}/acme/redis:7"])
def test_a_workload_may_name_the_copy_that_is_made_of_an_image(
    project: Project, registry: FakeRegistry, image: str
) -> None:
    redis = registry.add_image("library/redis", "7")
    # What an earlier run left there is not what is meant.
    registry.add_image("acme/redis", "7", platforms=["linux/s390x", "linux/amd64"])
    copied = {"use": f"{project.host}/library/redis:7", "mirror": f"{project.host}/acme/redis:7"}
    compose_image(project, image.format(host=project.host), images={"redis": copied})
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    assert result_image(project).endswith(f"/acme/redis@{redis}")
    assert [one["digest"] for one in project.record["used"]] == [str(redis)]


def test_pods_that_are_gone_are_not_left_for_the_cluster(project: Project) -> None:
    for name in ("web", "old"):
        project.write(f"deploy/{name}.yaml", POD.format(host=project.host))
    project.configure(target="ccco", workload={"pods": "deploy"}, env={"env": {"MODE": "x"}})
    assert project.run("run").code == 0
    folders = [project.workdir / name for name in ("pods", "pods.ready")]
    ready = folders[1] / "web.yaml"
    before = ready.stat().st_mtime_ns
    assert project.run("run").code == 0
    assert ready.stat().st_mtime_ns == before
    (project.folder / "deploy" / "old.yaml").unlink()
    project.commit()
    assert project.run("run").code == 0
    assert [[path.name for path in folder.iterdir()] for folder in folders] == [["web.yaml"]] * 2
