"""contract re-encrypt: the same bytes for another image of the runtime.

A recovered or upgraded instance must get the contract it had: other seeds would lose its data. So the
plain section must be what the old build record says was encrypted, to the byte.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from secure_build import files, record
from secure_build.contract import text
from secure_build.contract.certificates.certificate import EncryptionCertificate
from secure_build.contract.checks import keys
from secure_build.contract.document import SectionText
from secure_build.contract.encryption.token import Token
from secure_build.errors import RefusedError, UsageError
from secure_build.model import BuildRecord, Finding, Section
from secure_build.reference import Digest
from secure_build.steps.emission import (
    certificate_of,
    emitted,
    encrypt,
    encrypted_line,
    encrypted_path,
    fingerprint_of,
    key_path,
    keyed_digest,
    plain_path,
    prefix_of,
    read_key,
    read_section,
    write_plain,
)
from secure_build.steps.job import RECORD_NAME, Job
from secure_build.steps.verdict import settled


@dataclass(frozen=True, slots=True)
class ReEncrypted:
    """The new token of a section, and the attested hash before it; None when it was plain."""

    name: str
    path: Path
    value: Token
    before: Digest | None


def contract_re_encrypt(work: Job) -> tuple[BuildRecord, ReEncrypted]:
    """Encrypt a plain section, which must be the recorded one, for the config's certificate.

    Raises RefusedError for a section that differs in a byte, UsageError for one that cannot be compared.
    """
    name = work.options.section
    assert name is not None
    record_path = work.options.old_record or work.record_path
    if record_path.is_dir():
        record_path /= RECORD_NAME
    old = record.read(record_path)
    known = old.emitted.get(name)
    if known is None:
        raise UsageError(f"the build record `{record_path}` has no `{name}` section")
    path = work.options.plain or _plain(record_path.parent, name)
    section = read_section(path, name)
    key = _same(section, path, known, record_path)
    certificate, findings = certificate_of(work)
    if certificate is None:
        raise UsageError(
            "there is no certificate to encrypt for",
            hint="name that of the new image in the config, under `encrypt: certificate:`",
        )
    if name == "env":
        findings = (*findings, *_expiry(section))
    settled(work, findings, what=f"the {name} section")
    last = work.last_record()
    done = last and last.emitted.get(name)
    if last and done and _is_same(work, done, known, certificate):
        there = emitted(work, name, done, draft=True)
        if there is not None:
            work.report.step(f"{name}: is encrypted for {certificate.fingerprint} already ({there.name})")
            value = Token.parse(there.value, there.name)
            return last, ReEncrypted(name, Path(there.name), value, known.token)
    made, value = encrypt(work, name, section.value.encode(), certificate, key, made=known)
    written = encrypted_path(work.options.workdir, name, draft=True)
    write_plain(
        plain_path(work.options.workdir, name, draft=True), text.block(name, section.value).encode(), key
    )
    files.write(written, encrypted_line(name, value))
    work.report.step(f"{name}: the same bytes, encrypted for {certificate.fingerprint}: {written}")
    # The other section may have been encrypted for the new image before.
    base = last if last is not None and last.config == work.loaded.digest else old
    result = replace(
        base,
        config=work.loaded.digest,
        sections={**base.sections, name: made},
        attested={},
        findings=tuple(findings),
    )
    record.write(work.record_path, result)
    return result, ReEncrypted(name, written, value, known.token)


def _is_same(work: Job, done: Section, known: Section, certificate: EncryptionCertificate) -> bool:
    """Whether a token has these bytes for this certificate; a second one would have another hash."""
    wanted = (known.plaintext_keyed, fingerprint_of(certificate), prefix_of(work))
    return done.token is not None and (done.plaintext_keyed, done.certificate, done.prefix) == wanted


def _plain(folder: Path, name: str) -> Path:
    """The plain section beside its build record."""
    places = [plain_path(folder, name, draft=draft) for draft in (False, True)]
    found = [place for place in places if place.exists()]
    # What `run` wrote and the draft of it, which an earlier call left here, are the same.
    if len({place.read_bytes() for place in found}) != 1:
        raise UsageError(
            f"there is {'no' if not found else 'more than one'} plain `{name}` section in `{folder}`",
            hint="name the file that was encrypted",
        )
    return found[0]


def _same(section: SectionText, path: Path, known: Section, record_path: Path) -> bytes:
    """The key of the keyed digest, when the section is the one that was recorded."""
    if section.is_token:
        raise UsageError(f"{section.name}: this section is encrypted", hint="name the plain one")
    key = read_key(path) or read_key(record_path.parent / path.name)
    if key is None:
        raise UsageError(
            f"`{path}` cannot be compared with what was encrypted: the file `{key_path(path)}` is missing",
            hint="it was written beside the plain section; copy it beside this one",
        )
    if not hmac.compare_digest(keyed_digest(key, section.value.encode()), known.plaintext_keyed):
        raise RefusedError(
            f"`{path}` is not what the build record `{record_path}` says was encrypted",
            hint="take the file as it was then, every byte; another content is another contract",
        )
    return key


def _expiry(section: SectionText) -> list[Finding]:
    """Whether the contract's own certificate still lasts: the new instance checks it at every boot."""
    assert section.document is not None
    written = section.document.data.get("signingKey")
    if not isinstance(written, str):
        return []
    return list(keys.signing_key(written, datetime.now(UTC), section.name))
