"""Signatures with a key, as bundles and in the classic form: what is accepted, and what is not."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.cosign import DirectRekor, key, rekor
from secure_build.attestations import classic, statement
from secure_build.attestations.classic import Signed
from secure_build.attestations.encoding import decoded, encoded
from secure_build.errors import RefusedError
from secure_build.reference import Digest, Pinned, Repository
from secure_build.signers import StatementSigner, signs
from secure_build.signers.classic import ClassicSigner, ClassicVerifier
from secure_build.signers.cosign import CosignSigner, CosignVerifier
from secure_build.signers.log_entry import LogEntry, root_by_path
from services import sigstore_log

IMAGE = Pinned(Repository("registry.example:5000", "acme/web"), Digest.of(b"an image"))
OTHER = Pinned(IMAGE.repository, Digest.of(b"another image"))
STATEMENT = statement.statement(statement.SIGNATURE, {}, [(str(IMAGE.repository), IMAGE.digest)])
OWN, FOREIGN = key("own"), key("foreign")
LOG: DirectRekor = rekor()
SIGNER, LOGGING = CosignSigner(OWN), CosignSigner(OWN, LOG)
BUNDLE, LOGGED = SIGNER.sign(STATEMENT), LOGGING.sign(STATEMENT)
CLASSIC, CLASSIC_LOGGED = ClassicSigner(OWN).sign(IMAGE), ClassicSigner(OWN, LOG).sign(IMAGE)


def changed(bundle: bytes, *path: str | int, value: Any) -> bytes:
    """The bundle with another value somewhere."""
    document = inner = json.loads(bundle)
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(document).encode()


def flipped(content: bytes, bit: int) -> bytes:
    bit %= 8 * len(content)
    altered = bytearray(content)
    altered[bit // 8] ^= 1 << bit % 8
    return bytes(altered)


# Bundles


def test_a_statement_comes_out_of_its_bundle_as_it_went_in() -> None:
    signer: StatementSigner = SIGNER
    assert (signer.kind, signer.signer) == ("cosign", str(OWN.public.digest))
    assert CosignVerifier(OWN.public).verify(BUNDLE) == STATEMENT
    assert CosignVerifier(OWN.public).verify(LOGGED) == STATEMENT
    assert LOGGING.verify(LOGGED) == STATEMENT
    assert statement.predicate(STATEMENT, predicate_type=statement.SIGNATURE, subject=IMAGE.digest) == {}


def test_the_form_of_a_bundle() -> None:
    document = json.loads(BUNDLE)
    assert document.keys() == {"mediaType", "verificationMaterial", "dsseEnvelope"}
    assert document["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    hint = document["verificationMaterial"]["publicKey"]["hint"]
    assert decoded(hint).hex() == OWN.public.digest.hexadecimal
    (entry,) = json.loads(LOGGED)["verificationMaterial"]["tlogEntries"]
    assert entry["kindVersion"] == {"kind": "dsse", "version": "0.0.1"}


def test_a_good_bundle_need_not_be_made_again() -> None:
    assert signs(SIGNER, BUNDLE, STATEMENT)
    assert signs(SIGNER, LOGGED, STATEMENT)
    assert not signs(SIGNER, BUNDLE, STATEMENT + b" ")
    assert not signs(CosignSigner(FOREIGN), BUNDLE, STATEMENT)
    assert not signs(LOGGING, BUNDLE, STATEMENT)


SIGNATURE = json.loads(BUNDLE)["dsseEnvelope"]["signatures"][0]


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (CosignSigner(FOREIGN).sign(STATEMENT), "the bundle is not signed by the key sha256:"),
        (changed(BUNDLE, "dsseEnvelope", "payload", value=encoded(STATEMENT + b" ")), "is not signed by"),
        (changed(BUNDLE, "dsseEnvelope", "payloadType", value="text/plain"), "is no in-toto statement"),
        (changed(BUNDLE, "dsseEnvelope", "signatures", value=[]), "must have one signature"),
        (changed(BUNDLE, "dsseEnvelope", "signatures", value=[SIGNATURE] * 2), "must have one signature"),
        (changed(BUNDLE, "dsseEnvelope", "signatures", value={"sig": "AA=="}), "must have one signature"),
        (changed(BUNDLE, "dsseEnvelope", "signatures", 0, "sig", value="AA=="), "is not signed by"),
        (changed(BUNDLE, "dsseEnvelope", "signatures", 0, "sig", value="?"), "this is no sigstore bundle"),
        (changed(BUNDLE, "dsseEnvelope", "payload", value=5), "this is no sigstore bundle"),
        (changed(BUNDLE, "verificationMaterial", value=None), "this is no sigstore bundle"),
        (changed(BUNDLE, "mediaType", value="application/x"), "a version that is not known"),
        (b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}', "signs no statement"),
        (b"", "this is no sigstore bundle"),
        (b"[]", "this is no sigstore bundle"),
        (b"[" * 100_000, "this is no sigstore bundle"),
    ],
)
def test_other_bundles_are_refused(bundle: bytes, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        CosignVerifier(OWN.public).verify(bundle)


@given(bit=st.integers(0), part=st.sampled_from(["payload", "sig"]))
def test_hardening_51_a_bit_of_a_bundle(bit: int, part: str) -> None:
    path = ("payload",) if part == "payload" else ("signatures", 0, "sig")
    content = STATEMENT if part == "payload" else decoded(SIGNATURE["sig"])
    with pytest.raises(RefusedError):
        SIGNER.verify(changed(BUNDLE, "dsseEnvelope", *path, value=encoded(flipped(content, bit))))


@given(bit=st.integers(0))
def test_hardening_51_a_bit_of_the_text_of_a_bundle(bit: int) -> None:
    """What nobody has signed may change, but no other statement ever comes out."""
    with contextlib.suppress(RefusedError):
        assert SIGNER.verify(flipped(BUNDLE, bit)) == STATEMENT


# The log


TLOG = "verificationMaterial", "tlogEntries"
ENTRY = LogEntry.from_bundle(json.loads(LOGGED)["verificationMaterial"]["tlogEntries"][0])
ANOTHER = json.loads(CosignSigner(OWN, LOG).sign(STATEMENT))["verificationMaterial"]["tlogEntries"]


@pytest.mark.parametrize(
    ("bundle", "message"),
    [
        (BUNDLE, "the bundle has no entry of a transparency log, and one is demanded"),
        (changed(LOGGED, *TLOG, value=[]), "the bundle has no entry of a transparency log"),
        (changed(LOGGED, *TLOG, value=[ENTRY.bundle()] * 2), "no entry of a log that can be read"),
        (changed(LOGGED, *TLOG, value=["text"]), "no entry of a log that can be read"),
        (changed(LOGGED, *TLOG, value={}), "no entry of a transparency log|no sigstore bundle"),
        (changed(LOGGED, *TLOG, 0, "inclusionPromise", value=None), "no entry of a log that can be read"),
        (changed(LOGGED, *TLOG, 0, "inclusionProof", value={}), "no entry of a log that can be read"),
        (changed(LOGGED, *TLOG, 0, "integratedTime", value="-1"), "no entry of a log that can be read"),
        (changed(LOGGED, *TLOG, value=ANOTHER), "the log entry in the bundle is of another signature"),
        (CosignSigner(OWN, rekor()).sign(STATEMENT), "is not signed by the log's key"),
        (
            changed(LOGGED, *TLOG, 0, "inclusionProof", value=ANOTHER[0]["inclusionProof"]),
            "nothing proves that the transparency log has taken the entry in",
        ),
    ],
)
def test_a_log_that_is_demanded_must_know_of_this_signature(bundle: bytes, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        LOGGING.verify(bundle)


@pytest.mark.parametrize(
    "spec",
    [
        [],
        {"kind": "hashedrekord"},
        {"apiVersion": "0.0.2"},
        {"spec": None},
        {"spec": {"signatures": []}},
        {"more": 1},
    ],
)
def test_an_entry_of_something_else_is_refused(spec: Any) -> None:
    body = json.loads(ENTRY.body)
    content = json.dumps({**body, **spec} if spec else spec).encode()
    with pytest.raises(RefusedError, match="of another signature"):
        LOGGING.verify(changed(LOGGED, *TLOG, 0, "canonicalizedBody", value=encoded(content)))


INCLUSION = ENTRY.inclusion
assert INCLUSION is not None
PARTS = [
    *("body", "log", "promise", "integratedTime", "logIndex"),
    *("root", "path", "checkpoint", "treeSize", "proof's logIndex"),
]


@given(bit=st.integers(0), part=st.sampled_from(PARTS))
def test_hardening_51_a_bit_of_a_log_entry(bit: int, part: str) -> None:
    document = ENTRY.bundle()
    proof = document["inclusionProof"]
    if part == "body":
        document["canonicalizedBody"] = encoded(flipped(ENTRY.body, bit))
    elif part == "log":
        document["logId"] = {"keyId": encoded(flipped(ENTRY.log, bit))}
    elif part == "promise":
        document["inclusionPromise"] = {"signedEntryTimestamp": encoded(flipped(ENTRY.promise, bit))}
    elif part == "root":
        proof["rootHash"] = encoded(flipped(INCLUSION.root, bit))
    elif part == "path":
        which = bit % len(INCLUSION.path)
        proof["hashes"][which] = encoded(flipped(INCLUSION.path[which], bit))
    elif part == "checkpoint":
        # After it stands the name of its signer, which is only for people.
        note, blank, signatures = INCLUSION.checkpoint.rpartition("\n\n")
        altered = flipped(note.encode(), bit).decode("latin-1")
        proof["checkpoint"] = {"envelope": altered + blank + signatures}
    else:
        place = document if part in ("integratedTime", "logIndex") else proof
        name = part.removeprefix("proof's ")
        place[name] = str(int(place[name]) ^ 1 << bit % 40)
    with pytest.raises(RefusedError):
        LOGGING.verify(changed(LOGGED, *TLOG, value=[document]))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_paths_lead_to_the_root_from_every_leaf(size: int) -> None:
    """Against the recursive definition (RFC 6962, section 2.1), as the log of the tests has it."""
    leaves = [b"%d" % number for number in range(size)]
    hashes = [sigstore_log._leaf(leaf) for leaf in leaves]
    root = sigstore_log._root(hashes)
    for index, leaf in enumerate(leaves):
        path = tuple(sigstore_log._path(index, hashes))
        assert root_by_path(leaf, index, size, path) == root
        assert root_by_path(leaf, index, size, (*path, root)) is None
        assert root_by_path(leaf, size, size, path) is None
        if path:
            assert root_by_path(leaf, index, size, path[:-1]) != root


def test_the_spellings_of_an_entry_say_the_same() -> None:
    assert CLASSIC_LOGGED.log is not None
    entry = LogEntry.from_annotation(CLASSIC_LOGGED.log)
    assert entry.annotation() == CLASSIC_LOGGED.log
    assert LogEntry.from_bundle(ENTRY.bundle()) == ENTRY
    first = replace(ENTRY, index=0).bundle()
    # proto3's JSON leaves out what is zero.
    del first["logIndex"]
    assert LogEntry.from_bundle(first).index == 0


# The classic form


def test_a_classic_signature_is_of_one_image() -> None:
    verifier = ClassicVerifier(OWN.public)
    assert verifier.accepts(CLASSIC, IMAGE)
    assert ClassicSigner(OWN, LOG).verifier.accepts(CLASSIC_LOGGED, IMAGE)
    for image, message in (
        (OTHER, f"the signature is for {IMAGE.digest}, not for {OTHER.digest}"),
        (Pinned(Repository("elsewhere.example", "acme/web"), IMAGE.digest), "not for `elsewhere.example"),
    ):
        with pytest.raises(RefusedError, match=message):
            verifier.verify(CLASSIC, image)


def test_docker_hub_has_the_name_that_cosign_gives_it() -> None:
    image = Pinned(Repository.parse("nginx"), IMAGE.digest)
    document = json.loads(classic.payload(image))
    assert document["critical"]["identity"] == {"docker-reference": "index.docker.io/library/nginx"}
    assert ClassicVerifier(OWN.public).accepts(ClassicSigner(OWN).sign(image), image)


@pytest.mark.parametrize(
    ("signed", "message"),
    [
        (ClassicSigner(FOREIGN).sign(IMAGE), "not signed by the key"),
        (replace(CLASSIC, signature="?"), "no base64"),
        (replace(CLASSIC, signature=encoded(decoded(CLASSIC.signature))[:-4]), "not signed by|no base64"),
        (replace(CLASSIC, payload=CLASSIC.payload + b" "), "not signed by the key"),
        (CLASSIC, "no entry of a transparency log, and one is demanded"),
        (replace(CLASSIC_LOGGED, log="{}"), "no entry of a log that can be read"),
        (replace(CLASSIC_LOGGED, log=ENTRY.annotation()), "the log entry is of another signature"),
        (replace(CLASSIC, log=CLASSIC_LOGGED.log), "the log entry is of another signature"),
        (ClassicSigner(OWN, rekor()).sign(IMAGE), "is not signed by the log's key"),
    ],
)
def test_other_classic_signatures_are_refused(signed: Signed, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        ClassicSigner(OWN, LOG).verifier.verify(signed, IMAGE)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"critical":{}}', STATEMENT, b"[" * 100_000])
def test_what_was_signed_as_something_else_signs_no_image(content: bytes) -> None:
    signed = Signed(content, encoded(OWN.sign(content)))
    with pytest.raises(RefusedError, match="no document of cosign's"):
        ClassicVerifier(OWN.public).verify(signed, IMAGE)


@given(bit=st.integers(0), part=st.sampled_from(["payload", "signature", "promise", "body"]))
def test_hardening_51_a_bit_of_a_classic_signature(bit: int, part: str) -> None:
    signed = CLASSIC_LOGGED
    assert signed.log is not None
    if part == "payload":
        signed = replace(signed, payload=flipped(signed.payload, bit))
    elif part == "signature":
        signed = replace(signed, signature=encoded(flipped(decoded(signed.signature), bit)))
    else:
        entry = LogEntry.from_annotation(signed.log)
        entry = replace(entry, **{part: flipped(getattr(entry, part), bit)})
        signed = replace(signed, log=entry.annotation())
    assert not ClassicSigner(OWN, LOG).verifier.accepts(signed, IMAGE)
