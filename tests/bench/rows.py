"""The rows: the same work by this tool, by the programs that people use for it, and at the least."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.ground import Ground, ours, pinned, shell
from bench.measure import Command
from integration.project import Project

# Connections that the floor keeps open, as many as this tool does.
_CONNECTIONS = 16
_FAR = 50
_UNSIGNED = {"attestations": {"provenance": False, "sbom": []}}


@dataclass(frozen=True, slots=True)
class Goal:
    """At most so many times what `against` takes."""

    against: str
    limit: float


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison; `contest` yields the commands, ours first, and cleans up when it is left."""

    name: str
    contest: Callable[[Ground], Iterator[Sequence[Command]]]
    goals: tuple[Goal, ...] = ()
    runs: int = 5


def _start_up(*arguments: str, codes: tuple[int, ...] = (0,)) -> Callable[[Ground], Iterator[list[Command]]]:
    def contest(ground: Ground) -> Iterator[list[Command]]:
        folder = ground.folder / f"empty-{'-'.join(arguments)}"
        folder.mkdir()
        bare = [sys.executable, "-c", "import argparse"]
        yield [
            Command("secure-build", ours(*arguments), folder, ground.environment, codes=codes),
            Command("python", bare, folder, ground.environment),
        ]

    return contest


def _resolve(count: int, distance: int) -> Callable[[Ground], Iterator[list[Command]]]:
    def contest(ground: Ground) -> Iterator[list[Command]]:
        near = ground.project(f"resolve-{count}-{distance}", ground.registry.host, count, used=True)
        _fill(ground, near, count)
        host = ground.host(distance)
        project = ground.project(f"resolve-{count}-{distance}-far", host, count, used=True)
        names = [f"{host}/{near.directory.name}/image{number:04}:1.0" for number in range(count)]
        _point(project, names)
        paths = [f"/v2/{name.partition('/')[2].rpartition(':')[0]}/manifests/1.0" for name in names]
        lock = project.directory / "secure-build.lock"
        yield [
            Command(
                "secure-build",
                ours("lock"),
                project.directory,
                project.environment,
                lambda: lock.unlink(missing_ok=True),
            ),
            Command(
                "crane",
                shell('for one; do crane digest "$one"; done', *names),
                project.directory,
                project.environment,
            ),
            Command(
                "floor",
                [sys.executable, "-m", "bench.floor", host, str(_CONNECTIONS), "GET"],
                Path(__file__).parents[1],
                project.environment,
                stdin="\n".join(paths).encode(),
            ),
        ]

    return contest


def _fill(ground: Ground, project: Project, count: int) -> None:
    """Put a small image under each name that the project uses."""
    name = project.directory.name
    base = ground.project(f"{name}-base", ground.registry.host, 1)
    base.config |= {"builder": "buildah"}
    base.commit()
    base.run("build")
    (source,) = (image["image"] for image in base.config["images"].values())
    targets = [f"{ground.registry.host}/{name}/image{number:04}:1.0" for number in range(count)]
    ground.push(base, base.workdir / "layout", [(source, target) for target in targets])


def _point(project: Project, names: Sequence[str]) -> None:
    """Let the project use these images."""
    project.config["images"] = {f"image{number:04}": {"use": name} for number, name in enumerate(names)}
    services = "".join(f"  s{number:04}:\n    image: {name}\n" for number, name in enumerate(names))
    project.commit({"docker-compose.yml": f"services:\n{services}"})


def _built(ground: Ground, name: str, count: int, distance: int, more: dict[str, object]) -> Project:
    """A project whose images are built, and at the registry without signatures."""
    config = {"builder": "buildah", "signing": {}, **_UNSIGNED, **more}
    project = ground.project(name, ground.host(distance), count, more=config)
    for image in project.config["images"].values():
        image["sign"] = list(more["signing"])  # type: ignore[call-overload]
    project.commit()
    project.run("build", "--jobs", "4")
    layout = project.workdir / "layout"
    near = [
        (image["image"], image["image"].replace(ground.host(distance), ground.registry.host))
        for image in project.config["images"].values()
    ]
    ground.push(project, layout, near)
    return project


_COSIGN = {
    "signing": {"cosign": {"key": {"secret": "COSIGN_KEY"}, "passphrase": {"secret": "COSIGN_PASSWORD"}}}
}


def _sign_cosign(count: int) -> Callable[[Ground], Iterator[list[Command]]]:
    def contest(ground: Ground) -> Iterator[list[Command]]:
        project = _built(ground, f"sign-cosign-{count}", count, _FAR, _COSIGN)
        loop = 'for one; do cosign2 sign --key env://COSIGN_KEY --tlog-upload=false --yes "$one"; done'
        with ground.kept(project.workdir, ground.data()) as back:
            yield [
                Command(
                    "secure-build",
                    shell('"$1" sign && "$1" publish', ours()[0]),
                    project.directory,
                    project.environment,
                    back,
                ),
                Command(
                    "cosign", shell(loop, *pinned(project)), project.directory, project.environment, back
                ),
            ]

    return contest


def _verify(count: int) -> Callable[[Ground], Iterator[list[Command]]]:
    def contest(ground: Ground) -> Iterator[list[Command]]:
        project = _built(ground, f"verify-{count}", count, _FAR, _COSIGN)
        project.run("sign")
        project.run("publish")
        named = pinned(project)
        host = ground.host(_FAR)
        # The guest's manifest, and what is signed about it: nothing can be told from less.
        paths = [f"/v2/{one.partition('/')[2].replace('@', '/manifests/')}" for one in named]
        tags = [path.replace("manifests/sha256:", "manifests/sha256-") for path in paths]
        loop = (
            "for one; do cosign3 verify --key ../cosign/cosign.pub --insecure-ignore-tlog "
            '--new-bundle-format "$one"; done'
        )
        yield [
            Command("secure-build", ours("verify"), project.directory, project.environment, codes=(0, 5)),
            Command("cosign", shell(loop, *named), project.directory, project.environment),
            Command(
                "floor",
                [sys.executable, "-m", "bench.floor", host, str(_CONNECTIONS), "GET"],
                Path(__file__).parents[1],
                project.environment,
                stdin="\n".join([*paths, *tags]).encode(),
            ),
        ]

    return contest


def _sign_gpg(count: int) -> Callable[[Ground], Iterator[list[Command]]]:
    def contest(ground: Ground) -> Iterator[list[Command]]:
        signing = {"signing": {"rhs": {"key": {"secret": "GPG_KEY"}}}}
        project = _built(ground, f"sign-gpg-{count}", count, 0, signing)
        layout = project.workdir / "layout"
        manifests = layout / "blobs" / "sha256"
        words = []
        for one in pinned(project):
            name, _, digest = one.partition("@sha256:")
            words += [str(manifests / digest), name]
        loop = (
            "while [ $# -gt 0 ]; do "
            'skopeo standalone-sign "$1" "$2" builder@example.com --output s; shift 2; done'
        )
        environment = {**project.environment, "GNUPGHOME": str(ground.gpg.folder)}
        with ground.kept(project.workdir) as back:
            yield [
                Command("secure-build", ours("sign"), project.directory, project.environment, back),
                Command("skopeo", shell(loop, *words), project.directory, environment, back),
            ]

    return contest


def _unchanged(count: int) -> Callable[[Ground], Iterator[list[Command]]]:
    def contest(ground: Ground) -> Iterator[list[Command]]:
        project = ground.project(f"unchanged-{count}", ground.host(_FAR), count, more={"builder": "buildah"})
        project.run("run")
        yield [
            Command("secure-build", ours("run"), project.directory, project.environment, codes=(0, 5)),
            Command(
                "three round trips", ["sleep", str(3 * _FAR / 1000)], project.directory, project.environment
            ),
        ]

    return contest


ROWS = (
    Row("`--help`", _start_up("--help"), (Goal("python", 1.5),), 15),
    Row("`--version`", _start_up("--version"), (), 15),
    Row("`verify` of an empty project", _start_up("verify", codes=(2,)), (), 9),
    *(Row(f"resolve {count} images, {_FAR} ms", _resolve(count, _FAR)) for count in (1, 10)),
    *(Row(f"resolve 10 images, {far} ms", _resolve(10, far)) for far in (0, 10, 150)),
    Row(
        f"resolve 100 images, {_FAR} ms", _resolve(100, _FAR), (Goal("crane", 1 / 20), Goal("floor", 1.3)), 3
    ),
    *(Row(f"sign and publish {count}, cosign, {_FAR} ms", _sign_cosign(count), runs=3) for count in (1, 10)),
    Row(f"sign and publish 50, cosign, {_FAR} ms", _sign_cosign(50), (Goal("cosign", 1 / 10),), 3),
    Row("sign 50, OpenPGP", _sign_gpg(50), (Goal("skopeo", 1 / 4),), 3),
    *(Row(f"verify {count} images, {_FAR} ms", _verify(count), runs=3) for count in (1, 10)),
    Row(f"verify 100 images, {_FAR} ms", _verify(100), (Goal("cosign", 1 / 15), Goal("floor", 1.5)), 3),
    Row(f"unchanged `run` of 10 images, {_FAR} ms", _unchanged(10), (), 5),
)
