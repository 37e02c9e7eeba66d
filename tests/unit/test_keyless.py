"""Where OIDC tokens come from, whom certificates name, and trust configs; all without a signature."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from secure_build import secret
from secure_build.errors import MachineError, RefusedError, ServiceError, UsageError
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers import fulcio, identity, keyless, sigstore_trust
from secure_build.signers.fulcio import Identity
from services.sigstore import LocalSigstore

ISSUER, OLD_ISSUER = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}") for number in (8, 1))
URL = "https://ci.example/job"
# What a machine may have set that runs these tests.
VARIABLES = """
SIGSTORE_ID_TOKEN ACTIONS_ID_TOKEN_REQUEST_URL ACTIONS_ID_TOKEN_REQUEST_TOKEN GITHUB_ACTIONS GITLAB_CI
BUILDKITE CIRCLECI GOOGLE_SERVICE_ACCOUNT_NAME SECURE_BUILD_SECRETS
""".split()


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CI system."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sigstore(tmp_path: Path) -> Iterator[LocalSigstore]:
    with LocalSigstore(tmp_path, timestamps=False) as running:
        yield running


@pytest.fixture
def github(sigstore: LocalSigstore, monkeypatch: pytest.MonkeyPatch) -> LocalSigstore:
    """The variables of a GitHub job that may ask for tokens."""
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{sigstore.url}/token?api-version=2")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", sigstore.request_token)
    return sigstore


def claims(token: Secret) -> dict[str, Any]:
    part = token.reveal().split(".")[1]
    document: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=="))
    return document


def test_the_nearest_token_is_taken(
    github: LocalSigstore, tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "oidc-token"
    file.write_text("from.the.file\n")
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", "from.the.variable\n")
    given = Secret("from.the.config\n")
    assert identity.find(transport, given=given, file=file) == Secret("from.the.config")
    assert identity.find(transport, file=file) == Secret("from.the.variable")
    monkeypatch.delenv("SIGSTORE_ID_TOKEN")
    assert claims(identity.find(transport, file=file))["repository"] == "acme/app"
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    assert identity.find(transport, file=file) == Secret("from.the.file")


def test_github_is_asked_for_the_audience(github: LocalSigstore, transport: Transport) -> None:
    found = identity.find(transport, file=Path("/nowhere"))
    assert claims(found)["aud"] == "sigstore"
    assert repr(found) == "***"
    assert github.requests == ["GET /token 200"]


@pytest.mark.parametrize(
    ("variable", "yaml"),
    [("GITHUB_ACTIONS", "id-token: write"), ("GITLAB_CI", "SIGSTORE_ID_TOKEN:\n    aud: sigstore")],
)
def test_a_job_that_may_not_have_a_token_is_told_what_to_write(
    variable: str, yaml: str, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(MachineError, match="this job has no OIDC token") as raised:
        identity.find(transport, file=Path("/nowhere"))
    assert yaml in (raised.value.hint or "")


def test_github_that_refuses_is_a_service_error_without_its_token(
    github: LocalSigstore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "another-token")
    with pytest.raises(ServiceError, match=r"GitHub gives no OIDC token: GET .* answered 401") as raised:
        identity.find(transport)
    assert "another-token" not in str(raised.value)


@pytest.mark.parametrize("path", ["/api/v1/log/publicKey", "/api/v1/log/entries?logIndex=9&x=1"])
def test_github_that_answers_something_else_is_a_service_error(
    path: str, github: LocalSigstore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", github.url + path)
    with pytest.raises(ServiceError, match="GitHub gives no OIDC token"):
        identity.find(transport)


def test_a_token_never_travels_readable(
    github: LocalSigstore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", "http://runner.example/token?x=1")
    with pytest.raises(UsageError, match=r"`http://runner\.example` is no `https://` address"):
        identity.find(transport)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_file_without_a_token_is_no_token(content: bytes, tmp_path: Path, transport: Transport) -> None:
    file = tmp_path / "oidc-token"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="is empty, or no token"):
        identity.find(transport, file=file)


def test_a_token_is_masked_from_when_it_is_used(transport: Transport) -> None:
    found = identity.find(transport, given=Secret("header.payload.signature\n"))
    found.reveal()
    assert secret.mask("the token header.payload.signature was refused") == "the token *** was refused"


def certificate(
    *names: x509.GeneralName, issuer: bytes | None = None, old_issuer: bytes | None = b"https://i.example"
) -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = x509.CertificateBuilder(
        x509.Name([]), x509.Name([]), key.public_key(), 1, now, now + timedelta(minutes=10)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    for number, value in ((ISSUER, issuer), (OLD_ISSUER, old_issuer)):
        if value is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(number, value), critical=False)
    return builder.sign(key, hashes.SHA256())


SOMEBODY = x509.UniformResourceIdentifier(URL)
NEW = b"\x0c\x03new"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (certificate(SOMEBODY), Identity(URL, "https://i.example")),
        (certificate(x509.RFC822Name("a@b.example")), Identity("a@b.example", "https://i.example")),
        (certificate(SOMEBODY, issuer=NEW), Identity(URL, "new")),
        (certificate(SOMEBODY, issuer=NEW, old_issuer=None), Identity(URL, "new")),
        (certificate(SOMEBODY, issuer=b"bare"), None),
        (certificate(SOMEBODY, old_issuer=None), None),
        (certificate(SOMEBODY, old_issuer=b"\xff"), None),
        (certificate(SOMEBODY, old_issuer=b"https://i\x1b[2K"), None),
        (certificate(SOMEBODY, x509.RFC822Name("a@b.example")), None),
        (certificate(x509.DNSName("b.example")), None),
        (certificate(), None),
    ],
)
def test_a_certificate_names_one_identity_plainly_or_nobody(
    made: x509.Certificate, expected: Identity | None
) -> None:
    if expected is not None:
        assert fulcio.identity_of(made) == expected
        return
    with pytest.raises((ValueError, KeyError, x509.ExtensionNotFound)):
        fulcio.identity_of(made)


@pytest.mark.parametrize("instance", ["production", "staging"])
def test_the_public_instances_are_known_without_a_network(instance: sigstore_trust.Instance) -> None:
    trust = sigstore_trust.embedded(instance)
    for bundle in (b"{}", b"[]", b"\xff", b'{"verificationMaterial":{"certificate":{"rawBytes":"AAAA"}}}'):
        with pytest.raises(RefusedError, match="the keyless signature does not verify"):
            trust.verify(bundle)


@pytest.mark.parametrize(
    "config", [b"", b"{}", b"\xff", b'{"mediaType":"x","trustedRoot":{},"signingConfig":{}}']
)
def test_what_is_no_trust_config_is_a_usage_error(config: bytes) -> None:
    with pytest.raises(UsageError, match="the trust config of sigstore cannot be used") as raised:
        sigstore_trust.Trust(config)
    assert "clienttrustconfig" in (raised.value.hint or "")


def test_a_trust_config_without_services_can_verify_but_not_sign(
    sigstore: LocalSigstore, transport: Transport
) -> None:
    config = json.loads(sigstore.files.trust_config.read_bytes())
    config["signingConfig"]["rekorTlogUrls"] = []
    trust = sigstore_trust.Trust(json.dumps(config).encode())
    with pytest.raises(UsageError, match="names no services: No valid Rekor"):
        keyless.KeylessSigner(trust, lambda: Secret("unused"), transport)


def test_where_the_library_is_missing_the_machine_is_to_blame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sigstore", None)
    for use in (
        lambda: sigstore_trust.Trust(b"{}"),
        lambda: sigstore_trust.embedded("production"),
        keyless.detected,
    ):
        with pytest.raises(MachineError, match="`sigstore`, which is not on this machine") as raised:
            use()
        assert "s390x" in (raised.value.hint or "")
