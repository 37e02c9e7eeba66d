"""What a build takes in besides its folder: where it comes from is reported, and held to what is pinned."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from integration import addresses
from integration.project import command, git
from secure_build.builders import Built, Recipe, Surroundings, open_builder
from secure_build.errors import RefusedError
from secure_build.layout import Layout
from secure_build.model import BuilderName, Material, Platform
from secure_build.reference import Reference
from services.running import RunningRegistry

HERE = Platform("linux", "amd64")
RUN = 'RUN ["/bin/busybox", "sh", "-c", "{}"]\n'


class Workshop:
    """A builder, and a folder with a Dockerfile for it."""

    def __init__(self, folder: Path, builder: str) -> None:
        self.folder = folder
        self.layout = Layout.create(folder / "layout")
        self.lines: list[str] = []
        self._builder = builder
        (folder / "context").mkdir()

    def write(self, files: dict[str, str]) -> None:
        for name, content in files.items():
            (self.folder / name).write_text(content)

    def build(self, dockerfile: str, **changes: Any) -> Built:
        self.lines.clear()
        self.write({"Dockerfile": dockerfile})
        recipe = Recipe(self.folder / "context", self.folder / "Dockerfile", HERE, 1_700_000_000, **changes)
        around = Surroundings(self.folder, logins=())
        with (
            open_builder(BuilderName.parse(self._builder), around) as builder,
            self.layout.staging() as staging,
        ):
            return builder.build(recipe, staging, self.lines.append)

    def environment_of(self, built: Built) -> list[str]:
        """The variables that the image sets; those of a base tell which base it was."""
        config = json.loads(self.layout.config(self.layout.manifest(built.descriptor)))
        return list(config["config"]["Env"])

    def content(self, built: Built) -> bytes:
        """All layers of the image, unpacked by `tar`, as one text."""
        result = b""
        for layer in self.layout.manifest(built.descriptor).layers:
            blob = self.layout.directory / "blobs" / "sha256" / layer.digest.hexadecimal
            result += command("tar", "-xOf", blob)
        return result


@pytest.fixture
def workshop(
    builder: str,
    short_path: Path,
    variables: Callable[..., dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Workshop:
    for name, value in variables(builder).items():
        monkeypatch.setenv(name, value)
    folder = short_path / "workshop"
    folder.mkdir()
    return Workshop(folder, builder)


@pytest.fixture
def moved(registry: RunningRegistry, bases: Callable[..., str], request: pytest.FixtureRequest) -> Material:
    """An image that a tag named before it moved: the tag's name and the old digest."""
    name = f"{registry.host}/moved{os.getpid()}/{abs(hash(request.node.name))}/base:1"
    old = Reference.parse(bases(name, variable="WHICH=old"))
    bases(name, variable="WHICH=new")
    return Material("image", name, str(old.digest))


def test_images_that_a_build_used(workshop: Workshop, base: str, bases: Callable[..., str]) -> None:
    """By tag and by digest, as a base, in `COPY --from` and in a mount."""
    host = base.partition("/")[0]
    copied = bases(f"{host}/materials/copied:1", variable="COPIED=yes")
    mounted = bases(f"{host}/materials/mounted:1", variable="MOUNTED=yes")
    by_digest = mounted.replace(":1@", "@")
    built = workshop.build(
        f"FROM {base}\n"
        f"COPY --from={host}/materials/copied:1 /bin/busybox /copied\n"
        f'RUN --mount=type=bind,from={by_digest},target=/mounted ["/bin/busybox", "true"]\n'
    )
    found = {item.name: item.digest for item in built.materials or ()}
    assert set(found) == {base, f"{host}/materials/copied:1", by_digest}
    assert f"{host}/materials/copied:1@{found[f'{host}/materials/copied:1']}" == copied
    assert found[by_digest] == by_digest.partition("@")[2]
    # crane asks the registry by itself.
    assert found[base] == command("crane", "digest", "--insecure", base).decode().strip()


def test_file_of_an_address(workshop: Workshop, builder: str, base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("what the address gave\n")
    digest = f"sha256:{hashlib.sha256((tmp_path / 'file').read_bytes()).hexdigest()}"
    with addresses.files(tmp_path) as address:
        built = workshop.build(f"FROM {base}\nADD {address}/file /srv/file\n")
    assert b"what the address gave" in workshop.content(built)
    if builder == "buildah":
        # It does not say what it fetched, and a list that leaves something out would be worse than none.
        assert built.materials is None
    else:
        assert Material("http", f"{address}/file", digest) in (built.materials or ())


def test_address_in_an_argument(workshop: Workshop, builder: str, base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("what the address gave\n")
    with addresses.files(tmp_path) as address:
        built = workshop.build(
            f"FROM {base}\nARG FROM_WHERE\nADD ${{FROM_WHERE}} /srv/file\n",
            arguments={"FROM_WHERE": f"{address}/file"},
        )
    kinds = None if built.materials is None else [item.kind for item in built.materials]
    assert kinds == (None if builder == "buildah" else ["http", "image"])


def make_repository(folder: Path) -> tuple[str, str]:
    """A bare repository `web.git` with the branch `main`; returns its two commits, the newer last."""
    work = folder / "work"
    work.mkdir()
    git(work, "init", "--quiet", "--initial-branch=main")
    commits = []
    for text in ("first", "second"):
        (work / "sub").mkdir(exist_ok=True)
        (work / "sub" / "page").write_text(f"{text} page\n")
        git(work, "add", "--all")
        git(work, "commit", "--quiet", "-m", text)
        commits.append(git(work, "rev-parse", "HEAD").strip())
    git(folder, "clone", "--quiet", "--bare", str(work), str(folder / "web.git"))
    git(folder / "web.git", "config", "uploadpack.allowAnySHA1InWant", "true")
    return commits[0], commits[1]


@pytest.mark.parametrize("builder", ["buildx"], indirect=True)
@pytest.mark.parametrize("fragment", ["#main", "", "#main:sub", "#:sub"])
def test_git_repository(workshop: Workshop, base: str, tmp_path: Path, fragment: str) -> None:
    first, second = make_repository(tmp_path)
    with addresses.git_repositories(tmp_path) as address:
        # BuildKit does not report the subfolder.
        name = f"{address}/web.git{fragment.partition(':')[0]}".removesuffix("#")
        dockerfile = f"FROM {base}\nADD {address}/web.git{fragment} /srv/web\n"
        latest = workshop.build(dockerfile)
        locked = workshop.build(dockerfile, pins={name: f"sha1:{first}"})
    assert Material("git", name, f"sha1:{second}") in (latest.materials or ())
    assert b"second page" in workshop.content(latest)
    assert Material("git", name, f"sha1:{first}") in (locked.materials or ())
    assert b"first page" in workshop.content(locked)
    assert b"second page" not in workshop.content(locked)


def test_pinned_image_although_its_tag_has_moved(workshop: Workshop, moved: Material) -> None:
    dockerfile = (
        f"ARG BASE={moved.name}\n"
        f"FROM $BASE AS first\n{RUN.format('/bin/busybox env')}"
        f"FROM {moved.name}\nCOPY --from=first /bin/busybox /first\n"
        f"COPY --from={moved.name} /bin/busybox /copied\n"
    )
    control = workshop.build(dockerfile)
    assert "WHICH=new" in workshop.environment_of(control)
    assert [item.name for item in control.materials or ()] == [moved.name]
    built = workshop.build(dockerfile, pins={moved.name: moved.digest})
    assert "WHICH=old" in workshop.environment_of(built)
    assert any("WHICH=old" in line for line in workshop.lines)
    assert built.materials == (moved,)


def test_pin_that_does_not_apply(workshop: Workshop, base: str, moved: Material) -> None:
    """A lock holds what other images of the project use, too."""
    built = workshop.build(f"FROM {base}\n", pins={moved.name: moved.digest})
    assert [item.name for item in built.materials or ()] == [base]


def test_stage_that_is_called_like_a_pinned_image(workshop: Workshop, base: str) -> None:
    """The name of a stage goes before that of an image."""
    dockerfile = (
        f"FROM {base} AS redis\n{RUN.format('echo of the stage > /srv/page')}"
        f"FROM {base}\nCOPY --from=redis /srv/page /srv/copied\n"
    )
    built = workshop.build(dockerfile, pins={"docker.io/library/redis:latest": f"sha256:{'0' * 64}"})
    assert b"of the stage" in workshop.content(built)


def test_pinned_file_that_has_changed(workshop: Workshop, builder: str, base: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("as it is now\n")
    digest = f"sha256:{hashlib.sha256(b'as it was').hexdigest()}"
    with addresses.files(tmp_path) as address, pytest.raises(RefusedError) as refused:
        workshop.build(f"FROM {base}\nADD {address}/file /srv/file\n", pins={f"{address}/file": digest})
    assert refused.value.hint is not None
    assert ("lock" if builder == "buildx" else "buildx") in refused.value.hint


@pytest.mark.parametrize("builder", ["buildx"], indirect=True)
def test_pinned_file(workshop: Workshop, base: str, tmp_path: Path) -> None:
    content = b"as it was\n"
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    # Characters that a pattern or a replacement would give a meaning.
    (tmp_path / "file").write_bytes(content)
    with addresses.files(tmp_path) as address:
        name = f"{address}/file?all=*&price=$1"
        built = workshop.build(
            f"FROM {base}\nADD ['{name}', '/srv/file']\n".replace("'", '"').replace("$", "\\\\$"),
            pins={name: digest},
        )
    assert Material("http", name, digest) in (built.materials or ())
    assert content in workshop.content(built)


def test_contexts(workshop: Workshop, base: str, bases: Callable[..., str], tmp_path: Path) -> None:
    host = base.partition("/")[0]
    pinned = bases(f"{host}/contexts/tools:1", variable="TOOLS=yes").replace(":1@", "@")
    (tmp_path / "page").write_text("of another folder\n")
    built = workshop.build(
        "FROM tools\nCOPY --from=pages page /srv/page\n",
        contexts={"pages": tmp_path, "tools": f"docker-image://{pinned}"},
    )
    assert "TOOLS=yes" in workshop.environment_of(built)
    assert b"of another folder" in workshop.content(built)
    assert [item.name for item in built.materials or ()] == [pinned]


def test_target(workshop: Workshop, base: str) -> None:
    dockerfile = f"FROM {base} AS first\nENV STAGE=first\nFROM first\nENV STAGE=last\n"
    assert "STAGE=last" in workshop.environment_of(workshop.build(dockerfile))
    assert "STAGE=first" in workshop.environment_of(workshop.build(dockerfile, target="first"))


def test_base_without_the_platform(workshop: Workshop, base: str) -> None:
    with pytest.raises(RefusedError) as refused:
        workshop.build(f"FROM --platform=linux/arm64 {base}\n")
    assert refused.value.hint is not None
    assert "does not exist for that platform" in refused.value.hint


def test_secret_that_is_not_named(workshop: Workshop, base: str) -> None:
    with pytest.raises(RefusedError) as refused:
        workshop.build(
            f'FROM {base}\nRUN --mount=type=secret,id=token,required=true ["/bin/busybox", "true"]\n'
        )
    assert refused.value.hint is not None
    assert "`build: secrets:`" in refused.value.hint


def test_everything_differs_from_nothing(workshop: Workshop, base: str) -> None:
    """The control of what is compared: a layout's bytes are found by `tar`."""
    built = workshop.build(f"FROM {base}\n{RUN.format('echo canary > /srv/canary')}")
    assert b"canary" in workshop.content(built)
    assert built.reproducible
    assert not built.sparse


def test_locked_build_has_the_same_layers_and_config(workshop: Workshop, builder: str, base: str) -> None:
    digest = command("crane", "digest", "--insecure", base).decode().strip()
    dockerfile = f"FROM {base}\n{RUN.format('echo page > /srv/page')}COPY --from={base} /bin/busybox /two\n"
    free = workshop.build(dockerfile)
    locked = workshop.build(dockerfile, pins={base: digest})
    assert free.materials == locked.materials
    images = [workshop.layout.manifest(built.descriptor) for built in (free, locked)]
    assert images[0].blobs == images[1].blobs
    # buildah notes the base in the manifest as it was pulled, and with a lock that is by digest.
    assert (free.descriptor.digest == locked.descriptor.digest) is (builder == "buildx")
