"""What the machine shows: its record, who signed that, the image, and the contract that it was given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from secure_build import files
from secure_build.contract import attestation
from secure_build.contract.deployment import expected as lines
from secure_build.contract.deployment.expected import Expected, Line
from secure_build.contract.encryption import token
from secure_build.contract.encryption.token import Token, looks_like_token
from secure_build.errors import RefusedError
from secure_build.model import Finding
from secure_build.steps.auditing.trail import AuditOptions, Trail, absent, finding, private_key
from secure_build.steps.certificates import Asked, single_certificate


def opened_record(options: AuditOptions) -> bytes:
    """The bytes of the record as they were signed, decrypted where it is encrypted."""
    path = options.attested
    content = files.read(path, at_most=attestation.LARGEST, what="the attestation record")
    text = content.decode("ascii", errors="replace").strip()
    if not looks_like_token(text):
        return content
    key = private_key(options, f"`{path}` is encrypted, for an auditor's key")
    try:
        return token.decrypt(Token.parse(text, str(path)), key)
    except RefusedError as error:
        raise RefusedError(f"`{path}`: {error.message}", hint=error.hint) from None


def certificate(trail: Trail) -> Iterable[Finding]:
    if trail.options.certificate is None:
        yield absent("certificate", "the attestation certificate", "--certificate")
        return
    asked = Asked(
        file=trail.options.certificate,
        chain=trail.options.chain,
        sha256=trail.options.sha256,
        lists=trail.options.crls,
    )
    trail.checked = single_certificate(
        asked, trail.options.workdir, trail.report, offline=trail.options.offline
    )
    for one in trail.checked.findings:
        # Which images have which attestation certificate is not known here; the record names its image.
        if one.check != "certificate-image":
            what = one.what.replace("the encryption certificate", "the attestation certificate")
            yield replace(one, what=what)


def signature(trail: Trail) -> Iterable[Finding]:
    what = "the attestation record"
    if trail.options.signature is None:
        yield absent("record", "its signature", "--signature")
    elif trail.checked is None:
        yield absent("record", "the attestation certificate", "--certificate")
    elif attestation.is_signed(
        trail.content,
        files.read(trail.options.signature, at_most=1 << 16),
        trail.checked.certificate.public_key,
    ):
        yield finding("record", "pass", what, "its signature is by the key of the attestation certificate")
    else:
        why = "its signature is not by the key of the attestation certificate, or it was changed"
        hint = "the certificate must be that of the image's version; take both files anew, as they are"
        yield finding("record", "fail", what, why, hint, where=str(trail.options.attested))


def image(trail: Trail) -> Iterable[Finding]:
    if trail.options.known is None:
        yield absent("image", "the published hashes of images", "--known")
        return
    path = trail.options.known
    known = attestation.known_values(files.read(path, at_most=attestation.LARGEST), str(path))
    values = known.get(trail.attested.version or "")
    what = f"the image {trail.attested.version or 'without a version'}"
    if values is None:
        yield finding(
            "image", "unknown", what, f"`{path}` has no hashes of it", "add those that IBM publishes"
        )
        return
    for name, digest in values.items():
        shown = trail.attested.digests(name)
        if shown == (digest,):
            yield finding("image", "pass", f"{what}: {name}", f"it is the published {digest.hexadecimal}")
        else:
            seen = ", ".join(one.hexadecimal for one in shown) or "nothing"
            why = f"the record shows {seen}, and published is {digest.hexadecimal}"
            yield finding("image", "fail", f"{what}: {name}", why, where=str(trail.options.attested))


def sections(trail: Trail) -> Iterable[Finding]:
    if trail.options.contract is None:
        yield absent("sections", "the contract as it was delivered", "--contract")
        return
    values = trail.parts()[1]
    for line in lines.of_sections(values):
        yield _compared(trail, "sections", line, str(trail.options.contract))
    named = {f"contract:{name}" for name in values}
    for shown in trail.attested.lines:
        if shown.name.startswith("contract:") and shown.name not in named:
            why = "the machine was given it, and this contract does not have it"
            yield finding("sections", "fail", shown.name, why, where=str(trail.options.contract))


def expected(trail: Trail) -> Iterable[Finding]:
    path = trail.options.expect
    assert path is not None
    wanted = attestation.parse(files.read(path, at_most=attestation.LARGEST), str(path))
    for line in wanted.lines:
        yield _compared(trail, "expected", line, str(path))


def _compared(trail: Trail, check: str, line: Line | Expected, where: str) -> Finding:
    name, wanted = line.name, line.digest.hexadecimal
    shown = [one.hexadecimal for one in trail.attested.digests(name)]
    if shown == [wanted]:
        return finding(check, "pass", name, f"the record shows it: {wanted}")
    seen = f"the record shows {', '.join(shown)}" if shown else "the record does not show it"
    return finding(check, "fail", name, f"{seen}, and its hash is {wanted}", where=where)
