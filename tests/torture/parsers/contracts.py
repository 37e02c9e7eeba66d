"""Contracts, and what runtimes and auditors say about them."""

from __future__ import annotations

import base64
import gzip
import json
import os

from fakes.keys import private_pem, rsa_key
from secure_build.contract import (
    attestation,
    checks,
    merging,
    schema,
)
from secure_build.contract.confidential import initdata
from secure_build.contract.confidential.policy import Policy
from secure_build.contract.document import Contract
from secure_build.contract.encryption import disclosure, signature, token
from secure_build.contract.encryption.token import Token
from secure_build.model import (
    Credential,
)
from secure_build.secret import Secret
from torture.parsers.descriptors import TARS
from torture.parsers.table import NOW, TARGETS, dumped, files, parser, text

# Contracts

SIGNED = private_pem(rsa_key("signer"))
RUNTIME, AUDITOR = rsa_key("runtime"), rsa_key("auditor")
SEALED = token.encrypt(b"type: env\n", RUNTIME.public_key(), "hyper-protect-basic", os.urandom)
CONTRACTS = files("cases/contract/*.yaml", "cases/verify/contract/*.yaml")
SECTION = (
    b"type: workload\nauths:\n  us.icr.io: {username: iamapikey, password: abc}\ncompose: {archive: AAAA}\n"
)


def with_archive(content: bytes) -> bytes:
    return content.replace(b"ARCHIVE", base64.b64encode(gzip.compress(TARS[0], mtime=0)))


@parser(
    "contract",
    [*map(with_archive, CONTRACTS), b"workload: %s\nenv: |\n  type: env\n" % str(SEALED.token).encode()],
    cost=30,
)
def _(content: bytes) -> None:
    found = Contract.parse(content, "contract.yaml")
    for target in TARGETS:
        checks.contract_findings(found, target, now=NOW)
    for section in (found.workload, found.env):
        section.masked(schema.models("ccrt").section(section.section))


@parser("section", [SECTION, *files("cases/merge/*.yaml")], cost=20)
def _(content: bytes) -> None:
    logins_ = [Credential("us.icr.io", "iamapikey", Secret("a-password"))]
    merging.merge(content, "workload.yaml", logins_, {"rhs": {"us.icr.io/a/b:1": {"publicKey": "AAAA"}}})


@parser("encrypted section", [str(SEALED.token)])
def _(content: bytes) -> None:
    written = text(content)
    token.looks_like_token(written)
    found = Token.parse(written, "`workload`")
    token.open_with(found, SEALED.opening)
    signature.verify(written, written, "AAAA", RUNTIME.public_key())
    token.decrypt(found, RUNTIME)


DISCLOSED = disclosure.seal("env", SEALED.token, SEALED.opening, AUDITOR.public_key())


@parser("disclosure", [DISCLOSED])
def _(content: bytes) -> None:
    disclosure.is_for(content, SEALED.token, AUDITOR.public_key())
    disclosure.unseal(content, AUDITOR, "the disclosure").plaintext(SEALED.token, RUNTIME.public_key())


@parser(
    "opening of a disclosure",
    [dumped({"password": "x" * 32, "salt": "AAAAAAAAAAA=", "padding": "AAAA"})],
    cost=5,
)
def _(content: bytes) -> None:
    document = json.loads(DISCLOSED)
    pieces = [content[start : start + 190] for start in range(0, len(content), 190)]
    document["opening"] = [
        base64.b64encode(AUDITOR.public_key().encrypt(piece, disclosure._OAEP)).decode()
        for piece in pieces[:4]
    ]
    found = disclosure.unseal(dumped(document), AUDITOR, "the disclosure")
    found.plaintext(SEALED.token, RUNTIME.public_key())


RECORD = b"26.7.1\nMachine: x\n" + b"a" * 64 + b" contract:env\n" + b"b" * 64 + b"  baseimage\n"


@parser("attestation record", [RECORD])
def _(content: bytes) -> None:
    found = attestation.parse(content, "se-checksums.txt")
    assert found.digests(found.lines[0].name)
    attestation.is_signed(content, content[:256], RUNTIME.public_key())


@parser("published hashes", [b'"26.7.1": {baseimage: ' + b"a" * 64 + b"}\n"])
def _(content: bytes) -> None:
    attestation.known_values(content, "known.yaml")


TOML = initdata.initdata("workload: a\nenv: b\n")


@parser("init data", [TOML.toml])
def _(content: bytes) -> None:
    compressed = base64.b64encode(gzip.compress(content, 1)).decode()
    found = initdata.read_initdata(compressed)
    assert initdata.read_initdata(found.annotation()) == found
    assert found.digest


@parser("annotation", [TOML.annotation()])
def _(content: bytes) -> None:
    initdata.read_initdata(text(content))


@parser("policy", [Policy.of([]).text(), "package agent_policy\n\nallowed := {}\n"])
def _(content: bytes) -> None:
    Policy.read(text(content))


@parser("boot header", [b"IBMSecEx" + bytes(range(64))])
def _(content: bytes) -> None:
    initdata.boot_section(content).encode()
