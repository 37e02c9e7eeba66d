"""Init data, read with Python's own gzip and TOML readers, and what is none."""

from __future__ import annotations

import base64
import gzip
import hashlib
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_build.contract.confidential.initdata import (
    LARGEST,
    Initdata,
    boot_section,
    initdata,
    read_initdata,
)
from secure_build.errors import UsageError

CONTRACT = 'workload: hyper-protect-basic.abc=.def=\nenv: |\n  type: env\n  # \'\'é""" \\n {{ . }}\n\ttab\n'
TOML = "\nalgorithm = \"sha384\"\nversion = \"0.1.0\"\n\n[data]\n\"contract.yaml\" = '''{}'''\n"


def packed(toml: str | bytes) -> str:
    return base64.b64encode(gzip.compress(toml if isinstance(toml, bytes) else toml.encode())).decode()


def test_the_annotation_is_toml_in_gzip_in_base64() -> None:
    made = initdata(CONTRACT)
    compressed = base64.b64decode(made.annotation(), validate=True)
    toml = gzip.decompress(compressed)
    assert toml.decode() == TOML.format(CONTRACT)
    assert tomllib.loads(toml.decode()) == {
        "algorithm": "sha384",
        "version": "0.1.0",
        "data": {"contract.yaml": CONTRACT},
    }
    assert made.digest == hashlib.sha384(toml).hexdigest()
    # Neither name nor time: RFC 1952, header.
    assert compressed[:8] == b"\x1f\x8b\x08\x00\x00\x00\x00\x00"
    assert "\n" not in made.annotation()


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]) | st.sampled_from("\n\t'"), max_size=60)
)
def test_a_contract_comes_back_as_it_was_or_is_refused(body: str) -> None:
    contract = f"workload: {body}\n"
    try:
        made = initdata(contract)
    except UsageError:
        assert "'''" in contract
        return
    assert read_initdata(made.annotation()) == made
    assert tomllib.loads(made.toml.decode())["data"]["contract.yaml"] == contract


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ("a: b\nc: '''\n", "line 2 of the contract has three single quotes"),
        ("a: b\r\n", r"U\+000D"),
        ("a: \0\n", r"U\+0000"),
        ("a: \x1b\n", r"U\+001B"),
        ("a: \x7f\n", r"U\+007F"),
        ("a: \ud800\n", r"U\+D800"),
        ("", "ends with a newline"),
        ("a: 'b'", "ends with a newline"),
        ("\na: b\n", "begins with a key"),
    ],
)
def test_a_contract_that_toml_would_change_is_refused(contract: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        initdata(contract)


def test_init_data_of_other_tools_is_read() -> None:
    toml = "version = '0.1.0'\nalgorithm = 'sha256'\n[data]\n'aa.toml' = 'x'\n\"contract.yaml\" = \"a: b\"\n"
    read = read_initdata(packed(toml))
    assert read == Initdata("a: b", toml.encode(), "sha256")
    assert read.digest == hashlib.sha256(toml.encode()).hexdigest()


GOOD = base64.b64decode(packed(TOML.format("a: b\n")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "base64 of gzip"),
        ("!", "base64 of gzip"),
        ("é", "base64 of gzip"),
        (packed(TOML.format("a")) + "\n", "base64 of gzip"),
        (base64.b64encode(b"not gzip").decode(), "base64 of gzip"),
        (base64.b64encode(GOOD[:-1]).decode(), "base64 of gzip"),
        (base64.b64encode(GOOD[:-8] + b"\0" * 8).decode(), "base64 of gzip"),
        (base64.b64encode(GOOD + b"more").decode(), "base64 of gzip"),
        (base64.b64encode(GOOD + GOOD).decode(), "base64 of gzip"),
        (packed(b"\xff"), "base64 of gzip"),
        (packed(b"x" * (LARGEST + 1)), f"more than {LARGEST} bytes"),
        (packed(b"\n" * (200 * LARGEST)), f"more than {LARGEST} bytes"),
        (packed("a = "), "not TOML"),
        (packed("a = " + "[" * 100_000), "not TOML"),
        (packed("algorithm = 'sha384'\n"), "no `algorithm` or no `data`"),
        (packed("algorithm = 'sha384'\ndata = 'x'\n"), "no `algorithm` or no `data`"),
        (packed("[data]\n'contract.yaml' = 'x'\n"), "no `algorithm` or no `data`"),
        (packed("algorithm = 'md5'\n[data]\n'contract.yaml' = 'x'\n"), "no known `algorithm`"),
        (packed("algorithm = []\n[data]\n'contract.yaml' = 'x'\n"), "no known `algorithm`"),
        (packed("algorithm = 'sha384'\n[data]\n'contract.yaml' = 1\n"), "is no text"),
    ],
)
def test_what_is_no_init_data_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_initdata(text)


def test_the_boot_section_is_the_header_on_one_line() -> None:
    header = b"IBMSecEx" + bytes(range(256)) * 8
    section = boot_section(header)
    assert section.count("\n") == 1
    assert base64.b64decode(section.removeprefix("sehdr: ").removesuffix("\n"), validate=True) == header
    with pytest.raises(UsageError, match="no Secure Execution header"):
        boot_section(b"\x7fELF" + header)
