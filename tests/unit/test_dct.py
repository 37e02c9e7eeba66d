"""Keys and trust data of Notary: which forms are read, what they say, and what is refused.

The files in `tests/cases/notary` were written by notary 0.7.0; the key is worth nothing.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.model import Credential
from secure_build.reference import Digest, Repository
from secure_build.secret import Secret
from secure_build.signers.dct import opened, server_findings
from secure_build.signers.notary import answers
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import (
    RELEASES,
    ROOT,
    TARGETS,
    Documents,
    RootCertificate,
    Target,
    TrustData,
    certificates,
    older,
    root_certificate,
)

CASES = Path(__file__).parent.parent / "cases" / "notary"
ROOT_JSON, TARGETS_JSON = (json.loads((CASES / f"{name}.json").read_bytes()) for name in ("root", "targets"))
KEY = (CASES / "root.key").read_bytes()
PASSPHRASE = Secret("passphrase of the other client")
# What `notary key list` said of the key.
IDENTIFIER = "373f69456560b5deb6d86248785fc8ba44a0cb3cac292ada0fe8105aedc0c063"
REPOSITORY = Repository.parse("us.icr.io/acme/web")
MADE = datetime(2026, 11, 24, tzinfo=UTC)
CURVE, MODULUS = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
WORD = b"correct horse"


def documents(**parts: Any) -> Documents:
    found: Documents = {ROOT: json.dumps(ROOT_JSON).encode()}
    for name, content in {"targets": TARGETS_JSON, **parts}.items():
        found[PurePosixPath(f"{name.replace('_', '/')}.json")] = json.dumps(content).encode()
    return found


# keys


@pytest.mark.parametrize(
    "content",
    [
        KEY,
        KEY.replace(b"\n", b"\r\n"),
        b"\n" + KEY.replace(b"role: root", b"path: abc\nrole: root") + b"\n",
        KEY.replace(b"role: root\n\n", b""),
    ],
    ids=["kept", "crlf", "exported", "bare"],
)
def test_a_key_of_notarys_is_read(content: bytes) -> None:
    assert NotaryKey.parse(content, PASSPHRASE, "it").identifier == IDENTIFIER


@pytest.mark.parametrize("key", [CURVE, MODULUS], ids=["ecdsa", "rsa"])
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_of_others_is_read(key: Any, form: PrivateFormat) -> None:
    plain = key.private_bytes(Encoding.PEM, form, NoEncryption())
    locked = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(WORD))
    opened_key = NotaryKey.parse(plain, None, "it")
    assert NotaryKey.parse(locked, Secret(WORD.decode()), "it").identifier == opened_key.identifier
    assert opened_key.private.private_numbers() == key.private_numbers()  # type: ignore[union-attr]


def test_what_goes_into_the_key_store_is_locked() -> None:
    content = NotaryKey(CURVE).locked("drawn for the run", "targets")
    assert b"ENCRYPTED" in content
    assert b"\nrole: targets\n\n" in content
    again = NotaryKey.parse(content, Secret("drawn for the run"), "it")
    assert again.identifier == NotaryKey(CURVE).identifier
    assert "Private" not in repr(again)


PLAIN = CURVE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
SMALL = rsa.generate_private_key(65537, 1024).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
EDWARDS = ed25519.Ed25519PrivateKey.generate().private_bytes(
    Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
)


@pytest.mark.parametrize(
    ("content", "passphrase", "why"),
    [
        (KEY, "another", "its passphrase is wrong"),
        (KEY, PASSPHRASE.reveal() + "\n", "its passphrase is wrong"),
        (KEY, None, "no passphrase is given"),
        (KEY[:200] + b"AAAA" + KEY[204:], PASSPHRASE.reveal(), "or it is damaged"),
        (PLAIN, "a word", "is not encrypted, although"),
        (PLAIN[:60] + b"AAAA" + PLAIN[64:], None, "it is damaged"),
        (PLAIN + PLAIN, None, "several private keys"),
        (b"", None, "no private key"),
        (KEY.replace(b"PRIVATE", b"PUBLIC"), None, "no private key"),
        (SMALL, None, "1024 bits"),
        (EDWARDS, None, "neither an ECDSA nor an RSA key"),
    ],
)
def test_a_key_that_is_refused(content: bytes, passphrase: str | None, why: str) -> None:
    with pytest.raises(UsageError, match=why) as refused:
        NotaryKey.parse(content, Secret(passphrase) if passphrase else None, "the targets key")
    assert refused.value.message.startswith("the targets key ")
    assert KEY.split(b"\n")[3].decode() not in f"{refused.value.message}{refused.value.hint}"


@given(st.binary(max_size=300))
def test_no_key_breaks_the_reader(inside: bytes) -> None:
    body = base64.b64encode(inside)
    for label, word in ((b"ENCRYPTED PRIVATE KEY", Secret("word")), (b"PRIVATE KEY", None)):
        with pytest.raises(UsageError):
            NotaryKey.parse(b"-----BEGIN %s-----\n%s\n-----END %s-----" % (label, body, label), word, "it")


# root certificates


def test_the_public_key_is_that_of_the_root_role() -> None:
    text = root_certificate((CASES / "root.json").read_bytes())
    (identifier,) = ROOT_JSON["signed"]["roles"]["root"]["keyids"]
    assert text == ROOT_JSON["signed"]["keys"][identifier]["keyval"]["public"]
    certificate = RootCertificate.parse(text)
    assert (certificate.identifier, certificate.key) == (identifier, IDENTIFIER)
    assert certificate.is_for(REPOSITORY)
    for content in (certificate.pem, (CASES / "root.json").read_bytes()):
        assert certificates(content) == [certificate]


CERTIFICATE = RootCertificate.parse(root_certificate((CASES / "root.json").read_bytes()))
(ROOT_KEY,) = ROOT_JSON["signed"]["roles"]["root"]["keyids"]


@pytest.mark.parametrize(
    ("repository", "now", "levels"),
    [
        (REPOSITORY, MADE, []),
        (Repository.parse("us.icr.io/acme/other"), MADE, ["fail"]),
        (REPOSITORY, MADE - timedelta(days=3), ["fail"]),
        (REPOSITORY, MADE + timedelta(days=365 * 10 - 170), ["warn"]),
        (REPOSITORY, MADE + timedelta(days=365 * 10 + 9), ["fail"]),
    ],
    ids=["good", "other-name", "too-early", "soon", "over"],
)
def test_what_is_said_of_a_root_certificate(repository: Repository, now: datetime, levels: list[str]) -> None:
    assert [finding.level for finding in CERTIFICATE.findings(repository, now)] == levels


@pytest.mark.parametrize(
    "text", ["", "###", "é", "AAAA", CERTIFICATE.text + "\n", base64.b64encode(KEY).decode()]
)
def test_what_is_no_public_key_of_a_contract(text: str) -> None:
    with pytest.raises(UsageError):
        RootCertificate.parse(text)


def test_a_bare_root_key_is_refused() -> None:
    document = copy.deepcopy(ROOT_JSON)
    document["signed"]["keys"][ROOT_KEY]["keytype"] = "ecdsa"
    with pytest.raises(UsageError, match="no certificate but `ecdsa`"):
        root_certificate(json.dumps(document).encode())


# targets


def named(content: bytes, size: int = 528) -> dict[str, Any]:
    digest = base64.b64encode(bytes.fromhex(Digest.of(content).hexadecimal)).decode()
    return {"hashes": {"sha256": digest}, "length": size}


def delegated(paths: list[str]) -> dict[str, Any]:
    document = copy.deepcopy(TARGETS_JSON)
    document["signed"]["targets"] = {"both": named(b"A"), "differ": named(b"A"), "1.0": named(b"A")}
    document["signed"]["delegations"] = {
        "keys": {"abc": {"keytype": "ecdsa", "keyval": {"private": None, "public": "AA=="}}},
        "roles": [
            {"name": "targets/other", "keyids": ["xyz"], "paths": [""], "threshold": 1},
            {"name": RELEASES, "keyids": ["abc"], "paths": paths, "threshold": 1},
        ],
    }
    return document


TAGS = {"both": named(b"A"), "differ": named(b"B"), "2.0": named(b"B", 7)}
RELEASED = {"signed": {"targets": TAGS, "version": 1}}


def test_releases_go_before_targets() -> None:
    data = TrustData.read(documents(targets=delegated([""]), targets_releases=RELEASED))
    assert data.releases_keys == {"abc"}
    assert data.root_keys == {IDENTIFIER}
    assert data.target("both") == data.target("1.0") == Target(Digest.of(b"A"), 528)
    assert data.target("2.0") == Target(Digest.of(b"B"), 7)
    assert data.target("3.0") is None
    with pytest.raises(RefusedError, match="two digests"):
        data.target("differ")


def test_a_delegation_names_only_what_is_below_its_paths() -> None:
    data = TrustData.read(documents(targets=delegated(["2.", "bo"]), targets_releases=RELEASED))
    assert data.target("differ") == Target(Digest.of(b"A"), 528)
    assert set(data.by_role[RELEASES]) == {"both", "2.0"}


def test_releases_that_nobody_delegates_to_name_nothing() -> None:
    data = TrustData.read(documents(targets_releases=RELEASED))
    assert set(data.by_role) == {TARGETS}
    assert data.target("2.0") is None
    assert data.target("1.0") == Target(Digest("sha256:" + "ab" * 32), 528)


def test_a_lower_version_is_older() -> None:
    now = documents(targets={"signed": {**TARGETS_JSON["signed"], "version": 1}})
    assert older(now, documents()) == PurePosixPath("targets.json")
    assert older(documents(), now) is None
    assert older(documents(), documents()) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_no_trust_data_breaks_the_reader(data: st.DataObject) -> None:
    """Whatever stands in the place of any part of it."""
    whole = {
        "root": copy.deepcopy(ROOT_JSON),
        "targets": delegated([""]),
        "releases": copy.deepcopy(RELEASED),
    }
    place: Any = whole
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(JSON)
    found = documents(targets=whole["targets"], targets_releases=whole["releases"])
    found[ROOT] = json.dumps(whole["root"]).encode()
    with contextlib.suppress(SecureBuildError):
        TrustData.read(found).target("2.0")


# servers


@pytest.mark.parametrize("url", ["http://notary.example.com", "notary.example.com", "file:///etc", "https:"])
def test_what_is_no_address_of_a_server(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError), opened(tmp_path, url):
        pass
    assert not list(tmp_path.iterdir())


def test_dockers_server_ends() -> None:
    (finding,) = server_findings("https://notary.docker.io")
    assert (finding.level, "8 December 2026" in finding.what) == ("warn", True)
    assert server_findings("https://notary.example.com") == ()


def test_a_login_of_three_lines_is_refused() -> None:
    assert answers(None) == b""
    given_once = answers(Credential("us.icr.io", "me", Secret("a b:c")))[:4096]
    assert given_once.strip() == b"me\na b:c"
    for word in ("a\nb", "a" * 5000):
        with pytest.raises(UsageError, match="two lines"):
            answers(Credential("us.icr.io", "me", Secret(word)))
