"""Contract files: texts kept as they stand, places those of the file, secrets masked and nothing else."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import contracts
from secure_build import strict_yaml
from secure_build.contract import reading, schema, text
from secure_build.contract.document import Contract, SectionText, read_section
from secure_build.contract.schema.secrecy import secret_paths
from secure_build.errors import UsageError
from secure_build.strict_yaml import load

BODY = """\
# a comment
type: workload   # what this is

env:
  A: "1"
"""
CONTRACT = """\
# head
workload: |
  # a comment
  type: workload   # what this is

  env:
    A: "1"
env: contract-basic.AAAA.BBBB
envWorkloadSignature: AAAA
"""


def test_a_section_is_the_text_that_the_contract_has() -> None:
    contract = Contract.parse(CONTRACT.encode(), "c.yaml")
    assert contract.workload.value == yaml.safe_load(CONTRACT)["workload"] == BODY
    assert contract.workload.digest.hexadecimal == hashlib.sha256(BODY.encode()).hexdigest()
    assert (contract.workload.is_token, contract.env.is_token) == (False, True)
    assert (contract.signature, contract.boot, contract.size) == ("AAAA", None, len(CONTRACT))
    assert contract.where("env") == "c.yaml:8"


def test_lines_are_those_of_the_file() -> None:
    document = Contract.parse(CONTRACT.encode(), "c.yaml").workload.document
    assert document is not None
    assert document.line(("env", "A")) == CONTRACT.splitlines().index('    A: "1"') + 1


@pytest.mark.parametrize(
    "content",
    [
        BODY,
        BODY.replace("\n", "\r\n"),
        text.block("workload", BODY),
        CONTRACT,
        text.block("workload", BODY) + "env: 'type: env'\n",
    ],
)
def test_a_section_of_a_file_is_the_same_in_every_form(content: str) -> None:
    section = read_section(content.encode(), "w.yaml", "workload")
    assert (section.value, section.is_token) == (BODY, False)


@pytest.mark.parametrize("content", ["{}", "{}\n", "workload: {}\n", "workload: '{}'\r\n"])
def test_a_token_is_the_same_in_every_form(content: str) -> None:
    token = "hyper-protect-basic." + "A" * 3_000_000 + ".BBBB"
    section = read_section(content.format(token).replace("{}", token).encode(), "w.yaml", "workload")
    assert section.value == token
    assert section.is_token
    assert section.document is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("type: env", "w.yaml:1: this is the `env` section, not `workload`"),
        ("env: |\n  type: env\n", "w.yaml:1: there is no `workload` section in this file"),
        ("workload:\n  type: workload\n", "w.yaml:1: `workload` must be text; the runtime says HPL05000E"),
        ("workloda: x", "w.yaml:1: workloda: unknown key; did you mean `workload`?"),
        ("workload: x\nworkload: y\n", "w.yaml:2: the key `workload` stands twice"),
        ("- a", "w.yaml:1: this is neither a contract nor a section of one"),
        ("", "w.yaml is empty"),
    ],
)
def test_what_is_no_section_is_refused(content: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_section(content.encode(), "w.yaml", "workload")
    assert caught.value.message.startswith(message)


def test_hardening_42_a_bomb_in_a_section_is_refused() -> None:
    bomb = "type: workload\na: &a [x, x]\n" + "".join(
        f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
        for before, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    section = Contract.parse(f"{text.block('workload', bomb)}env: x.y\n".encode(), "c.yaml").workload
    with pytest.raises(UsageError, match="its aliases make this document too large"):
        _ = section.document


@pytest.mark.parametrize(
    ("section", "masked"),
    [
        ("auths: {us.icr.io: {username: abc, password: pw1}}",
         'auths: {us.icr.io: {username: abc, password: "***"}}'),
        ("auths:\n  us.icr.io:\n    password: >-  # c\n      a\n      b\n    username: abc\n",
         'auths:\n  us.icr.io:\n    password: "***"\n    username: abc\n'),
        ("env:\n  A: |\n    secret\n\n  B: 'x'   # kept\n", 'env:\n  A: "***"\n\n  B: "***"   # kept\n'),
        ("auth: {a: [pw, {b: 1}]}\ntype: workload", 'auth: {a: ["***", {b: "***"}]}\ntype: workload'),
        ("x: &p pw\nauths: {a.b: {username: abc, password: *p}}",
         'x: &p "***"\nauths: {a.b: {username: abc, password: "***"}}'),
        ("auths: pw", 'auths: "***"'),
        ("volumes: {a: {seed: pw, previousSeed: pw, mount: /mnt}}",
         'volumes: {a: {seed: "***", previousSeed: "***", mount: /mnt}}'),
        ("auths:\n  a.b: &l\n    username: abc\n    password: pw\n  c.d: *l\n",
         None),
        ("- pw\n", '- "***"\n'),
        ("pw", '"***"\n'),
    ],
)  # fmt: skip
def test_what_is_masked_and_what_stays(section: str, masked: str | None) -> None:
    found = SectionText("w", "workload", section, 7).masked(schema.models("ccrt").workload)
    assert "pw" not in found
    assert masked is None or found == masked


SECRETS = st.from_regex(r"[a-zA-Z0-9 :#'\"{}\[\]&*!|>%@`,\n-]{0,20}canary[a-z ]{0,5}", fullmatch=True)


@settings(max_examples=150)
@given(st.sampled_from(schema.TARGETS), st.data())
def test_no_secret_is_left_in_masked_text_however_it_is_written(target: str, data: st.DataObject) -> None:
    contract = data.draw(st.sampled_from(contracts.full(target)))
    name = data.draw(st.sampled_from(["workload", "env"]))
    section = copy.deepcopy(contract[name])
    model = schema.models(target).section(name)
    paths = secret_paths(model, section)
    assert paths
    for path in paths:
        put(section, path, data.draw(SECRETS))
    style = data.draw(st.sampled_from([None, '"', "'", "|", ">"]))
    flow = data.draw(st.sampled_from([None, True, False]))
    written = yaml.safe_dump(section, default_style=style, default_flow_style=flow, sort_keys=False)
    try:
        before = load(written.encode(), "w").data
    except UsageError:
        # PyYAML writes tags for numbers in a style of strings.
        return
    found = SectionText("w", name, written, 3).masked(model)
    assert "canary" not in found
    after = load(found.encode(), "w").data
    for path in paths:
        put(before, path, "***")
    assert after == before


def put(data: Any, path: tuple[Any, ...], value: str) -> None:
    for part in path[:-1]:
        data = data[part]
    data[path[-1]] = value


def test_every_secret_field_is_known_as_one() -> None:
    found = set()
    for target in schema.TARGETS:
        for contract in contracts.full(target):
            for name in ("workload", "env"):
                for path in secret_paths(schema.models(target).section(name), contract[name]):
                    found.add((name, *(str(part) for part in path)))
    assert {path[-1] for path in found} == {
        *("password", "seed", "previousSeed", "iamApiKey", "apiKey", "key", "clientKey", "decryptionKey"),
        *("aesKeyBlob", "previousaesKeyBlob", "PORT", "_X1", "A"),
    }


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("8080", 8080), ("0644", 420), ("0o17", 15), ("0x1F", 31), ("0b11", 3), ("1_000", 1000),
        ("1e3", 1000.0), ("1.", 1.0), (".5", 0.5), ("0999", 999.0), ("+12", 12),
        ("yes", "yes"), ("NO", "NO"), ("12:30", "12:30"),
        ("_1", "_1"), ("1.2.3", "1.2.3"), ("0xZ", "0xZ"), ("'0644'", "0644"), ("true", True), ("v1", "v1"),
        ("12345678901234567890", 12345678901234567890.0),
    ],
)  # fmt: skip
def test_numbers_are_what_the_guest_makes_of_them(written: str, read: object) -> None:
    found = reading.guest_data(load(f"a: [{written}]".encode(), "w"))
    assert found == {"a": [read]}
    assert type(found["a"][0]) is type(read)


@pytest.mark.parametrize("written", ["2026-11-23", "2026-1-2T03:04:05Z", ".inf", "-.INF", ".nan"])
def test_times_and_infinities_are_no_text(written: str) -> None:
    assert not isinstance(reading.guest_data(load(f"a: {written}".encode(), "w"))["a"], str)


_LONG = "contract-basic.QUFB." + "QUFB" * 5000


@pytest.mark.parametrize(
    ("content", "same"),
    [
        (f"workload: {_LONG}\nenv: {_LONG}\n", True),
        (f"workload: {_LONG}\r\nenv: {_LONG}", True),
        (f"workload: {_LONG}\n  more\nenv: a\n", False),
        (f'env: "a\nworkload: {_LONG}\n "\nworkload: token\n', False),
        (f"env: |\n  workload: {_LONG}\nworkload: token\n", False),
    ],
)
def test_a_long_token_is_read_as_yaml_reads_it(content: str, same: bool) -> None:
    contract = Contract.parse(content.encode(), "contract.yaml")
    data = strict_yaml.load(content.encode(), "contract.yaml").data
    assert contract.values == data
    assert (contract.workload.value == _LONG) == same


def test_a_long_token_under_a_key_that_stands_twice_is_refused() -> None:
    content = f"workload: {_LONG}\nworkload: {_LONG}\nenv: a\n"
    with pytest.raises(UsageError, match=r"contract\.yaml:2: the key `workload` stands twice"):
        Contract.parse(content.encode(), "contract.yaml")
