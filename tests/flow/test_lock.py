"""The lock: what it holds, what it makes sure of, and what is refused because of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry, small_image
from flow import contract_file
from flow.conftest import COMPOSE, Outcome, Project
from secure_build.builders import Recipe
from secure_build.model import Material
from secure_build.reference import Digest, Reference

BOTH = ["linux/s390x", "linux/amd64"]
FILE = "https://example.com/file"


@pytest.fixture
def base(project: Project, registry: FakeRegistry) -> str:
    """The name of a base in the registry that the builder takes, by the pin if there is one."""
    registry.add_image("base", "1", platforms=BOTH)
    name = f"{registry.host}/base:1"
    project.builder.pull = pulling(registry, name)
    return name


def pulling(registry: FakeRegistry, *names: str) -> Callable[[Recipe], tuple[Material, ...]]:
    def pull(recipe: Recipe) -> tuple[Material, ...]:
        found = []
        for name in names:
            reference = Reference.parse(name)
            here = registry.tags[reference.repository.path, reference.tag or "latest"]
            found.append(Material("image", name, recipe.pins.get(name, str(here))))
        return tuple(found)

    return pull


def move(registry: FakeRegistry, repository: str, layer: bytes) -> Digest:
    """Let the tag `1` name another image for the guest."""
    registry.tags[repository, "1"] = digest = registry.add(repository, small_image(layer=layer))
    return digest


def refused(outcome: Outcome, message: str, *, code: int = 1) -> None:
    assert outcome.code == code, outcome.err
    assert message in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


def with_helper(project: Project) -> None:
    project.write(
        "docker-compose.yml",
        COMPOSE.format(host=project.host) + f"  helper:\n    image: {project.host}/helper:1\n",
    )
    project.commit()


def locked(project: Project) -> str:
    """Lock and commit; returns what was printed."""
    outcome = project.run("lock")
    assert outcome.code == 0, outcome.err
    project.commit()
    return outcome.out


def test_lock_names_bases_and_what_only_the_workload_uses(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    helper = registry.add_image("helper", "1", platforms=BOTH)
    redis = registry.add_image("library/redis", "7")
    images = {
        "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app", "platforms": BOTH}},
        "redis": {"use": f"{project.host}/library/redis:7"},
    }
    project.configure(images=images)
    with_helper(project)
    outcome = project.run("lock")
    assert outcome.code == 0, outcome.err
    digest = registry.tags["base", "1"]
    assert (project.folder / "secure-build.lock").read_text() == (
        "# Written by `secure-build lock`: what builds and the contract take from outside. Commit it.\n"
        "version: 1\n"
        "image:\n"
        f'  "{base}":\n    linux/amd64: {digest}\n    linux/s390x: {digest}\n'
        "used:\n"
        f'  "{project.host}/helper:1":\n    linux/s390x: {helper}\n'
        f'  "{project.host}/library/redis:7":\n    linux/s390x: {redis}\n'
    )
    assert outcome.out == (
        f"added image {base} (linux/amd64): {digest}\n"
        f"added image {base} (linux/s390x): {digest}\n"
        f"added used {project.host}/helper:1 (linux/s390x): {helper}\n"
        f"added used {project.host}/library/redis:7 (linux/s390x): {redis}\n"
    )
    assert "secure-build.lock: written; commit it" in outcome.err
    # A second time nothing is built or written, although the lock is not committed.
    before = (project.folder / "secure-build.lock").stat()
    again = project.run("lock")
    assert (again.code, again.out) == (0, "")
    assert len(project.builder.recipes) == 2
    assert (project.folder / "secure-build.lock").stat() == before


def test_what_is_locked_stays_although_its_tag_moves(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    helper = registry.add_image("helper", "1", platforms=BOTH)
    with_helper(project)
    digest = registry.tags["base", "1"]
    locked(project)
    assert project.run("run", "--locked").code == 0
    first = project.record

    move(registry, "base", b"moved")
    move(registry, "helper", b"moved")
    registry.requests.clear()
    outcome = project.run("run", "--locked")
    assert outcome.code == 0, outcome.err
    assert "web: unchanged, not built" in outcome.err
    assert project.record == first
    assert registry.asked("HEAD", "/base/") == registry.asked("GET", "/(base|helper)/manifests/1$") == []
    compose = contract_file.archive(project.workdir / "workload.yaml")["docker-compose.yml"].decode()
    assert f"{project.host}/helper@{helper}" in compose

    # Another commit is built with the same base.
    project.write("app/hello.txt", "again\n")
    project.commit()
    assert project.run("run", "--locked").code == 0
    assert project.builder.recipes[-1].pins == {base: str(digest)}
    assert project.record["images"][0]["materials"] == first["images"][0]["materials"]


def test_without_a_lock_tags_are_followed_as_before(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    assert project.run("run").code == 0
    moved = move(registry, "base", b"moved")
    assert project.run("run").code == 0
    assert project.record["images"][0]["materials"][0]["digest"] == str(moved)


def test_update_takes_what_the_tags_name_now_and_says_what_moved(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    registry.add_image("helper", "1")
    with_helper(project)
    locked(project)
    before = registry.tags["base", "1"]
    after = move(registry, "base", b"moved")
    kept = project.run("lock")
    assert (kept.code, kept.out) == (0, "")

    outcome = project.run("lock", "--update")
    assert outcome.out == f"moved image {base} (linux/s390x): {before} -> {after}\n"
    project.commit()
    helper = registry.tags["helper", "1"]
    moved = move(registry, "helper", b"moved")
    printed = json.loads(project.run("lock", "--update", "--output", "json").out)
    assert printed["path"] == "secure-build.lock"
    (change,) = printed["changes"]
    assert (change["kind"], change["name"], change["platform"]) == (
        "used",
        f"{project.host}/helper:1",
        "linux/s390x",
    )
    assert (change["before"], change["after"]) == (str(helper), str(moved))


def test_what_nothing_uses_is_removed_and_named(project: Project, registry: FakeRegistry, base: str) -> None:
    helper = registry.add_image("helper", "1")
    with_helper(project)
    locked(project)
    registry.add_image("other", "1")
    project.builder.pull = pulling(registry, f"{registry.host}/other:1")
    project.write("docker-compose.yml", COMPOSE.format(host=project.host))
    project.commit()
    out = locked(project)
    digest, other = registry.tags["base", "1"], registry.tags["other", "1"]
    assert out == (
        f"removed image {base} (linux/s390x): {digest}\n"
        f"added image {registry.host}/other:1 (linux/s390x): {other}\n"
        f"removed used {project.host}/helper:1 (linux/s390x): {helper}\n"
    )


def test_a_file_and_a_repository_are_locked_and_then_not_fetched_again(project: Project) -> None:
    taken = [
        Material("http", FILE, "sha256:" + "1" * 64),
        Material("git", "https://example.com/r.git#main", "sha1:" + "2" * 40),
    ]
    project.builder.materials = tuple(taken)
    project.run("build")
    project.run("build")
    assert len(project.builder.recipes) == 2
    locked(project)
    assert project.run("build", "--locked").code == 0
    count = len(project.builder.recipes)
    outcome = project.run("build", "--locked")
    assert "web: unchanged, not built" in outcome.err
    assert len(project.builder.recipes) == count
    assert project.builder.recipes[-1].pins == {material.name: material.digest for material in taken}


def test_digests_that_differ_between_platforms(project: Project, registry: FakeRegistry) -> None:
    """A builder may report the manifest of a platform instead of the index of them."""
    build = {"context": "app", "platforms": BOTH}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    name = f"{project.host}/base:1"

    def pull(recipe: Recipe) -> tuple[Material, ...]:
        own = Digest.of(str(recipe.platform).encode())
        return (Material("image", name, recipe.pins.get(name, str(own))),)

    project.builder.pull = pull
    locked(project)
    s390x, amd64 = Digest.of(b"linux/s390x"), Digest.of(b"linux/amd64")
    assert (
        f'  "{name}":\n    linux/amd64: {amd64}\n    linux/s390x: {s390x}\n'
        in (project.folder / "secure-build.lock").read_text()
    )
    assert project.run("build", "--locked").code == 0
    assert "unchanged" in project.run("build", "--locked").err
    assert registry.requests == []
    assert [(it["platform"], it["digest"]) for it in project.record["images"][0]["materials"]] == [
        ("linux/amd64", str(amd64)),
        ("linux/s390x", str(s390x)),
    ]


def test_locked_needs_a_lock(project: Project) -> None:
    refused(project.run("build", "--locked"), "there is no `secure-build.lock`, and `--locked`", code=2)
    assert project.builder.recipes == []


def test_locked_refuses_a_base_that_is_not_in_the_lock(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    project.write("secure-build.lock", "version: 1\n")
    project.commit()
    outcome = project.run("build", "--locked")
    refused(outcome, f"web: `{base}` for linux/s390x is not in `secure-build.lock`")
    assert "hint: run `secure-build lock` and commit what it writes" in outcome.err
    assert not (project.workdir / "build-record.json").exists()
    assert not (project.workdir / "layout" / "index.json").exists()
    # What was built before without it is refused before anything is built.
    assert project.run("build").code == 0
    count = len(project.builder.recipes)
    refused(project.run("run", "--locked"), "is not in `secure-build.lock`")
    assert len(project.builder.recipes) == count
    assert registry.tags.keys() == {("base", "1")}


def test_locked_refuses_what_another_job_built_without_the_lock(
    project: Project, registry: FakeRegistry, base: str, tmp_path: Path
) -> None:
    project.write("secure-build.lock", "version: 1\n")
    project.commit()
    job = tmp_path / "job"
    assert project.run("build", "--workdir", str(job)).code == 0
    records = ("--record", str(job / "build-record.json"))
    refused(project.run("run", "--locked", *records), f"web: `{base}` for linux/s390x is not in")
    assert registry.writes == []
    assert project.run("run", *records).code == 0


def test_locked_refuses_third_party_images_before_building(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    locked(project)
    registry.add_image("helper", "1")
    with_helper(project)
    count = len(project.builder.recipes)
    refused(project.run("run", "--locked"), f"`{project.host}/helper:1` is not in `secure-build.lock`")
    images = {
        "web": {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}},
        "helper": {"use": f"{project.host}/helper:1"},
    }
    project.configure(images=images)
    refused(project.run("build", "--locked"), f"`{project.host}/helper:1` is not in `secure-build.lock`")
    assert len(project.builder.recipes) == count


def test_locked_refuses_a_builder_that_does_not_say_what_it_pulled(project: Project) -> None:
    project.write("secure-build.lock", "version: 1\n")
    project.commit()
    project.builder.materials = None
    refused(project.run("build", "--locked"), "web: buildah 0 does not say what it pulled")
    refused(project.run("lock"), "web: buildah 0 does not say what it pulled, so it cannot be locked")
    assert project.run("build").code == 0


def test_a_builder_that_takes_another_digest_is_refused_always(
    project: Project, registry: FakeRegistry, base: str
) -> None:
    digest = registry.tags["base", "1"]
    locked(project)
    other = move(registry, "base", b"moved")
    project.builder.pull = lambda _: (Material("image", base, str(other)),)
    for arguments in (["build"], ["build", "--locked"]):
        refused(
            project.run(*arguments),
            f"web: `{base}` for linux/s390x is {digest} in `secure-build.lock`, and buildah 0 took {other}",
        )


def test_two_digests_of_one_name_cannot_be_locked(project: Project) -> None:
    both = ["sha256:" + letter * 64 for letter in "ab"]
    project.builder.materials = tuple(Material("http", FILE, digest) for digest in both)
    refused(project.run("lock"), f"has two digests in one build: {both[0]} and {both[1]}")
    assert not (project.folder / "secure-build.lock").exists()


def test_what_is_named_by_digest_needs_no_entry(project: Project, registry: FakeRegistry) -> None:
    base = registry.add_image("base", "1")
    helper = registry.add_image("helper", "1")
    project.builder.materials = (Material("image", f"{registry.host}/base@{base}", str(base)),)
    project.write(
        "docker-compose.yml",
        COMPOSE.format(host=project.host) + f"  helper:\n    image: {project.host}/helper@{helper}\n",
    )
    project.commit()
    assert locked(project) == ""
    assert project.run("run", "--locked").code == 0
    assert "unchanged" in project.run("build", "--locked").err


def test_a_locked_image_for_another_platform_is_refused(project: Project, registry: FakeRegistry) -> None:
    digest = registry.add_image("helper", "1", platforms=["linux/amd64"])
    with_helper(project)
    project.write(
        "secure-build.lock",
        f'version: 1\nused:\n  "{project.host}/helper:1":\n    linux/s390x: {digest}\n',
    )
    project.commit()
    refused(project.run("run", "--locked"), "is not made for linux/s390x, but for linux/amd64")


def test_a_wrong_lock_is_refused_with_its_line(project: Project) -> None:
    project.write("secure-build.lock", "version: 1\nimages: {}\n")
    project.commit()
    for arguments in (["build"], ["run"], ["lock"]):
        refused(project.run(*arguments), "secure-build.lock:2: images: unknown key", code=2)


def test_a_lock_that_is_not_as_in_the_commit_is_said_to_be_so(project: Project) -> None:
    locked(project)
    project.write("secure-build.lock", "version: 1\n# changed\n")
    outcome = project.run("build", "--allow-dirty")
    assert outcome.code == 0
    assert "`secure-build.lock` is used as it is here, which is not as it is in the commit" in outcome.err
