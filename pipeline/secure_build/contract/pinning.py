"""The copy of a file in which every image is pinned, and the proof that nothing else changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.edit import Edits
from secure_build.contract.places import Place
from secure_build.errors import UsageError
from secure_build.reference import Digest, Pinned, Repository
from secure_build.strict_yaml import Document, Path


def pinned(
    documents: Sequence[Document],
    texts: Mapping[Place, str],
    *,
    meaning: Callable[[Any], Any] = lambda data: data,
) -> bytes:
    """The file with each of these texts at its place, and without the `build` beside it.

    Raises UsageError when that would change something else; `meaning` takes out of a document's
    data what nobody reads.
    """
    edits = Edits(documents[0])
    for place, written in texts.items():
        _pin(edits, strict_yaml.at(documents[place.document].root, place.path), place, written)
    changed = edits.apply().encode()
    name = documents[0].name
    try:
        results = [meaning(document.data) for document in strict_yaml.load_all(changed, name)]
    except UsageError:
        # An anchor inside `build` was used elsewhere.
        results = []
    if results != [meaning(_expected(documents, number, texts)) for number in range(len(documents))]:
        raise UsageError(
            f"{name} cannot be pinned without changing something else",
            hint="write out each image, and `build` beside it, instead of sharing them by anchor",
        )
    return changed


def placeholders(places: Sequence[Place]) -> dict[Place, str]:
    """Texts to try pinning with before any digest is known: equal for equal names, else different."""
    somewhere = Repository("registry.test", "image")
    return {
        place: str(Pinned(somewhere, Digest.of((place.name.written if place.name else place.what).encode())))
        for place in places
    }


def _pin(edits: Edits, body: Node, place: Place, written: str) -> None:
    """Set the image and take out `build`, wherever merge keys let them stand."""
    builds = list(strict_yaml.find_all(body, "build")) if place.builds else []
    if image := strict_yaml.find(body, place.key):
        assert isinstance(image.value, ScalarNode)
        edits.replace_value(image.key, image.value, _quoted(written, image.value.style))
    else:
        build = builds.pop(0)
        edits.replace_entry(build.key, build.value, f"{place.key}: {text.scalar(written)}")
    for build in builds:
        assert isinstance(build.mapping, MappingNode)
        edits.remove_entry(build.mapping, build.key, build.value)


def _quoted(written: str, style: str | None) -> str:
    """The text with the kind of quotes that its place had."""
    if style == "'":
        return "'" + written.replace("'", "''") + "'"
    if style == '"':
        return json.dumps(written, ensure_ascii=False)
    return text.scalar(written)


def _expected(documents: Sequence[Document], number: int, texts: Mapping[Place, str]) -> Any:
    here = {place: written for place, written in texts.items() if place.document == number}
    values: dict[Path, dict[str, str]] = {}
    without: set[Path] = set()
    for place, written in here.items():
        values.setdefault(place.path, {})[place.key] = written
        if place.builds:
            without.add((*place.path, "build"))

    def changed(data: Any, path: Path) -> Any:
        if isinstance(data, dict):
            kept = {
                key: changed(value, (*path, key))
                for key, value in data.items()
                if (*path, key) not in without
            }
            return kept | values.get(path, {})
        if isinstance(data, list):
            return [changed(value, (*path, index)) for index, value in enumerate(data)]
        return data

    return changed(documents[number].data, ())
