"""The decision over the answers: what the runtime would do with each container, and by which rule.

Rules: IBM's page "About the contract", image subsections, for compose and pods; for `ccco` the policy in
the contract, and that of the agent. Codes: IBM's page on the runtime's messages.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from secure_build.contract import keys
from secure_build.contract.advice import mapping
from secure_build.contract.confidential.container import ConfidentialContainer
from secure_build.contract.confidential.policy import Policy
from secure_build.contract.decision.containers import data_of
from secure_build.contract.decision.model import Answer, Container, Decision, Entry, Pull, Question, Signed
from secure_build.contract.decision.names import TAG_AND_DIGEST
from secure_build.contract.decision.questions import KIND_OF
from secure_build.contract.document import SectionText
from secure_build.contract.enforcement import Way
from secure_build.errors import UsageError
from secure_build.model import Basis, Finding, Level
from secure_build.reference import Pinned

BUILD: Final = "which build runs"
SIGNER: Final = "who signed, not which build"
# What the runtime prints when an image cannot be had or started.
_NOT_STARTED: Mapping[Way, str | None] = {"compose": "HPL08004E", "play": "HPL15005E", "pods": None}
_UNIQUE = re.compile(r".*-[0-9a-f]{12}")
_BY_DIGEST = "name it by digest: `NAME@sha256:…`"
_LEVELS: Mapping[str, Level] = {"good": "pass", "unknown": "unknown", "deferred": "deferred"}


def decide(
    containers: Sequence[Container],
    asked: Mapping[Container, Question | None],
    answers: Mapping[Question, Answer],
    *,
    target: str,
    workload: SectionText | None,
    commands: Mapping[Container, ConfidentialContainer | None] | None = None,
    unique: Collection[str] = (),
) -> tuple[list[Decision], list[Finding]]:
    """The decisions, and what is to be said besides, of each image once.

    `commands` are what the pods' containers run, for the policy of `ccco`. `unique` are references by
    tag of which it is known that no other build has them.
    """
    policy = _Policy.of(workload)
    decisions: list[Decision] = []
    around: list[Finding] = []
    for container in containers:
        question = asked.get(container)
        answer = answers.get(question) if question is not None else None
        decision = _by_rule(container, question, answer, target)
        if container.way == "pods":
            decision = policy.decide(container, (commands or {}).get(container), decision)
            decision = _also_signed(decision, question, answer)
        if answer is not None:
            decision = _delivered(decision, answer)
            around += _delivery(container, answer.pull)
        if question is not None and question.entry is not None and decision.verdict != "refused":
            around += _around(container, question, answer, unique)
        if container.chooser is not None and (container.digest or decision.verdict == "accepted"):
            around.append(_chosen(container))
        decisions.append(decision)
    return decisions, list(dict.fromkeys(around))


def _decision(
    container: Container,
    why: str,
    *,
    hint: str | None = None,
    basis: Basis = "documented",
    code: str | None = None,
) -> Decision:
    """That the container is refused; others are made of what accepts or leaves open."""
    return Decision(container, "refused", why, basis, runtime_code=code, hint=hint)


def _by_rule(container: Container, question: Question | None, answer: Answer | None, target: str) -> Decision:
    """What follows from the name of the image and the keys of the contract."""
    if target == "ccrv" and container.way == "compose":
        return _decision(
            container, "`ccrv` runs pods only", hint="write it as a pod under `play`", basis="schema"
        )
    if target == "ccco" and container.way != "pods":
        why = "`ccco` runs the pods of the cluster, and nothing that stands in a contract"
        return _decision(container, why, hint="deploy it as a pod, and allow it in the policy")
    if container.is_broken:
        code = "HPL06010E" if container.way == "compose" else _NOT_STARTED[container.way]
        return _decision(container, container.doubt or "", hint=container.hint, code=code, basis="inferred")
    if container.chooser is not None and container.digest is not None:
        why = f"named by digest; the deployer chooses the registry by `{container.chooser}`"
        return Decision(container, "accepted", why, "documented", BUILD, digest=container.digest)
    if container.doubt is not None or question is None:
        why = container.doubt or "nothing is known of it"
        return Decision(container, "unknown", why, "inferred", hint=container.hint)
    reference = question.reference
    if reference.digest is not None and reference.tag is not None:
        hint = f"drop the tag: `{reference.repository}@{reference.digest}`"
        return Decision(container, "unknown", TAG_AND_DIGEST, "inferred", hint=hint)
    if reference.digest is not None:
        return Decision(
            container, "accepted", "named by digest", "documented", BUILD, digest=reference.digest
        )
    if container.way == "pods":
        # Whether that runs is the policy's word.
        why = "it is named by a tag, which whoever controls the registry can move"
        return Decision(container, "unknown", why, "inferred", hint=_BY_DIGEST)
    if container.is_init:
        why = "init containers run by digest only"
        return _decision(container, why, hint=_BY_DIGEST, code=_NOT_STARTED["play"])
    if question.entry is None:
        kind = KIND_OF[container.way]
        why = f"it is named by a tag, and the contract has no `{kind}` key for `{reference.repository}`"
        hint = _BY_DIGEST
        if kind != "cosign" and keys.is_key(kind, str(reference.repository)):
            hint += f", or sign it and add `images: {kind}: {reference.repository}:`"
        return _decision(container, why, hint=hint, code="HPL06010E" if kind == "dct" else "HPL15005E")
    if container.way == "compose" and "$" in container.written:
        why = "its tag is signed, and IBM supports variables in images by digest only"
        return Decision(container, "unknown", why, "documented", hint="write it without variables")
    return _by_signature(container, question.entry, answer.signed if answer else None)


def _by_signature(container: Container, entry: Entry, signed: Signed | None) -> Decision:
    if signed is None or signed.outcome in ("unknown", "deferred"):
        why = signed.why if signed else "nobody has looked for its signature"
        return Decision(container, "unknown", why, "documented", hint=signed.hint if signed else None)
    if signed.outcome == "bad":
        code = "HPL06004E" if entry.kind == "dct" else "HPL16002E" if signed.key else "HPL15005E"
        return _decision(container, signed.why, hint=signed.hint, code=code)
    why = f"signed by the `{entry.kind}` key for `{entry.name}`: {signed.why}"
    return Decision(container, "accepted", why, "documented", SIGNER, digest=signed.digest)


def _also_signed(decision: Decision, question: Question | None, answer: Answer | None) -> Decision:
    """What a cosign key in the contract makes of a container that the policy lets run."""
    if decision.verdict != "accepted" or question is None or question.entry is None:
        return decision
    key = f"the cosign key for `{question.entry.name}`"
    signed = answer.signed if answer else None
    if signed is not None and signed.outcome == "deferred":
        return decision
    if signed is None or signed.outcome == "unknown":
        why = f"{key}: {signed.why if signed else 'nobody has looked for its signature'}"
        return Decision(decision.container, "unknown", why, "inferred", hint=signed.hint if signed else None)
    if signed.outcome == "bad":
        return _decision(decision.container, f"{key}: {signed.why}", hint=signed.hint, basis="inferred")
    return replace(decision, why=f"{decision.why}; signed by {key}", proves=f"{BUILD}, and who signed it")


def _delivered(decision: Decision, answer: Answer) -> Decision:
    """The same where the image can be had; else what becomes of it."""
    pull = answer.pull
    if decision.verdict != "refused" and pull.outcome == "bad":
        if decision.container.doubt is not None:
            # Only the registry was asked that counts when nobody chooses another.
            why = f"{pull.why}; {decision.container.doubt}"
            return replace(
                decision, verdict="unknown", why=why, hint=pull.hint, basis="inferred", proves=None
            )
        code = _NOT_STARTED[decision.container.way]
        return replace(
            decision,
            verdict="refused",
            why=pull.why,
            hint=pull.hint,
            runtime_code=code,
            basis="inferred",
            proves=None,
        )
    if decision.verdict == "accepted" and pull.outcome == "unknown":
        return replace(decision, verdict="unknown", why=pull.why, hint=pull.hint, proves=None)
    return decision


def _delivery(container: Container, pull: Pull) -> Iterator[Finding]:
    """Whether the guest gets the image, where that is no part of the decision."""
    if pull.outcome in ("good", "deferred"):
        what = str(container.reference)
        yield Finding(
            "delivery", _LEVELS[pull.outcome], what, pull.why, "documented", pull.hint, container.where
        )


def _around(
    container: Container, question: Question, answer: Answer | None, unique: Collection[str]
) -> Iterator[Finding]:
    """What somebody should know who relies on a signature under a tag."""
    reference, what = question.reference, f"`{question.reference}`"
    if answer is not None and answer.signed is not None and answer.signed.outcome == "deferred":
        why, hint = f"{answer.signed.why} yet, and the guest wants one", answer.signed.hint
        yield Finding("signature", "deferred", what, why, "inferred", hint, container.where)
    if reference.tag is None or reference.digest is not None:
        return
    if str(reference) not in unique and not _UNIQUE.fullmatch(reference.tag):
        yield Finding(
            "roll-back",
            "warn",
            what,
            "another build can have this tag and be signed by the same key: whoever controls the registry "
            "can put it back, and the runtime takes it",
            "inferred",
            "use a tag that is unique to a build, or pin the digest",
            container.where,
        )
    named = answer.pull.digest if answer else None
    signed = answer.signed.digest if answer and answer.signed else None
    if question.entry is not None and question.entry.kind == "dct" and named and signed and named != signed:
        why = f"names {named} in the registry, and {signed} in the trust data, which is what the guest runs"
        hint = "sign the tag again, or put it back"
        yield Finding("tag", "warn", what, why, hint=hint, where=container.where)


def _chosen(container: Container) -> Finding:
    why = "the deployer chooses the registry, and whoever that is must have this very content"
    hint = f"the `env` section must have `{container.chooser}`, and a login where the registry needs one"
    if container.digest is None:
        why = f"the deployer chooses the image by `{container.chooser}`: another `env` runs another one"
        hint = f"write the image's name out, or set `{container.chooser}` under `env` of the workload"
    what = f"{container.what}: `{container.written}`"
    return Finding("image", "warn", what, why, hint=hint, where=container.where)


@dataclass(frozen=True, slots=True)
class _Policy:
    """The policy of the contract, None when it is not one of ours, for the reason that is given."""

    policy: Policy | None
    why: str = ""

    @classmethod
    def of(cls, workload: SectionText | None) -> _Policy:
        data = data_of(workload)
        text = mapping(mapping((data or {}).get("confidential-containers")).get("regoValidator")).get(
            "policy"
        )
        if not isinstance(text, str):
            return cls(None, "the policy is not known")
        try:
            return cls(Policy.read(base64.b64decode(text, validate=True).decode()))
        except UsageError as error:
            return cls(None, error.message)
        except ValueError:
            return cls(None, "the policy is no base64 of a text")

    def decide(
        self, container: Container, runs: ConfidentialContainer | None, decision: Decision
    ) -> Decision:
        """What the policy makes of a container that is decided so without it."""
        reference = container.reference
        if decision.verdict == "refused" or reference is None or (reference.digest and reference.tag):
            return decision
        if self.policy is None:
            hint = "nothing here evaluates policies of others; `secure-build contract workload` writes one"
            return Decision(container, "unknown", self.why, "inferred", hint=hint)
        if reference.digest is None:
            why = "it is named by a tag, and the policy names images by digest"
            return _decision(container, why, hint=_BY_DIGEST, basis="inferred")
        image = Pinned(reference.repository, reference.digest)
        asked = runs or ConfidentialContainer(container.what, image, None, None)
        if not self.policy.covers(asked):
            named = str(image) in (*self.policy.commands, *self.policy.any_command)
            why = (
                "the policy lets this image run with other arguments only"
                if named
                else "the policy does not name it"
            )
            hint = "make the workload section anew from these pods: `secure-build contract workload`"
            return _decision(container, why, hint=hint)
        return replace(decision, why="named by digest, and the policy lets it run")
