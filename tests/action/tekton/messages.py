"""How results leave a pod: through the termination messages of its containers, which have limits."""

from __future__ import annotations

import json
from collections.abc import Mapping

# Of one container, and of all containers of a pod, init containers included, which get equal shares.
CONTAINER_LIMIT = 4096
POD_LIMIT = 12 * 1024
_TASK_RESULT, _INTERNAL, _STEP_RESULT = 1, 3, 4


def size(results: Mapping[str, str], step_results: Mapping[str, str]) -> int:
    """Bytes of the message that the entrypoint leaves: every result so far, and when the step began."""
    message = [{"key": name, "value": value, "type": _TASK_RESULT} for name, value in results.items()]
    message += [{"key": name, "value": value, "type": _STEP_RESULT} for name, value in step_results.items()]
    message.append({"key": "StartedAt", "value": "2026-01-01T00:00:00.000Z", "type": _INTERNAL})
    # Go's encoder writes these three as six bytes.
    text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode()) + 5 * sum(map(text.count, "<>&"))


def limit(containers: int) -> int:
    return min(CONTAINER_LIMIT, POD_LIMIT // containers)
