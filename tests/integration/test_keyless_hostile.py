"""Bundles that were tampered with, and services that misbehave: refused, or an error, in the end."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fakes.transport import checked_transport
from integration.keyless import WE, about, signer_of, trust
from secure_build.errors import RefusedError, ServiceError, UsageError
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers.keyless import KeylessSigner, KeylessVerifier
from secure_build.signers.sigstore_trust import Trust
from services.needed import need
from services.sigstore import LocalSigstore

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
def two(any_sigstore: LocalSigstore) -> tuple[bytes, bytes]:
    """Bundles of the same signer, by different certificates, about different images."""
    with checked_transport() as transport:
        first, second = (
            signer_of(any_sigstore, transport).sign(about(content)) for content in (b"one", b"two")
        )
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
    spoil: Spoil, any_sigstore: LocalSigstore, two: tuple[bytes, bytes]
) -> None:
    bundle, other = (json.loads(one) for one in two)
    before = copy.deepcopy(bundle)
    spoil(bundle, other)
    assert bundle != before
    with pytest.raises(RefusedError, match="the keyless signature does not verify"):
        KeylessVerifier(trust(any_sigstore), WE.name, WE.issuer).verify(json.dumps(bundle).encode())


def test_a_timestamp_of_another_signature_does_not_count(
    any_sigstore: LocalSigstore, two: tuple[bytes, bytes]
) -> None:
    """With version 1 the log's own time is left, so that it may verify; the timestamp is never taken."""
    bundle, other = (json.loads(one) for one in two)
    take("verificationMaterial", "timestampVerificationData")(bundle, other)
    material(bundle)["tlogEntries"][0].pop("inclusionPromise", None)
    with pytest.raises(RefusedError, match="not enough sources of verified time"):
        trust(any_sigstore).verify(json.dumps(bundle).encode())


def test_an_instance_does_not_trust_another(
    any_sigstore: LocalSigstore, tmp_path: Path, transport: Transport
) -> None:
    with LocalSigstore(tmp_path) as other:
        bundle = signer_of(other, transport).sign(about())
    with pytest.raises(RefusedError):
        trust(any_sigstore).verify(bundle)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_changes_what_is_signed(
    any_sigstore: LocalSigstore, two: tuple[bytes, bytes], place: float, bit: int
) -> None:
    """Some of a bundle is signed by nobody; what comes out of it is the same statement or nothing."""
    flipped = bytearray(two[0])
    flipped[int(place * len(flipped))] ^= 1 << bit
    with contextlib.suppress(RefusedError):
        assert trust(any_sigstore).verify(bytes(flipped)) == (WE, about(b"one"))


@given(
    part=st.sampled_from(("payload", "signature", "certificate", "body")),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_a_flipped_bit_of_what_is_signed_is_refused(
    any_sigstore: LocalSigstore, two: tuple[bytes, bytes], part: str, place: float, bit: int
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
        trust(any_sigstore).verify(json.dumps(bundle).encode())


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
    with pytest.raises(ServiceError, match=r"sigstore's services failed|no timestamp that can be read"):
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
        assert trust(running).verify(bundle) == (WE, about())
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
