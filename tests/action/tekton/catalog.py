"""Our Tasks, StepActions, Pipelines and the runs that use them, as they stand."""

from __future__ import annotations

from pathlib import Path

from action.tekton.objects import Plain, load

ROOT = Path(__file__).resolve().parents[3]
CATALOG = ROOT / "actions" / "tekton"
EXAMPLES = ROOT / "examples" / "tekton"
FILES = sorted(
    path for kind in ("task", "stepaction", "pipeline") for path in CATALOG.glob(f"{kind}/*/0.1/*.yaml")
)


def everything() -> list[Plain]:
    return [load(path) for path in FILES]


def one(kind: str, name: str) -> Plain:
    return next(it for it in everything() if it["kind"] == kind and it["metadata"]["name"] == name)
