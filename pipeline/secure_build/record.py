"""The build record on disk: read strictly, written whole, in a stable order."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from secure_build import files
from secure_build.errors import UsageError
from secure_build.model import BuildRecord

_LARGEST = 16 << 20


def read(path: Path) -> BuildRecord:
    """The record at `path`; raises UsageError when it is missing or not one of ours."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(
            f"there is no build record at `{path}`", hint="run `secure-build build` first"
        ) from None
    if len(content) > _LARGEST:
        raise UsageError(f"the build record `{path}` is larger than {_LARGEST} bytes")
    try:
        record = _adapter().validate_json(content)
        # Read and written again it must be the same document: a key that was passed over would differ.
        if json.loads(content) != json.loads(dump(record)):
            raise UsageError(
                f"`{path}` holds keys that this version does not know", hint="delete it and build again"
            )
        return record
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise UsageError(
            f"`{path}` is no build record of this version: {place}: {first['msg']}",
            hint="delete it and build again",
        ) from None


def write(path: Path, record: BuildRecord) -> None:
    """Put the record at `path` atomically; equal records are equal bytes."""
    files.write(path, dump(record))


def dump(record: BuildRecord) -> bytes:
    data = _adapter().dump_python(record, mode="json")
    return (json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()


@functools.cache
def _adapter() -> TypeAdapter[BuildRecord]:
    return TypeAdapter(BuildRecord)
