"""Docker Content Trust: a tag is signed while it is published, after its image and before it is set."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from secure_build.errors import UsageError
from secure_build.model import Enforced, Finding, Image, Signature
from secure_build.reference import Repository
from secure_build.steps.job import Job
from secure_build.steps.keys import keys
from secure_build.steps.simple_signing import reused


def sign_tag(work: Job, image: Image) -> Image:
    """Have the image's tag name it in the trust data of its repository; the image with that signature.

    Raises RefusedError when the tag names another signed image, or the keys may not sign.
    """
    wanted = work.loaded.config.built[image.name]
    signing = work.loaded.config.signing.dct
    if "dct" not in wanted.signatures:
        return image
    from secure_build.signers.dct import KEPT
    from secure_build.signers.trust_data import Target

    assert signing is not None
    reference, descriptor = image.reference, image.descriptor
    assert reference.tag is not None
    notary, target = keys(work).notary(reference.repository), Target(descriptor.digest, descriptor.size)
    if wanted.unique_tag:
        named = notary.lookup(reference.repository, reference.tag)
        if named is not None and named != target:
            raise reused(image, named.digest)
    signed = notary.publish(reference.repository, {reference.tag: target})
    how = "signed" if signed.published else "signed before"
    work.report.step(f"{image.name}: `{reference}` {how} at {signing.server}")
    kept = Signature("dct", image.pinned, signed.signer, f"{KEPT}/{reference.repository}", name=reference)
    others = tuple(one for one in image.signatures if one.kind != "dct")
    enforced = image.enforced
    if wanted.enforce == "dct":
        enforced = Enforced("dct", signed.root_certificate, signing.server)
    return replace(image, signatures=(*others, kept), enforced=enforced)


def trust_findings(work: Job, repository: Repository) -> tuple[Finding, ...]:
    """What is to be said of the root certificate that the server has; raises as `Notary.trust_data`."""
    data = keys(work).notary(repository).trust_data(repository)
    return data.root.findings(repository, datetime.now(UTC)) if data is not None else ()


def check_destination(work: Job) -> None:
    """Raise UsageError where tags are to be signed and nothing is published."""
    signing = [name for name in work.selected() if "dct" in work.loaded.config.built[name].signatures]
    # A capsule is a copy of what was signed before.
    if signing and work.options.to and not work.options.with_evidence:
        raise UsageError(
            f"{signing[0]} is signed with `dct`, which needs its registry and its Notary server, "
            f"and `--to {work.options.to}` uses neither",
            hint="leave `--to` out, or use `enforce: digest`",
        )
