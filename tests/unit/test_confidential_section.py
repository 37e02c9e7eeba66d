"""`confidential-containers` and `host-attestation`, as IBM's schema has them."""

from __future__ import annotations

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

import ibm_schema
from secure_build.contract.confidential import policy, section
from secure_build.contract.confidential.section import SealedSecrets
from secure_build.errors import UsageError
from secure_build.reference import Repository
from secure_build.secret import Secret

ONE_DAY = datetime.timedelta(days=1)
WEB = Repository.parse("us.icr.io/acme/web")


PEM = serialization.Encoding.PEM
KEYS: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {
    "P-256": ec.generate_private_key(ec.SECP256R1()),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "RSA": rsa.generate_private_key(65537, 2048),
}


def public(name: str) -> bytes:
    return KEYS[name].public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def private(name: str, passphrase: bytes = b"") -> bytes:
    locked = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return KEYS[name].private_bytes(PEM, serialization.PrivateFormat.PKCS8, locked)


def certificate() -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "host")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, KEYS["P-256"].public_key(), 1, start, start + ONE_DAY)
    return builder.sign(KEYS["P-256"], hashes.SHA256()).public_bytes(PEM)


def test_the_policy_is_base64_on_one_line() -> None:
    text = policy.policy([])
    assert section.content(text) == {"regoValidator": {"policy": base64.b64encode(text.encode()).decode()}}


def test_a_cosign_key_is_base64_of_its_pem_by_repository() -> None:
    pem = public("P-256")
    content = section.content("p", {WEB: b"Comment: me\n" + pem + b"\ntrailing\n"})
    keys = content["config"]["cosign"]
    assert list(keys) == ["us.icr.io/acme/web"]
    assert base64.b64decode(keys["us.icr.io/acme/web"]["publicKey"], validate=True) == pem
    (finding,) = section.cosign_findings({WEB: pem})
    assert (finding.level, finding.basis) == ("warn", "inferred")
    assert "not documented" in finding.why


@pytest.mark.parametrize(
    ("pem", "message"),
    [
        (public("P-384"), "curve P-256"),
        (public("RSA"), "curve P-256"),
        (private("P-256"), "is no public key"),
        (base64.b64encode(public("P-256")), "is no public key"),
        (b"", "is no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "is no public key"),
    ],
)
def test_what_is_no_cosign_key_is_refused(pem: bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        section.content("p", {WEB: pem})
    assert "us.icr.io/acme/web" in caught.value.message
    assert pem.decode()[40:60] not in caught.value.message or not pem


def sealed(verifies: bytes, opens: bytes) -> SealedSecrets:
    return SealedSecrets(verifies.decode(), Secret(opens.decode()))


def test_keys_for_sealed_secrets_stay_pem_and_secret() -> None:
    keys = sealed(public("RSA"), private("RSA"))
    content = section.content("p", secret=keys)["secret"]
    assert content == {"verificationKey": keys.verification_key, "decryptionKey": keys.decryption_key}
    assert "PRIVATE KEY" not in repr(content)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (sealed(public("P-256"), private("RSA")), "verifies sealed secrets must be an RSA key"),
        (sealed(private("RSA"), private("RSA")), "verifies sealed secrets is no public key"),
        (sealed(public("RSA"), private("P-256")), "opens sealed secrets must be an RSA private key"),
        (sealed(public("RSA"), public("RSA")), "opens sealed secrets must be an RSA private key"),
        (
            sealed(public("RSA"), private("RSA", b"passphrase")),
            "without passphrase",
        ),
    ],
)
def test_other_keys_for_sealed_secrets_are_refused(keys: SealedSecrets, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        section.content("p", secret=keys)


def test_hosts_are_described_and_their_documents_base64() -> None:
    document = certificate()
    encoded = base64.b64encode(document).decode()
    assert section.host_attestation({"HKD-1": ("Frankfurt", document), "HKD_2": ("", document)}) == {
        "HKD-1": {"description": "Frankfurt", "host-key-doc": encoded},
        "HKD_2": {"description": "HKD_2", "host-key-doc": encoded},
    }
    with pytest.raises(UsageError, match="no name of a host"):
        section.host_attestation({"a.b": ("", document)})
    with pytest.raises(UsageError, match="of `a` is no certificate"):
        section.host_attestation({"a": ("", public("P-256"))})


def test_ibms_schema_takes_it() -> None:
    keys = sealed(public("RSA"), private("RSA")).content()
    plain = {name: value.reveal() if isinstance(value, Secret) else value for name, value in keys.items()}
    content = section.content(policy.policy([]), {WEB: public("P-256")}) | {"secret": plain}
    workload = {"type": "workload", "confidential-containers": content}
    env = {"type": "env", "host-attestation": section.host_attestation({"a": ("", certificate())})}
    assert ibm_schema.document_problems("ccco", {"workload": workload, "env": env}) == []
    assert ibm_schema.document_problems(
        "ccco", {"workload": workload | {"confidential-containers": {"regoValidator": {}}}, "env": env}
    )
