"""Keyless signatures against a whole sigstore on the loopback, and against cosign, which is not ours."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.transport import checked_transport
from integration import cosigns
from integration.cosigns import Cosigns
from secure_build.attestations import statement
from secure_build.errors import MachineError, RefusedError, ServiceError, UsageError
from secure_build.reference import Digest
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers import identity, keyless, sigstore_tuf
from secure_build.signers.fulcio import Identity
from secure_build.signers.keyless import KeylessSigner, KeylessVerifier, Trust
from services.needed import need
from services.running import RunningRegistry
from services.sigstore import GITHUB, GITHUB_CLAIMS, GITHUB_IDENTITY, LocalSigstore

WE = Identity(GITHUB_IDENTITY, GITHUB)
PROVENANCE = "https://slsa.dev/provenance/v1"


def about(content: bytes = b"an image", kind: str = statement.SIGNATURE) -> bytes:
    return statement.statement(kind, {}, [("host/app", Digest.of(content))])


@pytest.fixture(scope="module", params=[1, 2], ids=["rekor1", "rekor2"])
def each(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSigstore]:
    """An instance with each version of the log, for what does not change it."""
    need("openssl")
    with LocalSigstore(tmp_path_factory.mktemp("sigstore"), rekor_version=request.param) as running:
        yield running


@pytest.fixture
def sigstore(tmp_path: Path) -> Iterator[LocalSigstore]:
    """An instance that misbehaves as the test likes."""
    need("openssl")
    with LocalSigstore(tmp_path / "sigstore") as running:
        yield running


@pytest.fixture
def hasty() -> Iterator[Transport]:
    """A transport that does not wait for long."""
    with checked_transport(read_seconds=0.3, deadline_seconds=1) as transport:
        yield transport


@pytest.fixture
def transport() -> Iterator[Transport]:
    with checked_transport() as transport:
        yield transport


def trust(sigstore: LocalSigstore) -> Trust:
    return Trust(sigstore.files.trust_config.read_bytes())


def signer_of(sigstore: LocalSigstore, transport: Transport, **claims: Any) -> KeylessSigner:
    return KeylessSigner(trust(sigstore), lambda: Secret(sigstore.token(**claims)), transport)


def test_one_certificate_is_for_many_statements_and_threads(
    each: LocalSigstore, transport: Transport
) -> None:
    each.requests.clear()
    signer = signer_of(each, transport)
    statements = [about(bytes([number])) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        bundles = list(pool.map(signer.sign, statements))
    verifier = KeylessVerifier(trust(each), *(WE.name, WE.issuer))
    assert [verifier.verify(bundle) for bundle in bundles] == statements
    assert signer.signer == f"{GITHUB_IDENTITY} (confirmed by {GITHUB})" == verifier.signer
    paths = Counter(line.split()[1].rpartition("/")[2] for line in each.requests)
    assert paths == {"signingCert": 1, "timestamp": 8, "entries": 8}


def test_verifying_makes_no_connection(
    each: LocalSigstore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = signer_of(each, transport).sign(about())

    def blocked(*_: object) -> NoReturn:
        raise AssertionError("a connection was made")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    trusted = trust(each)
    assert KeylessVerifier(trusted, WE.name, WE.issuer).verify(bundle) == about()
    assert keyless.signer_of(trusted, bundle) == (WE, about())
    with pytest.raises(RefusedError):
        keyless.signer_of(keyless.embedded("production"), bundle)


def test_a_log_without_timestamps_will_do(tmp_path: Path, transport: Transport) -> None:
    with LocalSigstore(tmp_path, timestamps=False) as running:
        bundle = signer_of(running, transport).sign(about())
        assert keyless.signer_of(trust(running), bundle) == (WE, about())


@pytest.mark.parametrize(
    ("name", "issuer"),
    [
        (f"{GITHUB_IDENTITY}x", GITHUB),
        (GITHUB_IDENTITY[:-1], GITHUB),
        (".*", GITHUB),
        ("", GITHUB),
        (GITHUB_IDENTITY, f"{GITHUB}/"),
        (GITHUB_IDENTITY, ""),
        (GITHUB, GITHUB_IDENTITY),
    ],
)
def test_somebody_else_is_refused_by_name(
    name: str, issuer: str, each: LocalSigstore, transport: Transport
) -> None:
    bundle = signer_of(each, transport).sign(about())
    with pytest.raises(RefusedError, match=r"does not verify: it is by .*, not by "):
        KeylessVerifier(trust(each), name, issuer).verify(bundle)


def test_nothing_is_signed_as_somebody_else_than_wanted(
    sigstore: LocalSigstore, transport: Transport
) -> None:
    wanted = Identity("https://github.com/acme/other", GITHUB)
    signer = KeylessSigner(trust(sigstore), lambda: Secret(sigstore.token()), transport, wanted=wanted)
    with pytest.raises(RefusedError, match=r"who should sign is https://github\.com/acme/other"):
        signer.sign(about())
    assert sigstore.requests == ["POST /api/v2/signingCert 200"]


def test_a_later_certificate_must_be_of_the_same(sigstore: LocalSigstore, transport: Transport) -> None:
    tokens = iter(
        [sigstore.token(), sigstore.token({"sub": "x", "email": "x@b.example"}, issuer="https://i")]
    )
    sigstore.certificate_seconds = 100
    signer = KeylessSigner(trust(sigstore), lambda: Secret(next(tokens)), transport)
    signer.sign(about())
    with pytest.raises(RefusedError, match=r"the certificate is of x@b\.example"):
        signer.sign(about())


def test_a_certificate_that_is_about_to_expire_is_replaced(
    sigstore: LocalSigstore, transport: Transport
) -> None:
    sigstore.certificate_seconds = 100
    signer = signer_of(sigstore, transport)
    for _ in range(3):
        signer.sign(about())
    assert sigstore.requests.count("POST /api/v2/signingCert 200") == 3


Spoil = Callable[[dict[str, Any], dict[str, Any]], None]


def material(bundle: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = bundle["verificationMaterial"]
    return found


def take(*names: str) -> Spoil:
    """Put a part of another bundle in the place of the same part."""

    def spoil(bundle: dict[str, Any], other: dict[str, Any]) -> None:
        for name in names[:-1]:
            bundle, other = bundle[name], other[name]
        bundle[names[-1]] = other[names[-1]]

    return spoil


def untimed(bundle: dict[str, Any], _other: dict[str, Any]) -> None:
    material(bundle).pop("timestampVerificationData")
    material(bundle)["tlogEntries"][0].pop("inclusionPromise", None)


def another_root(bundle: dict[str, Any], _other: dict[str, Any]) -> None:
    proof = material(bundle)["tlogEntries"][0]["inclusionProof"]
    proof["hashes"][0] = base64.b64encode(b"\1" * 32).decode()


def another_kind(bundle: dict[str, Any], _other: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def unlogged(bundle: dict[str, Any], _other: dict[str, Any]) -> None:
    material(bundle)["tlogEntries"] = []


def signed_twice(bundle: dict[str, Any], other: dict[str, Any]) -> None:
    bundle["dsseEnvelope"]["signatures"] += other["dsseEnvelope"]["signatures"]


@pytest.fixture(scope="module")
def two(each: LocalSigstore) -> tuple[bytes, bytes]:
    """Bundles of the same signer, by different certificates, about different images."""
    with checked_transport() as transport:
        first, second = (signer_of(each, transport).sign(about(content)) for content in (b"one", b"two"))
    return first, second


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(take("dsseEnvelope"), id="envelope-of-another"),
        pytest.param(take("dsseEnvelope", "payload"), id="payload-of-another"),
        pytest.param(take("dsseEnvelope", "signatures"), id="signature-of-another"),
        pytest.param(take("verificationMaterial"), id="material-of-another"),
        pytest.param(take("verificationMaterial", "certificate"), id="certificate-of-another"),
        pytest.param(take("verificationMaterial", "tlogEntries"), id="log-entry-of-another"),
        pytest.param(untimed, id="no-time"),
        pytest.param(unlogged, id="no-log-entry"),
        pytest.param(another_root, id="wrong-proof"),
        pytest.param(another_kind, id="payload-type"),
        pytest.param(signed_twice, id="two-signatures"),
    ],
)
def test_bundles_that_were_put_together_are_refused(
    spoil: Spoil, each: LocalSigstore, two: tuple[bytes, bytes]
) -> None:
    bundle, other = (json.loads(one) for one in two)
    before = copy.deepcopy(bundle)
    spoil(bundle, other)
    assert bundle != before
    with pytest.raises(RefusedError, match="the keyless signature does not verify"):
        KeylessVerifier(trust(each), WE.name, WE.issuer).verify(json.dumps(bundle).encode())


def test_a_timestamp_of_another_signature_does_not_count(
    each: LocalSigstore, two: tuple[bytes, bytes]
) -> None:
    """With version 1 the log's own time is left, so that it may verify; the timestamp is never taken."""
    bundle, other = (json.loads(one) for one in two)
    take("verificationMaterial", "timestampVerificationData")(bundle, other)
    material(bundle)["tlogEntries"][0].pop("inclusionPromise", None)
    with pytest.raises(RefusedError, match="not enough sources of verified time"):
        keyless.signer_of(trust(each), json.dumps(bundle).encode())


def test_what_is_left_out_of_bundles_is_put_back(each: LocalSigstore, two: tuple[bytes, bytes]) -> None:
    """JSON of Protocol Buffers has no zeros and no empty lists; without them the proof is still wrong."""
    bundle = json.loads(two[0])
    entry = material(bundle)["tlogEntries"][0]
    del entry["inclusionProof"]["hashes"], entry["inclusionProof"]["logIndex"], entry["logIndex"]
    with pytest.raises(RefusedError, match="nclusion proof") as raised:
        keyless.signer_of(trust(each), json.dumps(bundle).encode())
    assert "required" not in raised.value.message


def test_an_instance_does_not_trust_another(
    each: LocalSigstore, tmp_path: Path, transport: Transport
) -> None:
    with LocalSigstore(tmp_path) as other:
        bundle = signer_of(other, transport).sign(about())
    with pytest.raises(RefusedError):
        keyless.signer_of(trust(each), bundle)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_what_is_signed(
    each: LocalSigstore, two: tuple[bytes, bytes], place: float, bit: int
) -> None:
    """Some of a bundle is signed by nobody; what comes out of it is the same statement or nothing."""
    flipped = bytearray(two[0])
    flipped[int(place * len(flipped))] ^= 1 << bit
    with contextlib.suppress(RefusedError):
        assert keyless.signer_of(trust(each), bytes(flipped)) == (WE, about(b"one"))


@given(
    part=st.sampled_from(("payload", "signature", "certificate", "body")),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_of_what_is_signed_is_refused(
    each: LocalSigstore, two: tuple[bytes, bytes], part: str, place: float, bit: int
) -> None:
    bundle = json.loads(two[0])
    holder, name = {
        "payload": (bundle["dsseEnvelope"], "payload"),
        "signature": (bundle["dsseEnvelope"]["signatures"][0], "sig"),
        "certificate": (material(bundle)["certificate"], "rawBytes"),
        "body": (material(bundle)["tlogEntries"][0], "canonicalizedBody"),
    }[part]
    content = bytearray(base64.b64decode(holder[name]))
    content[int(place * len(content))] ^= 1 << bit
    holder[name] = base64.b64encode(content).decode()
    with pytest.raises(RefusedError):
        keyless.signer_of(trust(each), json.dumps(bundle).encode())


def test_a_statement_of_another_kind_or_image_is_no_signature_of_it(
    each: LocalSigstore, transport: Transport
) -> None:
    """The bundle verifies; what it says is checked by whoever wants to know."""
    payload = KeylessVerifier(trust(each), WE.name, WE.issuer).verify(
        signer_of(each, transport).sign(about(kind=PROVENANCE))
    )
    subject = Digest.of(b"an image")
    assert statement.predicate(payload, predicate_type=PROVENANCE, subject=subject) == {}
    with pytest.raises(RefusedError, match="is of the type"):
        statement.predicate(payload, predicate_type=statement.SIGNATURE, subject=subject)
    with pytest.raises(RefusedError, match="is not about"):
        statement.predicate(payload, predicate_type=PROVENANCE, subject=Digest.of(b"another"))


@pytest.mark.parametrize(
    ("service", "ahead"), [("fulcio", 30), ("rekor", 700), ("rekor", -700), ("fulcio", -700)]
)
def test_clocks_that_disagree_end_in_an_error_and_not_in_a_bad_signature(
    service: str, ahead: int, sigstore: LocalSigstore, transport: Transport
) -> None:
    getattr(sigstore, service).ahead = ahead
    with pytest.raises((ServiceError, UsageError)) as raised:
        signer_of(sigstore, transport).sign(about())
    assert "clock" in (raised.value.hint or "") or "has expired" in raised.value.message


@pytest.mark.parametrize("service", ["fulcio", "tsa", "rekor"])
def test_a_silent_service_is_not_waited_for(service: str, sigstore: LocalSigstore, hasty: Transport) -> None:
    getattr(sigstore, service).silent = True
    with pytest.raises(ServiceError, match="got no answer: timed out"):
        signer_of(sigstore, hasty).sign(about())


@pytest.mark.parametrize("service", ["fulcio", "tsa", "rekor"])
@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_service_that_refuses_is_named_with_its_words(
    service: str, status: int, sigstore: LocalSigstore, hasty: Transport
) -> None:
    getattr(sigstore, service).status = status
    with pytest.raises(
        ServiceError, match=rf"POST {sigstore.host}/api/.* answered {status} \(told to refuse\)"
    ):
        signer_of(sigstore, hasty).sign(about())


@pytest.mark.parametrize("service", ["fulcio", "tsa", "rekor"])
def test_a_service_that_answers_nonsense_is_a_service_error(
    service: str, sigstore: LocalSigstore, hasty: Transport
) -> None:
    getattr(sigstore, service).status = 200
    with pytest.raises(ServiceError, match="sigstore's services failed|no timestamp that can be read"):
        signer_of(sigstore, hasty).sign(about())


def test_an_unreachable_service_is_a_service_error(
    sigstore: LocalSigstore, hasty: Transport, tmp_path: Path
) -> None:
    config = sigstore.files.trust_config.read_text().replace(sigstore.host, "127.0.0.1:9")
    token = sigstore.token()
    with pytest.raises(ServiceError, match=r"cannot reach 127\.0\.0\.1:9") as raised:
        KeylessSigner(Trust(config.encode()), lambda: Secret(token), hasty).sign(about())
    assert token not in str(raised.value)


def test_a_token_is_not_sent_where_everybody_can_read_it(sigstore: LocalSigstore, hasty: Transport) -> None:
    config = sigstore.files.trust_config.read_text().replace(sigstore.host, "fulcio.example")
    with pytest.raises(UsageError, match=r"`http://fulcio\.example` is no `https://` address"):
        KeylessSigner(Trust(config.encode()), lambda: Secret(sigstore.token()), hasty).sign(about())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("service", ["fulcio", "tsa", "rekor"])
def test_answers_that_get_lost_are_asked_for_again(
    service: str, version: Any, tmp_path: Path, transport: Transport
) -> None:
    need("openssl")
    with LocalSigstore(tmp_path, rekor_version=version) as running:
        getattr(running, service).lost = 1
        bundle = signer_of(running, transport).sign(about())
        assert keyless.signer_of(trust(running), bundle) == (WE, about())
        entries = running.requests.count(f"POST /api/v{version}/log/entries 201")
    # The log of version 1 hands out the entry that it has; the other one gets a second.
    assert entries == (2 if version == 2 and service == "rekor" else 1)


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"seconds": -20}, "Signature has expired"),
        ({"audience": "another"}, "Audience doesn't match"),
        ({"claims": {}}, 'missing the "sub" claim'),
    ],
)
def test_a_token_that_is_no_good_is_not_sent(
    claims: dict[str, Any], words: str, sigstore: LocalSigstore, transport: Transport
) -> None:
    with pytest.raises(UsageError, match="the OIDC token cannot be used") as raised:
        signer_of(sigstore, transport, **claims).sign(about())
    assert words in raised.value.message
    assert sigstore.requests == []


@pytest.mark.parametrize("token", ["x", "a.b.c", "Zm9v.YmFy.YmF6", "ünïcödé.x.y"])
def test_what_is_no_token_is_not_repeated(token: str, sigstore: LocalSigstore, transport: Transport) -> None:
    signer = KeylessSigner(trust(sigstore), lambda: Secret(token), transport)
    with pytest.raises(UsageError, match="the OIDC token cannot be used") as raised:
        signer.sign(about())
    assert len(token) == 1 or token not in raised.value.message


def test_a_token_that_is_not_trusted_is_refused_and_not_repeated(
    sigstore: LocalSigstore, transport: Transport
) -> None:
    token = sigstore.token()
    forged = token[:-8] + "AAAAAAAA"
    with pytest.raises(UsageError, match="not signed by the issuer") as raised:
        KeylessSigner(trust(sigstore), lambda: Secret(forged), transport).sign(about())
    assert forged not in f"{raised.value} {raised.value.hint} {raised.value.__cause__}"
