"""Checks that the golden files in `cases/contract` cannot show: certificates, sizes, archives, codes."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import contracts
from secure_build.contract import archive, checks, schema, text
from secure_build.contract.archive import Member
from secure_build.contract.document import Contract, SectionText
from secure_build.contract.encryption.token import Token
from secure_build.errors import UsageError

TESTS = Path(__file__).parents[1]
DOCS = TESTS.parent / "docs" / "contract.md"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
CODE = re.compile(r"HPL[0-9]{5}[EIW]")
SYSLOG = {"syslog": {"hostname": "192.0.2.1", "port": 6514, "server": "AAAA"}}


def certificate(
    first: datetime, last: datetime, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = KEY
) -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "signer")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, first, last)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def contract(workload: dict[str, object], env: dict[str, object], **more: str) -> Contract:
    sections = {"workload": {"type": "workload"} | workload, "env": {"type": "env", "logging": SYSLOG} | env}
    written = "".join(text.block(name, text.dump(data)) for name, data in sections.items())
    return Contract.parse((written + (text.dump(more) if more else "")).encode(), "c.yaml")


def found(checked: Contract, check: str, target: str = "ccrt") -> list[tuple[str, str | None]]:
    findings = checks.contract_findings(checked, target, now=NOW)
    return [(one.level, one.runtime_code) for one in findings if one.check == check and one.level != "pass"]


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (-DAY, 365 * DAY, []),
        (-DAY, 29 * DAY, [("warn", "HPL12006E")]),
        (-2 * DAY, -DAY, [("fail", "HPL12007E")]),
        (DAY, 365 * DAY, [("fail", "HPL12001E")]),
    ],
)
def test_hardening_46_the_dates_of_the_signing_certificate(
    first: timedelta, last: timedelta, expected: list[tuple[str, str | None]]
) -> None:
    env = {"signingKey": certificate(NOW + first, NOW + last)}
    assert found(contract({}, env, envWorkloadSignature="AAAA"), "signing-key") == expected


def test_a_signing_key_that_is_not_rsa_cannot_be_used() -> None:
    env = {"signingKey": certificate(NOW - DAY, NOW + 99 * DAY, ec.generate_private_key(ec.SECP256R1()))}
    assert found(contract({}, env), "signing-key") == [("fail", "HPL12003E")]


@pytest.mark.parametrize(("size", "expected"), [(40_000, []), (60_000, [("warn", None)])])
def test_unknown_14_large_user_data_is_warned_about(
    size: int, expected: list[tuple[str, str | None]]
) -> None:
    assert found(contract({"env": {"A": "x" * size}}, {}), "size") == expected


@pytest.mark.parametrize(
    ("compose", "expected"),
    [
        (b"services: {a: {image: us.icr.io/team/a}}", []),
        (b"services: {a: {build: .}}", [("fail", "HPL06010E")]),
        (b"services: [", [("fail", "HPL06009E")]),
    ],
)
def test_the_archive_of_a_contract_is_looked_into(
    compose: bytes, expected: list[tuple[str, str | None]]
) -> None:
    packed = archive.build({PurePosixPath("docker-compose.yml"): Member(compose)}).base64()
    assert found(contract({"compose": {"archive": packed}}, {}), "compose") == expected


@pytest.mark.parametrize("target", schema.TARGETS)
def test_hardening_45_the_prefix_of_the_target_is_the_expected_one(target: str) -> None:
    def level(prefix: str) -> str:
        section = SectionText(
            "c.yaml", "workload", str(Token(prefix, bytes(512), b"Salted__" + bytes(24))), 1
        )
        return checks.section_findings(section, target)[0].level

    levels = {prefix: level(prefix) for prefix in ("contract-basic", "hyper-protect-basic")}
    expected = "contract-basic" if target in ("ccrt", "ccrv") else "hyper-protect-basic"
    assert {prefix for prefix, found in levels.items() if found == "pass"} == {expected}
    assert set(levels.values()) == {"pass", "warn"}


@settings(max_examples=200)
@given(st.sampled_from(schema.TARGETS), st.data())
def test_hardening_58_whatever_a_contract_holds_is_a_finding(target: str, data: st.DataObject) -> None:
    mutated = data.draw(contracts.mutated(target))
    sections = {name: mutated.get(name, {}) for name in ("workload", "env")}
    written = "".join(
        text.block(name, text.dump(section) if isinstance(section, dict) else f"{section!r}\n")
        for name, section in sections.items()
    )
    sides = {key: value for key, value in mutated.items() if key not in sections and isinstance(value, str)}
    try:
        checked = Contract.parse((written + (text.dump(sides) if sides else "")).encode(), "c.yaml")
    except UsageError:
        return
    findings = checks.contract_findings(checked, target, now=NOW)
    assert findings
    for section in (checked.workload, checked.env):
        with contextlib.suppress(UsageError):
            section.masked(schema.models(target).section(section.section))


def test_hardening_48_every_code_in_the_docs_is_one_that_a_test_sees() -> None:
    listed = DOCS.read_text().partition("## What the runtime would print")[2].partition("\n## ")[0]
    seen = [path.read_text() for path in (TESTS / "cases" / "contract").iterdir()]
    seen += [
        (TESTS / "unit" / f"test_{name}.py").read_text()
        for name in ("archive_reading", "contract_checks", "signature")
    ]
    assert set(CODE.findall(listed)) == set(CODE.findall("".join(seen)))
