"""Files that are read within bounds, and appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from secure_build.errors import UsageError

PUBLIC = 0o644
PRIVATE = 0o600
# The most that certificates and keys have.
SMALL = 64 << 10


def read(path: Path, *, at_most: int = SMALL, what: str = "") -> bytes:
    """The content of a file, called `what` in messages.

    Raises UsageError when it cannot be read, or has more than `at_most` bytes.
    """
    name = f"{what} `{path}`".lstrip()
    try:
        with path.open("rb") as file:
            content = file.read(at_most + 1)
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from None
    if len(content) > at_most:
        raise UsageError(f"{name} has more than {at_most} bytes")
    return content


@contextlib.contextmanager
def replacing(path: Path, *, mode: int = PUBLIC) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` when the block ends well.

    The bytes go to a temporary file beside it, readable by its owner only until it is complete,
    are flushed to the disk, and only then renamed. After an error nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_directory(path.parent)


def write(path: Path, content: bytes, *, mode: int = PUBLIC) -> None:
    """Put `content` at `path` with `mode`, atomically."""
    with replacing(path, mode=mode) as file:
        file.write(content)


def write_tree(folder: Path, contents: Mapping[PurePosixPath, bytes], *, mode: int = PUBLIC) -> None:
    """Put files below a folder of ours, each atomically, and take away all others that are there.

    What is there already, with this mode, is not written again.
    """
    there = {PurePosixPath(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    for name in there.keys() - contents.keys():
        there[name].unlink()
    for name, content in contents.items():
        path = folder / name
        if name not in there or path.stat().st_mode & 0o777 != mode or path.read_bytes() != content:
            write(path, content, mode=mode)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
