"""The certificate authorities of sigstore for tests: Fulcio with its CT log, and that of timestamps."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from services import certificates
from services import sigstore_keys as keys

_ISSUERS = ("1.3.6.1.4.1.57264.1.1", "1.3.6.1.4.1.57264.1.8")
_PROMISES = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
_TIMESTAMPS = """
[tsa]
default_tsa = local
[local]
serial = {serial}
signer_cert = {certificate}
signer_key = {key}
signer_digest = sha256
default_policy = 1.3.6.1.4.1.57264.2
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
"""


class Fulcio:
    """Certifies for a short time that a key is of whom a token names."""

    def __init__(self, start: datetime) -> None:
        self.ct_key = keys.new()
        self._key = keys.new()
        self.certificate = _authority("fulcio", self._key, start)

    def issue(self, claims: Mapping[str, Any], key: Any, now: datetime, seconds: int) -> x509.Certificate:
        """A certificate with the promise of the CT log in it."""
        issuer = claims["iss"].encode()
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = (
            x509.CertificateBuilder(self.certificate.subject, x509.Name([]), key, x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(seconds=seconds))
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(above, critical=False)
            .add_extension(x509.SubjectAlternativeName([_identity(claims)]), critical=True)
        )
        for number, value in zip(_ISSUERS, (issuer, _der(0x0C, issuer)), strict=True):
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(number), value)
            builder = builder.add_extension(extension, critical=False)
        promised = builder.sign(self._key, hashes.SHA256()).tbs_certificate_bytes
        extension = x509.UnrecognizedExtension(_PROMISES, _der(0x04, self._promises(promised, now)))
        return builder.add_extension(extension, critical=False).sign(self._key, hashes.SHA256())

    def _promises(self, certificate: bytes, now: datetime) -> bytes:
        """A list of one signed certificate timestamp (RFC 6962, 3.2 and 3.3)."""
        milliseconds = int(now.timestamp() * 1000)
        signed = struct.pack("!BBQH", 0, 0, milliseconds, 1) + keys.digest(self._key)
        signed += len(certificate).to_bytes(3, "big") + certificate + b"\0\0"
        signature = self.ct_key.sign(signed, keys.SHA256)
        promise = b"\0" + keys.digest(self.ct_key) + struct.pack("!QH", milliseconds, 0)
        promise += struct.pack("!BBH", 4, 3, len(signature)) + signature
        return struct.pack("!HH", len(promise) + 2, len(promise)) + promise


class Timestamps:
    """Timestamps (RFC 3161) by openssl; `chain` is the signer's certificate and its issuer's."""

    def __init__(self, directory: Path, start: datetime) -> None:
        root_key, key = keys.new(), keys.new()
        root = _authority("timestamps", root_key, start)
        signer = (
            _builder(root.subject, "timestamp signer", key, start)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
            .sign(root_key, hashes.SHA256())
        )
        self.chain = (signer, root)
        self._config, self._query = directory / "tsa.cnf", directory / "tsa.query"
        certificate, key_file = directory / "tsa.pem", directory / "tsa.key"
        certificate.write_bytes(signer.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        files = {"serial": directory / "tsa.serial", "certificate": certificate, "key": key_file}
        self._config.write_text(_TIMESTAMPS.format(**files))
        self._lock = threading.Lock()

    def answer(self, query: bytes) -> bytes:
        """The answer to a query, DER both."""
        with self._lock:
            self._query.write_bytes(query)
            command = ("ts", "-reply", "-queryfile", str(self._query), "-config", str(self._config))
            return certificates.openssl(*command)


def _identity(claims: Mapping[str, Any]) -> x509.GeneralName:
    """Whom the certificate names; the real Fulcio does the same for these issuers."""
    if "job_workflow_ref" in claims:
        return x509.UniformResourceIdentifier(f"https://github.com/{claims['job_workflow_ref']}")
    if "ci_config_ref_uri" in claims:
        return x509.UniformResourceIdentifier(f"https://{claims['ci_config_ref_uri']}")
    if kubernetes := claims.get("kubernetes.io"):
        names = f"namespaces/{kubernetes['namespace']}/serviceaccounts/{kubernetes['serviceaccount']['name']}"
        return x509.UniformResourceIdentifier(f"https://kubernetes.io/{names}")
    if "email" in claims:
        return x509.RFC822Name(claims["email"])
    return x509.UniformResourceIdentifier(claims["sub"])


def _authority(name: str, key: ec.EllipticCurvePrivateKey, start: datetime) -> x509.Certificate:
    return (
        _builder(_name(name), name, key, start)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    issuer: x509.Name, name: str, key: ec.EllipticCurvePrivateKey, start: datetime
) -> x509.CertificateBuilder:
    public, end = key.public_key(), start + timedelta(days=2)
    builder = x509.CertificateBuilder(issuer, _name(name), public, x509.random_serial_number(), start, end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _name(name: str) -> x509.Name:
    organization = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "local sigstore")
    return x509.Name([organization, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    never = (
        *("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
        *("crl_sign", "encipher_only", "decipher_only"),
    )
    return x509.KeyUsage(
        digital_signature=digital_signature, key_cert_sign=key_cert_sign, **dict.fromkeys(never, False)
    )


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag, *([] if size < 0x80 else [0x80 | len(length)])]) + length + content
