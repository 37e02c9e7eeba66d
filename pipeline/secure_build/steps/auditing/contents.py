"""What is in the contract: its tokens, the images that it runs, and the build that they are of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from secure_build import files, record
from secure_build.audited import AuditedSource
from secure_build.contract import archive, document
from secure_build.contract.advice import mapping
from secure_build.contract.decision import containers as reading
from secure_build.contract.decision import questions
from secure_build.contract.decision.model import Container, Entry
from secure_build.contract.document import SectionText
from secure_build.contract.encryption import disclosure, key_material
from secure_build.contract.encryption.disclosure import Disclosure
from secure_build.contract.encryption.token import Token, looks_like_token
from secure_build.contract.reading import guest_data
from secure_build.errors import RefusedError, UsageError
from secure_build.model import BuildRecord, Finding
from secure_build.source import Repository
from secure_build.steps import record_signature
from secure_build.steps.auditing.trail import Trail, absent, finding


def tokens(trail: Trail) -> Iterable[Finding]:
    if trail.options.contract is None:
        yield absent("tokens", "the contract as it was delivered", "--contract")
        return
    parts, values = trail.parts()
    claims = [_disclosed(trail, path) for path in trail.options.disclosures]
    for part in parts:
        what = f"contract:{part.section}"
        if not part.is_token:
            trail.plain[part.section] = part
            yield finding("tokens", "pass", what, "it is not encrypted")
        elif part.section in document.SECTIONS and part.section not in {one.section for _, one in claims}:
            yield absent("tokens", f"{what}, what is in it", "--disclosure")
    for path, claimed in claims:
        yield _opened(trail, path, claimed, values.get(claimed.section, ""))


def _disclosed(trail: Trail, path: Path) -> tuple[Path, Disclosure]:
    return path, disclosure.unseal(files.read(path, at_most=1 << 20), trail.key(), f"`{path}`")


def _opened(trail: Trail, path: Path, claimed: Disclosure, value: str) -> Finding:
    what, certificate = f"contract:{claimed.section}", trail.options.encryption_certificate
    if not looks_like_token(value):
        return finding("tokens", "fail", what, "the contract has no token of it", where=str(path))
    if certificate is None:
        return absent("tokens", "the certificate that it was encrypted for", "--encryption-certificate")
    key = key_material.public_key(files.read(certificate), f"`{certificate}`")
    try:
        text = claimed.plaintext(Token.parse(value, what), key).decode()
    except (RefusedError, UnicodeDecodeError) as error:
        why = error.message if isinstance(error, RefusedError) else "what is in it is not text"
        return finding("tokens", "fail", what, why, where=str(path))
    if claimed.section in document.SECTIONS:
        section: Literal["workload", "env"] = "workload" if claimed.section == "workload" else "env"
        trail.plain[section] = SectionText(f"{trail.options.contract}: {section}", section, text, 1)
    return finding("tokens", "pass", what, "made again from what was disclosed, byte for byte")


def containers(trail: Trail) -> Iterable[Finding]:
    workload = trail.plain.get("workload")
    if workload is None:
        why = "what the workload section holds is not known"
        yield finding(
            "containers", "unknown", "the workload", why, "name its disclosure: `--disclosure FILE`"
        )
        return
    trail.found, unread = reading.containers(workload, trail.plain.get("env"))
    yield from (replace(one, check="audit-containers") for one in unread)
    known = questions.entries(workload)
    for one in trail.found:
        yield _of_container(one, known)
    if not trail.found:
        yield finding("containers", "unknown", "the workload", "it names no image that could be read")


def _of_container(one: Container, known: Sequence[Entry]) -> Finding:
    """What the runtime goes by for one container."""
    if one.reference is not None and one.reference.digest is not None and one.doubt is None:
        return finding("containers", "pass", one.what, f"runs {one.reference}")
    if one.reference is None or one.doubt is not None:
        why = one.doubt or "what it runs cannot be told"
        return finding("containers", "unknown", one.what, why, one.hint, where=one.where)
    entry = questions.covering(one.reference, known)
    if entry is None:
        why = f"`{one.reference}` has neither a digest nor a key"
        return finding("containers", "fail", one.what, why, where=one.where)
    why = f"runs whatever `{one.reference}` names and the {entry.kind} key of `{entry.name}` signed"
    return finding("containers", "warn", one.what, why, where=one.where)


def author(trail: Trail) -> Iterable[Finding]:
    if trail.options.record is None:
        yield absent("author", "the build record", "--record")
        return
    name = f"`{trail.options.record}`"
    content = files.read(trail.options.record, at_most=record.LARGEST, what="the build record")
    bundles = record_signature.bundles_beside(trail.options.record)
    if not trail.verifiers:
        yield absent("author", "the public key that signs build records", "--record-key")
    else:
        try:
            by = record_signature.check(name, content, bundles, trail.verifiers)
            why = (
                f"it is signed with {by[0]}"
                if by
                else "nobody has signed it, so anybody could have written it"
            )
            yield finding("author", "pass" if by else "fail", name, why)
        except RefusedError as error:
            yield finding("author", "fail", name, error.message, error.hint)
            return
    # The bytes that the signature is of: the file may be another by now.
    trail.built = record.read_content(content, trail.options.record)


def build(trail: Trail) -> Iterable[Finding]:
    built = trail.built
    if built is None:
        yield absent("build", "the build record", "--record")
        return
    where = str(trail.options.record)
    values = trail.parts()[1] if trail.options.contract is not None else {}
    for name, section in built.emitted.items():
        if name in values and looks_like_token(values[name]):
            delivered = Token.parse(values[name], name).digest
            same = delivered == section.token
            why = (
                "it is the token that was made"
                if same
                else f"made was {section.token}, delivered {delivered}"
            )
            yield finding("build", "pass" if same else "fail", f"contract:{name}", why, where=where)
    yield from _archive(trail, built)
    digests = {one.descriptor.digest: f"{one.name}, of commit {_commit(built)}" for one in built.images}
    digests |= {one.digest: f"{one.reference}, which was taken as it is" for one in built.used}
    for one in trail.found:
        digest = one.digest or (one.reference.digest if one.reference else None)
        if digest is None:
            why = "it is named by tag: which build runs is up to the registry, of those that the key signed"
            yield finding("build", "unknown", one.what, why, where=one.where)
        elif digest in digests:
            yield finding("build", "pass", one.what, f"{digest} is {digests[digest]}")
        else:
            why = f"{digest} is no image of the build record"
            yield finding("build", "fail", one.what, why, "name the record of this contract", where=one.where)


def _archive(trail: Trail, built: BuildRecord) -> Iterator[Finding]:
    """Whether the compose file or the pods are those that were packed, where the section is known."""
    section, workload = built.emitted.get("workload"), trail.plain.get("workload")
    opened = workload.document if workload is not None else None
    if section is None or section.archive_gzip is None or opened is None:
        return
    data = mapping(guest_data(opened))
    for key in ("compose", "play"):
        packed = mapping(data.get(key)).get("archive")
        if isinstance(packed, str):
            found, what = archive.digest(packed), f"the archive in `{key}`"
            if found == section.archive_gzip:
                yield finding("build", "pass", what, f"it is the one that was packed: {found}")
            else:
                why = f"packed was {section.archive_gzip}, and in the contract is {found or 'no archive'}"
                yield finding("build", "fail", what, why, where=str(trail.options.record))


def source(trail: Trail) -> Iterable[Finding]:
    built = trail.built
    if built is None:
        yield absent("source", "the build record", "--record")
        return
    if built.source is None:
        yield finding("source", "unknown", "the source", "the build record has no images, and so no commit")
        return
    what = f"commit {built.source.commit}"
    if trail.options.repository is None:
        yield finding("source", "unknown", what, "no repository was given", "name it: `--repository DIR`")
        return
    repository = Repository.around(trail.options.repository)
    try:
        tree = repository.tree(built.source.commit)
        why = f"its bytes are those of its id, and its files are tree {tree}"
        yield finding("source", "pass", what, why)
    except UsageError as error:
        yield finding("source", "fail", what, error.message, error.hint, where=str(trail.options.repository))
    finally:
        repository.close()


def _commit(built: BuildRecord) -> str:
    return built.source.commit if built.source else "no commit"


def source_of(trail: Trail) -> AuditedSource | None:
    """The commit, as the build record has it."""
    found = trail.built.source if trail.built else None
    if found is None:
        return None
    return AuditedSource(found.commit, found.url, found.clean, found.committed_at.isoformat())
