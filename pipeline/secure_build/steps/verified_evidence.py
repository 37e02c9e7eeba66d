"""What people and other tools check, and no runtime does: signatures, provenance, SBOMs, the record's own.

All of it is measured by the keys and identities of the config, never by what the build record or a
registry says of itself; those are only asked where things are. Signatures that are no statements are
`verified_signatures.py`'s business. Nothing is decided here about what the runtime would do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secure_build import config, files, record, stopping
from secure_build.attestations import artifact, provenance, publication, sbom, statement
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.manifest import Manifest
from secure_build.model import BuildRecord, Descriptor, Finding, Image, SignatureKind
from secure_build.reference import Digest
from secure_build.steps import handover, record_signature
from secure_build.steps.attest import promised
from secure_build.steps.auditing import recorded
from secure_build.steps.job import RECORD_NAME, Job
from secure_build.steps.verified_signatures import (
    MAKE,
    Checkers,
    beside,
    checkers,
    content_of,
    finding,
    is_served,
    is_wanted,
    signatures,
    unknown,
)

_FORMATS = {predicate_type: kind for kind, predicate_type in sbom.PREDICATES.items()}
_LABELS = {
    statement.SIGNATURE: "signature",
    provenance.PREDICATE: "provenance",
    **{predicate_type: f"SBOM in {kind}" for predicate_type, kind in _FORMATS.items()},
}
_NONE = "there is none"
_OTHERS = (
    "somebody else wrote it, or it is of another key or build: sign and publish again, or correct `signing:`"
)


def evidence(work: Job, current: BuildRecord) -> tuple[Finding, ...]:
    """For every built image what the config promises of it, and for the build record who signed it.

    What is missing, or not by the config's key or identity, is `fail`; what could not be asked, or not be
    checked for want of a key, is `unknown`. Raises UsageError for keys that cannot be used, and for two
    halves of a key that do not belong together.
    """
    opened = checkers(work)

    def of_image(image: Image) -> list[Finding]:
        built = work.loaded.config.built.get(image.name)
        if built is None or image.reference.repository != built.image.repository:
            why = f"the build record has it at `{image.reference}`, and the config does not"
            return [finding(work, "fail", image.name, why, "run `secure-build build` again")]
        if image.missing:
            why = f"it was not built for {', '.join(map(str, image.missing))}, and is signed as a whole"
            hint = "join the records of all platforms: `--record A --record B`"
            return [finding(work, "deferred", f"{image.name}: signatures and statements", why, hint)]
        content = content_of(work, image) if is_wanted(work, image, opened) else None
        statements = _Statements(work, current, image, opened).findings(content)
        return [*statements, *signatures(work, image, content, opened)]

    listed = stopping.side_by_side(of_image, current.images, jobs=work.options.requests)
    found = [one for findings in listed for one in findings]
    return (*found, *_of_record(work, opened), *_of_audit(work, current))


# A statement of a type, signed in one way.
_Pair = tuple[str, SignatureKind]


@dataclass(slots=True)
class _Checked:
    """What is known by now of a statement, over all manifests that it must be beside."""

    subjects: list[Descriptor] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    lacking: list[str] = field(default_factory=list)
    unasked: SecureBuildError | None = None


@dataclass(frozen=True, slots=True)
class _Statements:
    """The statements about one image."""

    work: Job
    current: BuildRecord
    image: Image
    opened: Checkers

    def findings(self, content: Manifest | SecureBuildError | None) -> list[Finding]:
        """What was found of each statement that the config promises; `content` is the image's manifest."""
        name = self.image.name
        if isinstance(content, SecureBuildError):
            return [unknown(self.work, f"{name}: signatures and statements", content)]
        if content is None:
            return []
        checked: dict[_Pair, _Checked] = {}
        for said in promised(self.work, self.image, content, frozenset(self.opened.statements)):
            for kind in sorted(said.kinds):
                one = checked.setdefault((said.predicate_type, kind), _Checked())
                one.subjects += said.subjects
                one.unasked = self.opened.lack(kind)
        # Each manifest is asked about once.
        for subject in dict.fromkeys(subject for one in checked.values() for subject in one.subjects):
            pending = {
                pair: one for pair, one in checked.items() if subject in one.subjects and one.unasked is None
            }
            if pending:
                self._look(subject, pending)
        return [
            self._finding(f"{name}: {_LABELS[said]} ({kind})", kind, one)
            for (said, kind), one in checked.items()
        ]

    def _look(self, subject: Descriptor, pending: dict[_Pair, _Checked]) -> None:
        """Find the statements that are pending beside one manifest; of several good ones, one will do."""
        reasons: dict[_Pair, str] = {}
        try:
            for bundle in self._bundles(subject.digest, {said for said, _ in pending}):
                claimed = artifact.claim(bundle)
                pair = (statement.type_of(claimed.payload) or "", claimed.kind) if claimed else None
                if pair is None or pair not in pending:
                    continue
                try:
                    payload = self.opened.verifier(pair[1]).verify(bundle)
                    told = self._told(
                        pair[0], statement.predicate(payload, predicate_type=pair[0], subject=subject.digest)
                    )
                except RefusedError as error:
                    reasons.setdefault(pair, error.message)
                    continue
                pending.pop(pair).told.append(told)
                if not pending:
                    return
        except (UsageError, ServiceError, MachineError) as error:
            for one in pending.values():
                one.unasked = error
            return
        for pair, one in pending.items():
            place = f"beside {subject.digest}{f' for {subject.platform}' if subject.platform else ''}"
            one.lacking.append(f"{reasons.get(pair, _NONE)}, {place}")

    def _bundles(self, subject: Digest, types: Collection[str]) -> Iterator[bytes]:
        """What is kept beside a manifest, in its registry or, before that, in the layout."""
        repository, layout = self.image.reference.repository, self.work.layout
        if is_served(self.work, self.image):
            reader = self.work.own_reader(repository)
            found = publication.read_bundles(
                reader, repository, subject, predicate_types=types, layout=layout
            )
            yield from (one.content for one in found)
            return
        for signature in self.image.signatures:
            if signature.image.digest == subject and signature.predicate in types:
                bundle = artifact.read(layout, Digest.parse(signature.kept))
                if bundle is None:
                    raise UsageError(
                        f"{signature.kept} is not in `{layout.directory}`",
                        hint="verify where it was signed, or without `--offline` once it is published",
                    )
                yield bundle

    def _told(self, predicate_type: str, said: dict[str, Any]) -> str:
        """What a good statement says, in a few words.

        Raises RefusedError for what the build record says otherwise, and for what is no SBOM.
        """
        if predicate_type == provenance.PREDICATE:
            source = self.current.built_from
            if differs := provenance.disagreement(said, self.image, source):
                raise RefusedError(differs)
            return f"commit {source.commit}"
        if predicate_type in _FORMATS:
            return f"{sbom.count(_FORMATS[predicate_type], said)} packages"
        return ""

    def _finding(self, what: str, kind: SignatureKind, one: _Checked) -> Finding:
        if one.lacking:
            missing = all(why.startswith(_NONE) for why in one.lacking)
            return finding(self.work, "fail", what, "; ".join(one.lacking), MAKE if missing else _OTHERS)
        if one.unasked is not None:
            return unknown(self.work, what, one.unasked)
        told = "".join(f", {text}" for text in dict.fromkeys(filter(None, one.told)))
        signer = self.opened.verifier(kind).signer
        return finding(self.work, "pass", what, f"signed by {signer}{told}{beside(len(one.told))}")


def _of_record(work: Job, opened: Checkers) -> list[Finding]:
    """Who signed the build record; of records that were joined, those that are files here."""
    names = work.options.records
    local = [Path(name) for name in names if not handover.is_remote(name)]
    paths = [path / RECORD_NAME if path.is_dir() else path for path in local]
    found: list[Finding] = []
    for path in paths if names else [work.record_path]:
        if path.exists():
            content = files.read(path, at_most=record.LARGEST, what="the build record")
            found += _signatures_of(work, path, content, opened)
    return found


def _of_audit(work: Job, current: BuildRecord) -> Iterator[Finding]:
    """What an audit by this config would not find in the build record, while it can be mended."""
    audit = work.loaded.config.audit
    for name, why in recorded.early(audit.require if audit else (), current):
        yield finding(work, "warn", f"audit: {name}", why, f"required: {config.MEANINGS[name]}")


def _signatures_of(work: Job, path: Path, content: bytes, opened: Checkers) -> list[Finding]:
    bundles = record_signature.bundles_beside(path)
    if not bundles and opened.statements:
        why = "nobody has signed it, so whoever had it could change it"
        return [
            finding(work, "warn", f"build record `{path}`", why, "run `secure-build sign` where the key is")
        ]
    found = []
    for bundle in bundles:
        what = f"build record `{path}`"
        try:
            kind = record_signature.kind_of(str(path), bundle)
            what += f": signature ({kind})"
            by = record_signature.check(str(path), content, (bundle,), opened.known)
        except RefusedError as error:
            found.append(finding(work, "fail", what, error.message, error.hint))
            continue
        if by:
            found.append(finding(work, "pass", what, f"signed with {by[0]}"))
        else:
            other = UsageError(
                f"the config does not sign with `{kind}`", hint=f"name who does: `signing: {kind}:`"
            )
            found.append(unknown(work, what, opened.lack(kind) or other))
    return found
