"""The table of parsers, and what their right bytes are made with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from secure_build.errors import SecureBuildError
from secure_build.reference import Digest, Pinned, Reference, Repository

TESTS = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 20, tzinfo=UTC)
TARGETS = ("hpvs", "ccrt", "ccrv", "ccco")
IMAGE = Pinned(Repository("registry.example", "acme/web"), Digest.of(b"an image"))
NAME = Reference(IMAGE.repository, "1.0")


@dataclass(frozen=True, slots=True)
class Parser:
    """`parse` ends in a value or in one of `refusals`; `cost` says how many times slower it is than others.

    `programs` tells that it starts programs, whose files and memory are then not watched; `seconds` is how
    long one input may take, which is much: a machine that does other things too is not what is measured.
    """

    name: str
    parse: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    refusals: tuple[type[Exception], ...] = (SecureBuildError,)
    cost: int = 1
    programs: bool = False
    seconds: float = 20


PARSERS: list[Parser] = []


def parser(
    name: str,
    seeds: Iterable[bytes | str],
    *also: type[Exception],
    cost: int = 1,
    programs: bool = False,
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    def add(parse: Callable[[bytes], object]) -> Callable[[bytes], object]:
        content = tuple(seed.encode() if isinstance(seed, str) else seed for seed in seeds)
        # What one of them did not survive once.
        content += tuple(files(f"cases/hostile/{name}/*"))
        assert content, name
        PARSERS.append(Parser(name, parse, content, (SecureBuildError, *also), cost, programs))
        return parse

    return add


def files(*patterns: str) -> list[bytes]:
    """Inputs of the golden files, and of the corpus."""
    return [
        path.read_bytes().partition(b"# output\n")[0]
        for pattern in patterns
        for path in sorted(TESTS.glob(pattern))
        if path.is_file()
    ]


def text(content: bytes) -> str:
    """As Python reads arguments and variables."""
    return content.decode("utf-8", "surrogateescape")


def dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


def names() -> Sequence[str]:
    return [one.name for one in PARSERS]
