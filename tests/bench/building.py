"""Work with a builder: whole runs from the commit to the contract, against what people script for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

from bench.ground import UNSIGNED, Ground, ours, shell
from bench.registry_work import COSIGN, project_command
from bench.row import Contest
from integration.project import Project

_SCRIPT = """
docker buildx bake --push --metadata-file built.json
jq -r '.[] | select(."image.name") | "\\(."image.name") \\(."containerimage.digest")"' built.json > images
cp docker-compose.yml pinned.yml
while read -r name digest; do
  cosign2 sign --key env://COSIGN_KEY --tlog-upload=false --yes "${name%:*}@$digest" < /dev/null
  sed -i "s|image: $name\\$|image: ${name%:*}@$digest|" pinned.yml
done < images
archive=$(tar -cz pinned.yml | base64 -w0)
printf 'workload:\\n  type: workload\\n  compose:\\n    archive: %s\\n' "$archive" > workload.yaml
"""
_RIVAL = "bake + cosign + shell"


def cold(count: int, size: int) -> Callable[[Ground], Contest]:
    """Nothing is built, cached or published."""

    def contest(ground: Ground) -> Contest:
        project = _project(ground, count, size)

        def reset() -> None:
            _forget(ground, project)
            ground.must("docker", "system", "prune", "--all", "--force")
            ground.must("docker", "buildx", "prune", "--all", "--force")

        yield [
            project_command(project, ours("run"), reset, codes=(0, 5)),
            project_command(project, shell(_SCRIPT), reset, name=_RIVAL),
        ]

    return contest


def warm(count: int, size: int) -> Callable[[Ground], Contest]:
    """The builder has all in its cache, and nothing else is there."""

    def contest(ground: Ground) -> Contest:
        project = _project(ground, count, size)
        commands = [
            project_command(project, ours("run"), lambda: _forget(ground, project), codes=(0, 5)),
            project_command(project, shell(_SCRIPT), lambda: _forget(ground, project), name=_RIVAL),
        ]
        ground.run(project, "build")
        ground.must("bash", "-c", 'cd "$0" && docker buildx bake', str(project.directory))
        yield commands

    return contest


def unchanged(count: int, distance: int) -> Callable[[Ground], Contest]:
    def contest(ground: Ground) -> Contest:
        project = ground.project("unchanged", ground.host(distance), count, more={"builder": "buildah"})
        ground.run(project, "run")
        yield [project_command(project, ours("run"), codes=(0, 5))]

    return contest


def changed(base: int, size: int) -> Callable[[Ground], Contest]:
    """A layer of `size` bytes is new, on an image of `base` bytes that everybody has."""

    def contest(ground: Ground) -> Contest:
        big = ground.project(
            "big", ground.registry.host, 1, size=base, more={"builder": "buildah", **UNSIGNED}
        )
        ground.run(big, "build")
        ground.push(big)
        (image,) = (str(image["image"]) for image in big.config["images"].values())
        ground.start_engine()
        project = ground.project(
            "changed", ground.registry.host, 1, size=size, more={"builder": "buildx", **UNSIGNED}
        )
        context = project.directory / "context0000"
        project.commit({"context0000/Dockerfile": f"FROM {image}\nCOPY page /more\n"})
        (name,) = (str(image["image"]) for image in project.config["images"].values())
        build = ["docker", "buildx", "build", "--push", "--quiet", "--platform=linux/s390x", f"--tag={name}"]

        def change() -> None:
            (context / "page").write_bytes(os.urandom(size))
            project.commit()

        ground.run(project, "run")
        ground.must(*build, str(context))
        yield [
            project_command(project, ours("run"), change, codes=(0, 5)),
            project_command(project, [*build, str(context)], change, name="docker buildx"),
        ]

    return contest


def _project(ground: Ground, count: int, size: int) -> Project:
    """A project with what `docker buildx bake` needs too."""
    ground.start_engine()
    more = {"builder": "buildx", **UNSIGNED, **COSIGN}
    project = ground.project("images", ground.registry.host, count, size=size, more=more)
    for image in project.config["images"].values():
        image["sign"] = ["cosign"]
    targets = {
        name: {
            "context": image["build"]["context"],
            "tags": [image["image"]],
            "platforms": ["linux/s390x"],
            "attest": ["type=provenance,disabled=true"],
        }
        for name, image in project.config["images"].items()
    }
    bake = {"group": {"default": {"targets": list(targets)}}, "target": targets}
    ignored = "built.json\nimages\npinned.yml\nworkload.yaml\n"
    project.commit({"docker-bake.json": json.dumps(bake), ".gitignore": ignored})
    return project


def _forget(ground: Ground, project: Project) -> None:
    """What was built and published."""
    shutil.rmtree(project.workdir, ignore_errors=True)
    shutil.rmtree(ground.data(), ignore_errors=True)
