"""In-toto statements (in-toto attestation framework v1): who says what about which manifests.

Whoever verifies an envelope learns who signed which bytes, and nothing else: that the statement is
about this image, and of the kind that was asked for, is found out here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from secure_build import manifest
from secure_build.errors import RefusedError
from secure_build.reference import Digest

PAYLOAD_TYPE = "application/vnd.in-toto+json"
# The predicate by which cosign signs an image itself.
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"
_STATEMENT = "https://in-toto.io/Statement/v1"
# What `cosign attest` writes.
_STATEMENTS = (_STATEMENT, "https://in-toto.io/Statement/v0.1")


def statement(
    predicate_type: str, predicate: Mapping[str, Any], subjects: Iterable[tuple[str, Digest]]
) -> bytes:
    """A statement about these subjects, each with a name; equal input gives equal bytes.

    It is ASCII. Halves of surrogate pairs, which readers of JSON refuse or take for something else, become
    question marks.
    """
    document = {
        "_type": _STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": one.hexadecimal}} for name, one in subjects],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode(errors="replace")
    return json.dumps(json.loads(text), separators=(",", ":")).encode()


def type_of(payload: bytes) -> str | None:
    """The predicate type that a statement names, whoever wrote it; None for what is no statement."""
    try:
        named = manifest.load_object(payload).get("predicateType")
    except (ValueError, RecursionError):
        return None
    return named if isinstance(named, str) else None


def predicate(payload: bytes, *, predicate_type: str, subject: Digest) -> dict[str, Any]:
    """The predicate of a statement whose signature has been verified.

    Raises RefusedError when it is no statement, of another type, or about something else.
    """
    try:
        document = manifest.load_object(payload)
        named, said = document["predicateType"], document.get("predicate")
        subjects = [one["digest"].get("sha256") for one in document["subject"]]
        if document["_type"] not in _STATEMENTS or not isinstance(said, dict | None):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RefusedError("what is signed is no in-toto statement") from None
    if named != predicate_type:
        raise RefusedError(f"the statement is of the type `{named}`, not `{predicate_type}`")
    if subject.hexadecimal not in subjects:
        raise RefusedError(f"the statement is not about {subject}")
    return said or {}
