"""What is decided about, what is asked for that, and what comes out.

An outcome is never guessed: `unknown` is what could not be asked, `deferred` what is not published yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_build.contract.enforcement import Way
from secure_build.model import Basis, Credential, Finding, Level
from secure_build.reference import Digest, Reference

Kind = Literal["rhs", "dct", "cosign"]
Outcome = Literal["good", "bad", "unknown", "deferred"]
Verdict = Literal["accepted", "refused", "unknown"]
_LEVELS: dict[Verdict, Level] = {"accepted": "pass", "refused": "fail", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class Container:
    """One place of the workload that names an image: what people call it, and where it stands.

    `where` is file and line of the contract, `inside` file and line in its archive. `reference` is what
    `written` means, with the registry written out; None when that cannot be told, for the reason in
    `doubt`: either the guest cannot read it (`is_broken`), or somebody else decides. With a `reference`,
    `doubt` says why another one may take its place. `chooser` is the variable that the deployer fills in;
    with a `digest`, it stands for the registry only.
    """

    what: str
    where: str
    way: Way
    written: str
    reference: Reference | None
    doubt: str | None = None
    hint: str | None = None
    inside: str | None = None
    is_broken: bool = False
    is_init: bool = False
    chooser: str | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A key that the contract names for images: `name` is what the entry is called there."""

    kind: Kind
    name: str
    public_key: str
    notary: str | None
    where: str


@dataclass(frozen=True, slots=True)
class Question:
    """One image to ask for: pulled with this login of the contract or none, signed by this entry's key.

    `login_may_follow` tells that there is none in what is known, and a part that is not may have one.
    """

    reference: Reference
    login: Credential | None
    entry: Entry | None = None
    login_may_follow: bool = False


@dataclass(frozen=True, slots=True)
class Pull:
    """What came of pulling as the guest would.

    `digest` is what the reference names, an index or a manifest. `bad` is what the guest would fail
    with too.
    """

    outcome: Outcome
    why: str
    hint: str | None = None
    digest: Digest | None = None


@dataclass(frozen=True, slots=True)
class Signed:
    """What came of looking for the signature of the entry's key.

    `digest` is what the signature is for: with `dct` the runtime runs this, whatever the tag names.
    `key` tells that it is the key itself that cannot be used.
    """

    outcome: Outcome
    why: str
    hint: str | None = None
    digest: Digest | None = None
    key: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a question; `signed` is None where nothing was to be signed."""

    pull: Pull
    signed: Signed | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What the runtime would do with one container, by which rule.

    `proves` says what an accepted one is worth. `digest` is what would run, where that is known.
    """

    container: Container
    verdict: Verdict
    why: str
    basis: Basis
    proves: str | None = None
    runtime_code: str | None = None
    hint: str | None = None
    digest: Digest | None = None

    @property
    def finding(self) -> Finding:
        """The same as a finding, as it counts for the end of a run."""
        return Finding(
            check="image",
            level=_LEVELS[self.verdict],
            what=f"{self.container.what}: `{self.container.written}`",
            why=self.why,
            basis=self.basis,
            hint=self.hint,
            where=self.container.where,
            runtime_code=self.runtime_code,
        )


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found out about a contract called `name`.

    `findings` are about the contract and its images as the runtime sees them; `evidence` is what people
    and other tools check, and no runtime.
    """

    name: str
    target: str
    decisions: tuple[Decision, ...]
    findings: tuple[Finding, ...]
    evidence: tuple[Finding, ...] = ()

    @property
    def all_findings(self) -> tuple[Finding, ...]:
        """Decisions among them, in the order in which people should read."""
        return (*(one.finding for one in self.decisions), *self.findings, *self.evidence)

    @property
    def verdict(self) -> Verdict:
        """What the runtime would do with the contract; evidence has no part in it."""
        verdicts = {one.verdict for one in self.decisions}
        levels = {one.level for one in self.findings}
        if "refused" in verdicts or "fail" in levels:
            return "refused"
        return "unknown" if "unknown" in verdicts or "unknown" in levels else "accepted"
