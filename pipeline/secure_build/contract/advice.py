"""What compose files and pods have in common when somebody looks for what will not work."""

from __future__ import annotations

from typing import Any

from secure_build.contract.places import place_of
from secure_build.model import Basis, Finding
from secure_build.strict_yaml import Document, Path


def warning(
    check: str,
    document: Document,
    path: Path,
    what: str,
    why: str,
    *,
    hint: str | None = None,
    basis: Basis = "inferred",
) -> Finding:
    """A finding on what stands at a path of a document that can be pinned all the same."""
    where = place_of(document, path)
    return Finding(check=check, level="warn", what=what, why=why, basis=basis, hint=hint, where=where)


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is a mapping, else an empty one: other shapes are somebody else's to refuse."""
    return value if isinstance(value, dict) else {}


def listed(value: Any) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return value if isinstance(value, list) else []
