"""The build record on disk: read strictly, written whole, in a stable order."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from secure_build import files
from secure_build.errors import UsageError
from secure_build.model import BuildRecord

LARGEST = 16 << 20
_VERSION = 1


def read(path: Path) -> BuildRecord:
    """The record at `path`; raises UsageError when it is missing or not one of ours."""
    return load(path)[0]


def load(path: Path) -> tuple[BuildRecord, bytes]:
    """The same with the bytes that it was read from, which is what is signed."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(
            f"there is no build record at `{path}`", hint="run `secure-build build` first"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot read the build record `{path}`: {error.strerror}") from None
    if len(content) > LARGEST:
        raise UsageError(f"the build record `{path}` is larger than {LARGEST} bytes")
    return read_content(content, path), content


def read_content(content: bytes, path: Path) -> BuildRecord:
    """The record in what was read from `path`; raises UsageError when it is not one of ours."""
    try:
        return parse(content)
    except ValueError as error:
        raise UsageError(
            f"`{path}` is no build record of this version: {error}", hint="delete it and build again"
        ) from None


def parse(content: bytes) -> BuildRecord:
    """The record in `content`; raises ValueError with the reason when it is not one of ours."""
    data = _json(content)
    version = data.get("version") if isinstance(data, dict) else None
    if version != _VERSION:
        raise ValueError(f"its version is {version!r}, and this program reads {_VERSION}")
    try:
        record = _adapter().validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except UsageError as error:
        raise ValueError(error.message) from None
    if not _is_within(data, _json(dump(record))):
        raise ValueError("it holds keys that are not known")
    return record


def _is_within(data: Any, whole: Any) -> bool:
    """Whether nothing of `data` was passed over; older records lack keys that `whole` has by default."""
    if isinstance(data, dict) and isinstance(whole, dict):
        return all(key in whole and _is_within(value, whole[key]) for key, value in data.items())
    if isinstance(data, list) and isinstance(whole, list):
        return len(data) == len(whole) and all(map(_is_within, data, whole))
    return bool(data == whole)


def write(path: Path, record: BuildRecord) -> None:
    """Put the record at `path` atomically; equal records are equal bytes."""
    files.write(path, dump(record))


def dump(record: BuildRecord) -> bytes:
    data = _adapter().dump_python(record, mode="json")
    return (json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _json(content: bytes) -> Any:
    """Plain data; raises ValueError for what is no JSON, and for a key that stands twice."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        data = dict(pairs)
        if len(data) != len(pairs):
            raise ValueError("a key stands twice in it")
        return data

    try:
        return json.loads(content, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


@functools.cache
def _adapter() -> TypeAdapter[BuildRecord]:
    return TypeAdapter(BuildRecord)
