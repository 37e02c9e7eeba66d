"""Files in the shapes that public projects use: pinned, they mean what they meant but for the images.

Read before and after by plain PyYAML, with nothing of ours, and compared line by line.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fakes import pins
from secure_build.contract import compose_advice, play_advice, text
from secure_build.contract.compose import ComposeFile
from secure_build.contract.places import Place
from secure_build.contract.play import PlayFile

CORPUS = Path(__file__).parents[1] / "corpus"
COMPOSE = sorted((CORPUS / "compose").iterdir())
PLAY = sorted((CORPUS / "play").iterdir())
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")


def test_the_corpus_is_whole() -> None:
    assert len(COMPOSE) + len(PLAY) >= 60


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.stem)
def test_hardening_20_a_pinned_compose_file_means_what_it_meant(path: Path) -> None:
    file = ComposeFile.parse(path.read_bytes(), path.name)
    pinned = file.pinned(pins.texts(file.places))
    before, after = yaml.safe_load(path.read_bytes()), yaml.safe_load(pinned)
    for name, body in after["services"].items():
        assert DIGEST.search(body.pop("image")), name
        assert "build" not in body
    for body in before["services"].values():
        body.pop("image", None)
        body.pop("build", None)
    assert without_extensions(before) == without_extensions(after)
    check_lines(path.read_bytes(), pinned, file.places)
    again = ComposeFile.parse(pinned, path.name)
    assert again.pinned(pins.texts(again.places)) == pinned
    assert all(finding.where and finding.level == "warn" for finding in compose_advice.findings(file))


@pytest.mark.parametrize("path", PLAY, ids=lambda path: path.stem)
@pytest.mark.parametrize("templates", [False, True])
def test_hardening_20_pinned_pods_mean_what_they_meant(path: Path, templates: bool) -> None:
    file = PlayFile.parse(path.read_bytes(), path.name, templates=templates)
    pinned = file.pinned(pins.texts(file.places))
    before, after = list(yaml.safe_load_all(path.read_bytes())), list(yaml.safe_load_all(pinned))
    assert all(DIGEST.search(image) for image in take_images(after))
    assert len(take_images(before)) == len(file.places)
    assert before == after
    check_lines(path.read_bytes(), pinned, file.places)
    again = PlayFile.parse(pinned, path.name, templates=templates)
    assert again.pinned(pins.texts(again.places)) == pinned
    assert all(finding.where and finding.level == "warn" for finding in play_advice.findings([file], ()))


@pytest.mark.parametrize("path", PLAY, ids=lambda path: path.stem)
def test_pods_as_objects_mean_what_the_file_means(path: Path) -> None:
    file = PlayFile.parse(path.read_bytes(), path.name, templates=True)
    texts = pins.texts(file.places)
    dumped = text.dump({"resources": file.objects(texts)})
    of_file = [data for data in yaml.safe_load_all(file.pinned(texts)) if data is not None]
    assert yaml.safe_load(dumped) == {"resources": of_file}
    assert "&" not in re.sub(r'"[^"]*"', "", dumped)


def without_extensions(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if not key.startswith("x-")}


def take_images(documents: list[Any]) -> list[str]:
    """The images of all containers, taken out of the documents."""
    specs = [document["spec"] for document in documents if document and document["kind"] == "Pod"]
    containers = [
        entry for spec in specs for key in ("initContainers", "containers") for entry in spec.get(key, ())
    ]
    # What an anchor shares is one object.
    unique = {id(entry): entry for entry in containers}
    images = [entry["image"] for entry in containers]
    for entry in unique.values():
        del entry["image"]
    return images


def check_lines(before: bytes, after: bytes, places: Iterable[Place]) -> None:
    """Lines came that have a digest, and went that named an image or were part of a `build`."""
    written = [place.name.written for place in places if place.name]
    building: int | None = None
    # `ndiff` would be slow; the files differ in few lines.
    for line in difflib.unified_diff(lines(before), lines(after), n=10_000):
        sign, text = line[0], line[1:]
        if line.startswith(("---", "+++", "@@")):
            continue
        indent = len(text) - len(text.lstrip(" "))
        if sign == "+":
            assert "@sha256:" in text
            continue
        if building is not None and text.strip() and indent <= building:
            building = None
        if re.match(r"""\s*["']?build["']?\s*:""", text):
            building = indent
        if sign == "-":
            assert building is not None or "*image" in text or any(name in text for name in written), text


def lines(content: bytes) -> list[str]:
    """With their ends, but that the last line has one."""
    return (content.decode().rstrip("\r\n") + "\n").splitlines(keepends=True)
