"""sign: signatures and statements for what the layout holds, kept beside it until it is published.

An index is signed and so is every manifest in it, since who pulls for one platform checks that one.
What is signed already, by the same key, is kept. Docker Content Trust needs its server, so that is
signed while publishing.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from secure_build import record, stopping
from secure_build.attestations import classic, statement
from secure_build.errors import ServiceError, UsageError
from secure_build.layout import Layout
from secure_build.model import BuildRecord, Enforced, Image, Signature
from secure_build.reference import Digest, Pinned
from secure_build.steps import transfer
from secure_build.steps.attest import attest
from secure_build.steps.job import Job
from secure_build.steps.keys import keys
from secure_build.steps.record_signature import sign_record
from secure_build.steps.simple_signing import sign_simply

if TYPE_CHECKING:
    from secure_build.signers.classic import ClassicSigner


def sign(work: Job) -> BuildRecord:
    """Sign the chosen images as the config wants, and attest where they come from.

    Raises UsageError for an image that lacks platforms: what is signed is what gets a tag.
    """
    current = work.current_record()
    chosen = work.chosen(current)
    images = [image for image in current.images if image.name in chosen]
    for image in images:
        if image.missing:
            raise UsageError(
                f"{image.name} was not built for {', '.join(map(str, image.missing))}, "
                "and an image is signed as a whole",
                hint="join the records of all platforms: `--record A --record B`",
            )
    if not is_wanted(work):
        work.report.step("nothing to sign: no image has `enforce:` or `sign:`, and no key is for statements")
    signed = {image.name: image for image in _signed(work, images)}
    result = replace(current, images=tuple(signed.get(image.name, image) for image in current.images))
    if result != current:
        record.write(work.record_path, result)
    return result


def sign_layout(work: Job) -> BuildRecord:
    """Sign what the layout holds, and the record of it, changed or not."""
    result = sign(work)
    sign_record(work, keys(work).at_hand)
    return result


def is_wanted(work: Job) -> bool:
    """Whether the config has anything signed before it is published."""
    config = work.loaded.config
    return config.signing.attests or any(
        set(config.built[name].signatures) - {"dct"} for name in work.selected()
    )


def require_signed(work: Job, image: Image) -> None:
    """Raise UsageError for an image that lacks a signature that it is to be published with."""
    config = work.loaded.config
    wanted = config.built[image.name]
    own = {
        one.kind
        for one in image.signatures
        if one.image == image.pinned and one.predicate in ("", statement.SIGNATURE)
    }
    lacking: list[str] = [kind for kind in wanted.signatures if kind != "dct" and kind not in own]
    if wanted.enforce in ("rhs", "cosign") and image.enforced is None:
        lacking.append(wanted.enforce)
    said = [one for one in image.signatures if one.predicate not in ("", statement.SIGNATURE)]
    attesting = config.attestations.provenance or config.attestations.sbom
    if config.signing.attests and attesting and not said:
        lacking.append("statements")
    if lacking:
        raise UsageError(
            f"{image.name} is to be published with signatures, and lacks {', '.join(dict.fromkeys(lacking))}",
            hint="run `secure-build sign` first",
        )


def _signed(work: Job, images: Sequence[Image]) -> list[Image]:
    built, attests = work.loaded.config.built, work.loaded.config.signing.attests
    made: dict[str, list[Signature]] = {image.name: [] for image in images}
    enforced: dict[str, Enforced] = {}
    by_key = [image for image in images if built[image.name].enforce == "cosign"]
    if by_key:
        signer = keys(work).classic
        text = base64.b64encode(signer.key.public.pem).decode()
        found = stopping.side_by_side(
            lambda image: _classic(work, image, signer), by_key, jobs=work.options.jobs
        )
        for image, signatures in zip(by_key, found, strict=True):
            made[image.name] += signatures
            enforced[image.name] = Enforced("cosign", text)
    by_openpgp = [image for image in images if "rhs" in built[image.name].signatures]
    for name, (entry, signatures) in sign_simply(work, by_openpgp).items():
        made[name] += signatures
        if built[name].enforce == "rhs":
            enforced[name] = entry
    if attests:
        for name, statements in attest(work, images, keys(work).statements).items():
            made[name] += statements
    return [_with(image, made[image.name], enforced.get(image.name)) for image in images]


def _with(image: Image, signatures: Sequence[Signature], enforced: Enforced | None) -> Image:
    # What was signed while publishing is kept.
    kept = [one for one in image.signatures if one.kind == "dct"]
    known = image.enforced if image.enforced and image.enforced.by == "dct" else None
    return replace(image, signatures=(*signatures, *kept), enforced=enforced or known)


def _classic(work: Job, image: Image, signer: ClassicSigner) -> list[Signature]:
    """cosign's older signatures of the index and its members, as `ccco` takes them."""
    layout, repository = work.layout, image.reference.repository
    manifests = transfer.manifests_of(layout, layout.manifest(image.descriptor))
    found = []
    for one in manifests:
        pinned = Pinned(repository, one.descriptor.digest)
        known = _kept_classic(layout, image, pinned, signer)
        if known is None:
            kept = classic.write(layout, signer.sign(pinned)).descriptor.digest
            known = Signature("cosign", pinned, str(signer.key.public.digest), str(kept))
        found.append(known)
    work.report.step(f"{image.name}: signed with cosign, for the runtime")
    return found


def _kept_classic(layout: Layout, image: Image, pinned: Pinned, signer: ClassicSigner) -> Signature | None:
    """The signature of before, when it is in the layout and good; None for any other."""
    who = str(signer.key.public.digest)
    for known in image.signatures:
        if (known.kind, known.image, known.signer, known.predicate) == ("cosign", pinned, who, ""):
            try:
                content = layout.artifact(Digest.parse(known.kept))
                signed = classic.signatures(content, layout.read) if content else []
            except ServiceError:
                # What is damaged is made anew.
                continue
            if any(signer.verifier.accepts(one, pinned) for one in signed):
                return known
    return None
