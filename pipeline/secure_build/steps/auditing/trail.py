"""An audit on its way: what was given, which links were looked at, and what they brought to light."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from secure_build import files, secret
from secure_build.audited import Link
from secure_build.contract import document
from secure_build.contract.attestation import AttestationRecord
from secure_build.contract.decision.model import Container
from secure_build.contract.document import SectionText
from secure_build.contract.encryption import key_material
from secure_build.errors import UsageError
from secure_build.layout import Layout
from secure_build.model import BuildRecord, Finding, Level
from secure_build.reference import Repository
from secure_build.registry.auth import machine_credential
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.report import Report
from secure_build.signers import StatementVerifier
from secure_build.signers.lookaside import Tree
from secure_build.steps.auditing.followed import Followed
from secure_build.steps.certificates import CheckedCertificate
from secure_build.steps.key_opening import LARGEST_TRUST
from secure_build.steps.show import parts_of
from secure_build.steps.simple_signing import SIGNATURES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from secure_build.signers.sigstore_trust import Trust


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the command line says. `passphrase` is the name of a secret."""

    attested: Path
    signature: Path | None = None
    certificate: Path | None = None
    chain: Path | None = None
    sha256: str | None = None
    crls: tuple[Path, ...] = ()
    known: Path | None = None
    contract: Path | None = None
    expect: Path | None = None
    disclosures: tuple[Path, ...] = ()
    encryption_certificate: Path | None = None
    record: Path | None = None
    record_key: Path | None = None
    repository: Path | None = None
    config: Path | None = None
    layout: Path | None = None
    identity: str | None = None
    issuer: str | None = None
    trust_config: Path | None = None
    gpg_key: Path | None = None
    key: Path | None = None
    passphrase: str | None = None
    workdir: Path = Path(".secure-build")
    offline: bool = False


@dataclass
class Trail:
    """One audit; `links` are those that were looked at so far, `plain` the sections that are known."""

    options: AuditOptions
    report: Report
    content: bytes
    attested: AttestationRecord
    transport: Transport
    links: list[Link] = field(default_factory=list)
    checked: CheckedCertificate | None = None
    plain: dict[str, SectionText] = field(default_factory=dict)
    found: list[Container] = field(default_factory=list)
    built: BuildRecord | None = None
    followed: list[Followed] = field(default_factory=list)

    def link(self, name: str, title: str, needs: tuple[str, ...], check: Check) -> None:
        """Look at one link, unless one that it rests on is broken, or was not looked at for that."""
        broken = [one for one in self.links if one.name in needs and one.level in ("fail", "deferred")]
        if broken:
            why = f"not looked at: `{broken[0].name}` does not hold"
            found: Iterable[Finding] = [finding(name, "deferred", title, why)]
        else:
            # What found nothing to look at has shown nothing.
            found = tuple(check(self)) or [finding(name, "unknown", title, "there was nothing to look at")]
        self.links.append(Link(name, title, tuple(found)))

    def parts(self) -> tuple[list[SectionText], dict[str, str]]:
        """The contract's sections, and all its values by name."""
        path = self.options.contract
        assert path is not None
        return parts_of(files.read(path, at_most=document.LARGEST), str(path))

    @functools.cached_property
    def verifiers(self) -> tuple[StatementVerifier, ...]:
        """Those whom the auditor believes, on build records and images."""
        options, found = self.options, list[StatementVerifier]()
        if options.record_key is not None:
            from secure_build.signers import cosign_key
            from secure_build.signers.cosign import CosignVerifier

            key = cosign_key.public_key(files.read(options.record_key), f"`{options.record_key}`")
            found.append(CosignVerifier(key))
        if options.identity is not None and options.issuer is not None:
            from secure_build.signers.keyless import KeylessVerifier

            found.append(KeylessVerifier(self._trust(), options.identity, options.issuer))
        return tuple(found)

    def _trust(self) -> Trust:
        """The public instance of sigstore, or the one that was named."""
        from secure_build.signers import sigstore_trust

        options = self.options
        if options.trust_config is not None:
            return sigstore_trust.Trust(files.read(options.trust_config, at_most=LARGEST_TRUST))
        if options.offline:
            return sigstore_trust.embedded("production")
        return sigstore_trust.fetched("production", options.workdir / "sigstore", self.transport)

    @functools.cached_property
    def layout(self) -> Layout | None:
        """The layout that was named, or that of the work folder, where there is one."""
        if self.options.layout is not None:
            return Layout.at(self.options.layout)
        own = self.options.workdir / "layout"
        return Layout.at(own) if own.exists() else None

    def signatures(self, repository: Repository) -> Tree | None:
        """Where OpenPGP signatures lie: in the capsule that the layout is, or beside a work folder's."""
        if self.layout is None:
            return None
        folder = self.layout.directory
        places = (folder / "evidence" / SIGNATURES, folder.parent / SIGNATURES)
        return next((Tree(one / repository.registry) for one in places if one.is_dir()), None)

    def reader(self, repository: Repository) -> RemoteRegistry:
        """The registry of an image, with the login of this machine."""
        return RemoteRegistry(repository.registry, machine_credential(repository), self.transport)

    def key(self) -> RSAPrivateKey:
        """The auditor's private key."""
        return private_key(self.options, "a disclosure opens with the auditor's key")


# What looks at one link.
Check = Callable[[Trail], Iterable[Finding]]


def private_key(options: AuditOptions, why: str) -> RSAPrivateKey:
    """The key that was named; raises UsageError, which says why, when none was."""
    if options.key is None:
        raise UsageError(why, hint="name it: `--key FILE`")
    passphrase = secret.look_up(options.passphrase) if options.passphrase else None
    return key_material.private_key(files.read(options.key), passphrase, f"`{options.key}`")


def finding(
    check: str, level: Level, what: str, why: str, hint: str | None = None, *, where: str | None = None
) -> Finding:
    """What one check of a link found."""
    return Finding(f"audit-{check}", level, what, why, hint=hint, where=where)


def absent(check: str, what: str, flag: str) -> Finding:
    """What cannot be checked, since nobody gave it."""
    return finding(check, "unknown", what, "it was not given", f"name it: `{flag} FILE`")
