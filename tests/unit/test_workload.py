"""The workload section, the fragment, and logins merged into a section that somebody else wrote."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secure_build.contract import archive, merging, text, workload
from secure_build.errors import UsageError
from secure_build.model import Credential
from secure_build.reference import Pinned
from secure_build.secret import Secret

PACKED = archive.build({PurePosixPath("docker-compose.yml"): archive.Member(b"services: {}\n")})
COMPOSE = {"compose": {"archive": PACKED.base64()}}
PINNED = Pinned.parse("us.icr.io/acme/web@sha256:" + "0" * 64)
passwords = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=3)


def login(registry: str = "us.icr.io", password: str = "new-key", username: str = "iamapikey") -> Credential:
    return Credential(registry, username, Secret(password))


def merged(content: str, *logins: Credential) -> str:
    return merging.merge(content.encode(), "contract.yaml", logins or [login()], {})


def refusal(content: str, *logins: Credential) -> str:
    with pytest.raises(UsageError) as caught:
        merged(content, *logins)
    return caught.value.message


@given(passwords)
def test_a_section_holds_type_logins_and_archive(password: str) -> None:
    section = workload.section(
        [login(password=password), login("docker.io", "hub-token", "acme")], {}, COMPOSE
    )
    assert yaml.safe_load(section.plain) == {
        "type": "workload",
        "auths": {
            "https://index.docker.io/v1/": {"username": "acme", "password": "hub-token"},
            "us.icr.io": {"username": "iamapikey", "password": password},
        },
        "compose": {"archive": PACKED.base64()},
    }
    masked = yaml.safe_load(section.masked)
    assert masked["auths"]["us.icr.io"] == {"username": "iamapikey", "password": "***"}
    assert yaml.safe_load(text.block("workload", section.plain)) == {"workload": section.plain}


def test_a_section_without_logins_has_no_auths() -> None:
    section = workload.section([], {}, COMPOSE)
    assert yaml.safe_load(section.plain) == {"type": "workload", "compose": {"archive": PACKED.base64()}}
    assert section.masked == section.plain


def test_a_fragment_has_empty_images_logins_and_the_references_as_comments() -> None:
    fragment = workload.fragment([login()], {}, {"web": PINNED})
    assert fragment.masked == (
        "# Every image is named by digest, so the runtime needs no key to check it.\n"
        "images: {}\n"
        "auths:\n"
        "  us.icr.io:\n"
        "    username: iamapikey\n"
        '    password: "***"\n'
        "# References:\n"
        f"#   web: {PINNED}\n"
    )
    assert fragment.plain == fragment.masked.replace('"***"', "new-key")


def test_a_representation_shows_no_secret() -> None:
    assert "new-key" not in repr(workload.section([login()], {}, COMPOSE))


SECTION = """\
# mine
type:   workload

auths:   # who may pull
  # the old one
  de.icr.io: {username: iamapikey,  password: 'old # key'}
  us.icr.io:
    password: "changed"   # by me
    username: someone
compose:
    archive: H4sI
volumes:
  data: {seed: "a-seed", mount: /data}
env:
  TOKEN: env-secret
  BLOCK: |-
    two
    lines
# the end
"""


@given(passwords)
def test_hardening_49_only_the_login_changes(password: str) -> None:
    expected = SECTION.replace('"changed"', text.scalar(password)).replace("someone", "iamapikey")
    assert merged(SECTION, login(password=password)) == expected


@given(passwords)
def test_hardening_49_a_contract_keeps_everything_around_the_block(password: str) -> None:
    head, tail = "# c\nenv: |\n  type: env\nworkload: | # here\n", "\n# x\nenvWorkloadSignature: abc  # y\n"
    contract = head + text.indented(SECTION, 3) + tail
    expected = SECTION.replace('"changed"', text.scalar(password)).replace("someone", "iamapikey")
    assert merged(contract, login(password=password)) == head + text.indented(expected, 3) + tail


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("header", ["|", "|-", "|+", "| # comment", "|2", "&a |"])
@pytest.mark.parametrize("tail", ["", "\n", "\n\n", "\nenv: token\n", "\n\n\n  \n# c\nenv: token"])
@pytest.mark.parametrize(
    "auths", [["compose: {}"], ["auths: {} # none", "x: {y: z}"], ["auths:", "compose: {}"]]
)
def test_hardening_49_logins_are_added_in_blocks_of_every_kind(
    newline: str, header: str, tail: str, auths: list[str]
) -> None:
    login_lines = "us.icr.io:\n  username: iamapikey\n  password: new-key\n"
    section = "type: workload\n" + "\n".join(auths)
    if "auths" in section:
        opening = next(line for line in auths if line.startswith("auths"))
        written = "auths: # none" if "#" in opening else "auths:"
        expected = section.replace(opening, f"{written}\n{text.indented(login_lines, 2)}".rstrip("\n"))
    else:
        expected = f"{section}\nauths:\n{text.indented(login_lines, 2)}".rstrip("\n")
    end = tail or ("" if "auths" in section else "\n")
    before = f"workload: {header}\n{text.indented(section, 2)}{tail}".replace("\n", newline)
    after = f"workload: {header}\n{text.indented(expected, 2)}{end}"
    assert merged(before) == after.replace("\n", newline)


def test_another_spelling_of_docker_hub_is_replaced() -> None:
    before = "type: workload\nauths:\n  docker.io:\n    username: old\n    password: old\n"
    after = merged(before, login("docker.io", "hub-token", "acme"))
    assert after == (
        "type: workload\nauths:\n"
        "  https://index.docker.io/v1/:\n    username: acme\n    password: hub-token\n"
    )


def test_without_logins_nothing_changes() -> None:
    assert merging.merge(SECTION.encode(), "x", [], {}) == SECTION


def test_merging_twice_is_merging_once() -> None:
    once = merged(SECTION, login(), login("docker.io", "hub-token"))
    assert merged(once, login(), login("docker.io", "hub-token")) == once


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("workload: hyper-protect-basic.abc.def\n", "contract.yaml:1: `workload` is no literal block"),
        ("a: b\nworkload: >\n  type: workload\n", "contract.yaml:2: `workload` is no literal block"),
        ("workload: |\n", "contract.yaml:1: `workload` is no literal block"),
        ("workload:\n  type: workload\n", "contract.yaml:2: `workload` must be text"),
        ("workload:\n", "contract.yaml:1: `workload` is no literal block"),
        ("hyper-protect-basic.abc.def\n", "contract.yaml:1: this is no plain workload section"),
        ("type: env\n", "contract.yaml:1: this is no plain workload section"),
        ("- type: workload\n", "contract.yaml:1: this is no plain workload section"),
        ("a: b\nworkload: |\n  type: env\n", "contract.yaml:3: this is no plain workload section"),
        ("a: b\nworkload: |\n  type: workload\n  type: x\n", "contract.yaml:4: the key `type` stands twice"),
        ("{type: workload}\n", "contract.yaml:1: write the section in block style"),
        ("type: workload\nauths: {a.b: {username: c}}\n", "contract.yaml:2: write `auths` in block style"),
        ("type: workload\nauths: text\n", "contract.yaml:2: write `auths` in block style"),
        ("type: workload\nauths: [a]\n", "contract.yaml:2: write `auths` in block style"),
        ("type: workload\nauths:\n  us.icr.io: \n    username: a\n", "contract.yaml:3: this login has no `p"),
        ("type: workload\nauths:\n  us.icr.io:\n", "contract.yaml:3: this login has no `username`"),
        (
            "type: workload\nauths:\n  us.icr.io: {username: a, password: b}\n  US.ICR.IO: {username: a}\n",
            "contract.yaml:4: `auths` has a second login for the same registry",
        ),
        (
            "type: workload\nauths:\n  us.icr.io: {username: a, password: b, email: c}\n",
            "contract.yaml: `auths` and `images` cannot be changed without changing something else",
        ),
        (
            "type: workload\nauths:\n  a.b: &l {username: a, password: b}\n  us.icr.io: *l\n",
            "contract.yaml: `auths` and `images` cannot be changed without changing something else",
        ),
        ("workload: |\n  type: workload\n  \n  env: {}\n", "contract.yaml:1: this block has blanks"),
    ],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused(content: str, message: str) -> None:
    assert refusal(content).startswith(message)


@given(st.text("type: workload\nauths:|&*{}[]'\"#- abc"), st.booleans())
def test_hardening_58_any_text_is_merged_or_a_usage_error(rest: str, inside: bool) -> None:
    content = "type: workload\n" + rest
    if inside:
        content = "workload: |\n" + text.indented(content, 2)
    try:
        after = yaml.safe_load(merged(content))
    except UsageError:
        return
    section = yaml.safe_load(after["workload"]) if inside else after
    assert section["auths"]["us.icr.io"] == {"username": "iamapikey", "password": "new-key"}
