"""The model of `audit:`: what `secure-build audit` requires besides a whole chain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from secure_build.config.base import File, Strict

Requirement = Literal[
    "clean-source",
    "signed-commit",
    "locked-bases",
    "sbom",
    "provenance",
    "reproducible",
    "signed-record",
    "separate-pull-key",
    "digests-only",
    "encrypted-contract",
    "signed-contract",
]
REQUIREMENTS: tuple[Requirement, ...] = get_args(Requirement)
MEANINGS: Mapping[Requirement, str] = {
    "clean-source": "the images were built from the commit, with nothing left in the working tree that is "
    "not in it",
    "signed-commit": "the commit is signed with one of `commit-keys`",
    "locked-bases": "all that builds took from outside is fixed by the commit: named by digest, or in "
    "`secure-build.lock`",
    "sbom": "of each image and platform there is a signed list of what is in it",
    "provenance": "of each image there is signed provenance",
    "reproducible": "each image was built so that the same builder makes the same digest again",
    "signed-record": "the build record is signed by the key or identity that the auditor trusts",
    "separate-pull-key": "what the guest pulls with is another secret than what publishes",
    "digests-only": "each container names its image by digest; no key decides which image runs",
    "encrypted-contract": "both sections of the contract were delivered encrypted",
    "signed-contract": "whoever deploys signed both sections as a pair: `envWorkloadSignature`",
}


class Audit(Strict):
    """What an audit requires; see docs/audit.md."""

    require: tuple[Requirement, ...] = Field(
        min_length=1,
        strict=False,
        description="Each is a finding of the link `policy`. "
        + "; ".join(f"`{name}`: {meaning}" for name, meaning in MEANINGS.items())
        + ".",
    )
    commit_keys: tuple[File, ...] = Field(
        default=(),
        strict=False,
        description="With `signed-commit`: whose signatures of commits count; OpenPGP public keys in armor, "
        "and SSH public keys, one a line.",
    )

    @model_validator(mode="after")
    def _fitting(self) -> Audit:
        if len(set(self.require)) != len(self.require):
            raise PydanticCustomError("require", "a requirement stands twice in `require`")
        if ("signed-commit" in self.require) != bool(self.commit_keys):
            raise PydanticCustomError("require", "`signed-commit` and `commit-keys` go together")
        return self
