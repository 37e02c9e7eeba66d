"""The signature of the build record: bundles beside it that say who vouches for these very bytes.

`build-record.cosign.json` and `build-record.keyless.json` hold an in-toto statement about the
record's SHA-256. A record without them is unsigned, which is said and not refused; one with another's
signature, or with that of other bytes, is refused where the config knows who must have signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from secure_build import files, record
from secure_build.attestations import artifact, statement
from secure_build.errors import RefusedError
from secure_build.model import SignatureKind
from secure_build.reference import Digest
from secure_build.report import Report
from secure_build.signers import StatementSigner, StatementVerifier
from secure_build.steps.job import RECORD_NAME, Job

PREDICATE = "urn:x-secure-build:build-record:v1"
_KINDS: tuple[SignatureKind, ...] = ("cosign", "keyless")
# The most that a bundle has whose statement holds a digest only.
LARGEST = 1 << 20


def sign_record(work: Job, signers: Sequence[StatementSigner]) -> None:
    """Let the bundles beside the build record be about the record as it is now.

    Of a kind that has no signer here, a bundle stays as long as it is about this record. To be called
    after the last change of the record.
    """
    path = work.record_path
    if path.exists():
        content = files.read(path, at_most=record.LARGEST, what="the build record")
        keep_signed(path, content, signers, work.report)


def keep_signed(
    path: Path, content: bytes, signers: Sequence[StatementSigner], report: Report
) -> tuple[bytes, ...]:
    """The bundles about this content, kept beside `path`; those that fit already are not made anew."""
    by_kind = {signer.kind: signer for signer in signers}
    result = []
    for kind in _KINDS:
        place, signer = bundle_path(path, kind), by_kind.get(kind)
        bundle = _read(place) if place.exists() else None
        if signer is not None and (bundle is None or _reason(signer, bundle, content)):
            subjects = [(RECORD_NAME, Digest.of(content))]
            bundle = signer.sign(statement.statement(PREDICATE, {}, subjects))
            files.write(place, bundle)
        elif signer is None and bundle is not None and not _claims(bundle, content):
            place.unlink()
            bundle = None
            report.step(f"`{path}` has changed: with {kind}, whose key is not here, it is now unsigned")
        if bundle is not None:
            result.append(bundle)
    return tuple(result)


def bundles_beside(path: Path) -> tuple[bytes, ...]:
    """The bundles beside a record; raises UsageError for one that cannot be read."""
    return tuple(_read(place) for kind in _KINDS if (place := bundle_path(path, kind)).exists())


def check(
    name: str, content: bytes, bundles: Iterable[bytes], verifiers: Sequence[StatementVerifier]
) -> tuple[str, ...]:
    """Who signed the record that is called `name`: kind and signer; empty when it is unsigned.

    Of a bundle only a verifier of its kind can tell who made it; without one nothing is known but what
    it is about. Raises RefusedError for one that no verifier of its kind takes, and for one about
    other content.
    """
    by = []
    for bundle in bundles:
        kind = kind_of(name, bundle)
        asked = [verifier for verifier in verifiers if verifier.kind == kind]
        reasons = {verifier.signer: _reason(verifier, bundle, content) for verifier in asked}
        taken = next((signer for signer, reason in reasons.items() if reason is None), None)
        if taken is not None:
            by.append(f"{kind} ({taken})")
        elif asked:
            why = "; ".join(f"{signer}: {reason}" for signer, reason in reasons.items())
            raise RefusedError(
                f"`{name}` is not signed with {kind} as it should be: {why}",
                hint="it was changed after it was signed, or somebody else signed it: "
                "take it anew, with its signatures, from whoever made it",
            )
        elif not _claims(bundle, content):
            # Whoever has no key can see that much.
            raise RefusedError(
                f"`{name}` is not the record that its {kind} signature is about",
                hint="it was changed after it was signed: take it anew, with its signatures",
            )
    return tuple(by)


def require(
    name: str,
    content: bytes,
    bundles: Sequence[bytes],
    verifiers: Sequence[StatementVerifier],
    report: Report,
) -> None:
    """Say who signed a record, or that it is unsigned; raises as `check` does."""
    by = check(name, content, bundles, verifiers)
    if by:
        report.step(f"`{name}` is signed with {' and '.join(by)}")
    elif bundles:
        report.step(f"`{name}` is signed; by whom cannot be told here, without the key or identity")
    else:
        report.step(f"`{name}` is unsigned")


def bundle_path(path: Path, kind: SignatureKind) -> Path:
    """Where the signature of this kind of the record at `path` is."""
    return path.with_name(f"{path.stem}.{kind}.json")


def _read(place: Path) -> bytes:
    return files.read(place, at_most=LARGEST, what="the signature of a build record,")


def _reason(verifier: StatementVerifier, bundle: bytes, content: bytes) -> str | None:
    """Why the verifier does not take the bundle for one about this content; None when it does."""
    try:
        payload = verifier.verify(bundle)
        statement.predicate(payload, predicate_type=PREDICATE, subject=Digest.of(content))
    except RefusedError as error:
        return error.message
    return None


def _claims(bundle: bytes, content: bytes) -> bool:
    """Whether the bundle is about this content, by its own word."""
    claimed = artifact.claim(bundle)
    if claimed is None:
        return False
    try:
        statement.predicate(claimed.payload, predicate_type=PREDICATE, subject=Digest.of(content))
    except RefusedError:
        return False
    return True


def kind_of(name: str, bundle: bytes) -> SignatureKind:
    """How the record called `name` is signed by its own word; raises RefusedError for no bundle."""
    claimed = artifact.claim(bundle)
    if claimed is None:
        raise RefusedError(f"`{name}` has a signature that is no sigstore bundle")
    return claimed.kind
