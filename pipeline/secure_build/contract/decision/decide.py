from typing import Any


def decide(*a: Any, **k: Any) -> Any:
    return [], []
