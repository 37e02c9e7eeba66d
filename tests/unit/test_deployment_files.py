"""The files for existing automation: the contract is in each form byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

import pytest

from secure_build import strict_yaml
from secure_build.contract.deployment import expected, forms, needs
from secure_build.contract.deployment.destinations import Destination
from secure_build.contract.deployment.needs import Deployment, Size, Volume
from secure_build.contract.deployment.ports import Port
from secure_build.errors import UsageError
from secure_build.reference import Digest

SIZE = Size(0, 0)
ODD = "workload: |\n  type: \"workload\" # 'é' 日本 𝄞 ${REGISTRY} %{if} \\n\t\\\nenv: |\n  a: b\n\n  c: d"
UNKNOWN = needs.Deployment(None, None, (), SIZE, ("the workload is encrypted",))
CIDATA = PurePosixPath("cidata")


@pytest.mark.parametrize("contract", [ODD, "workload: x\nenv: y\n", "workload: e\u0301", ""])
def test_the_user_data_is_the_contract(contract: str) -> None:
    assert forms.files(contract, "user-data", UNKNOWN) == {forms.USER_DATA: contract.encode()}


def values(contract: str, read: Deployment) -> dict[str, object]:
    files = forms.files(contract, "terraform", read)
    found: dict[str, object] = json.loads(files[forms.VALUES])
    declared = re.findall(rb'^variable "([a-z0-9_]+)" {$', files[forms.VARIABLES], re.MULTILINE)
    assert [name.decode() for name in declared] == list(found)
    return found


def test_terraform_gets_what_needs_a_rule() -> None:
    ports = (Port("service `a`", "tcp", 80, 90), Port("service `a`", "tcp", 1, 1, loopback=True))
    read = Deployment(ports, (Volume("data", "/data"),), (Destination("logs", "a.example", 443),), SIZE, ())
    found = values(ODD, read)
    assert found.pop("contract_user_data") == ODD
    assert found.pop("contract_user_data_sha256") == Digest.of(ODD.encode()).hexadecimal
    assert found == {
        "contract_ports": [{"container": "service `a`", "protocol": "tcp", "first": 80, "last": 90}],
        "contract_volumes": [
            {"name": "data", "mount": "/data", "filesystem": None, "volume_name": None, "volume_id": None}
        ],
        "contract_destinations": [{"purpose": "logs", "host": "a.example", "port": 443}],
        "contract_unknown": [],
    }


def test_terraform_is_told_what_is_unknown() -> None:
    found = values(ODD, UNKNOWN)
    assert found["contract_ports"] is None
    assert found["contract_volumes"] is None
    assert found["contract_unknown"] == ["the workload is encrypted"]


def test_a_contract_that_terraform_would_change_is_refused() -> None:
    with pytest.raises(UsageError, match="Terraform would change this contract"):
        forms.files("workload: e\u0301", "terraform", UNKNOWN)


def test_the_disk_and_its_lines_in_the_attestation_record() -> None:
    files = forms.files(ODD, "cidata", UNKNOWN)
    record = files.pop(forms.ATTESTATION).decode()
    assert sorted(path.name for path in files) == ["meta-data", "user-data", "vendor-data"]
    assert files[CIDATA / "user-data"] == ODD.encode()
    assert files[CIDATA / "vendor-data"].startswith(b"#cloud-config\n")
    found = {line.name: line.digest for line in expected.parse(record)}
    sections = {
        f"contract:{key}": value.encode() for key, value in strict_yaml.load(ODD.encode(), "x").data.items()
    }
    disk = {str(path): content for path, content in files.items()}
    assert found == {name: Digest.of(content) for name, content in (disk | sections).items()}
    assert record.count("# inferred\n") == len(found)


def test_equal_contracts_make_equal_disks_and_others_another_instance() -> None:
    first, again, other = (forms.files(text, "cidata", UNKNOWN) for text in (ODD, ODD, "env: x"))
    assert first == again
    assert first[CIDATA / "meta-data"] != other[CIDATA / "meta-data"]


@pytest.mark.parametrize("name", ["web-1", "web.example", "0", "1.5", "true", "null", "a" * 63])
def test_the_names_of_a_guest_are_read_as_text(name: str) -> None:
    files = forms.files(ODD, "cidata", UNKNOWN, instance_id=name, hostname=name)
    read = strict_yaml.load(files[CIDATA / "meta-data"], "meta-data").data
    assert read == {"instance-id": name, "local-hostname": name}


@pytest.mark.parametrize("name", ["-x", "a b", "a\nruncmd: [x]", "ü", "a" * 64, "../x", "a-"])
def test_hardening_21_the_names_of_a_guest_are_names(name: str) -> None:
    for names in ({"instance_id": name}, {"hostname": name}):
        with pytest.raises(UsageError, match=r"cannot be the `(instance-id|local-hostname)` of a guest"):
            forms.files(ODD, "cidata", UNKNOWN, **names)
    with pytest.raises(UsageError, match="cannot be the `local-hostname`"):
        forms.files(ODD, "cidata", UNKNOWN, hostname="")
