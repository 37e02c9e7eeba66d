"""Keys, certificates, signatures and statements."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.cosign import key as curve_key
from fakes.cosign import rekor
from fakes.keys import certificate, private_pem, rsa_key
from secure_build.attestations import artifact, classic, statement
from secure_build.contract.certificates import certificate as certificates
from secure_build.contract.certificates import pem, revocation
from secure_build.contract.confidential import section
from secure_build.contract.encryption import key_material
from secure_build.secret import Secret
from secure_build.signers import cosign_key, dct, gpg, notary_keys, rhs, sigstore_trust, trust_data
from secure_build.signers.classic import ClassicSigner
from secure_build.signers.cosign import CosignSigner
from secure_build.signers.log_entry import LogEntry
from torture.parsers.contracts import RUNTIME
from torture.parsers.table import IMAGE, NAME, NOW, TARGETS, dumped, files, parser, text

# Keys and certificates

CERTIFICATE = certificate(RUNTIME, NOW - timedelta(days=9), NOW + timedelta(days=900))
PEM = CERTIFICATE.public_bytes(Encoding.PEM)
REVOKED = x509.CertificateRevocationListBuilder(CERTIFICATE.subject, NOW, NOW + timedelta(days=9)).sign(
    RUNTIME, hashes.SHA256()
)
PRIVATE = private_pem(rsa_key("signer"))
PUBLIC = RUNTIME.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@parser("certificate", [PEM, PEM * 2, CERTIFICATE.public_bytes(Encoding.DER)], cost=5)
def _(content: bytes) -> None:
    found, others = certificates.EncryptionCertificate.parse(content, "runtime.crt")
    certificates.describe(found)
    pem.issuer_addresses(found.certificate)
    revocation.addresses(found.certificate)
    revocation.revocation(found.certificate, CERTIFICATE, [REVOKED], NOW)
    for target in TARGETS:
        certificates.findings(found, chain=others, now=NOW, target=target)


@parser("revocation list", [REVOKED.public_bytes(Encoding.PEM), REVOKED.public_bytes(Encoding.DER)])
def _(content: bytes) -> None:
    found = pem.load_list(content, "list.crl")
    revocation.revocation(CERTIFICATE, CERTIFICATE, [found], NOW)
    revocation.next_update(found)


@parser("public key", [PUBLIC, PEM, base64.b64encode(base64.b64encode(PUBLIC))])
def _(content: bytes) -> None:
    key_material.public_material(content, "the key", most_encodings=2)


@parser("host key document", [PEM])
def _(content: bytes) -> None:
    section.host_attestation({"one": ("", content)})


@parser("authority of a notary server", [PEM], cost=20, programs=True)
def _(content: bytes) -> None:
    with dct.opened(Path("work"), "https://notary.example", ca=content):
        pass


@parser("private key", [PRIVATE, private_pem(rsa_key("signer"), "secret")], cost=20)
def _(content: bytes) -> None:
    key_material.private_key(content, None, "the key")


COSIGN = cosign_key.dump(curve_key("own").private, Secret("correct horse"))


@parser("cosign key", [COSIGN, curve_key("own").public.pem], cost=50)
def _(content: bytes) -> None:
    if b"PUBLIC" in content:
        cosign_key.public_key(content, "cosign.pub")
    else:
        cosign_key.load(content, Secret("correct horse"), "cosign.key")


@parser("inside of a cosign key", [base64.b64decode(b"".join(COSIGN.splitlines()[1:-1]))], cost=50)
def _(content: bytes) -> None:
    lines = COSIGN.splitlines()
    cosign_key.load(
        b"\n".join((lines[0], base64.b64encode(content), lines[-1])), Secret("correct horse"), "cosign.key"
    )


@parser("notary key", [*files("cases/notary/root.key"), PRIVATE], cost=20)
def _(content: bytes) -> None:
    notary_keys.NotaryKey.parse(content, None, "the key")


# Signatures and statements

CLASSIC = ClassicSigner(curve_key("own"), rekor())
OWN = CLASSIC.sign(IMAGE)
STATEMENT = statement.statement(statement.SIGNATURE, {}, [("a", IMAGE.digest)])
SIGNER = CosignSigner(curve_key("own"), rekor())
BUNDLE = SIGNER.sign(STATEMENT)
CERTIFIED = json.loads(BUNDLE)
CERTIFIED["verificationMaterial"]["certificate"] = {
    "rawBytes": base64.b64encode(CERTIFICATE.public_bytes(Encoding.DER)).decode()
}
CERTIFIED["verificationMaterial"].pop("publicKey")


@parser("bundle", [BUNDLE], cost=2)
def _(content: bytes) -> None:
    artifact.claim(content)
    SIGNER.verify(content)


@cache
def trusted() -> sigstore_trust.Trust:
    return sigstore_trust.embedded("production")


@parser("keyless bundle", [dumped(CERTIFIED)], cost=10)
def _(content: bytes) -> None:
    trusted().verify(content)


TRUST_CONFIG = {
    "mediaType": sigstore_trust._TRUST_CONFIG,
    "trustedRoot": json.loads(sigstore_trust._shipped("production", sigstore_trust._ROOT)),
    "signingConfig": json.loads(sigstore_trust._shipped("production", sigstore_trust._SERVICES)),
}


@parser("trust config", [dumped(TRUST_CONFIG)], cost=20)
def _(content: bytes) -> None:
    sigstore_trust.Trust(content)


@parser("statement", [STATEMENT])
def _(content: bytes) -> None:
    statement.type_of(content)
    statement.predicate(content, predicate_type=statement.SIGNATURE, subject=IMAGE.digest)


@parser("classic signature", [OWN.payload])
def _(content: bytes) -> None:
    classic.check_payload(content, IMAGE)


@parser("log entry", [OWN.log or ""], ValueError)
def _(content: bytes) -> None:
    LogEntry.from_annotation(text(content)).check(
        CLASSIC.rekor.key if CLASSIC.rekor else None, included=False
    )  # type: ignore[arg-type]


class Said:
    """A verifier for whom every signature is good, and holds what it is."""

    def verify(self, message: bytes) -> gpg.Signed:
        return gpg.Signed(message, "F" * 40)


@parser("simple signing", [rhs.payload(IMAGE, NAME)])
def _(content: bytes) -> None:
    rhs.check(Said(), content, IMAGE, NAME)  # type: ignore[arg-type]


ARMORED = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZQ==\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"


@parser("armour", [ARMORED])
def _(content: bytes) -> None:
    gpg._check_block(content, "PUBLIC", "the key")
    rhs.public_key_text(content)


@parser("openpgp key", [ARMORED], cost=1500, programs=True)
def _(content: bytes) -> None:
    with gpg.opened_verifier(content, Path.cwd(), "the key") as verifier:
        verifier.verify(content)


ROOT_JSON, TARGETS_JSON = files("cases/notary/root.json", "cases/notary/targets.json")


@parser("trust data", [ROOT_JSON, TARGETS_JSON])
def _(content: bytes) -> None:
    kind = "root" if b"ecdsa-x509" in content else "targets"
    documents: Any = {trust_data.ROOT: ROOT_JSON, PurePosixPath("targets.json"): TARGETS_JSON}
    new = documents | {
        PurePosixPath(f"{kind}.json"): content,
        PurePosixPath("targets/releases.json"): content,
    }
    trust_data.older(new, documents)
    found = trust_data.TrustData.read(new)
    found.target("1.0")
    found.root.findings(IMAGE.repository, NOW)


@parser("root certificate", [ROOT_JSON, PEM, base64.b64encode(PEM)])
def _(content: bytes) -> None:
    if content.isascii() and not content.lstrip().startswith((b"{", b"-")):
        trust_data.RootCertificate.parse(content.decode())
    for one in trust_data.certificates(content):
        one.findings(IMAGE.repository, NOW)
        assert one.key != one.identifier
