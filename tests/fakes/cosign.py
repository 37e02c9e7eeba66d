"""cosign's keys, made once, and a transparency log that is asked without HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from secure_build.signers.cosign_key import FileKey, PublicKey
from secure_build.signers.log_entry import LogEntry
from secure_build.signers.rekor import Rekor
from services.sigstore_log import Log


@cache
def key(name: str) -> FileKey:
    """Always the same key for a name, within one run."""
    return FileKey(ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True, slots=True)
class DirectRekor(Rekor):
    """The client of a log, with the log itself where HTTP would be."""

    log: Log

    def _enter(self, proposed: Mapping[str, Any]) -> LogEntry:
        answer = self.log.add_v1(json.loads(json.dumps(proposed)), datetime.now(UTC))
        assert isinstance(answer.content, dict)
        (document,) = answer.content.values()
        return LogEntry.from_answer(document)


def rekor() -> DirectRekor:
    """A new log with a few entries that are not ours."""
    log = Log("log.example")
    made = DirectRekor("http://log.example", PublicKey(log.key.public_key()), None, log)  # type: ignore[arg-type]
    for number in range(4):
        content = b"other %d" % number
        made.enter_content(content, key("others").sign(content), key("others").public)
    return made
