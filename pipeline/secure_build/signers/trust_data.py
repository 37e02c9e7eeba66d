"""Trust data of Notary v1 that has been verified: root certificates and targets.

The documents are those of TUF as Notary 0.7 writes them. No signature is checked here: that is the
business of the program, see `dct.py`. Nothing here reads files or asks a server.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from secure_build.contract.certificates import pem
from secure_build.errors import RefusedError, UsageError
from secure_build.manifest import load_object
from secure_build.model import Finding
from secure_build.reference import Digest, Repository
from secure_build.signers.notary_keys import certificate_identifier, key_identifier

TARGETS, RELEASES = "targets", "targets/releases"
ROOT = PurePosixPath("root.json")
# By their places in the program's folder.
Documents = dict[PurePosixPath, bytes]
# The program itself warns from six months before the end on.
_SOON = timedelta(days=183)
_LEAST_BITS = 2048
_SHA_1 = (SignatureAlgorithmOID.ECDSA_WITH_SHA1, SignatureAlgorithmOID.RSA_WITH_SHA1)
_CERTIFICATE_KEYS = ("ecdsa-x509", "rsa-x509")


@dataclass(frozen=True, slots=True)
class Target:
    """What a tag names: the digest of a manifest, and its size in bytes."""

    digest: Digest
    size: int


@dataclass(frozen=True, slots=True)
class RootCertificate:
    """The certificate of a root key; `text` is the contract's `publicKey`: base64 of PEM, in one line.

    Above it there may be others, in the same PEM, that issued it.
    """

    text: str
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def parse(cls, text: str) -> RootCertificate:
        """Read the contract's `publicKey`; raises UsageError."""
        try:
            content = base64.b64decode(text, validate=True)
        except ValueError:
            content = b""
        if b"-----BEGIN CERTIFICATE-----" not in content:
            raise UsageError(
                "the root certificate is not base64 of a certificate in PEM",
                hint="copy it from `root.json` as it stands there, which is base64 already",
            )
        return cls(text, _read(content))

    @classmethod
    def of(cls, certificate: x509.Certificate) -> RootCertificate:
        return cls(base64.b64encode(certificate.public_bytes(Encoding.PEM)).decode(), (certificate,))

    @property
    def pem(self) -> bytes:
        return b"".join(one.public_bytes(Encoding.PEM) for one in self.chain)

    @property
    def identifier(self) -> str:
        """What trust data calls it, and `trust_pinning` in the program's config."""
        return certificate_identifier(list(self.chain))

    @property
    def key(self) -> str:
        """What trust data would call its bare key."""
        return key_identifier(self.chain[0].public_key())

    @property
    def name(self) -> str:
        """The common name: the repository, or a prefix of it and `*`."""
        names = self.chain[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(names[0].value) if names else ""

    def is_for(self, repository: Repository) -> bool:
        """Whether Notary takes it for this repository, by its common name."""
        if self.name.endswith("*"):
            return str(repository).startswith(self.name.rstrip("*"))
        return self.name == str(repository)

    def findings(self, repository: Repository, now: datetime) -> tuple[Finding, ...]:
        """What is wrong with it, by Notary's own rules, or will be soon; empty when nothing is."""
        one, where = self.chain[0], f"root certificate of {repository}"
        found = []

        def add(level: Any, what: str, why: str, hint: str | None = None) -> None:
            found.append(Finding("dct-root-certificate", level, what, why, hint=hint, where=where))

        if not self.is_for(repository):
            add("fail", f"it is for `{self.name}`", "Notary takes a certificate for the name in it only")
        if not one.not_valid_before_utc - timedelta(days=1) <= now <= one.not_valid_after_utc:
            dates = f"{one.not_valid_before_utc:%Y-%m-%d} to {one.not_valid_after_utc:%Y-%m-%d}"
            add("fail", f"it is valid from {dates} only", "Notary refuses trust data that rests on it")
        elif one.not_valid_after_utc - now < _SOON:
            add(
                "warn",
                f"it expires on {one.not_valid_after_utc:%Y-%m-%d}",
                "from then on clients refuse everything that rests on it",
                "a new root certificate needs new contracts",
            )
        key = one.public_key()
        if isinstance(key, RSAPublicKey) and key.key_size < _LEAST_BITS:
            add("fail", f"its key has {key.key_size} bits", f"Notary takes RSA from {_LEAST_BITS} bits on")
        if one.signature_algorithm_oid in _SHA_1:
            add("fail", "it is signed with SHA-1", "Notary takes no such certificate")
        return tuple(found)


def root_certificate(root_json: bytes) -> str:
    """The contract's `publicKey`: the key of the root role, as it stands in a `root.json` (IBM's page
    "About the contract", images).

    Only for a `root.json` that is trusted already. Raises UsageError.
    """
    return _root(root_json)[0].text


def certificates(content: bytes) -> list[RootCertificate]:
    """The root certificates in a file: PEM, or a `root.json`; raises UsageError."""
    if content.lstrip().startswith(b"{"):
        return [_root(content)[0]]
    return [RootCertificate.of(one) for one in _read(content)]


@dataclass(frozen=True, slots=True)
class TrustData:
    """What the verified trust data of one repository says.

    `root_keys` and `targets_keys` are those of the roles, bare, as `key_identifier` has them, and
    `releases_keys` those of the delegation `targets/releases`, empty when there is none. `by_role` has
    what these two roles name.
    """

    root: RootCertificate
    root_keys: frozenset[str]
    targets_keys: frozenset[str]
    releases_keys: frozenset[str]
    by_role: dict[str, dict[str, Target]]

    @classmethod
    def read(cls, documents: Documents) -> TrustData:
        """Put verified documents together; raises RefusedError when they are not what Notary writes."""
        try:
            certificate, document = _root(documents[ROOT])
            signed = load_object(documents[PurePosixPath(f"{TARGETS}.json")])["signed"]
            releases = documents.get(PurePosixPath(f"{RELEASES}.json"))
            delegations = signed["delegations"]
            role = next((one for one in delegations["roles"] if one["name"] == RELEASES), None)
            by_role = {TARGETS: _targets(signed, ("",))}
            if role is not None and releases is not None:
                by_role[RELEASES] = _targets(load_object(releases)["signed"], role["paths"])
            return cls(
                certificate,
                _bare_keys(document["keys"], document["roles"]["root"]["keyids"]),
                _bare_keys(document["keys"], document["roles"]["targets"]["keyids"]),
                _bare_keys(delegations["keys"], role["keyids"] if role else ()),
                by_role,
            )
        except (ValueError, KeyError, TypeError, AttributeError, UsageError) as error:
            raise _not_notarys(error) from None

    def target(self, tag: str) -> Target | None:
        """What a tag names for Docker's clients: by `targets/releases`, else by `targets`.

        Raises RefusedError when the two name different digests, since clients then differ too.
        """
        found = [names[tag] for names in self.by_role.values() if tag in names]
        if len({target.digest for target in found}) > 1:
            raise RefusedError(
                f"`{tag}` has two digests in the trust data: `{RELEASES}` and `{TARGETS}` differ, "
                "and clients differ in which they take",
                hint=f"remove one: `notary remove REPOSITORY {tag} --roles ROLE --publish`",
            )
        return self.by_role.get(RELEASES, {}).get(tag) or self.by_role[TARGETS].get(tag)


def older(now: Documents, before: Documents) -> PurePosixPath | None:
    """The first document that has a lower version now than before; raises RefusedError as `read` does."""
    for name in sorted(now.keys() & before.keys()):
        if _version(now[name]) < _version(before[name]):
            return name
    return None


def _version(content: bytes) -> int:
    try:
        return int(load_object(content)["signed"]["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise _not_notarys(error) from None


def _not_notarys(error: Exception) -> RefusedError:
    return RefusedError(f"the trust data is not what Notary writes: {error}")


def _read(content: bytes) -> tuple[x509.Certificate, ...]:
    """Certificates whose keys Notary takes; raises UsageError."""
    found = pem.load(content, "root certificate")
    try:
        for one in found:
            key_identifier(one.public_key())
    except ValueError as error:
        raise UsageError(f"the root certificate has a key that Notary does not take: {error}") from None
    return found


def _root(content: bytes) -> tuple[RootCertificate, dict[str, Any]]:
    """The first root key's certificate, and the whole of what is signed; raises UsageError."""
    try:
        signed = load_object(content)["signed"]
        key = signed["keys"][signed["roles"]["root"]["keyids"][0]]
        kind, text = key["keytype"], key["keyval"]["public"]
    except (ValueError, KeyError, TypeError, IndexError):
        raise UsageError("this is no `root.json` of Notary's") from None
    if kind not in _CERTIFICATE_KEYS or not isinstance(text, str):
        raise UsageError(f"the root key in `root.json` is no certificate but `{kind}`")
    return RootCertificate.parse(text), signed


def _bare_keys(keys: dict[str, Any], wanted: Iterable[str]) -> frozenset[str]:
    """The keys by their bare identifiers: a delegation's key may stand there as a certificate."""
    return frozenset(
        RootCertificate.parse(keys[name]["keyval"]["public"]).key
        if keys[name]["keytype"] in _CERTIFICATE_KEYS
        else name
        for name in wanted
    )


def _targets(signed: dict[str, Any], paths: Iterable[str]) -> dict[str, Target]:
    """The targets of one role that are below its paths and have a SHA-256."""
    return {
        name: Target(
            Digest("sha256:" + base64.b64decode(entry["hashes"]["sha256"], validate=True).hex()),
            int(entry["length"]),
        )
        for name, entry in signed["targets"].items()
        if "sha256" in entry["hashes"] and any(name.startswith(path) for path in paths)
    }
