"""Work that is mostly requests: to resolve, publish, sign and verify; and to start at all."""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.floor import ACCEPT
from bench.ground import UNSIGNED, Ground, ours, pinned, shell
from bench.measure import Command
from bench.row import Contest
from integration.project import Project

COSIGN = {
    "signing": {"cosign": {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSWORD"}}}
}
_GPG = {"signing": {"rhs": {"key": {"secret": "GPG_KEY"}}}}
_LAYERS = 5


def start_up(*arguments: str, codes: tuple[int, ...] = (0,)) -> Callable[[Ground], Contest]:
    def contest(ground: Ground) -> Contest:
        yield [
            Command("secure-build", ours(*arguments), ground.folder, ground.environment, codes=codes),
            Command("python", [sys.executable, "-c", "import argparse"], ground.folder, ground.environment),
        ]

    return contest


def resolve(count: int, distance: int) -> Callable[[Ground], Contest]:
    def contest(ground: Ground) -> Contest:
        project, names = using(ground, count, distance)
        lock = project.directory / "secure-build.lock"
        jobs = [_described(ground, *name.partition("/")[2].split(":")) for name in names]
        yield [
            project_command(project, ours("lock"), lambda: lock.unlink(missing_ok=True)),
            project_command(project, shell('for one; do crane digest "$one"; done', *names), name="crane"),
            ground.floor(distance, jobs),
        ]

    return contest


def publish(state: str, distance: int) -> Callable[[Ground], Contest]:
    """One image of some layers, when there is nothing at the registry yet, or some of it."""

    def contest(ground: Ground) -> Contest:
        # Files in images bear the time of the commit: without this, each commit would make new layers.
        os.environ["GIT_COMMITTER_DATE"] = "2026-01-01T00:00:00Z"
        ground.exits.callback(os.environ.pop, "GIT_COMMITTER_DATE")
        ground.start_engine()
        project = ground.project("publish", ground.host(distance), 1, more={"builder": "buildx", **UNSIGNED})
        copies = "".join(f"COPY page{number} /\n" for number in range(_LAYERS))
        context = {f"context0000/page{number}": f"{number}\n" * 100_000 for number in range(_LAYERS)}
        project.commit({"context0000/Dockerfile": f"FROM scratch\n{copies}", **context})
        ground.run(project, "build")
        (image,) = project.config["images"].values()
        there = target = str(image["image"])
        only = ground.folder / "only"
        source = f"oci:{project.workdir / 'layout'}:{there}"
        ground.must("skopeo", "copy", "--quiet", "--all", source, f"oci:{only}:1.0")
        if state != "fresh":
            ground.run(project, "publish")
        if state in ("tag", "repository"):
            target = f"{there[:-4]}:2.0" if state == "tag" else f"{there[:-4]}-more:1.0"
            project.config["images"]["second"] = {**image, "image": target}
            project.commit()
            ground.run(project, "build")
        skopeo = ["skopeo", "copy", "--quiet", "--all", "--dest-tls-verify=false", "--src-tls-verify=false"]
        here = {"fresh": f"oci:{only}", "again": f"oci:{only}"}.get(state, f"docker://{there}")
        crane = {
            "tag": ["crane", "tag", there, "2.0"],
            "repository": ["crane", "copy", there, target],
        }.get(state, ["crane", "push", str(only), target])
        with ground.kept(project.workdir, ground.data()) as back:
            yield [
                project_command(project, ours("publish"), back),
                project_command(project, [*skopeo, here, f"docker://{target}"], back, name="skopeo"),
                project_command(project, crane, back, name="crane"),
            ]

    return contest


def sign_cosign(count: int, distance: int) -> Callable[[Ground], Contest]:
    def contest(ground: Ground) -> Contest:
        project = _built(ground, count, distance, COSIGN)
        loop = 'for one; do cosign2 sign --key env://COSIGN_KEY --tlog-upload=false --yes "$one"; done'
        named = pinned(project)
        with ground.kept(project.workdir, ground.data()) as back:
            ground.run(project, "sign")
            ground.run(project, "publish")
            jobs = [_signed(ground, one) for one in named]
            yield [
                project_command(project, shell('"$1" sign && "$1" publish', *ours()), back),
                project_command(project, shell(loop, *named), back, name="cosign"),
                ground.floor(distance, jobs, back),
            ]

    return contest


def sign_gpg(count: int) -> Callable[[Ground], Contest]:
    def contest(ground: Ground) -> Contest:
        project = _built(ground, count, 0, _GPG)
        blobs = project.workdir / "layout" / "blobs" / "sha256"
        words = []
        for one in pinned(project):
            name, _, digest = one.partition("@sha256:")
            words += [str(blobs / digest), name]
        loop = (
            "while [ $# -gt 0 ]; do "
            'skopeo standalone-sign "$1" "$2" builder@example.com --output s; shift 2; done'
        )
        project.environment["GNUPGHOME"] = str(ground.gpg.folder)
        with ground.kept(project.workdir) as back:
            yield [
                project_command(project, ours("sign"), back),
                project_command(project, shell(loop, *words), back, name="skopeo"),
            ]

    return contest


def verify(count: int, distance: int) -> Callable[[Ground], Contest]:
    """All that `verify` asks for: manifest and config as the guest takes them, and the signature."""

    def contest(ground: Ground) -> Contest:
        project = _built(ground, count, distance, COSIGN)
        ground.run(project, "sign")
        ground.run(project, "publish")
        named = pinned(project)
        loop = (
            f"for one; do cosign3 verify --key {ground.cosign_key.with_suffix('.pub')} "
            '--insecure-ignore-tlog --new-bundle-format "$one"; done'
        )
        yield [
            project_command(project, ours("verify"), codes=(0, 5)),
            project_command(project, shell(loop, *named), name="cosign"),
            ground.floor(distance, [job for one in named for job in _asked(ground, one)]),
        ]

    return contest


def verify_many(count: int, few: int, distance: int) -> Callable[[Ground], Contest]:
    """Images of others, by digest; beside the same with few of them."""

    def contest(ground: Ground) -> Contest:
        commands = []
        for number, name in ((count, "secure-build"), (few, f"{few} images")):
            project, _ = using(ground, number, distance)
            locked(ground, project)
            commands.append(project_command(project, ours("verify"), name=name, codes=(0, 5)))
        yield commands

    return contest


def project_command(
    project: Project,
    argv: Sequence[str],
    reset: Callable[[], None] = lambda: None,
    *,
    name: str = "secure-build",
    codes: tuple[int, ...] = (0,),
) -> Command:
    return Command(name, argv, project.directory, project.environment, reset, codes=codes)


def using(ground: Ground, count: int, distance: int) -> tuple[Project, list[str]]:
    """A project that uses so many images of others, and their names."""
    repository = ground.fill(count)
    names = [f"{ground.host(distance)}/{repository}{number:04}:1.0" for number in range(count)]
    project = ground.project(f"using{count}", ground.host(distance), 0)
    project.config["images"] = {f"image{number:04}": {"use": name} for number, name in enumerate(names)}
    services = "".join(f"  s{number:04}:\n    image: {name}\n" for number, name in enumerate(names))
    project.commit({"docker-compose.yml": f"services:\n{services}"})
    return project, names


def locked(ground: Ground, project: Project) -> None:
    """Let all that the project uses be in its lock and in its build record."""
    ground.run(project, "lock")
    project.commit()
    ground.run(project, "build")


def _built(ground: Ground, count: int, distance: int, more: Mapping[str, Any]) -> Project:
    """A project whose images are built, and at the registry without signatures."""
    config = {"builder": "buildah", **UNSIGNED, **more}
    project = ground.project("built", ground.host(distance), count, more=config)
    for image in project.config["images"].values():
        image["sign"] = list(more["signing"])
    project.commit()
    ground.run(project, "build")
    ground.push(project)
    return project


def _get(path: str) -> dict[str, str]:
    return {"method": "GET", "path": path}


def _read(ground: Ground, path: str) -> bytes:
    asked = urllib.request.Request(f"http://{ground.registry.host}{path}", headers={"Accept": ACCEPT})
    with urllib.request.urlopen(asked) as answer:
        return bytes(answer.read())


def _attached(ground: Ground, image: str) -> tuple[str, str, list[dict[str, Any]]]:
    """Repository, path of the list of what is about an image, and the entries of that."""
    name, _, digest = image.partition("@")
    repository = f"/v2/{name.partition('/')[2]}"
    path = f"{repository}/manifests/{digest.replace(':', '-')}"
    return repository, path, json.loads(_read(ground, path))["manifests"]


def _signed(ground: Ground, image: str) -> list[dict[str, str]]:
    """What puts the signatures of an image there that are there now."""
    repository, path, listed = _attached(ground, image)
    job = []
    kept = ground.folder / "sent"
    kept.mkdir(exist_ok=True)

    def keep(digest: str, content: bytes) -> str:
        file = kept / digest
        file.write_bytes(content)
        return str(file)

    for one in listed:
        content = _read(ground, f"{repository}/manifests/{one['digest']}")
        document = json.loads(content)
        for blob in (document["config"], *document["layers"]):
            file = keep(blob["digest"], _read(ground, f"{repository}/blobs/{blob['digest']}"))
            job.append({"method": "UPLOAD", "path": f"{repository}@{blob['digest']}", "file": file})
        file = keep(one["digest"], content)
        there = f"{repository}/manifests/{one['digest']}"
        job.append({"method": "PUT", "path": there, "kind": one["mediaType"], "file": file})
    index = "application/vnd.oci.image.index.v1+json"
    file = keep(path.rpartition("/")[2], _read(ground, path))
    return [*job, {"method": "PUT", "path": path, "kind": index, "file": file}]


def _asked(ground: Ground, image: str) -> list[list[dict[str, str]]]:
    """The least that shows an image, its platform and its signatures, whose bytes are in the work folder."""
    _, path, _ = _attached(ground, image)
    name, _, digest = image.partition("/")[2].partition("@")
    return [_described(ground, name, digest), [_get(path)]]


def _described(ground: Ground, repository: str, name: str) -> list[dict[str, str]]:
    """The least that shows an image and its platform."""
    manifest = f"/v2/{repository}/manifests/{name}"
    config = json.loads(_read(ground, manifest))["config"]["digest"]
    return [_get(manifest), _get(f"/v2/{repository}/blobs/{config}")]
