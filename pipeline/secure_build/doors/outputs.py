"""What a command hands to the steps after it: values by name, as text, empty where there is none."""

from __future__ import annotations

from secure_build.doors.running import Ended
from secure_build.values import VALUES, values

# Name and meaning; documents are made of them.
OUTPUTS = {
    "status": "How it ended: `done`, `refused` (exit code 1), `usage` (2), `unsupported` (3), "
    "`unavailable` (4), `unknown` (5), `interrupted` or `bug`.",
    **VALUES,
}


def outputs(ended: Ended) -> dict[str, str]:
    """A value for each of `OUTPUTS`."""
    return {"status": ended.status, **values(ended.document)}
