"""The lines that an attestation record will have, and reading the lines of one."""

from __future__ import annotations

import base64
import hashlib
from pathlib import PurePosixPath

import pytest

from secure_build.contract.deployment import expected
from secure_build.contract.deployment.expected import Line
from secure_build.reference import Digest

TOKEN = f"contract-basic.{base64.b64encode(bytes(512)).decode()}.U2FsdGVkX18AAQIDBAUGBw=="
ONES, TWOS = "1" * 64, "2" * 64


@pytest.mark.parametrize(
    ("name", "value", "basis"),
    [
        ("workload", TOKEN, "documented"),
        ("env", TOKEN.replace("contract", "hyper-protect"), "documented"),
        ("attestationPublicKey", TOKEN, "documented"),
        ("envWorkloadSignature", "c2lnbmF0dXJl", "documented"),
        ("workload", "type: workload\n", "inferred"),
        ("env", "type: env\nlogging: {}", "inferred"),
        ("attestationPublicKey", "-----BEGIN PUBLIC KEY-----\n", "inferred"),
        ("workload", TOKEN + "\n", "inferred"),
        ("workload", f"type: {TOKEN}", "inferred"),
    ],
)
def test_a_section_is_hashed_as_it_stands(name: str, value: str, basis: str) -> None:
    (line,) = expected.of_sections({name: value})
    digest = hashlib.sha256(value.encode()).hexdigest()
    assert (line.name, line.digest.hexadecimal, line.basis) == (f"contract:{name}", digest, basis)


def test_the_lines_stand_in_the_order_of_the_record_and_only_for_sections() -> None:
    names = ("boot", "envWorkloadSignature", "other", "env", "workload")
    found = [line.name for line in expected.of_sections(dict.fromkeys(names, "x"))]
    assert found == ["contract:workload", "contract:env", "contract:envWorkloadSignature"]


def test_what_is_written_is_read_again() -> None:
    lines = expected.of_files({PurePosixPath("cidata/user-data"): b"workload: x"})
    lines += expected.of_sections({"workload": TOKEN, "env": "type: env\n"})
    written = expected.text(lines)
    assert expected.parse(written) == [Line(line.name, line.digest) for line in lines]
    told = {line for line, before in zip(written.split("\n")[1:], written.split("\n"), strict=False)
            if before == "# inferred"}  # fmt: skip
    assert {line.split(" ")[1] for line in told} == {"cidata/user-data", "contract:env"}


# Shapes of records of several images: with and without `contract:`, with a space behind it or at the end.
@pytest.mark.parametrize(
    ("record", "names"),
    [
        (f"{ONES} contract:workload", ["contract:workload"]),
        (f"{ONES} contract: env \n", ["contract:env"]),
        (f"{ONES} attestationPublicKey\r\n", ["contract:attestationPublicKey"]),
        (f"{ONES} workload\n{ONES} env\n", ["contract:workload", "contract:env"]),
        (f"{ONES} cidata/user-data\n{ONES} /dev/disk/by-label/cidata\n",
         ["cidata/user-data", "/dev/disk/by-label/cidata"]),
        (f"{ONES} env\n{TWOS} env\n", ["contract:env", "contract:env"]),
        (f"26.7.1\nMachine Type/Plant/Serial: 9175/02/X\n\n{ONES} sbom\n", ["sbom"]),
        (f"{ONES.replace('1', 'A')} env\n {ONES} env\n{ONES}\tenv\n{ONES}0 env\n{ONES}env\n{ONES}", []),
        (f"{ONES} a\u2028{TWOS} env\n", [f"a\u2028{TWOS} env"]),
        ("", []),
    ],
)  # fmt: skip
def test_lines_of_a_record(record: str, names: list[str]) -> None:
    assert [line.name for line in expected.parse(record)] == names


def test_a_digest_of_a_record_is_kept_with_its_name() -> None:
    assert expected.parse(f"x\n{TWOS} env") == [Line("contract:env", Digest(f"sha256:{TWOS}"))]


# What records of real guests were seen to name. Only sections and files of `cidata` are known beforehand;
# what belongs to the image and the machine is left to whoever audits a record.
OF_THE_CONTRACT = ["workload", "env", "attestationPublicKey", "envWorkloadSignature"]
OF_THE_DISK = ["cidata/meta-data", "cidata/user-data", "cidata/vendor-data"]
OF_IMAGE_AND_MACHINE = ["certificate_expiry_date.json", "root.tar.gz", "baseimage", "sbom",
                        "/dev/disk/by-label/cidata", "AP(1):secret", "uv_firmware.state",
                        "user-data.decrypted"]  # fmt: skip


@pytest.mark.parametrize("name", [*OF_THE_DISK, *OF_IMAGE_AND_MACHINE])
@pytest.mark.parametrize("end", ["", " ", "\r"])
def test_other_names_stay_as_they_are(name: str, end: str) -> None:
    assert expected.parse(f"{ONES} {name}{end}\n") == [Line(name, Digest(f"sha256:{ONES}"))]


@pytest.mark.parametrize("name", OF_THE_CONTRACT)
@pytest.mark.parametrize("before", ["", "contract:", "contract: "])
def test_sections_of_all_images_have_one_name(name: str, before: str) -> None:
    assert expected.parse(f"{ONES} {before}{name}\n") == [Line(f"contract:{name}", Digest(f"sha256:{ONES}"))]


def test_only_what_the_contract_decides_is_said_beforehand() -> None:
    sections = expected.of_sections(dict.fromkeys([*OF_THE_CONTRACT, *OF_IMAGE_AND_MACHINE], "x"))
    assert [line.name for line in sections] == [f"contract:{name}" for name in OF_THE_CONTRACT]


@pytest.mark.parametrize(
    "line",
    ["26.7.1", "Machine Type/Plant/Serial: 9175/02/X", "Image age: 12 days since creation.",
     "Encryption Certificate valid until: 2027-01-01", "Attestation Certificate valid until: 2027-01-01"],
)  # fmt: skip
def test_headers_are_no_lines(line: str) -> None:
    assert expected.parse(f"{line}\n{ONES} sbom\n") == [Line("sbom", Digest(f"sha256:{ONES}"))]
