"""secure-build.lock: the digest of everything that builds and contracts take from outside.

The file lies beside the config, is committed with it and is read as strictly. It is text of one
line per input and platform, sorted, so that a change of it reads well in a review. What makes and
uses it is `steps/lock.py`, `steps/build.py` and `steps/pins.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from secure_build import strict_yaml
from secure_build.errors import UsageError
from secure_build.model import Material, Platform
from secure_build.reference import Digest, Reference
from secure_build.strict_yaml import Document

# The kinds of materials, and images that only the workload uses.
Kind = Literal["git", "http", "image", "used"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_VERSION = 1
_HEADER = "# Written by `secure-build lock`: what builds and the contract take from outside. Commit it.\n"
_KEYS = ("version", *KINDS)


@dataclass(frozen=True, slots=True)
class Input:
    """Something from outside, by the name it has in a Dockerfile or a workload, for one platform."""

    kind: Kind
    name: str
    platform: Platform

    def __str__(self) -> str:
        return f"{self.kind} {self.name} ({self.platform})"


@dataclass(frozen=True, slots=True)
class Lock:
    """Which digest each input has; empty where there is no lock."""

    digests: Mapping[Input, str] = field(default_factory=dict)

    def digest(self, kind: Kind, name: str, platform: Platform) -> str | None:
        return self.digests.get(Input(kind, name, platform))

    def pins(self, platform: Platform) -> dict[str, str]:
        """What a build for this platform must take: names with their digests."""
        return {
            wanted.name: digest
            for wanted, digest in self.digests.items()
            if wanted.platform == platform and wanted.kind != "used"
        }


@dataclass(frozen=True, slots=True)
class Change:
    """An input whose digest is another than before; None where it was, or is, not in the lock."""

    input: Input
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"added {self.input}: {self.after}"
        if self.after is None:
            return f"removed {self.input}: {self.before}"
        return f"moved {self.input}: {self.before} -> {self.after}"


def changes(before: Lock, after: Lock) -> list[Change]:
    """What differs, in the order of the file."""
    both = _sorted({**before.digests, **after.digests})
    pairs = ((wanted, before.digests.get(wanted), after.digests.get(wanted)) for wanted in both)
    return [Change(wanted, old, new) for wanted, old, new in pairs if old != new]


def path_of(config: Path) -> Path:
    """Where the lock of a config lies: beside it, with its name."""
    return config.with_suffix(".lock")


def load(path: Path) -> Lock | None:
    """The lock at `path`, None when there is none; raises UsageError with file and line."""
    try:
        with path.open("rb") as file:
            content = file.read(strict_yaml.LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read the lock `{path}`: {error.strerror}") from None
    return parse(content, str(path))


def parse(content: bytes, name: str) -> Lock:
    """The lock in `content`; raises UsageError with `name` and line."""
    document = strict_yaml.load(content, name)
    data = _mapping(document, (), document.data)
    for key in data:
        if key not in _KEYS:
            raise _wrong(document, (key,), f"unknown key; known are {', '.join(_KEYS)}")
    if type(data.get("version")) is not int or data["version"] != _VERSION:
        raise _wrong(document, ("version",), f"its version is not {_VERSION}, the one this program reads")
    digests = {}
    for kind in KINDS:
        for written, platforms in _mapping(document, (kind,), data.get(kind, {})).items():
            for platform, digest in _mapping(document, (kind, written), platforms).items():
                try:
                    wanted = Input(kind, _checked_name(kind, written), Platform.parse(platform))
                    digests[wanted] = _checked_digest(kind, written, digest)
                except UsageError as error:
                    raise _wrong(document, (kind, written, platform), error.message) from None
    return Lock(digests)


def dump(lock: Lock) -> bytes:
    """The text of a lock; equal locks are equal bytes."""
    lines = [_HEADER, f"version: {_VERSION}\n"]
    for kind, of_kind in groupby(_sorted(lock.digests), key=lambda wanted: wanted.kind):
        lines.append(f"{kind}:\n")
        for name, of_name in groupby(of_kind, key=lambda wanted: wanted.name):
            lines.append(f"  {json.dumps(name, ensure_ascii=False)}:\n")
            lines += [f"    {wanted.platform}: {lock.digests[wanted]}\n" for wanted in of_name]
    return "".join(lines).encode()


def _sorted(inputs: Iterable[Input]) -> list[Input]:
    return sorted(inputs, key=lambda wanted: (wanted.kind, wanted.name, str(wanted.platform)))


def _mapping(document: Document, path: strict_yaml.Path, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(document, path, "must be a mapping with keys")
    return value


def _checked_name(kind: Kind, written: str) -> str:
    if kind in ("image", "used"):
        reference = Reference.parse(written)
        if reference.digest is not None or str(reference.tagged()) != written:
            raise UsageError(f"must be written out, with a tag and no digest: `{reference.tagged()}`")
    return written


def _checked_digest(kind: Kind, name: str, written: Any) -> str:
    if not isinstance(written, str):
        raise UsageError("the digest must be text")
    if kind == "used":
        return str(Digest.parse(written))
    return Material(kind, name, written).digest


def _wrong(document: Document, path: strict_yaml.Path, why: str) -> UsageError:
    place = ".".join(str(part) for part in path)
    return UsageError(
        f"{document.name}:{document.line(path)}: {place + ': ' if place else ''}{why}",
        hint="it is written by `secure-build lock`; delete it to make it anew",
    )
