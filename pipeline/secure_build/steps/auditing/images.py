"""The images: their bytes, who signed them, from which commit they are said to be, and what is in them.

Bytes come from a layout that has them, else from the registry, and all of them are hashed. Statements are
believed only from the keys and identities that the auditor names; the build record says which there must be.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from secure_build import files, stopping
from secure_build.attestations import provenance, sbom, statement
from secure_build.audited import AuditedImage
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.layout import DamagedError, Layout
from secure_build.model import Descriptor, Finding, Image, Level, Signature
from secure_build.reference import Digest
from secure_build.signers import StatementVerifier, gpg, rhs
from secure_build.signers.gpg import GpgVerifier
from secure_build.steps.auditing import followed
from secure_build.steps.auditing.followed import FORMATS, Followed, Said
from secure_build.steps.auditing.trail import Trail, finding

_AT_ONCE = 4
_LABELS = {
    statement.SIGNATURE: "image",
    provenance.PREDICATE: "provenance",
    **dict.fromkeys(FORMATS, "SBOM"),
}
_WHO = "name the key or identity that you trust: `--record-key FILE`, or `--identity` with `--issuer`"


def manifests(trail: Trail) -> Iterable[Finding]:
    wanted = list(_wanted(trail).values())
    if not wanted:
        yield finding("manifests", "unknown", "the images", "it is not known which they are")
        return
    layout, known = trail.layout, trail.verifiers
    trail.followed = stopping.side_by_side(
        lambda one: _follow(trail, one, layout, known), wanted, jobs=_AT_ONCE
    )
    for one in trail.followed:
        if one.lack is None:
            named = ", ".join(map(str, one.platforms))
            why = f"all its bytes are those of their digests, in {one.place}: {one.size} bytes, for {named}"
            yield finding("manifests", "pass", str(one.pinned), why)
        else:
            level = _level(one.lack)
            yield finding(
                "manifests", level, str(one.pinned), one.lack.message, one.lack.hint, where=one.place
            )


def _wanted(trail: Trail) -> dict[Digest, Followed]:
    """What the machine runs by digest; where that is not known, what the build record has."""
    own = {image.descriptor.digest: image for image in trail.built.images} if trail.built else {}
    found: dict[Digest, Followed] = {}
    for one in trail.found:
        if one.reference is not None and one.reference.digest is not None:
            pinned = one.reference.pin(one.reference.digest)
            found[pinned.digest] = Followed(pinned, own.get(pinned.digest))
    return found or {digest: Followed(image.pinned, image) for digest, image in own.items()}


def _follow(
    trail: Trail, one: Followed, layout: Layout | None, known: Sequence[StatementVerifier]
) -> Followed:
    try:
        top = _described(one, layout.entries()) if layout is not None else None
        if layout is not None and top is not None:
            followed.in_layout(one, top, layout, known)
        elif trail.options.offline:
            raise UsageError(
                "it is in no layout here, and the network is not to be used",
                hint="name a layout that has it: `--layout DIR`",
            )
        else:
            followed.at_registry(one, trail.reader(one.pinned.repository), known)
    except SecureBuildError as error:
        one.lack = error
    return one


def _described(one: Followed, entries: list[tuple[str | None, Descriptor]]) -> Descriptor | None:
    listed = (descriptor for _, descriptor in entries)
    return next((descriptor for descriptor in listed if descriptor.digest == one.pinned.digest), None)


def signatures(trail: Trail) -> Iterable[Finding]:
    yield from _of_statements(trail, "signatures", "signature", {statement.SIGNATURE}, lambda *_: "")
    others = [
        known
        for one in _own(trail)
        for known in (one.image.signatures if one.image else ())
        if not known.predicate
    ]
    if any(known.kind == "rhs" for known in others) and trail.options.gpg_key is not None:
        content, what = files.read(trail.options.gpg_key), f"the OpenPGP key `{trail.options.gpg_key}`"
        with gpg.opened_verifier(content, Path(tempfile.gettempdir()), what) as verifier:
            yield from (_other(trail, known, verifier) for known in others)
    else:
        yield from (_other(trail, known, None) for known in others)


def _other(trail: Trail, known: Signature, verifier: GpgVerifier | None) -> Finding:
    """Of a signature that is no statement; only OpenPGP's can be told here."""
    what = f"{known.image}: signature ({known.kind})"
    said = f"the build record says that it is by {known.signer}"
    if known.kind != "rhs":
        hint = "`secure-build verify` checks it, with the config and the build record"
        return finding("signatures", "unknown", what, f"{said}, which was not looked at", hint)
    if verifier is None:
        hint = "name the key that you trust: `--gpg-key FILE`"
        return finding("signatures", "unknown", what, said, hint)
    tree = trail.signatures(known.image.repository)
    if tree is None:
        hint = "name the layout that they lie beside: `--layout DIR`"
        return finding("signatures", "unknown", what, "no OpenPGP signatures are here", hint)
    reasons = [f"it is not in {tree}"]
    for signature in tree.read(known.image):
        try:
            rhs.check(verifier, signature, known.image, known.name)
        except RefusedError as error:
            reasons = [error.message]
        else:
            return finding("signatures", "pass", what, f"it is signed by {verifier.fingerprint}")
    return finding("signatures", "fail", what, reasons[0], where=str(tree))


def origins(trail: Trail) -> Iterable[Finding]:
    def told(said: dict[str, Any], image: Image, _: Said) -> str:
        built = trail.built
        assert built is not None
        if differs := provenance.disagreement(said, image, built.built_from):
            raise RefusedError(differs)
        return f", and names commit {built.built_from.commit}"

    yield from _of_statements(trail, "provenance", "provenance", {provenance.PREDICATE}, told)


def sboms(trail: Trail) -> Iterable[Finding]:
    def told(said: dict[str, Any], _: Image, by: Said) -> str:
        return f": {sbom.count(FORMATS[by.predicate_type], said)} packages"

    yield from _of_statements(trail, "sbom", "SBOM", set(FORMATS), told)


def _own(trail: Trail) -> Iterator[Followed]:
    yield from (one for one in trail.followed if one.image is not None and one.lack is None)


def _of_statements(
    trail: Trail,
    check: str,
    label: str,
    types: set[str],
    told: Callable[[dict[str, Any], Image, Said], str],
) -> Iterator[Finding]:
    """What was found of the statements that the build record names; each must be there and good."""
    own = list(_own(trail))
    if not own:
        yield finding(
            check, "unknown", f"the {label} of the images", "no image of a build record could be read"
        )
    for one in own:
        assert one.image is not None
        named = [known for known in one.image.signatures if known.predicate in types]
        if not named:
            # An image that nobody signed is named by a record and by statements that somebody did.
            level: Level = "warn" if check == "signatures" else "unknown"
            if check != "signatures" or all(other.predicate for other in one.image.signatures):
                yield finding(check, level, str(one.pinned), f"the build record names no {label} of it")
        for known in named:
            yield _found(one, known, check, label, told)


def _found(
    one: Followed,
    known: Signature,
    check: str,
    label: str,
    told: Callable[[dict[str, Any], Image, Said], str],
) -> Finding:
    assert one.image is not None
    form = f" in {FORMATS[known.predicate]}" if known.predicate in FORMATS else ""
    what = f"{known.image}: {label}{form} ({known.kind})"
    candidates = [
        said
        for said in one.said
        if (said.kind, said.predicate_type, said.subject) == (known.kind, known.predicate, known.image.digest)
    ]
    reasons = []
    for said in candidates:
        if said.is_open:
            return finding(check, "unknown", what, said.why, _WHO)
        try:
            if said.predicate is None:
                raise RefusedError(said.why)
            more = told(said.predicate, one.image, said)
        except RefusedError as error:
            reasons.append(error.message)
            continue
        return finding(check, "pass", what, f"it is signed by {said.signer}{more}")
    if not reasons and one.unread is not None:
        return finding(check, _level(one.unread), what, one.unread.message, one.unread.hint, where=one.place)
    why = reasons[0] if reasons else f"the build record names it, and it is not in {one.place}"
    return finding(check, "fail", what, why, where=one.place)


def _level(error: SecureBuildError) -> Level:
    """Bytes that are not those of their digest are no longer what they were; of others nothing is known."""
    return "fail" if isinstance(error, DamagedError) else "unknown"


def described(one: Followed) -> AuditedImage:
    """What was found of an image, for people to read."""
    good = [said for said in one.said if said.predicate is not None]
    materials = (one.image.materials or ()) if one.image else ()
    return AuditedImage(
        str(one.pinned),
        tuple(map(str, one.platforms)),
        one.size,
        tuple(dict.fromkeys(f"{material.name} ({material.digest})" for material in materials)),
        tuple(sorted({f"{_LABELS[said.predicate_type]} by {said.kind}, {said.signer}" for said in good})),
        tuple(_packages(one, good)),
    )


def _packages(one: Followed, good: Iterable[Said]) -> Iterator[str]:
    for said in good:
        if said.predicate_type in FORMATS:
            with contextlib.suppress(RefusedError):
                number = sbom.count(FORMATS[said.predicate_type], said.predicate or {})
                yield f"{number} for {one.manifests[said.subject]} ({FORMATS[said.predicate_type]})"
