"""The files that existing automation takes a contract in: user data, Terraform variables, a cidata disk.

In every form the contract is there byte for byte, since its hash is attested. Nothing is deployed
here, and no provider or hypervisor is chosen.
"""

from __future__ import annotations

import dataclasses
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Literal

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.advice import mapping
from secure_build.contract.deployment import expected
from secure_build.contract.deployment.needs import Deployment
from secure_build.errors import UsageError
from secure_build.reference import Digest

Form = Literal["user-data", "terraform", "cidata"]
USER_DATA = PurePosixPath("user-data")
CIDATA = PurePosixPath("cidata")
ATTESTATION = PurePosixPath("expected-attestation.txt")
VALUES = PurePosixPath("secure-build.auto.tfvars.json")
# Not `variables.tf`: the folder may be a module that has one.
VARIABLES = PurePosixPath("secure-build.variables.tf")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,61}[A-Za-z0-9])?")
# What IBM's labs for LinuxONE put there.
_VENDOR_DATA = b"#cloud-config\nusers:\n- default\n"
_VARIABLES = b"""\
variable "contract_user_data" {
  description = "The contract: pass it on unchanged as the user data of the instance."
  type        = string
  sensitive   = true
}

variable "contract_user_data_sha256" {
  description = "SHA-256 of the contract, in lower-case hexadecimal."
  type        = string
}

variable "contract_ports" {
  description = "Ports that need a rule for incoming traffic; null when the workload is encrypted."
  type = list(object({
    container = string
    protocol  = string
    first     = number
    last      = number
  }))
  default = null
}

variable "contract_volumes" {
  description = "Data volumes to attach within 15 minutes of boot; null when both sections are encrypted."
  type = list(object({
    name        = string
    mount       = string
    filesystem  = string
    volume_name = string
    volume_id   = string
  }))
  default = null
}

variable "contract_destinations" {
  description = "Hosts and TCP ports that the instance calls, as far as the contract tells them."
  type = list(object({
    purpose = string
    host    = string
    port    = number
  }))
  default = []
}

variable "contract_unknown" {
  description = "What the contract does not tell of its ports, volumes and destinations."
  type        = list(string)
  default     = []
}
"""


def files(
    contract: str,
    form: Form,
    deployment: Deployment,
    *,
    instance_id: str | None = None,
    hostname: str = "confidential-guest",
) -> dict[PurePosixPath, bytes]:
    """The files of a form, by their path in the folder that they are written to.

    A plain contract holds secrets, so all of them are for their owner only. `instance_id` (by
    default made from the contract's digest) and `hostname` go into `meta-data` of a cidata disk.
    Raises UsageError for a contract that a form would change, and for names that cannot be.
    """
    user_data = contract.encode()
    if form == "user-data":
        return {USER_DATA: user_data}
    if form == "terraform":
        return {VALUES: _values(contract, deployment), VARIABLES: _VARIABLES}
    names = {
        "instance-id": instance_id or f"iid-{Digest.of(user_data).hexadecimal[:16]}",
        "local-hostname": hostname,
    }
    for key, name in names.items():
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"`{name[:80]}` cannot be the `{key}` of a guest",
                hint="use letters, digits, `-` and `.`, at most 63 in all",
            )
    disk = {
        CIDATA / "meta-data": text.dump(names).encode(),
        CIDATA / "user-data": user_data,
        CIDATA / "vendor-data": _VENDOR_DATA,
    }
    return disk | {ATTESTATION: _attestation(contract, disk)}


def _values(contract: str, deployment: Deployment) -> bytes:
    if not unicodedata.is_normalized("NFC", contract):
        raise UsageError(
            "Terraform would change this contract: it keeps all text in Unicode's form NFC, and this is not",
            hint="save what went into the contract in that form, or encrypt the sections",
        )
    ports, volumes = deployment.ports, deployment.volumes
    values = {
        "contract_user_data": contract,
        "contract_user_data_sha256": Digest.of(contract.encode()).hexadecimal,
        "contract_ports": None
        if ports is None
        else [_without(dataclasses.asdict(port), "loopback") for port in ports if not port.loopback],
        "contract_volumes": None
        if volumes is None
        else [_without(dataclasses.asdict(volume), "missing") for volume in volumes],
        "contract_destinations": [dataclasses.asdict(call) for call in deployment.destinations],
        "contract_unknown": list(deployment.unknown),
    }
    return (json.dumps(values, indent=2) + "\n").encode()


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != key}


def _attestation(contract: str, disk: Mapping[PurePosixPath, bytes]) -> bytes:
    sections = strict_yaml.load(contract.encode(), "the contract").data
    values = {name: value for name, value in mapping(sections).items() if isinstance(value, str)}
    return expected.text([*expected.of_files(disk), *expected.of_sections(values)]).encode()
