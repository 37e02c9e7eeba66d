"""Answers to the questions of a decision: from registries, OpenPGP keys, Notary servers and cosign keys.

Registries are asked as the guest asks them, with the contract's own logins. Whatever could not be asked
or understood is `unknown`; only what the guest would fail with, too, is `bad`.
"""

from __future__ import annotations

from collections.abc import Collection

from secure_build import stopping
from secure_build.contract.decision.model import Answer, Entry, Pull, Question, Signed
from secure_build.errors import SecureBuildError, StoppedError
from secure_build.model import Finding
from secure_build.steps.gathering import keys
from secure_build.steps.gathering.means import Means
from secure_build.steps.gathering.pulls import Registries
from secure_build.steps.gathering.signatures import Signatures

__all__ = ["Means", "gather"]


def gather(
    questions: Collection[Question], entries: Collection[Entry], means: Means
) -> tuple[dict[Question, Answer], tuple[Finding, ...]]:
    """The answer to each question, images side by side, and what is to be said of the contract's keys."""
    registries = Registries(means)
    with keys.OpenedKeys(means) as opened:
        signatures = Signatures(means, registries, opened)
        ordered = sorted(questions, key=lambda one: str(one.reference))
        answers = stopping.side_by_side(lambda one: _answer(signatures, one), ordered, jobs=means.jobs)
        about = keys.findings(entries, opened, means.jobs)
    return dict(zip(ordered, answers, strict=True)), about


def _answer(signatures: Signatures, question: Question) -> Answer:
    """The answer; what is odd about one image ends nothing."""
    try:
        return signatures.answer(question)
    except StoppedError:
        raise
    except SecureBuildError as error:
        unknown = f"not known: {error.message}"
        signed = Signed("unknown", unknown, error.hint) if question.entry is not None else None
        return Answer(Pull("unknown", unknown, error.hint), signed)
