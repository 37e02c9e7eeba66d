"""Builders without a builder: command lines, policies, accounts of inputs, logins, saved images."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from secure_build import builders
from secure_build.builders import Recipe, Surroundings, buildah, buildx, engine, policy
from secure_build.builders.logins import docker_config
from secure_build.errors import RefusedError, ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.model import BuilderName, BuilderVersion, Credential, Material, Platform
from secure_build.reference import Digest, Reference, Repository
from secure_build.secret import Secret

AMD64, S390X = Platform("linux", "amd64"), Platform("linux", "s390x")
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
COMMIT = "sha1:" + "c" * 40


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "Dockerfile").write_text("FROM docker.io/library/redis:7\n")
    return Recipe(tmp_path, tmp_path / "Dockerfile", S390X, 1_700_000_000)


# buildx: the command line


def buildx_arguments(recipe: Recipe) -> list[str]:
    return buildx.arguments(recipe, Path("/metadata.json"), output="type=oci", instance="far")


def test_buildx_builds_without_a_cache_unless_it_is_asked_for(recipe: Recipe) -> None:
    plain = buildx_arguments(recipe)
    assert {"--no-cache", "--pull", "--provenance=false", "--sbom=false", "--builder=far"} <= set(plain)
    cached = buildx_arguments(replace(recipe, cache_from=(Reference.parse("example.com/cache:1"),)))
    assert "--no-cache" not in cached
    assert "--cache-from=type=registry,ref=example.com/cache:1" in cached
    written = buildx_arguments(replace(recipe, cache_to=Reference.parse("example.com/cache:1")))
    assert any(it.startswith("--cache-to=type=registry,ref=example.com/cache:1,mode=max") for it in written)


def test_secrets_are_named_by_path_only(recipe: Recipe, tmp_path: Path) -> None:
    with_secret = replace(recipe, secrets={"npm": tmp_path / "secret"})
    for arguments in (buildx_arguments(with_secret), buildah.arguments(with_secret, Path("/id"))):
        assert f"--secret=id=npm,src={tmp_path / 'secret'}" in arguments


def test_the_time_of_the_commit_goes_before_an_argument_of_that_name(recipe: Recipe) -> None:
    arguments = buildx_arguments(replace(recipe, arguments={"SOURCE_DATE_EPOCH": "0"}))
    assert "--build-arg=SOURCE_DATE_EPOCH=1700000000" in arguments
    assert "--build-arg=SOURCE_DATE_EPOCH=0" not in arguments


# buildx: what it says


def metadata(*entries: dict[str, Any], **other: Any) -> bytes:
    return json.dumps({"buildx.build.provenance": {"materials": list(entries)}, **other}).encode()


def entry(uri: str, digest: str = DIGEST) -> dict[str, Any]:
    kind, _, value = digest.partition(":")
    return {"uri": uri, "digest": {kind: value}}


# As BuildKit's documentation shows a build with `# syntax=docker/dockerfile:1`.
FRONTEND = "pkg:docker/docker/dockerfile@1"
BASE = "pkg:docker/golang@1.19.4-alpine?platform=linux%2Farm64"


def test_frontend_and_base_are_both_inputs() -> None:
    assert buildx.materials(metadata(entry(FRONTEND), entry(BASE, OTHER))) == (
        Material("image", "docker.io/docker/dockerfile:1", DIGEST),
        Material("image", "docker.io/library/golang:1.19.4-alpine", OTHER),
    )


def test_provenance_of_slsa_1_is_read_too() -> None:
    document = {"buildDefinition": {"resolvedDependencies": [entry(BASE)]}, "runDetails": {}}
    found = buildx.materials(json.dumps({"buildx.build.provenance": document}).encode())
    assert found == (Material("image", "docker.io/library/golang:1.19.4-alpine", DIGEST),)


@pytest.mark.parametrize(
    ("uri", "digest", "expected"),
    [
        ("https://example.com/file.tgz", DIGEST, ("http", "https://example.com/file.tgz")),
        ("https://example.com/web.git#v1", COMMIT, ("git", "https://example.com/web.git#v1")),
        ("git://example.com/web.git", COMMIT, ("git", "git://example.com/web.git")),
        ("git@example.com:web.git#main", COMMIT, ("git", "git@example.com:web.git#main")),
        (
            "pkg:docker/127.0.0.1%3A5000/web@1?platform=linux%2Fs390x",
            DIGEST,
            ("image", "127.0.0.1:5000/web:1"),
        ),
        (
            f"pkg:docker/example.com/web@1?digest={DIGEST}",
            DIGEST,
            ("image", f"example.com/web@{DIGEST}"),
        ),
        (f"pkg:docker/redis?digest={DIGEST}", DIGEST, ("image", f"docker.io/library/redis@{DIGEST}")),
    ],
)
def test_kinds_of_inputs(uri: str, digest: str, expected: tuple[str, str]) -> None:
    found = buildx.materials(metadata(entry(uri, digest)))
    assert found == (Material(*expected, digest),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unknown",
    [
        {"uri": "pkg:docker/redis@7"},
        {"uri": "pkg:docker/redis@7", "digest": {"sha512": "d" * 128}},
        entry("pkg:oci/local@1"),
        entry("pkg:docker/redis@7?ref_type=blob"),
    ],
)
def test_a_list_with_something_unknown_is_no_list(unknown: dict[str, Any]) -> None:
    assert buildx.materials(metadata(entry(BASE), unknown)) is None


def test_without_provenance_nothing_is_known() -> None:
    assert buildx.materials(b"{}") is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b'{"buildx.build.provenance": 1}',
        metadata({"digest": {}}),
        metadata(entry(BASE, "sha256:x")),
    ],
)
def test_58_metadata_that_cannot_be_read(content: bytes) -> None:
    with pytest.raises(ServiceError, match="metadata file"):
        buildx.materials(content)


@pytest.mark.parametrize("content", [b"{}", b"[]", b'{"containerimage.descriptor": {"digest": "x"}}'])
def test_58_metadata_that_names_no_manifest(content: bytes) -> None:
    with pytest.raises(ServiceError, match="names no manifest"):
        buildx.described(content)


def test_what_was_pinned_has_the_name_of_its_pin() -> None:
    pins = {
        "example.com/base:1": DIGEST,
        "https://example.com/web.git#main": COMMIT,
        "https://example.com/file": OTHER,
    }
    found = buildx.materials(
        metadata(
            entry(f"pkg:docker/example.com/base@1?digest={DIGEST}"),
            entry(f"https://example.com/web.git#{'c' * 40}", COMMIT),
            entry("https://example.com/file", OTHER),
        ),
        pins,
    )
    assert {item.name: item.digest for item in found or ()} == pins


# Pins


def rules(**pins: str) -> list[tuple[str, dict[str, Any]]]:
    document = json.loads(policy.source_policy(pins))
    assert {rule["action"] for rule in document["rules"]} <= {"CONVERT"}
    return [(rule["selector"]["identifier"], rule["updates"]) for rule in document["rules"]]


def test_policy_for_an_image() -> None:
    (rule,) = rules(**{"docker.io/library/redis:7": DIGEST})
    assert rule == (
        "docker-image://docker.io/library/redis:7",
        {"identifier": f"docker-image://docker.io/library/redis:7@{DIGEST}"},
    )


def test_policy_for_a_file() -> None:
    (rule,) = rules(**{r"https://example.com/a*b?c=$1\d": DIGEST})
    assert rule == (
        r"https://example.com/a\*b?c=$1\\d",
        {"identifier": r"https://example.com/a*b?c=$$1\d", "attrs": {"http.checksum": DIGEST}},
    )


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("https://example.com/acme/web.git#v1", "git://example.com/acme/web.git#v1"),
        ("ssh://git@example.com/acme/web.git#v1", "git://example.com/acme/web.git#v1"),
        ("git@example.com:acme/web.git#v1", "git://example.com/acme/web.git#v1"),
        ("https://user@example.com:8443/web.git", "git://example.com:8443/web.git"),
    ],
)
def test_policy_for_a_repository(name: str, identifier: str) -> None:
    """BuildKit calls a repository the same whatever protocol reaches it; the subfolder stays."""
    whole, folder = rules(**{name: COMMIT})
    locked = f"{identifier.partition('#')[0]}#{'c' * 40}"
    separator = "" if "#" in identifier else "#"
    assert whole == (identifier, {"identifier": locked})
    assert folder == (f"{identifier}{separator}:*", {"identifier": f"{locked}:${{1}}"})


def test_input_that_is_not_what_it_is_locked_to() -> None:
    used = Material("image", "example.com/base:1", DIGEST)
    policy.check_pins({"example.com/base:1": DIGEST, "example.com/other:1": OTHER}, [used])
    with pytest.raises(RefusedError, match="it is locked to sha256:b"):
        policy.check_pins({"example.com/base:1": OTHER}, [used])


@pytest.mark.parametrize(
    ("image", "some"),
    [
        (
            "redis",
            {"redis", "redis:latest", "library/redis", "docker.io/redis:latest"},
        ),
        ("redis:7", {"redis:7", "docker.io/library/redis:7", "index.docker.io/redis:7"}),
        ("acme/web:1", {"acme/web:1", "docker.io/acme/web:1"}),
        ("example.com/web:1", {"example.com/web:1"}),
    ],
)
def test_spellings_are_of_that_image_and_no_other(image: str, some: set[str]) -> None:
    reference = Reference.parse(image).tagged()
    spelled = policy.spellings(reference)
    assert some <= set(spelled)
    assert {Reference.parse(name).tagged() for name in spelled} == {reference}
    assert len(set(spelled)) == len(spelled)


# buildah


def contexts(recipe: Recipe, dockerfile: str) -> set[str]:
    recipe.dockerfile.write_text(dockerfile)
    pinned = replace(recipe, pins={"docker.io/library/redis:7": DIGEST, "https://example.com/file": OTHER})
    prefix = "--build-context="
    given = [
        it.removeprefix(prefix) for it in buildah.arguments(pinned, Path("/id")) if it.startswith(prefix)
    ]
    assert all(it.endswith(f"=docker-image://docker.io/library/redis@{DIGEST}") for it in given)
    return {it.partition("=docker-image")[0] for it in given}


@pytest.mark.parametrize(
    ("dockerfile", "written"),
    [
        ("ARG TAG=7\nFROM redis:$TAG\n", "redis:$TAG"),
        ('ARG TAG="7"\nFROM --platform=$BUILDPLATFORM redis:${TAG} AS first\n', "redis:${TAG}"),
        ("ARG TAG\nFROM redis:${TAG:-7}\n", "redis:${TAG:-7}"),
        ("ARG TAG=7\nARG BASE=redis:${TAG}\nFROM $BASE\n", "$BASE"),
    ],
)
def test_buildah_is_given_what_the_dockerfile_writes(recipe: Recipe, dockerfile: str, written: str) -> None:
    assert {"redis:7", "docker.io/library/redis:7", written} <= contexts(recipe, dockerfile)


def test_buildah_argument_that_leads_elsewhere(recipe: Recipe) -> None:
    """An argument below the first `FROM` has no say in it."""
    assert "redis:$TAG" not in contexts(recipe, "ARG TAG=6\nFROM redis:$TAG\nARG TAG=7\n")


def test_buildah_stage_of_the_same_name_stays_a_stage(recipe: Recipe) -> None:
    recipe.dockerfile.write_text("FROM scratch AS redis\nFROM redis\n")
    pinned = replace(recipe, pins={"docker.io/library/redis:latest": DIGEST})
    given = buildah.arguments(pinned, Path("/id"))
    assert not any(it.startswith("--build-context=redis=") for it in given)
    assert any(it.startswith("--build-context=redis:latest=") for it in given)


@pytest.mark.parametrize(
    ("line", "fetched"),
    [
        ("STEP 2/3: ADD https://example.com/file /srv/", True),
        ("STEP 2/3: add --chown=1:1 http://example.com/file /srv/", True),
        ("STEP 2/3: ADD $FILE /srv/", True),
        ("STEP 2/3: ADD git@example.com:web.git /srv/", True),
        ("STEP 2/3: ADD file.tar /srv/", False),
        ("STEP 2/3: COPY https://example.com/file /srv/", False),
        ("ADD https://example.com/file /srv/", False),
    ],
)
def test_buildah_steps_that_fetch(line: str, fetched: bool) -> None:
    account = buildah._Account()
    account.read(line)
    assert account.fetched is fetched


def test_buildah_plain_http_for_this_machine_only(recipe: Recipe) -> None:
    everywhere = replace(
        recipe,
        contexts={"tools": f"docker-image://127.0.0.1:5001/tools@{DIGEST}"},
        cache_to=Reference.parse("localhost:5002/cache"),
        cache_from=(Reference.parse("example.com/cache"),),
    )
    assert buildah.loopback_registries(everywhere) == {"127.0.0.1:5001", "localhost:5002"}


# Logins


def login(registry: str, name: str) -> Credential:
    return Credential(registry, name, Secret(f"{name}-password"))


@pytest.fixture
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    (folder / "buildx").mkdir(parents=True)
    document = {
        "auths": {"own.example.com": {"auth": "b3duOm93bg=="}},
        "credHelpers": {"helped.example.com": "helper"},
        "credsStore": "desktop",
        "currentContext": "far",
    }
    (folder / "config.json").write_text(json.dumps(document))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    return folder


def test_only_the_logins_of_the_config(own_config: Path, tmp_path: Path) -> None:
    with docker_config([login("example.com", "pusher")], tmp_path, store="", only=True) as made:
        assert made is not None
        document = json.loads((made / "config.json").read_text())
        assert set(document["auths"]) == {"example.com"}
        assert document["credHelpers"] == {"example.com": ""}
        assert "credsStore" not in document
        # What is no login stays: the builder that was chosen, and where builders are listed.
        assert document["currentContext"] == "far"
        assert (made / "buildx").resolve() == own_config / "buildx"


def test_no_login_at_all_is_also_only_the_config(own_config: Path, tmp_path: Path) -> None:
    with docker_config([], tmp_path, store="", only=True) as made:
        assert made is not None
        assert json.loads((made / "config.json").read_text())["auths"] == {}
    with docker_config([], tmp_path, store="") as nothing:
        assert nothing is None


def test_login_for_one_repository(own_config: Path, tmp_path: Path) -> None:
    repositories = {Repository("example.com", "acme/cache"): login("example.com", "pusher")}
    with docker_config([login("example.com", "puller")], tmp_path, repositories=repositories) as made:
        assert made is not None
        auths = json.loads((made / "config.json").read_text())["auths"]
    assert set(auths) == {"own.example.com", "example.com", "example.com/acme/cache"}
    assert auths["example.com"] != auths["example.com/acme/cache"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"a.example.com": "puller-a", "own.example.com": None}),
        ({"push": Repository("a.example.com", "web")}, {"a.example.com": "pusher-a"}),
        (
            {"cache_to": Reference.parse("b.example.com/cache:1")},
            {"a.example.com": "puller-a", "b.example.com": "pusher-b"},
        ),
    ],
)
def test_push_logins_go_only_where_something_is_written(
    own_config: Path, tmp_path: Path, recipe: Recipe, changes: dict[str, Any], expected: dict[str, str | None]
) -> None:
    instance = buildx.Instance("far", "remote", BuilderVersion("buildx", "0"))
    asked: list[str] = []

    def push_login(repository: Repository) -> Credential:
        asked.append(repository.registry)
        return login(repository.registry, f"pusher-{repository.registry[0]}")

    around = Surroundings(tmp_path, [login("a.example.com", "puller-a")], push_login)
    with buildx.Buildx(instance, around)._logins(replace(recipe, **changes)) as environment:
        auths = json.loads(Path(environment["DOCKER_CONFIG"], "config.json").read_text())["auths"]

    found = {
        host: base64.b64decode(entry["auth"]).decode().partition(":")[0] for host, entry in auths.items()
    }
    assert found == {host: name or "own" for host, name in expected.items()}
    # Nobody needs a secret that nothing uses.
    assert asked == [host for host, name in expected.items() if name and name.startswith("pusher")]


# Several builders


class Named:
    def __init__(self, name: str) -> None:
        self.version = BuilderVersion("buildx", name)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    names: list[str] = []

    @contextlib.contextmanager
    def open_fake(name: BuilderName | None, _: Surroundings) -> Iterator[Named]:
        names.append(f"open {name}")
        yield Named(str(name))
        names.append(f"close {name}")

    monkeypatch.setattr(builders, "open_builder", open_fake)
    return names


def test_a_builder_for_two_platforms_is_opened_once(opened: list[str], tmp_path: Path) -> None:
    wanted = BuilderName.parse("buildx:far")
    with builders.open_builders(wanted, [AMD64, S390X], Surroundings(tmp_path, ())) as found:
        assert found[AMD64] is found[S390X]
    assert opened == ["open buildx:far", "close buildx:far"]


def test_a_builder_for_each_platform(opened: list[str], tmp_path: Path) -> None:
    wanted = {AMD64: BuilderName.parse("buildx"), S390X: BuilderName.parse("buildx:far")}
    with builders.open_builders(wanted, [S390X], Surroundings(tmp_path, ())) as found:
        assert found[S390X].version.version == "buildx:far"
    assert opened == ["open buildx:far", "close buildx:far"]


def test_joint_version() -> None:
    one, two = BuilderVersion("buildx", "1"), BuilderVersion("buildah", "2")
    assert builders.joint_version({AMD64: one, S390X: one}) == one
    joint = builders.joint_version({S390X: two, AMD64: one})
    assert joint == BuilderVersion("buildah+buildx", "linux/amd64: buildx 1; linux/s390x: buildah 2")


# engine: what it saves


def saved(
    tmp_path: Path, layers: dict[str, bytes], *, diff_ids: list[str] | None = None, **changes: Any
) -> Path:
    config = {
        "os": "linux",
        "architecture": "s390x",
        "rootfs": {
            "type": "layers",
            "diff_ids": diff_ids
            if diff_ids is not None
            else ["sha256:" + hashlib.sha256(content).hexdigest() for content in layers.values()],
        },
    }
    entry = {"Config": "config.json", "RepoTags": None, "Layers": list(layers), **changes}
    files = {
        "config.json": json.dumps(config).encode(),
        "manifest.json": json.dumps([entry]).encode(),
        **layers,
    }
    path = tmp_path / "image.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.create(tmp_path / "layout")


def test_saved_layers_are_compressed_repeatably(tmp_path: Path, layout: Layout) -> None:
    archive = saved(tmp_path, {"one/layer.tar": b"first", "two/layer.tar": b"second"})
    descriptor = engine.import_archive(archive, layout)
    assert descriptor == engine.import_archive(archive, Layout.create(tmp_path / "again"))
    image = layout.manifest(descriptor)
    assert [layer.media_type for layer in image.layers] == ["application/vnd.oci.image.layer.v1.tar+gzip"] * 2
    assert [gzip.decompress(layout.read(layer)) for layer in image.layers] == [b"first", b"second"]
    with tarfile.open(archive) as tar:
        file = tar.extractfile("config.json")
        assert file is not None
        assert layout.config(image) == file.read()


def test_layers_that_are_compressed_stay_as_they_are(tmp_path: Path, layout: Layout) -> None:
    packed = gzip.compress(b"first", mtime=7)
    diff_ids = [str(Digest.of(b"first"))]
    archive = saved(tmp_path, {"blobs/1": packed}, diff_ids=diff_ids)
    image = layout.manifest(engine.import_archive(archive, layout))
    assert layout.read(image.layers[0]) == packed


@pytest.mark.parametrize(
    "broken",
    [
        {"diff_ids": []},
        {"Layers": ["missing"]},
        {"Config": "missing"},
        {"Config": 7},
        {"Config": "../../etc/passwd"},
    ],
)
def test_58_saved_image_that_is_broken(tmp_path: Path, layout: Layout, broken: dict[str, Any]) -> None:
    with pytest.raises(ServiceError, match="cannot be read"):
        engine.import_archive(saved(tmp_path, {"layer.tar": b"first"}, **broken), layout)


@pytest.mark.parametrize("content", [b"first", gzip.compress(b"first")])
def test_saved_layer_of_another_image(tmp_path: Path, layout: Layout, content: bytes) -> None:
    archive = saved(tmp_path, {"layer.tar": content}, diff_ids=[DIGEST])
    with pytest.raises(RefusedError, match="not the one of the image"):
        engine.import_archive(archive, layout)


def test_58_compressed_layer_that_is_damaged(tmp_path: Path, layout: Layout) -> None:
    packed = gzip.compress(b"first" * 100)
    for content in (packed[:-9], packed[:20] + b"x" + packed[21:]):
        archive = saved(tmp_path, {"layer.tar": content}, diff_ids=[str(Digest.of(b"first" * 100))])
        with pytest.raises(ServiceError, match="cannot be read"):
            engine.import_archive(archive, layout)


def test_58_saved_image_with_a_link_to_itself(tmp_path: Path, layout: Layout) -> None:
    path = saved(tmp_path, {"layer.tar": b"first"}, Layers=["loop"])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("loop")
        link.type, link.linkname = tarfile.SYMTYPE, "loop"
        tar.addfile(link)
    with pytest.raises(ServiceError, match="cannot be read"):
        engine.import_archive(path, layout)


def test_engine_dockerfile_that_is_no_text(recipe: Recipe, layout: Layout) -> None:
    recipe.dockerfile.write_bytes(b"FROM scratch\n# \xe9\n")
    with pytest.raises(UsageError, match="the Dockerfile is not UTF-8 text"):
        engine.Engine(BuilderVersion("engine", "1"), Client()).build(recipe, layout, print)


@pytest.mark.parametrize("cut", [0, 100, 513, 3000])
def test_58_saved_image_that_is_cut(tmp_path: Path, layout: Layout, cut: int) -> None:
    path = saved(tmp_path, {"layer.tar": b"first" * 1000})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ServiceError, match="cannot be read"):
        engine.import_archive(path, layout)


@pytest.mark.parametrize(
    "asked",
    [
        {"secrets": {"id": Path("secret")}},
        {"contexts": {"other": Path("folder")}},
        {"cache_to": Reference.parse("example.com/cache:1")},
        {"pins": {"example.com/base:1": DIGEST}},
    ],
)
def test_engine_refuses_what_it_would_leave_out(
    recipe: Recipe, layout: Layout, asked: dict[str, Any]
) -> None:
    built = engine.Engine(BuilderVersion("engine", "1"), client=None)
    with pytest.raises(UsageError, match="the builder `engine` cannot do"):
        built.build(replace(recipe, **asked), layout, print)


class Client:
    """Stands for the SDK: answers a build with these events."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.events = events

    def build(self, **_: object) -> Iterator[dict[str, Any]]:
        return iter(self.events)


def test_engine_failure_in_the_stream_is_a_failure(recipe: Recipe, layout: Layout) -> None:
    """The SDK itself takes no notice of it."""
    word = Secret("hunter2-of-the-stream")
    word.reveal()
    events = [
        {"stream": "Step 1/2 : FROM base\n"},
        {"stream": f"it says {'hunter2-of-the-stream'}\n"},
        {"errorDetail": {"message": "pull access denied: unauthorized"}, "error": "pull access denied"},
    ]
    lines: list[str] = []
    built = engine.Engine(BuilderVersion("engine", "1"), Client(*events))
    with pytest.raises(RefusedError, match="unauthorized") as refused:
        built.build(recipe, layout, lines.append)
    assert "`pull:`" in str(refused.value.hint)
    assert "it says ***" in lines
    assert "hunter2" not in str(refused.value)


def test_engine_that_does_not_say_what_it_built(recipe: Recipe, layout: Layout) -> None:
    built = engine.Engine(BuilderVersion("engine", "1"), Client({"stream": "done\n"}))
    with pytest.raises(ServiceError, match="did not say which"):
        built.build(recipe, layout, print)
