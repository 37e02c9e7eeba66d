"""Parsers that do what none may do: the controls of the watch."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from torture.parsers.table import Parser


def leaves(_: bytes) -> None:
    raise KeyError("a")


def recurses(content: bytes) -> None:
    recurses(content)


def hangs(_: bytes) -> None:
    time.sleep(60)


def hoards(_: bytes) -> None:
    bytearray(1 << 30)


def dies(_: bytes) -> None:
    os.abort()


def writes(_: bytes) -> None:
    Path("../elsewhere").write_bytes(b"")


def links(_: bytes) -> None:
    Path("link").symlink_to("/etc")
    Path("link/elsewhere").mkdir()


def connects(_: bytes) -> None:
    socket.create_connection(("127.0.0.1", 9))


def starts(_: bytes) -> None:
    subprocess.run(["/bin/true"], check=True)


_ALL: tuple[Callable[[bytes], None], ...] = (
    *(leaves, recurses, hangs, hoards, dies),
    *(writes, links, connects, starts),
)
PARSERS = [Parser(one.__name__, one, (b"x",), seconds=1) for one in _ALL]
