"""audit: from a machine's attestation record to what it was given to run, link by link.

Each link is computed from bytes that are at hand, and rests on the links before it: what was to come after
a broken one is unknown, not bad, so that the one that fails is the one to look at. What was not given is
unknown too.
"""

from __future__ import annotations

from secure_build import process
from secure_build.audited import Audited
from secure_build.contract import attestation
from secure_build.errors import UsageError
from secure_build.registry.http import Transport
from secure_build.report import Report
from secure_build.steps.auditing import contents, images, machine, policy
from secure_build.steps.auditing.trail import AuditOptions, Check, Trail

__all__ = ["AuditOptions", "audit"]


# Each link with what holds where it is good, and the links that it rests on.
_LINKS: tuple[tuple[str, str, tuple[str, ...], Check], ...] = (
    ("certificate", "The attestation certificate is to be trusted", (), machine.certificate),
    ("record", "The record is signed with the attestation certificate", (), machine.signature),
    ("image", "The image is a published one", ("record",), machine.image),
    ("sections", "The machine was given this contract", ("record",), machine.sections),
    ("expected", "It shows what was expected", ("record",), machine.expected),
    ("tokens", "What is in the contract's tokens is known", ("sections",), contents.tokens),
    ("containers", "The workload runs these images and no others", ("tokens",), contents.containers),
    ("author", "The build record is signed", (), contents.author),
    ("build", "The images are those of the build record", ("containers", "author"), contents.build),
    ("manifests", "Each image has the bytes that its digest says", ("containers", "build"), images.manifests),
    ("signatures", "The images are signed by whom you trust", ("manifests",), images.signatures),
    ("provenance", "Their provenance names the commit of the build record", ("manifests",), images.origins),
    ("source", "The repository has the commit", ("author",), contents.source),
    ("sbom", "What is in them is listed, and signed", ("manifests",), images.sboms),
    ("policy", "The policy holds", (), policy.policy),
)


def audit(options: AuditOptions, report: Report) -> Audited:
    """The chain; raises UsageError for files that are none of what they should be."""
    if (options.identity is None) != (options.issuer is None):
        raise UsageError("`--identity` and `--issuer` go together")
    # Variables such as GIT_OBJECT_DIRECTORY make git look elsewhere than into the repository that is named.
    process.forget_variables("GIT_")
    content = machine.opened_record(options)
    attested = attestation.parse(content, str(options.attested))
    asked = {"expected": options.expect is not None, "policy": options.config is not None}
    with Transport() as transport:
        trail = Trail(options, report, content, attested, transport)
        for name, title, needs, check in _LINKS:
            if asked.get(name, True):
                trail.link(name, title, needs, check)
    shown = tuple(
        (line.name, line.digest.hexadecimal) for line in attested.lines if line.name.startswith("contract:")
    )
    return Audited(
        str(options.attested),
        attested.version,
        tuple(trail.links),
        shown,
        contents.source_of(trail),
        tuple(map(images.described, trail.followed)),
    )
