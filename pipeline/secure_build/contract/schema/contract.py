"""The whole document with its sections as mappings, for each target.

In a contract file the sections are text or tokens; this is what they hold.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from secure_build.contract.schema import values
from secure_build.contract.schema.base import Maybe, Part
from secure_build.contract.schema.env import ConfidentialEnv, Env
from secure_build.contract.schema.workload import ConfidentialWorkload, PodWorkload, Workload


class Boot(Part):
    """What a confidential pod on bare metal starts from."""

    sehdr: values.Base64 = Field(description="Base64 of the Secure Execution header.")


class _Document(Part):
    open_in_guest: ClassVar[bool] = True
    attestation_public_key: Maybe[values.PublicKey] = Field(
        default=None, description="RSA public key (PEM) that the attestation record is encrypted for."
    )
    env_workload_signature: Maybe[values.Signature] = Field(
        default=None, description="Base64 of the signature of `workload` and `env`."
    )


class Contract(_Document):
    """A plain contract for `hpvs` and `ccrt`."""

    workload: Workload = Field(description="What runs.")
    env: Env = Field(description="Where it runs.")


class PodContract(_Document):
    """A plain contract for `ccrv`."""

    workload: PodWorkload = Field(description="What runs.")
    env: Env = Field(description="Where it runs.")


class ConfidentialContract(_Document):
    """A plain contract for `ccco`."""

    workload: ConfidentialWorkload = Field(description="What may run.")
    env: ConfidentialEnv = Field(description="Where it runs.")
    boot: Maybe[Boot] = Field(default=None, description="On bare metal only.")
