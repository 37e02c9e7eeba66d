"""Secrets: where they are found, how they print, and what the masker hides."""

from __future__ import annotations

import base64
import copy
import dataclasses
import json
import pickle
import threading
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from secure_build import secret
from secure_build.errors import UsageError
from secure_build.model import Credential
from secure_build.secret import Secret, basic_authorization, look_up, mask


@pytest.fixture(autouse=True)
def nothing_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_masked", set())
    monkeypatch.delenv("SECURE_BUILD_SECRETS", raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECURE_BUILD_SECRETS", str(tmp_path))
    return tmp_path


def test_a_variable_goes_before_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "PUSH_KEY").write_text("from-file\n")
    assert look_up("PUSH_KEY").reveal() == "from-file"
    monkeypatch.setenv("PUSH_KEY", "")
    assert look_up("PUSH_KEY").reveal() == "from-file"
    monkeypatch.setenv("PUSH_KEY", "from-variable")
    assert look_up("PUSH_KEY").reveal() == "from-variable"


@pytest.mark.parametrize(
    ("content", "value"),
    [
        ("word", "word"),
        ("word\n", "word"),
        ("word\r\n", "word"),
        ("word\n\n", "word\n"),
        (" word ", " word "),
    ],
)
def test_only_the_last_line_break_of_a_file_is_not_meant(folder: Path, content: str, value: str) -> None:
    (folder / "KEY").write_bytes(content.encode())
    assert look_up("KEY").reveal() == value


def test_a_missing_secret_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=r"^the secret `KEY` is missing$") as raised:
        look_up("KEY")
    assert raised.value.hint == (
        "set the environment variable `KEY`, "
        "or point `SECURE_BUILD_SECRETS` at a folder with a file of that name"
    )
    monkeypatch.setenv("SECURE_BUILD_SECRETS", str(tmp_path))
    with pytest.raises(UsageError) as raised:
        look_up("KEY")
    assert raised.value.hint == f"set the environment variable `KEY` or file `{tmp_path}/KEY`"


def test_files_that_are_no_secrets_are_refused(folder: Path) -> None:
    (folder / "SHORT").write_text("ab\n")
    (folder / "BINARY").write_bytes(b"\xff\xfe\xfd\xfc")
    (folder / "LARGE").write_bytes(b"x" * ((1 << 20) + 1))
    (folder / "FOLDER").mkdir()
    (folder / "EMPTY").write_text("\n")
    for name, why in {
        "SHORT": "is shorter than 3 characters",
        "BINARY": "is not UTF-8 text",
        "LARGE": "is larger than 1048576 bytes",
        "FOLDER": "cannot read the secret file",
        "EMPTY": "is missing",
    }.items():
        with pytest.raises(UsageError, match=why):
            look_up(name)


def test_a_secret_prints_as_stars() -> None:
    hidden = Secret("canary")
    login = Credential("us.icr.io", "ann", hidden)
    for text in (str(hidden), repr(hidden), f"{hidden}", f"{login!r}", f"{hidden!r:>10}", str([hidden])):
        assert "canary" not in text
        assert "***" in text


def test_a_secret_is_not_written_out() -> None:
    hidden = Secret("canary")
    for write in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps, vars):
        with pytest.raises(TypeError):
            write(hidden)
    with pytest.raises(TypeError, match="a secret is not written out"):
        dataclasses.asdict(Credential("us.icr.io", "ann", hidden))


def test_secrets_are_equal_by_value() -> None:
    assert Secret("one") == Secret("one")
    assert Secret("one") != Secret("two")
    assert Secret("one") != "one"
    assert len({Secret("one"), Secret("one"), Secret("two")}) == 2


def test_what_was_not_revealed_is_not_masked() -> None:
    Secret("canary")
    assert mask("a canary") == "a canary"


def test_what_was_revealed_is_masked_in_every_form() -> None:
    value = "first line/ä\nsecond=line"
    Secret(value).reveal()
    forms = [
        value,
        *value.split("\n"),
        *(quote(value), quote(value, safe=""), quote_plus(value)),
        json.dumps(value).strip('"'),
        base64.b64encode(value.encode()).decode(),
    ]
    for form in forms:
        assert mask(f"<{form}>") == "<***>"


def test_the_longest_secret_is_masked_first() -> None:
    Secret("abc").reveal()
    Secret("abcdef").reveal()
    assert mask("abcdef abc") == "*** ***"


def test_lines_too_short_to_mask_are_let_through() -> None:
    Secret("-----BEGIN KEY-----\n==\nabcd").reveal()
    assert mask("a == b, abcd") == "a == b, ***"


def test_a_basic_login_is_masked_as_a_whole() -> None:
    header = basic_authorization("ann", "wörd")
    assert base64.b64decode(header).decode() == "ann:wörd"
    assert mask(f"Authorization: Basic {header}") == "Authorization: Basic ***"


def test_nobody_uses_a_secret_before_all_have_been_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret, "_listeners", [])
    monkeypatch.setattr(secret, "_masked", set())
    order: list[str] = []
    begun = threading.Event()

    def slow(_forms: list[str]) -> None:
        begun.set()
        # Long enough for the other thread to get ahead, if it could.
        time.sleep(0.05)
        order.append("told")

    secret.tell(slow)
    value = Secret("canary-of-two-threads")

    def use() -> None:
        value.reveal()
        order.append("used")

    first = threading.Thread(target=use)
    first.start()
    assert begun.wait(5)
    use()
    first.join()
    assert order == ["told", "used", "used"]
