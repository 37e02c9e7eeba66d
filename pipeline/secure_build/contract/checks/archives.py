"""Checks of what is in `compose.archive` and `play.archive`, which no schema sees.

Rules: IBM's page "About the contract", parts on compose and play. Which image may run is not decided
here; only that `build` builds nothing in the guest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from pydantic import TypeAdapter, ValidationError

from secure_build import strict_yaml
from secure_build.contract import archive, schema
from secure_build.contract.advice import mapping
from secure_build.contract.archive import Unpacked
from secure_build.contract.play import ENDINGS
from secure_build.contract.reading import guest_data
from secure_build.contract.schema.pods import Descriptor
from secure_build.errors import UsageError
from secure_build.mistakes import mistakes
from secure_build.model import Basis, Level

_TOP = PurePosixPath()
_PACK = "pack what is in the folder: `tar -czf - -C FOLDER docker-compose.yml | base64 -w0`"
# What the runtime prints of a file that it cannot unpack or use.
_CODES = {"compose": ("HPL06006E", "HPL06007E"), "play": ("HPL15002E", "HPL15002E")}


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with an archive; `code` is what the runtime would print."""

    check: str
    why: str
    code: str | None = None
    hint: str | None = None
    level: Level = "fail"
    basis: Basis = "documented"


def problems(text: str, kind: str) -> Iterator[Problem]:
    """All problems of an archive, from its base64; `kind` is `compose` or `play`."""
    unpacked = archive.unpack(text)
    damaged, unusable = _CODES[kind]
    codes = {"damaged": damaged, "empty": unusable, "special": unusable}
    for flaw in unpacked.flaws:
        if flaw.kind == "large":
            why = f"{flaw.what}, so it was not looked at"
            yield Problem("archive", why, level="unknown", basis="inferred")
        elif flaw.kind == "dot":
            why = f"{flaw.what}, and whether the runtime takes that is not known"
            yield Problem("archive", why, hint=_PACK, level="warn", basis="inferred")
        else:
            yield Problem("archive", flaw.what, codes.get(flaw.kind))
    if not any(flaw.kind in ("damaged", "empty", "large") for flaw in unpacked.flaws):
        yield from _compose(unpacked) if kind == "compose" else _play(unpacked)


def _compose(unpacked: Unpacked) -> Iterator[Problem]:
    there = [name for name in archive.COMPOSE_NAMES if name in unpacked.files]
    if not there:
        other = [path for path in unpacked.files if path.stem in ("docker-compose", "compose")]
        found = f"; it has `{other[0]}`" if other else ""
        nested = bool(other) and other[0].parent != _TOP
        yield Problem(
            "archive",
            f"has neither `docker-compose.yaml` nor `docker-compose.yml` at its top{found}",
            "HPL06008E",
            _PACK if nested else "name the file `docker-compose.yml`",
        )
    if len(there) > 1:
        yield Problem(
            "archive",
            "has `docker-compose.yaml` and `docker-compose.yml`, and which one counts is not known",
            hint="leave one of them out",
            basis="inferred",
        )
    for path in unpacked.files:
        if str(path) in archive.RESERVED_NAMES and path not in archive.COMPOSE_NAMES and there:
            yield Problem(
                "archive",
                f"has `{path}`, which compose may read beside the checked file, or the runtime writes anew",
                hint="leave it out; variables go into `env` of the section",
                level="warn",
                basis="inferred",
            )
    for path in there:
        yield from _compose_file(unpacked.files[path], str(path))


def _compose_file(content: bytes, name: str) -> Iterator[Problem]:
    try:
        services = mapping(mapping(strict_yaml.load(content, name).data).get("services"))
    except UsageError as error:
        yield Problem("compose", error.message, "HPL06009E", error.hint)
        return
    if not services:
        yield Problem("compose", f"`{name}` has no `services`", "HPL06009E", basis="inferred")
    for service, body in services.items():
        if "build" in mapping(body):
            yield Problem(
                "compose",
                f"service `{service}` of `{name}` has `build`, and the guest builds nothing",
                None if "image" in body else "HPL06010E",
                "name the built image by digest instead: `image: NAME@sha256:…`",
            )


def _play(unpacked: Unpacked) -> Iterator[Problem]:
    top = [path for path in unpacked.files if path.suffix in ENDINGS and path.parent == _TOP]
    if not top:
        yield Problem(
            "play",
            "has no YAML file at its top, so nothing would run",
            "HPL15006I",
            "put the descriptors at the top of the archive, and all other files into folders",
        )
    for path in top:
        yield from _descriptors(unpacked.files[path], str(path))


def _descriptors(content: bytes, name: str) -> Iterator[Problem]:
    try:
        documents = strict_yaml.load_all(content, name)
    except UsageError as error:
        yield Problem("play", error.message, "HPL15002E", error.hint)
        return
    for document in documents:
        try:
            TypeAdapter(Descriptor).validate_python(guest_data(document))
        except ValidationError as error:
            for mistake in mistakes(document, Descriptor, error, tags=schema.TAGS):
                yield Problem("play", mistake.text(document), "HPL15002E", basis="inferred")
