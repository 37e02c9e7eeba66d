from __future__ import annotations
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Means:
    transport: Any
    folder: Any
    jobs: int
    offline: bool
    notary_ca: Any = None
    log: Any = None
    lookaside: Any = None
    layout: Any = None
    local: Any = frozenset()
    tree: Any = None


def gather(q: Any, means: Means) -> Any:
    return {}


def key_findings(e: Any, means: Means) -> Any:
    return ()
