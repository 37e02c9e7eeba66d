"""What other programs read in a pinned file: the same as before, but for the images.

Compose files are read by docker compose, pods by kubectl: the parsers of the programs that people
know the files from. Neither needs an engine or a cluster for it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fakes import pins
from secure_build.contract import interpolation, text
from secure_build.contract.compose import ComposeFile
from secure_build.contract.play import PlayFile
from services import running
from services.needed import need

CORPUS = Path(__file__).parents[1] / "corpus"
COMPOSE = sorted((CORPUS / "compose").iterdir())
PLAY = sorted((CORPUS / "play").iterdir())
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def compose_config(path: Path, *options: str, variables: dict[str, str]) -> dict[str, Any]:
    """What docker compose makes of a file, every profile included."""
    command = [
        running.tool("docker-compose"),
        "--file",
        str(path),
        "--project-name",
        "test",
        "--profile",
        "*",
    ]
    output = subprocess.run(
        [*command, "config", "--format", "json", *options],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(path.parent), **variables},
    ).stdout
    # Blocks `x-…` are printed and mean nothing.
    return {key: value for key, value in json.loads(output).items() if not key.startswith("x-")}


@pytest.mark.parametrize("interpolate", [True, False], ids=["interpolated", "as written"])
@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
def test_hardening_20_docker_compose_reads_the_same_but_digests(
    path: Path, interpolate: bool, tmp_path: Path
) -> None:
    need("docker-compose")
    file = ComposeFile.parse(path.read_bytes(), path.name)
    variables = dict.fromkeys(interpolation.required(file.document.data), "/1")
    options = [] if interpolate else ["--no-interpolate"]
    results = []
    for content in (path.read_bytes(), file.pinned(pins.texts(file.places))):
        # Under the same name, since paths in the result are relative to the file.
        (tmp_path / "compose.yml").write_bytes(content)
        results.append(compose_config(tmp_path / "compose.yml", *options, variables=variables))
    before, after = results
    for name, service in before["services"].items():
        image = after["services"][name].pop("image")
        assert DIGEST.search(image)
        assert same_repository(service.pop("image", None), image)
        service.pop("build", None)
    assert after == before


def same_repository(before: str | None, after: str) -> bool:
    """Whether an image kept its repository; docker's short names are written out."""
    if before is None or "$" in before:
        return True
    name = re.sub(r"(:[^/:@]+)?(@.*)?$", "", before)
    return after.partition("@")[0].endswith(name)


def kubectl(content: bytes) -> list[dict[str, Any]]:
    """The objects that kubectl reads, as its types have them."""
    output = subprocess.run(
        [running.tool("kubectl"), "label", "--local", "--filename", "-", "checked=yes", "--output", "json"],
        check=True,
        capture_output=True,
        text=True,
        input=content.decode(),
    ).stdout
    decoder, position, found = json.JSONDecoder(), 0, []
    while position < len(output.rstrip()):
        value, end = decoder.raw_decode(output, position)
        position = end + len(output[end:]) - len(output[end:].lstrip())
        found.append(value)
    return found


def take_images(objects: list[dict[str, Any]]) -> list[str]:
    return [
        container.pop("image")
        for item in objects
        if item["kind"] == "Pod"
        for key in ("initContainers", "containers")
        for container in item["spec"].get(key, ())
    ]


@pytest.mark.parametrize("path", PLAY, ids=lambda path: path.stem)
def test_hardening_20_kubectl_reads_the_same_but_digests(path: Path) -> None:
    need("kubectl")
    file = PlayFile.parse(path.read_bytes(), path.name, templates=True)
    texts = pins.texts(file.places)
    before, after = kubectl(path.read_bytes()), kubectl(file.pinned(texts))
    as_objects = kubectl("---\n".join(text.dump(item) for item in file.objects(texts)).encode())
    images = take_images(after)
    assert images
    assert all(DIGEST.search(image) for image in images)
    assert take_images(as_objects) == images
    assert len(take_images(before)) == len(images)
    assert before == after == as_objects
