"""Keyless signatures against a whole sigstore on the loopback, and against cosign, which is not ours."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from integration import cosigns
from integration.cosigns import Cosigns
from integration.keyless import WE, about, signer_of, trust
from secure_build.attestations import statement
from secure_build.errors import RefusedError, UsageError
from secure_build.reference import Digest
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers import identity, sigstore_trust
from secure_build.signers.fulcio import Identity
from secure_build.signers.keyless import KeylessSigner, KeylessVerifier
from services.needed import need
from services.running import RunningRegistry
from services.sigstore import GITHUB, GITHUB_IDENTITY, LocalSigstore

PROVENANCE = "https://slsa.dev/provenance/v1"


def test_one_certificate_is_for_many_statements_and_threads(
    any_sigstore: LocalSigstore, transport: Transport
) -> None:
    any_sigstore.requests.clear()
    signer = signer_of(any_sigstore, transport)
    statements = [about(bytes([number])) for number in range(8)]
    with ThreadPoolExecutor(4) as pool:
        bundles = list(pool.map(signer.sign, statements))
    verifier = KeylessVerifier(trust(any_sigstore), *(WE.name, WE.issuer))
    assert [verifier.verify(bundle) for bundle in bundles] == statements
    assert signer.signer == f"{GITHUB_IDENTITY} (confirmed by {GITHUB})" == verifier.signer
    paths = Counter(line.split()[1].rpartition("/")[2] for line in any_sigstore.requests)
    assert paths == {"signingCert": 1, "timestamp": 8, "entries": 8}


def test_verifying_makes_no_connection(
    any_sigstore: LocalSigstore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = signer_of(any_sigstore, transport).sign(about())

    def blocked(*_: object) -> NoReturn:
        raise AssertionError("a connection was made")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, blocked)
    monkeypatch.setattr(socket, "getaddrinfo", blocked)
    trusted = trust(any_sigstore)
    assert KeylessVerifier(trusted, WE.name, WE.issuer).verify(bundle) == about()
    assert trusted.verify(bundle) == (WE, about())
    with pytest.raises(RefusedError):
        sigstore_trust.embedded("production").verify(bundle)


def test_a_log_without_timestamps_will_do(tmp_path: Path, transport: Transport) -> None:
    with LocalSigstore(tmp_path, timestamps=False) as running:
        bundle = signer_of(running, transport).sign(about())
        assert trust(running).verify(bundle) == (WE, about())


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
    name: str, issuer: str, any_sigstore: LocalSigstore, transport: Transport
) -> None:
    bundle = signer_of(any_sigstore, transport).sign(about())
    with pytest.raises(RefusedError, match=r"does not verify: it is by .*, not by "):
        KeylessVerifier(trust(any_sigstore), name, issuer).verify(bundle)


def test_nothing_is_signed_as_somebody_else_than_wanted(
    sigstore: LocalSigstore, transport: Transport
) -> None:
    wanted = Identity("https://github.com/acme/other", GITHUB)
    signer = KeylessSigner(trust(sigstore), lambda: Secret(sigstore.token()), transport, wanted=wanted)
    with pytest.raises(RefusedError, match=r"who should sign is https://github\.com/acme/other"):
        signer.sign(about())
    assert sigstore.requests == ["POST /api/v2/signingCert 200"]


def test_who_signs_is_known_with_a_token_only_but_whose_signature_it_is_without(
    sigstore: LocalSigstore, transport: Transport
) -> None:
    bundle = signer_of(sigstore, transport).sign(about())
    sigstore.requests.clear()

    def no_token() -> Secret:
        raise UsageError("there is no token")

    signer = KeylessSigner(trust(sigstore), no_token, transport, wanted=WE)
    assert signer.verify(bundle) == about()
    assert sigstore.requests == []
    with pytest.raises(UsageError, match="there is no token"):
        _ = signer.signer


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


def test_a_statement_of_another_kind_or_image_is_no_signature_of_it(
    any_sigstore: LocalSigstore, transport: Transport
) -> None:
    """The bundle verifies; what it says is checked by whoever wants to know."""
    payload = KeylessVerifier(trust(any_sigstore), WE.name, WE.issuer).verify(
        signer_of(any_sigstore, transport).sign(about(kind=PROVENANCE))
    )
    subject = Digest.of(b"an image")
    assert statement.predicate(payload, predicate_type=PROVENANCE, subject=subject) == {}
    with pytest.raises(RefusedError, match="is of the type"):
        statement.predicate(payload, predicate_type=statement.SIGNATURE, subject=subject)
    with pytest.raises(RefusedError, match="is not about"):
        statement.predicate(payload, predicate_type=PROVENANCE, subject=Digest.of(b"another"))


@dataclass(frozen=True, slots=True)
class System:
    """What a token of some system claims, and whom sigstore takes for it."""

    claims: Mapping[str, Any]
    who: Identity


SYSTEMS = {
    "gitlab": System(
        {
            "sub": "project_path:acme/app:ref_type:tag:ref:v1",
            "ci_config_ref_uri": "gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1",
        },
        Identity("https://gitlab.com/acme/app//.gitlab-ci.yml@refs/tags/v1", "https://gitlab.com"),
    ),
    "tekton": System(
        {
            "sub": "system:serviceaccount:builds:pipeline",
            "kubernetes.io": {"namespace": "builds", "serviceaccount": {"name": "pipeline", "uid": "1"}},
        },
        Identity(
            "https://kubernetes.io/namespaces/builds/serviceaccounts/pipeline",
            "https://kubernetes.default.svc",
        ),
    ),
    "spiffe": System(
        {"sub": "spiffe://acme.example/ns/builds/sa/pipeline"},
        Identity("spiffe://acme.example/ns/builds/sa/pipeline", "https://spire.example"),
    ),
}


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_tokens_of_other_systems_sign_as_whom_they_name(
    system: System,
    sigstore: LocalSigstore,
    tmp_path: Path,
    transport: Transport,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those of Kubernetes and SPIFFE have a list as their audience."""
    token = sigstore.token(system.claims, issuer=system.who.issuer, audience=["sigstore"])
    file = tmp_path / "oidc-token"
    file.write_text(f"{token}\n")

    def check() -> None:
        signer = KeylessSigner(trust(sigstore), lambda: identity.find(transport, file=file), transport)
        assert trust(sigstore).verify(signer.sign(about())) == (system.who, about())

    check()
    file.unlink()
    monkeypatch.setenv("SIGSTORE_ID_TOKEN", token)
    check()


def test_a_github_job_signs_with_what_github_gives_it(
    sigstore: LocalSigstore, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_URL", f"{sigstore.url}/token?api-version=2")
    monkeypatch.setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", sigstore.request_token)
    signer = KeylessSigner(trust(sigstore), lambda: identity.find(transport), transport)
    assert signer.identity == WE


def test_a_ci_system_that_sigstore_knows_is_asked_last(
    sigstore: LocalSigstore, tmp_path: Path, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = tmp_path / "buildkite-agent"
    agent.write_text(
        f'#!/bin/sh\n[ "$*" = "oidc request-token --audience sigstore" ] && echo {sigstore.token()}\n'
    )
    agent.chmod(0o755)
    monkeypatch.setenv("BUILDKITE", "true")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    signer = KeylessSigner(
        trust(sigstore), lambda: identity.find(transport, file=tmp_path / "none"), transport
    )
    assert signer.identity == WE
    agent.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(UsageError, match="the CI system gives no OIDC token: Buildkite"):
        identity.find(transport, file=tmp_path / "none")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Cosigns:
    need("skopeo", *cosigns.COSIGNS)
    return Cosigns(tmp_path_factory.mktemp("cosigns"))


@pytest.fixture
def image(registry: RunningRegistry, tmp_path: Path, transport: Transport) -> cosigns.Published:
    return cosigns.publish(tmp_path, registry.host, transport)


def named(who: Identity = WE) -> tuple[str, ...]:
    return ("--certificate-identity", who.name, "--certificate-oidc-issuer", who.issuer)


def test_cosign_3_accepts_our_signature_and_nobody_elses(
    any_sigstore: LocalSigstore, programs: Cosigns, image: cosigns.Published, transport: Transport
) -> None:
    image.put_bundle(signer_of(any_sigstore, transport), image.about())
    known = ("--trusted-root", any_sigstore.files.trusted_root)
    programs.done("cosign3", "verify", *known, *named(), str(image.image))
    kind = ("--type", statement.SIGNATURE)
    programs.done("cosign3", "verify-attestation", *kind, *known, *named(), str(image.image))
    for wrong in (Identity(f"{WE.name}x", WE.issuer), Identity(WE.name, "https://issuer.example")):
        assert programs.run("cosign3", "verify", *known, *named(wrong), str(image.image)).returncode


def test_both_cosigns_accept_our_attestation(
    sigstore: LocalSigstore, programs: Cosigns, image: cosigns.Published, transport: Transport
) -> None:
    image.put_bundle(signer_of(sigstore, transport), image.about(PROVENANCE))
    for program, kind, expected in (
        ("cosign3", PROVENANCE, True),
        ("cosign3", "https://spdx.dev/Document", False),
        ("cosign2", PROVENANCE, True),
        ("cosign2", "https://spdx.dev/Document", False),
    ):
        old = ("--new-bundle-format",) if program == "cosign2" else ()
        known = (*old, "--trusted-root", sigstore.files.trusted_root)
        ended = programs.run(
            program,
            *("verify-attestation", "--type", kind, *known, *named(), str(image.image)),
            SIGSTORE_ROOT_FILE=str(sigstore.files.fulcio),
        )
        assert (ended.returncode == 0) == expected, ended.stderr


def sign_with_cosign(sigstore: LocalSigstore, programs: Cosigns, image: cosigns.Published) -> None:
    token, files = programs.folder / "token.jwt", sigstore.files
    token.write_text(sigstore.token())
    known = ("--signing-config", files.signing_config, "--trusted-root", files.trusted_root)
    programs.done("cosign3", "sign", "--yes", *known, "--identity-token", token, str(image.image))


def test_we_accept_cosigns_signature_and_nobody_elses(
    any_sigstore: LocalSigstore, programs: Cosigns, image: cosigns.Published
) -> None:
    token = programs.folder / "token.jwt"
    token.write_text(any_sigstore.token())
    files = (
        "--signing-config",
        any_sigstore.files.signing_config,
        "--trusted-root",
        any_sigstore.files.trusted_root,
    )
    programs.done("cosign3", "sign", "--yes", *files, "--identity-token", token, str(image.image))
    (bundle,) = image.bundles()
    payload = KeylessVerifier(trust(any_sigstore), WE.name, WE.issuer).verify(bundle)
    subject = image.image.digest
    assert statement.predicate(payload, predicate_type=statement.SIGNATURE, subject=subject) == {}
    with pytest.raises(RefusedError, match="not by"):
        KeylessVerifier(trust(any_sigstore), f"{WE.name}x", WE.issuer).verify(bundle)
    other = image.members[0].digest
    with pytest.raises(RefusedError, match="is not about"):
        statement.predicate(payload, predicate_type=statement.SIGNATURE, subject=other)


def test_we_accept_what_cosign_writes_of_the_first_entry_of_a_log(
    programs: Cosigns, image: cosigns.Published, tmp_path: Path
) -> None:
    """JSON of Protocol Buffers has no zeros and no empty lists: neither an index nor a proof is there."""
    with LocalSigstore(tmp_path / "new", empty_log=True) as new:
        sign_with_cosign(new, programs, image)
        (bundle,) = image.bundles()
        assert "hashes" not in json.loads(bundle)["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
        assert trust(new).verify(bundle)[0] == WE


def test_sigstores_own_command_accepts_our_bundle(
    any_sigstore: LocalSigstore, tmp_path: Path, transport: Transport
) -> None:
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(signer_of(any_sigstore, transport).sign(about()))
    command = (sys.executable, "-m", "sigstore", "--trust-config", str(any_sigstore.files.trust_config))
    who = ("--cert-identity", WE.name, "--cert-oidc-issuer", WE.issuer)
    for content, status in ((b"an image", 0), (b"another", 1)):
        verify = ("verify", "identity", "--bundle", str(bundle), *who, str(Digest.of(content)))
        ended = subprocess.run([*command, *verify], check=False, capture_output=True, timeout=60)
        assert ended.returncode == status, ended.stderr


def test_nothing_of_sigstore_is_imported_without_need() -> None:
    code = """
import contextlib, sys
from secure_build import cli
from secure_build.signers import identity, keyless, sigstore_trust
with contextlib.suppress(SystemExit):
    cli.main(["check", "--help"])
print(sorted({"sigstore", "tuf", "requests"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert ended.stdout.splitlines()[-1] == "[]"
