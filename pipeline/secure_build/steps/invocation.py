"""A job from beginning to end: the records that it names joined, and its own signed when it has changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from secure_build.errors import SecureBuildError
from secure_build.report import Report
from secure_build.steps.job import Job, Options, opened
from secure_build.steps.keys import keys
from secure_build.steps.record_signature import sign_record


@contextlib.contextmanager
def job(options: Options, report: Report) -> Iterator[Job]:
    """One invocation, see `steps/job.py`; records that it names are joined into its own first.

    A record that has changed is signed at the end, with the keys that are at hand.
    """
    with opened(options, report) as work:
        before = _record_bytes(work)
        if options.records:
            from secure_build.steps.join import join

            join(work, keys(work).verifiers)
        try:
            yield work
        except SecureBuildError:
            # What was done until then is recorded, and the signatures of before are of another record.
            sign_record(work, ())
            raise
        if work.loaded.config.signing.attests and _record_bytes(work) != before:
            sign_record(work, keys(work).at_hand)


def _record_bytes(work: Job) -> bytes | None:
    return work.record_path.read_bytes() if work.record_path.exists() else None
