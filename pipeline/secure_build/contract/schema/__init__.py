"""The contract's own format: what may stand in it on each target, and what of it is secret.

The models refuse everything that IBM's published schema refuses, and more: unknown keys, base64
that does not decode. They know nothing of files; `contract/document.py` reads those.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_build import model_schema
from secure_build.contract.schema.base import Part
from secure_build.contract.schema.contract import ConfidentialContract, Contract, PodContract
from secure_build.contract.schema.env import ConfidentialEnv, Env
from secure_build.contract.schema.pods import CONFIG_MAP, POD
from secure_build.contract.schema.workload import ConfidentialWorkload, PodWorkload, Workload

TARGETS = ("hpvs", "ccrt", "ccrv", "ccco")
# What pydantic puts into places of mistakes beside keys and positions.
TAGS = frozenset({POD, CONFIG_MAP})


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one target: a whole plain document, and its two sections."""

    document: type[Part]
    workload: type[Part]
    env: type[Part]

    def section(self, name: str) -> type[Part]:
        """The model of `workload` or `env`."""
        return self.workload if name == "workload" else self.env


def models(target: str) -> Models:
    """The models for one of `TARGETS`."""
    if target == "ccco":
        return Models(ConfidentialContract, ConfidentialWorkload, ConfidentialEnv)
    if target == "ccrv":
        return Models(PodContract, PodWorkload, Env)
    return Models(Contract, Workload, Env)


def json_schema(target: str) -> str:
    """The JSON schema (2020-12) of a plain contract, its sections as mappings; ends with a newline."""
    return model_schema.text(models(target).document)
