"""A section in files: the plain one, for its owner only, and the token to hand on.

Unchanged content keeps its token: encrypting again gives another one, and another attested hash.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from secure_build import files
from secure_build.contract import document, text
from secure_build.contract.archive import Archive
from secure_build.contract.document import SectionName, SectionText
from secure_build.contract.encryption import token
from secure_build.contract.encryption.token import Opening, Token
from secure_build.contract.text import SecretText
from secure_build.errors import UsageError
from secure_build.model import Finding, Section
from secure_build.reference import Digest
from secure_build.steps.job import Job
from secure_build.steps.sections import read_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from secure_build.contract.certificates.certificate import EncryptionCertificate

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Emitted:
    """A section as it was written: `value` is what stands in the contract, `known` goes into the record.

    `masked` is the plain text with its secrets as `***`. `unchanged` tells that all of it was there.
    """

    name: str
    path: Path
    masked: str
    known: Section
    value: Token | None
    encrypted: Path | None
    unchanged: bool

    @property
    def told(self) -> str:
        """What happened, for people."""
        if self.unchanged:
            return f"unchanged, not written ({self.encrypted or self.path})"
        return f"written to {self.path}" + (f", encrypted to {self.encrypted}" if self.encrypted else "")


def certificate_of(work: Job) -> tuple[EncryptionCertificate | None, tuple[Finding, ...]]:
    """The config's certificate with what was found out about it, or none: then sections stay plain.

    Raises RefusedError for one that must not be used.
    """
    if work.loaded.config.encrypt.certificate is None:
        return None, ()
    from secure_build.steps.certificates import encryption_certificate

    return encryption_certificate(work)


def emit(
    work: Job,
    name: SectionName,
    section: SecretText,
    certificate: EncryptionCertificate | None,
    *,
    before: Section | None,
    draft: bool,
    packed: Archive | None = None,
) -> Emitted:
    """Write a section, and encrypt it where the config has a certificate; `before` is what the record knew.

    Raises UsageError for an auditor's key that cannot be used; then nothing is written.
    """
    path = plain_path(work.options.workdir, name, draft=draft)
    key = read_key(path) or secrets.token_bytes(KEY_BYTES)
    content = text.block(name, section.plain).encode()
    masked = text.block(name, section.masked)
    made = Section(
        plaintext_masked=Digest.of(section.masked.encode()),
        plaintext_keyed=keyed_digest(key, section.plain.encode()),
        archive_tar=packed.tar_digest if packed else None,
        archive_gzip=packed.compressed_digest if packed else None,
    )
    # Without its key, nobody could compare the section later.
    there = path.exists() and path.read_bytes() == content and read_key(path) is not None
    if certificate is None:
        unchanged = there and made == before
        if not unchanged:
            write_plain(path, content, key)
        _remove_encrypted(work, name)
        return Emitted(name, path, masked, made, None, None, unchanged)
    known, value, again = _token(work, name, section, certificate, key, made=made, before=before)
    unchanged = there and not again
    if not there:
        write_plain(path, content, key)
    encrypted = encrypted_path(work.options.workdir, name, draft=draft)
    line = encrypted_line(name, value)
    if not encrypted.exists() or encrypted.read_bytes() != line:
        files.write(encrypted, line)
        unchanged = False
    return Emitted(name, path, masked, known, value, encrypted, unchanged)


def withdraw(work: Job, refused: Mapping[str, SectionText], *, written: Collection[str]) -> None:
    """Make drafts of the sections and the contract that an earlier run put in place, if they are refused now.

    They are when all of them are the refused ones; else nobody has refused them, and they stay. Both is
    said, of all but those that were `written` just now.
    """

    def path_of(name: str) -> Path:
        return plain_path(work.options.workdir, name, draft=False)

    def is_refused(name: str) -> bool:
        content = text.block(name, refused[name].value).encode()
        return path_of(name).exists() and path_of(name).read_bytes() == content

    all_refused = bool(refused) and all(map(is_refused, refused))
    for name in (*document.SECTIONS, "contract"):
        if name in written or not path_of(name).exists():
            continue
        if not all_refused:
            work.report.step(f"`{path_of(name)}` is that of an earlier run, and stays as it is")
            continue
        for place in (plain_path, encrypted_path):
            if (path := place(work.options.workdir, name, draft=False)).exists():
                path.replace(place(work.options.workdir, name, draft=True))
                work.report.step(f"`{path}` is refused now, and was made a draft")


def encrypt(
    work: Job,
    name: str,
    plaintext: bytes,
    certificate: EncryptionCertificate,
    key: bytes,
    *,
    made: Section,
) -> tuple[Section, Token]:
    """A new token of the plaintext, and what the record keeps of it; the auditor's file is written first.

    `key` is that of the keyed digest.
    """
    prefix = prefix_of(work)
    auditor = auditor_of(work) if name in document.SECTIONS else None
    sealed = token.encrypt(plaintext, certificate.public_key, prefix, secrets.token_bytes)
    if auditor is not None:
        _disclose(work, name, sealed.token, sealed.opening, auditor)
    fingerprint = fingerprint_of(certificate)
    digest = sealed.token.digest
    keyed = token_keyed(key, digest, plaintext)
    known = replace(made, token=digest, prefix=prefix, certificate=fingerprint, token_keyed=keyed)
    return known, sealed.token


def fingerprint_of(certificate: EncryptionCertificate) -> Digest:
    """SHA-256 of the certificate."""
    return Digest.parse(f"sha256:{certificate.fingerprint}")


def prefix_of(work: Job) -> str:
    """The first part of the tokens for this target."""
    config = work.loaded.config
    return config.encrypt.prefix or token.DEFAULT_PREFIX[config.target]


def plain_path(workdir: Path, name: str, *, draft: bool) -> Path:
    """Where a plain section is, or will be."""
    return workdir / f"{name}{'.draft' if draft else ''}.yaml"


def encrypted_path(workdir: Path, name: str, *, draft: bool) -> Path:
    """Where the token of a section is, or will be."""
    return workdir / f"{name}.encrypted{'.draft' if draft else ''}.yaml"


def encrypted_line(name: str, value: Token) -> bytes:
    """A contract with this one token in it, which is what people hand each other."""
    return f"{name}: {value}\n".encode()


def emitted(work: Job, name: SectionName, known: Section, *, draft: bool) -> SectionText | None:
    """The recorded section as it was emitted, a draft or not; None when none of the files is it."""
    place = plain_path if known.token is None else encrypted_path
    for which in (draft, not draft):
        path = place(work.options.workdir, name, draft=which)
        with contextlib.suppress(UsageError):
            section = read_section(path, name)
            if known.token is not None and section.digest == known.token:
                return section
            key = read_key(path)
            if key and keyed_digest(key, section.value.encode()) == known.plaintext_keyed:
                return section
    return None


def read_section(path: Path, name: SectionName) -> SectionText:
    """The section in a file; raises UsageError for a file that holds none."""
    return document.read_section(files.read(path, at_most=document.LARGEST), str(path), expected=name)


def write_plain(path: Path, content: bytes, key: bytes) -> None:
    """A plain section and, beside it, the key of its keyed digest."""
    files.write(key_path(path), key.hex().encode() + b"\n", mode=files.PRIVATE)
    files.write(path, content, mode=files.PRIVATE)


def read_key(path: Path) -> bytes | None:
    """The key of the keyed digest of the plain section at `path`; drafts share it. None without one."""
    try:
        key = bytes.fromhex(key_path(path).read_text(encoding="ascii").strip())
    except (FileNotFoundError, ValueError):
        return None
    return key if len(key) == KEY_BYTES else None


def keyed_digest(key: bytes, plaintext: bytes) -> str:
    """HMAC-SHA256 in hexadecimal: tells equal from different to who has the key, and nobody else."""
    return hmac.new(key, plaintext, hashlib.sha256).hexdigest()


def token_keyed(key: bytes, token: Digest, plaintext: bytes) -> str:
    """HMAC-SHA256 in hexadecimal that ties a token to the text in it."""
    return keyed_digest(key, f"{token}\n".encode() + plaintext)


def key_path(path: Path) -> Path:
    """Where the key of the keyed digest of the plain section at `path` is."""
    return path.parent / f"{path.name.partition('.')[0]}.key"


def _token(
    work: Job,
    name: SectionName,
    section: SecretText,
    certificate: EncryptionCertificate,
    key: bytes,
    *,
    made: Section,
    before: Section | None,
) -> tuple[Section, Token, bool]:
    """The token that is there, when it is of this text for this certificate, or else a new one."""
    as_before = replace(
        made,
        token=before.token if before else None,
        token_keyed=before.token_keyed if before else None,
        prefix=prefix_of(work),
        certificate=fingerprint_of(certificate),
    )
    if before is not None and before == as_before and not work.options.re_encrypt:
        found = emitted(work, name, before, draft=False)
        value = Token.parse(found.value, found.name) if found is not None else None
        if value is not None and _is_disclosed(work, name, value):
            return before, value, False
    known, value = encrypt(work, name, section.plain.encode(), certificate, key, made=made)
    return known, value, True


def _remove_encrypted(work: Job, name: str) -> None:
    """Take away the tokens of before, which somebody could deploy instead of the section as it is now."""
    for draft in (False, True):
        path = encrypted_path(work.options.workdir, name, draft=draft)
        if path.exists():
            path.unlink()
            work.report.step(f"{name}: stays plain now; removed {path}, which was encrypted before")


def auditor_of(work: Job) -> RSAPublicKey | None:
    """Who may re-create the tokens; raises UsageError for a key that cannot be used."""
    wanted = work.loaded.config.encrypt.auditor_disclosure
    if wanted is None:
        return None
    from secure_build.contract.encryption import key_material

    return key_material.public_key(read_file(work, wanted.key), f"the auditor's key `{wanted.key}`")


def _is_disclosed(work: Job, name: str, value: Token) -> bool:
    """Whether the auditor of the config, if there is one, can re-create this token; others cannot later."""
    auditor = auditor_of(work) if name in document.SECTIONS else None
    if auditor is None:
        return True
    path = _disclosure_path(work, name)
    from secure_build.contract.encryption import disclosure

    return path.exists() and disclosure.is_for(path.read_bytes(), value, auditor)


def _disclosure_path(work: Job, name: str) -> Path:
    return work.options.workdir / f"{name}.disclosure.json"


def _disclose(work: Job, name: str, value: Token, opening: Opening, auditor: RSAPublicKey) -> None:
    from secure_build.contract.encryption import disclosure

    path = _disclosure_path(work, name)
    files.write(path, disclosure.seal(name, value, opening, auditor), mode=files.PRIVATE)
    work.report.step(f"{name}: what the auditor needs to re-create the token: {path}")
