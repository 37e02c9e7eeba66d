"""Jobs that build a platform each, and the job that joins what they made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fakes.registry import FakeRegistry, Fault
from flow import contract_file
from flow.conftest import COMPOSE, Outcome, Project
from secure_build.builders import Recipe
from secure_build.model import BuilderVersion, Material
from secure_build.reference import Digest, Pinned

BOTH = ["linux/s390x", "linux/amd64"]
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


@pytest.fixture
def parts(project: Project, tmp_path: Path) -> dict[str, Path]:
    """Work folders of two jobs, each with one platform of the one image."""
    build = {"context": "app", "platforms": BOTH}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    return {platform: job(project, tmp_path, platform) for platform in BOTH}


def job(project: Project, tmp_path: Path, platform: str, *images: str) -> Path:
    folder = tmp_path / f"job-{platform.rpartition('/')[2]}{''.join(images)}"
    outcome = project.run("build", *images, "--platform", platform, "--workdir", str(folder))
    assert outcome.code == 0, outcome.err
    return folder


def records(*folders: Path) -> list[str]:
    return [word for folder in folders for word in ("--record", str(folder / "build-record.json"))]


def change(folder: Path, **changes: Any) -> None:
    """Change the record in a work folder; `image` changes its first image."""
    path = folder / "build-record.json"
    record = json.loads(path.read_text())
    record["images"][0] |= changes.pop("image", {})
    path.write_text(json.dumps(record | changes))


def refused(project: Project, outcome: Outcome, *said: str, code: int = 1) -> None:
    assert outcome.code == code, outcome.err
    for message in said:
        assert message in outcome.err
    assert "Traceback" not in outcome.err
    assert not (project.workdir / "build-record.json").exists()


def whole(project: Project, tmp_path: Path) -> str:
    """The digest that one job makes which builds all platforms."""
    assert project.run("build", "--workdir", str(tmp_path / "whole")).code == 0
    record = json.loads((tmp_path / "whole" / "build-record.json").read_text())
    return str(record["images"][0]["descriptor"]["digest"])


def test_a_part_says_what_it_lacks_and_gets_no_tag(
    project: Project, registry: FakeRegistry, parts: dict[str, Path]
) -> None:
    part = parts["linux/amd64"]
    (image,) = json.loads((part / "build-record.json").read_text())["images"]
    assert (image["platforms"], image["missing"]) == (["linux/amd64"], ["linux/s390x"])
    for arguments in (["publish"], ["publish", "--to", "oci:out"]):
        outcome = project.run(*arguments, "--workdir", str(part))
        assert outcome.code == 2
        assert "web was not built for linux/s390x, and `" in outcome.err
        assert "hint: join the records of all platforms (`--record A --record B`)" in outcome.err
    outcome = project.run("contract", "workload", "--workdir", str(part))
    assert outcome.code == 1
    assert "is not made for linux/s390x, but for linux/amd64" in outcome.err
    assert registry.writes == []


def test_run_does_not_build_parts(project: Project, parts: dict[str, Path]) -> None:
    count = len(project.builder.recipes)
    outcome = project.run("run", "--platform", "linux/s390x")
    refused(
        project, outcome, "`run` publishes whole images, and web would be built for linux/s390x only", code=2
    )
    assert len(project.builder.recipes) == count


def test_parts_are_joined_to_what_one_job_would_have_made(
    project: Project, registry: FakeRegistry, parts: dict[str, Path], tmp_path: Path
) -> None:
    digest = whole(project, tmp_path)
    for first, second in (BOTH, reversed(BOTH)):
        shutil.rmtree(project.workdir, ignore_errors=True)
        outcome = project.run("publish", *records(parts[first], parts[second]))
        assert outcome.code == 0, outcome.err
        assert outcome.out == f"{project.host}/acme/web@{digest}\n"
        (image,) = project.record["images"]
        assert (image["platforms"], image["missing"]) == (BOTH, [])
    assert str(registry.tags["acme/web", "1.0"]) == digest
    index = json.loads(registry.manifests["acme/web", registry.tags["acme/web", "1.0"]][1])
    assert [member["platform"]["architecture"] for member in index["manifests"]] == ["amd64", "s390x"]


def test_run_and_contract_take_records_too_and_again(
    project: Project, registry: FakeRegistry, parts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = records(*parts.values())
    count = len(project.builder.recipes)
    outcome = project.run("run", *given)
    assert outcome.code == 0, outcome.err
    digest = registry.tags["acme/web", "1.0"]
    compose = contract_file.archive(project.workdir / "workload.yaml")["docker-compose.yml"]
    assert str(digest).encode() in compose
    record = project.record
    # Named again, they change nothing that was done since.
    registry.requests.clear()
    assert project.run("run", *given).code == 0
    assert project.record == record
    assert registry.writes == []
    monkeypatch.setenv("SECURE_BUILD_RECORD", "\n".join(word for word in given if word != "--record") + "\n")
    assert project.run("contract", "workload").code == 0
    assert project.run("contract", "images").code == 0
    assert "deferred" not in json.dumps(project.record["findings"])
    assert len(project.builder.recipes) == count
    # What is given by hand replaces the variable.
    outcome = project.run("publish", *records(parts["linux/amd64"]))
    assert "web was not built for linux/s390x" in outcome.err


def test_an_image_that_one_record_has_stays_as_it_is(project: Project, tmp_path: Path) -> None:
    images = {
        name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": "app", "platforms": BOTH}}
        for name in ("web", "db")
    }
    project.configure(images=images)
    web = [job(project, tmp_path, platform, "web") for platform in BOTH]
    db = tmp_path / "db"
    assert project.run("build", "db", "--workdir", str(db)).code == 0
    assert project.run("publish", *records(*web, db)).code == 0
    (alone,) = json.loads((db / "build-record.json").read_text())["images"]
    assert project.record["images"][1] == alone | {"published": project.host}
    assert [image["name"] for image in project.record["images"]] == ["web", "db"]


def test_inputs_of_all_parts_are_recorded(project: Project, tmp_path: Path) -> None:
    build = {"context": "app", "platforms": BOTH}
    project.configure(images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}})
    folders = []
    for platform, digest in zip(BOTH, (A, B), strict=True):
        project.builder.materials = (
            Material("image", "example.com/base:1", digest),
            Material("http", f"https://example.com/{platform}", A),
        )
        folders.append(job(project, tmp_path, platform))
    assert project.run("publish", *records(*folders)).code == 0
    listed = project.record["images"][0]["materials"]
    assert [(it["kind"], it["platform"], it["digest"]) for it in listed] == [
        ("http", None, A),
        ("http", None, A),
        ("image", "linux/amd64", B),
        ("image", "linux/s390x", A),
    ]


def test_16_parts_of_different_builds_are_refused(
    project: Project, parts: dict[str, Path], tmp_path: Path
) -> None:
    first, second = parts.values()
    kept = (second / "build-record.json").read_bytes()
    source = json.loads(kept)["source"]
    both = f"`{first}/build-record.json` and `{second}/build-record.json` cannot be joined: "
    for changes, difference in (
        ({"tool": "0.0"}, "the version of secure-build is "),
        ({"config": A}, "the digest of the config is sha256:"),
        ({"source": source | {"commit": "0" * 40}}, f"the commit is {source['commit']} and {'0' * 40}"),
        (
            {"image": {"builder": {"name": "buildah", "version": "1"}}},
            "the builder is buildah 0 and buildah 1",
        ),
        ({"image": {"builder": {"name": "buildx", "version": "0"}}}, "the builder is buildah 0 and buildx 0"),
    ):
        change(second, **changes)
        refused(project, project.run("publish", *records(first, second)), both + difference)
        (second / "build-record.json").write_bytes(kept)
    project.configure(target="hpvs")
    outcome = project.run("publish", *records(first, second))
    refused(project, outcome, f"`{first}/build-record.json` was made with another content", code=2)


def test_16_parts_of_the_builders_that_the_config_names(project: Project, tmp_path: Path) -> None:
    builder = {"linux/s390x": "buildx:mainframe", "linux/amd64": "buildah"}
    names = {"web": BOTH, "db": BOTH[:1], "api": BOTH[1:]}
    images = {
        name: {
            "image": f"{project.host}/acme/{name}:1.0",
            "build": {"context": "app", "platforms": platforms},
        }
        for name, platforms in names.items()
    }
    project.configure(images=images, builder=builder, workload=None)
    web = [job(project, tmp_path, platform, "web") for platform in BOTH]
    others = [job(project, tmp_path, names[name][0], name) for name in ("db", "api")]
    outcome = project.run("publish", *records(*web, *others))
    assert outcome.code == 0, outcome.err
    made = {image["name"]: image["builder"] for image in project.record["images"]}
    assert made["web"] == {
        "name": "buildah+buildx",
        "version": "linux/amd64: buildah 0; linux/s390x: buildx 0",
    }
    assert {made[name]["name"] for name in ("db", "api")} == {"buildah", "buildx"}
    # For one platform it is one builder all the same.
    change(others[0], image={"builder": {"name": made["db"]["name"], "version": "1"}})
    outcome = project.run("publish", *records(*web, *others), "--workdir", str(tmp_path / "again"))
    assert outcome.code == 1
    assert "cannot be joined: the builder is" in outcome.err


def test_a_platform_that_two_parts_have_is_refused(
    project: Project, parts: dict[str, Path], tmp_path: Path
) -> None:
    first = parts["linux/s390x"]
    copy = shutil.copytree(first, tmp_path / "copy")
    refused(
        project,
        project.run("run", *records(first, copy)),
        f"`{first}/build-record.json` and `{copy}/build-record.json` both have web for linux/s390x",
    )


def test_what_a_record_says_is_checked_with_the_bytes(
    project: Project, parts: dict[str, Path], tmp_path: Path
) -> None:
    first, second = parts["linux/s390x"], parts["linux/amd64"]
    kept = (second / "build-record.json").read_bytes()
    for image, message in (
        (
            {"platforms": ["linux/s390x"]},
            "web is said to be for linux/s390x, and its config says linux/amd64",
        ),
        ({"platforms": BOTH}, "web is said to be for linux/s390x, and its config says linux/amd64"),
        ({"platforms": []}, "members that are no images for one platform each"),
        ({"reference": f"{project.host}/acme/other:1.0"}, "has web as `"),
    ):
        change(second, image=image)
        refused(project, project.run("publish", *records(first, second)), message)
        (second / "build-record.json").write_bytes(kept)
    # An index that claims a platform more than the record, or that is not what the config wants.
    assert project.run("build", "--workdir", str(tmp_path / "whole")).code == 0
    change(tmp_path / "whole", image={"platforms": ["linux/amd64"]})
    outcome = project.run("publish", *records(tmp_path / "whole"))
    refused(project, outcome, "web is said to be for linux/amd64, and is for linux/amd64, linux/s390x")


def test_damaged_bytes_of_a_part_are_found(
    project: Project, registry: FakeRegistry, parts: dict[str, Path]
) -> None:
    part = parts["linux/s390x"]
    for path in sorted((part / "layout" / "blobs" / "sha256").iterdir()):
        kept = path.read_bytes()
        path.write_bytes(bytes([kept[0] ^ 1]) + kept[1:])
        refused(project, project.run("contract", "images", *records(part)), "is damaged", code=4)
        shutil.rmtree(project.workdir)
        path.unlink()
        outcome = project.run("contract", "images", *records(part))
        refused(project, outcome, "and there is no layout beside it that has it", code=2)
        shutil.rmtree(project.workdir)
        path.write_bytes(kept)
    assert registry.requests == []


def test_a_record_without_its_layout_is_refused(project: Project, parts: dict[str, Path]) -> None:
    shutil.rmtree(parts["linux/amd64"] / "layout")
    outcome = project.run("publish", *records(*parts.values()))
    refused(project, outcome, "and there is no layout beside it that has it", code=2)
    assert "hint: hand the folder `layout` on with the record, or use `publish --by-digest`" in outcome.err


def test_the_own_record_is_no_part_of_itself(project: Project, parts: dict[str, Path]) -> None:
    first, second = parts.values()
    outcome = project.run("publish", *records(first, second), "--workdir", str(first))
    assert outcome.code == 2
    assert "is where the joined record goes, so it cannot be one of the parts" in outcome.err
    # Alone it is simply the record.
    whole = project.run("build", "--workdir", str(first))
    assert whole.code == 0
    assert project.run("publish", *records(first), "--workdir", str(first)).code == 0


def test_run_with_records_of_another_commit_publishes_nothing(
    project: Project, registry: FakeRegistry, parts: dict[str, Path]
) -> None:
    project.write("app/hello.txt", "newer\n")
    project.commit()
    outcome = project.run("run", *records(*parts.values()))
    assert outcome.code == 2
    assert "the images were built from commit" in outcome.err
    assert registry.writes == []


# By digest through a registry


def hand_on(project: Project, folder: Path) -> str:
    outcome = project.run("publish", "--by-digest", "--workdir", str(folder))
    assert outcome.code == 0, outcome.err
    return outcome.out.strip()


def test_records_are_handed_on_by_digest_and_the_tag_comes_at_the_end(
    project: Project, registry: FakeRegistry, parts: dict[str, Path], tmp_path: Path
) -> None:
    digest = whole(project, tmp_path)
    handed_on = [hand_on(project, folder) for folder in parts.values()]
    assert registry.tags == {}
    for name, folder in zip(handed_on, parts.values(), strict=True):
        pinned = Pinned.parse(name)
        assert str(pinned.repository) == f"{project.host}/acme/web"
        kind, content = registry.manifests["acme/web", pinned.digest]
        document = json.loads(content)
        assert kind == document["mediaType"] == "application/vnd.oci.image.manifest.v1+json"
        assert document["artifactType"] == "application/vnd.secure-build.record.v1"
        assert document["config"] == {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        }
        (layer,) = document["layers"]
        assert layer["mediaType"] == "application/vnd.secure-build.record.v1+json"
        kept = registry.blobs["acme/web", Digest.parse(layer["digest"])]
        assert json.loads(kept) == json.loads((folder / "build-record.json").read_text())
        shutil.rmtree(folder)

    registry.requests.clear()
    outcome = project.run("run", *(word for name in handed_on for word in ("--record", name)))
    assert outcome.code == 0, outcome.err
    assert str(registry.tags["acme/web", "1.0"]) == digest
    # The layers are there already, and nothing has the tag before all of it is there.
    assert registry.asked("POST") == []
    assert registry.writes[-2:] == [
        f"PUT /v2/acme/web/manifests/{digest} 201",
        "PUT /v2/acme/web/manifests/1.0 201",
    ]
    assert project.record["images"][0]["sparse"] is True
    assert (
        b"acme/web@" + digest.encode()
        in contract_file.archive(project.workdir / "workload.yaml")["docker-compose.yml"]
    )


def test_a_file_and_a_record_that_was_handed_on_are_joined(
    project: Project, registry: FakeRegistry, parts: dict[str, Path], tmp_path: Path
) -> None:
    digest = whole(project, tmp_path)
    name = hand_on(project, parts["linux/s390x"])
    outcome = project.run("publish", "--record", name, *records(parts["linux/amd64"]))
    assert outcome.code == 0, outcome.err
    assert str(registry.tags["acme/web", "1.0"]) == digest


def test_what_was_handed_on_is_checked(
    project: Project, registry: FakeRegistry, parts: dict[str, Path]
) -> None:
    name = hand_on(project, parts["linux/s390x"])
    image = registry.add_image("acme/web", None)
    outcome = project.run("publish", "--record", f"{project.host}/acme/web@{image}")
    refused(project, outcome, "is no build record", "`secure-build publish --by-digest` printed", code=2)
    outcome = project.run("publish", "--record", f"{project.host}/acme/web@{A}")
    refused(project, outcome, f"`{project.host}/acme/web@{A}` does not exist", code=2)
    outcome = project.run("publish", "--record", f"{project.host}/acme/web:1.0@{A}")
    refused(project, outcome, "is not pinned", code=2)
    digest = Pinned.parse(name).digest
    layer = json.loads(registry.manifests["acme/web", digest][1])["layers"][0]
    key = ("acme/web", Digest.parse(layer["digest"]))
    registry.blobs[key] = registry.blobs[key].replace(b'"clean": true', b'"clean": null')
    refused(project, project.run("publish", "--record", name), "is damaged", code=4)
    registry.faults.append(Fault("GET", "/manifests/", body=b"{}"))
    refused(project, project.run("publish", "--record", name), "with content whose digest is", code=4)


def test_private_parts_need_a_login_only_where_they_are_handed_on(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(auth="token", users={"pusher": "push-canary-7"}) as private:
        project.host = private.host
        project.write("docker-compose.yml", COMPOSE.format(host=private.host))
        build = {"context": "app", "platforms": BOTH}
        access = {"push": {"username": "pusher", "password": {"secret": "PUSH"}}}
        project.configure(
            images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}},
            registries={private.host: access},
        )
        folders = [job(project, tmp_path, platform) for platform in BOTH]
        assert private.requests == []
        monkeypatch.setenv("PUSH", "push-canary-7")
        names = [hand_on(project, folder) for folder in folders]
        outcome = project.run("publish", *(word for name in names for word in ("--record", name)))
        assert outcome.code == 0, outcome.err
        assert private.tags.keys() == {("acme/web", "1.0")}
        assert "push-canary-7" not in outcome.err + json.dumps(project.record)


def test_by_digest_goes_to_registries_only(project: Project, parts: dict[str, Path]) -> None:
    outcome = project.run("publish", "--by-digest", "--to", "oci:out", "--workdir", str(parts["linux/amd64"]))
    assert outcome.code == 2
    assert "`--by-digest` publishes to registries, and `--to` names a layout" in outcome.err


def test_handing_on_again_gives_the_same_record(
    project: Project, registry: FakeRegistry, parts: dict[str, Path]
) -> None:
    folder = parts["linux/amd64"]
    name = hand_on(project, folder)
    registry.requests.clear()
    assert hand_on(project, folder) == name
    assert registry.asked("POST") == []
    printed = project.run("publish", "--by-digest", "--output", "json", "--workdir", str(folder))
    assert json.loads(printed.out)["record"] == name


# Building again


def test_check_builds_again_and_compares(project: Project) -> None:
    assert project.run("build").code == 0
    kept = {path: path.read_bytes() for path in project.workdir.rglob("*") if path.is_file()}
    outcome = project.run("build", "--check")
    assert outcome.code == 0, outcome.err
    assert len(project.builder.recipes) == 2
    assert {path: path.read_bytes() for path in project.workdir.rglob("*") if path.is_file()} == kept


def test_an_input_that_moved_makes_an_image_not_checkable_unless_it_is_locked(project: Project) -> None:
    name, now = "https://example.com/a", [A]
    project.builder.pull = lambda recipe: (Material("http", name, recipe.pins.get(name, now[0])),)
    assert project.run("build").code == 0
    now[0] = B
    outcome = project.run("build", "--check")
    assert outcome.code == 5
    assert f"it was built from another `{name}` than there is now" in outcome.err
    assert project.run("lock").code == 0
    project.commit()
    assert project.run("build", "--locked").code == 0
    now[0] = A
    assert project.run("build", "--check").code == 0
    assert project.builder.recipes[-1].pins == {name: B}


def test_check_finds_an_image_that_is_not_reproducible(project: Project) -> None:
    assert project.run("build").code == 0
    digest = project.record["images"][0]["descriptor"]["digest"]

    def differ(recipe: Recipe) -> tuple[Material, ...]:
        (recipe.context / "time").write_text("now")
        return ()

    project.builder.pull = differ
    outcome = project.run("build", "--check", "--output", "json")
    assert outcome.code == 1
    (finding,) = json.loads(outcome.out)["findings"]
    assert (finding["check"], finding["level"]) == ("reproducible", "fail")
    assert f"fail: web: recorded as {digest}" in outcome.err
    assert "building it again with buildah 0 gave sha256:" in outcome.err
    assert "layer 1 of 1: `time` is in this one only" in finding["why"]
    assert finding["hint"].startswith("a step depends on the machine, on the time or on the network")
    # The record says what was built, not what was tried.
    assert project.record["findings"] == []
    assert project.run("build").code == 0


def test_what_cannot_be_checked_is_neither_good_nor_bad(project: Project) -> None:
    project.builder.reproducible = False
    assert project.run("build").code == 0
    assert project.record["images"][0]["reproducible"] is False
    outcome = project.run("build", "--check")
    assert outcome.code == 5
    assert "unknown: web: not checkable" in outcome.err
    assert "recorded as not reproducible" in outcome.err
    project.builder.reproducible = True
    project.commit()
    assert project.run("build").code == 0
    project.builder.version = BuilderVersion("buildah", "1")
    outcome = project.run("build", "--check")
    assert outcome.code == 5
    assert "it was built with buildah 0, and here is buildah 1" in outcome.err


def test_check_needs_a_record_of_this_commit(project: Project) -> None:
    refused(project, project.run("build", "--check"), "there is no build record", code=2)
    assert project.run("build").code == 0
    project.commit()
    outcome = project.run("build", "--check")
    assert outcome.code == 2
    assert "the images were built from commit" in outcome.err


def test_a_run_that_builds_nothing_takes_no_platform(project: Project, parts: dict[str, Path]) -> None:
    outcome = project.run("run", "--platform", "linux/s390x", *records(*parts.values()))
    assert outcome.code == 2
    assert "`--platform` says what to build, and with `--record` nothing is built" in outcome.err


def test_a_join_that_lacks_an_image_publishes_nothing(
    project: Project, registry: FakeRegistry, tmp_path: Path
) -> None:
    images = {
        name: {"image": f"{project.host}/acme/{name}:1.0", "build": {"context": "app"}}
        for name in ("web", "api")
    }
    project.configure(images=images)
    folder = job(project, tmp_path, "linux/s390x", "web")
    outcome = project.run("run", *records(folder))
    assert outcome.code == 2
    assert "no record has the image `api`" in outcome.err
    assert registry.writes == []
    project.write("docker-compose.yml", COMPOSE.format(host=project.host))
    assert project.run("run", "web", *records(folder)).code == 0
