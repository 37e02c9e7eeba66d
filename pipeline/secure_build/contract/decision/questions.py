from typing import Any


def questions(*a: Any) -> Any:
    return {}, []


def entries(*a: Any) -> Any:
    return ()
