from typing import Any


def evidence(*a: Any) -> Any:
    return ()
