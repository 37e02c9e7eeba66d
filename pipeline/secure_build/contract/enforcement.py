"""What makes the runtime run one image and no other, and what each choice is worth.

Rules: contract page of IBM's documentation ("About the contract", image subsections). The runtime
looks at a signature only when the reference has no digest; a digest says which build runs, a
signature only who signed it. That is why a tag that is signed to be enforced is unique to a commit,
unless the config wants it otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_build.contract import keys
from secure_build.reference import Reference

Choice = Literal["digest", "rhs", "dct", "cosign"]
Way = Literal["compose", "play", "pods"]
CHOICES: tuple[Choice, ...] = ("digest", "rhs", "dct", "cosign")


@dataclass(frozen=True, slots=True)
class Worth:
    """One choice: whether the contract could express it, and what it proves or why it cannot."""

    choice: Choice
    possible: bool
    why: str


def worth(target: str, workload: Way, reference: Reference) -> tuple[Worth, ...]:
    """Every choice for an image on this target, `digest` first."""
    return tuple(_worth(choice, target, workload, reference) for choice in CHOICES)


def _worth(choice: Choice, target: str, workload: Way, reference: Reference) -> Worth:
    if choice == "digest":
        return Worth(choice, True, "proves which build runs; another build needs another contract")
    if choice == "cosign" and workload == "pods":
        return Worth(choice, True, "the guest checks who signed, beside the digest that its policy demands")
    if choice == "cosign":
        return Worth(choice, False, f"`{target}` knows no cosign keys; only `ccco` does")
    wanted = "play" if choice == "rhs" else "compose"
    if workload != wanted:
        return Worth(choice, False, f"the runtime looks at `{choice}` keys for {wanted} workloads only")
    reason = keys.expressible(choice, reference.repository)
    if reason:
        return Worth(choice, False, reason)
    return Worth(
        choice,
        True,
        "proves who signed, not which build: whoever controls the registry can put back whatever was "
        f"signed under {_scope(choice, reference)}",
    )


def _scope(choice: Literal["rhs", "dct"], reference: Reference) -> str:
    """What the key in the contract covers."""
    narrow = choice == "rhs" and keys.expressible(choice, reference) is None
    return "this tag" if narrow else "any tag of this repository that the workload names"
