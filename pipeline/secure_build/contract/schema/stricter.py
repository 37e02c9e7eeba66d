"""Where we refuse what IBM's published schema takes; docs/contract.md says the same to people."""

from __future__ import annotations

import re
from dataclasses import dataclass

from secure_build.contract.schema.base import Part
from secure_build.contract.schema.pods import is_pod_part
from secure_build.mistakes import Mistake
from secure_build.model import Basis
from secure_build.strict_yaml import Path


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of ours: where it comes from, and what the runtime prints later, if it is known."""

    basis: Basis
    runtime_code: str | None = None


RULES = {
    "both-sections": Rule("documented"),
    "unknown-key": Rule("schema"),
    "other-target": Rule("documented"),
    "boot": Rule("documented"),
    "nothing-to-run": Rule("documented", "HPL15006I"),
    "not-empty": Rule("inferred"),
    "decodes": Rule("inferred"),
    "port-range": Rule("inferred"),
    "host-name": Rule("inferred"),
    "notary-address": Rule("inferred"),
    "cosign-entry": Rule("inferred"),
    "not-text": Rule("documented"),
    "pod-kind": Rule("schema", "HPL05001E"),
    "pod-fields": Rule("inferred", "HPL15002E"),
}
# Kubernetes wants them; without a name, podman has none to run a pod under.
_POD_FIELDS = frozenset({"apiVersion", "metadata", "name", "spec", "ip"})


def rule_of(mistake: Mistake) -> str | None:
    """Which of `RULES` a mistake breaks; None where the published schema refuses it too."""
    holder, path = mistake.holder, mistake.path
    if mistake.kind in RULES:
        return mistake.kind
    if path[:1] == ("boot",):
        return "boot"
    if _is_unseen(path):
        return "cosign-entry"
    if holder is None or not issubclass(holder, Part) or not holder.open_in_guest:
        return None
    if mistake.kind == "extra_forbidden":
        return "unknown-key"
    if mistake.kind != "missing":
        return None
    if path in (("workload",), ("env",)):
        return "both-sections"
    return "pod-fields" if is_pod_part(holder) and path[-1] in _POD_FIELDS else None


def _is_unseen(path: Path) -> bool:
    """Whether a path is in a cosign entry that the schema does not look at, since its name is an image's."""
    name = path[path.index("cosign") + 1 :][:1] if "cosign" in path else ()
    return bool(name) and not re.fullmatch("[A-Za-z0-9_-]+", str(name[0]))
