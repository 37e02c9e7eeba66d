"""What goes to standard output: the result of a verb as text or JSON, with every secret masked.

Each function that shows a result returns the exit code that goes with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secure_build import markdown
from secure_build.model import BuildRecord, Material
from secure_build.reference import Pinned
from secure_build.report import finding_lines, json_text, shown, size
from secure_build.steps import findings, summary
from secure_build.summary import body

if TYPE_CHECKING:
    from secure_build.steps.certificates import CheckedCertificate
    from secure_build.steps.contract import Fragment
    from secure_build.steps.job import Job
    from secure_build.steps.lock import Locked
    from secure_build.steps.planned import Plan, PlannedImage, Write


def print_data(data: dict[str, Any], form: str) -> None:
    """A result as `json`, or what people want to see of it as `markdown`."""
    print(json_text(data) if form == "json" else markdown.text(body(data)), end="")


def exit_code(result: BuildRecord | Plan | CheckedCertificate) -> int:
    """1 when a finding failed, 5 when nothing failed and something could not be checked, else 0."""
    levels = {finding.level for finding in result.findings}
    return 1 if "fail" in levels else 5 if "unknown" in levels else 0


def show_record(result: BuildRecord, job: Job, form: str) -> int:
    if form != "text":
        print_data({**summary(result), "record": str(job.record_path)}, form)
    else:
        for image in result.images:
            print(image.pinned)
    return exit_code(result)


def show_handed_on(result: BuildRecord, pinned: Pinned, form: str) -> int:
    if form != "text":
        print_data({**summary(result), "record": str(pinned)}, form)
    else:
        print(pinned)
    return exit_code(result)


def show_fragment(result: BuildRecord, fragment: Fragment, form: str) -> int:
    if form != "text":
        print_data(fragment_document(fragment), form)
    else:
        print_masked(fragment.file.path, fragment.file.masked)
    return exit_code(result)


def fragment_document(fragment: Fragment) -> dict[str, Any]:
    return {
        "path": str(fragment.file.path),
        "masked": fragment.file.masked,
        "images": fragment.images,
        "auths": fragment.auths,
        "references": {name: str(pinned) for name, pinned in fragment.references.items()},
    }


def show_certificate(checked: CheckedCertificate, form: str) -> int:
    from secure_build.contract.certificates.certificate import describe

    described = describe(checked.certificate)
    if form != "text":
        print_data({**described, "findings": findings(checked.findings)}, form)
    else:
        for name, value in described.items():
            text = ", ".join(map(str, checked.certificate.images)) or "none known here"
            print(shown(f"{name:<12}{text if name == 'images' else value}"))
        for finding in checked.findings:
            for line in finding_lines(finding):
                print(shown(line))
    return exit_code(checked)


def show_lock(locked: Locked, form: str) -> int:
    if form != "text":
        changes = [
            {
                "kind": change.input.kind,
                "name": change.input.name,
                "platform": str(change.input.platform),
                "before": change.before,
                "after": change.after,
            }
            for change in locked.changes
        ]
        print_data({"path": str(locked.path), "changes": changes}, form)
    else:
        for change in locked.changes:
            print(change)
    return 0


def show_plan(plan: Plan, form: str) -> int:
    if form != "text":
        print_data(plan_document(plan), form)
    else:
        print(plan_text(plan), end="")
    return exit_code(plan)


def print_masked(path: Path, masked: str) -> None:
    print(f"# Complete, with its secrets, in {path} (readable by its owner only)")
    print(masked, end="")


def plan_document(plan: Plan) -> dict[str, Any]:
    """The plan as plain data. `inputs` and `writes` are null where nobody can tell them now."""
    return {
        "source": plan.source
        and {"url": plan.source.url, "commit": plan.source.commit, "clean": plan.source.clean},
        "images": [_image_document(image) for image in plan.images],
        "locked": [_material_document(material) for material in plan.locked],
        "contract": plan.contract,
        "auths": list(plan.logins),
        "disclosed": list(plan.disclosed),
        "findings": findings(plan.findings),
    }


def _image_document(image: PlannedImage) -> dict[str, Any]:
    return {
        "name": image.name,
        "reference": str(image.reference),
        "platforms": [str(platform) for platform in image.platforms],
        "doing": image.doing,
        "builders": [str(builder) for builder in image.builders],
        "pinned": str(image.pinned) if image.pinned else None,
        "inputs": None
        if image.materials is None
        else [_material_document(material) for material in image.materials],
        "reproducible": image.reproducible,
        "enforce": [
            {"choice": worth.choice, "chosen": not number, "possible": worth.possible, "why": worth.why}
            for number, worth in enumerate(image.worth)
        ],
        "signatures": list(image.signatures),
        "statements": list(image.statements),
        "writes": None if image.writes is None else [_write_document(write) for write in image.writes],
    }


def _material_document(material: Material) -> dict[str, str]:
    return {"name": material.name, "digest": material.digest}


def _write_document(write: Write) -> dict[str, Any]:
    return {
        "kind": write.kind,
        "repository": write.repository,
        "name": write.name,
        "bytes": write.size,
        "mounted": write.mounted,
        "requests": write.requests,
    }


def plan_text(plan: Plan) -> str:
    """The plan for people: a paragraph for each image, and at the end what is wrong or missing."""
    return "".join(f"{shown(line)}\n" for line in _plan_lines(plan))


def _plan_lines(plan: Plan) -> Iterator[str]:
    if source := plan.source:
        where = f" of {source.url}" if source.url else ""
        yield f"commit     {source.commit}{where}{'' if source.clean else ' (the working tree differs)'}"
    for number, material in enumerate(plan.locked):
        yield f"{'' if number else 'lock':<11}{material.name} {material.digest}"
    for image in plan.images:
        yield ""
        yield f"{image.name}: {image.reference}"
        for title, text in _image_rows(image):
            yield f"  {title:<9}{text}"
    yield ""
    if plan.contract:
        with_logins = f", with logins for {', '.join(plan.logins)}" if plan.logins else ", without any login"
        yield f"contract   {plan.contract}{with_logins}"
    if plan.disclosed:
        yield f"auditor    will be able to read {', '.join(plan.disclosed)}, and what is no secret"
    yield from _summary_of_writes(plan.images)
    named = [finding for finding in plan.findings if finding.level != "pass"]
    if named:
        yield ""
    for finding in named:
        yield from finding_lines(finding)


def _image_rows(image: PlannedImage) -> Iterator[tuple[str, str]]:
    platforms = ", ".join(map(str, image.platforms)) or "platforms unknown"
    if image.doing == "build":
        using = " and ".join(sorted({str(builder) for builder in image.builders})) or "no builder yet"
        yield "build", f"for {platforms} with {using}"
    elif image.doing == "keep":
        yield "keep", f"{image.pinned}, built before and unchanged, for {platforms}"
    else:
        yield image.doing, f"{image.pinned} for {platforms}" if image.pinned else "digest unknown"
    if image.doing == "mirror":
        yield "", "with what is signed and said of it, as evidence; the runtime goes by the digest alone"
    if image.doing in ("build", "keep"):
        yield from _inputs(image)
        if not image.reproducible:
            yield "", "not reproducible: another build gives another digest"
    if image.doing != "use":
        yield "upload", _upload(image)
    for number, worth in enumerate(image.worth):
        possible = "" if worth.possible else "not possible: "
        yield "" if number else "enforce", f"{worth.choice}: {possible}{worth.why}"
    if image.signatures:
        yield "sign", ", ".join(image.signatures)
    if evidence := [one for one in image.signatures if one != image.worth[0].choice]:
        yield "", f"{' and '.join(evidence)}: evidence for people and other tools; no runtime checks it"
    if image.statements:
        yield "attest", ", ".join(image.statements)


def _inputs(image: PlannedImage) -> Iterator[tuple[str, str]]:
    if image.materials is None:
        yield "inputs", "not known before the build"
        return
    for number, material in enumerate(image.materials):
        yield "" if number else "inputs", f"{material.name} {material.digest}"


def _upload(image: PlannedImage) -> str:
    if image.doing == "build":
        return f"layers as the build makes them, then the tag {image.reference.tag}"
    if image.writes is None:
        return "not known, since nobody could tell what is there"
    return _writes(image.writes) if image.writes else "nothing: it is there under this tag"


def _writes(writes: Sequence[Write]) -> str:
    blobs = [write for write in writes if write.kind == "blob"]
    manifests = sum(write.kind == "manifest" for write in writes)
    tags = ", ".join(write.name for write in writes if write.kind == "tag")
    parts = []
    if blobs:
        sent = [blob.size for blob in blobs if not blob.mounted]
        mounted = f"; {len(blobs) - len(sent)} mounted" if len(sent) < len(blobs) else ""
        parts.append(f"{len(sent)} blobs ({size(sum(sent))}{mounted})")
    if manifests:
        parts.append(f"{manifests} manifest{'s' if manifests > 1 else ''}")
    if tags:
        parts.append(f"then the tag {tags}")
    return ", ".join(parts)


def _summary_of_writes(images: Sequence[PlannedImage]) -> Iterator[str]:
    known = [write for image in images for write in image.writes or ()]
    unknown = sum(image.writes is None for image in images)
    if known:
        requests = sum(write.requests for write in known)
        sent = sum(write.size for write in known if not write.mounted)
        yield f"uploads    {size(sent)} in {requests} writing requests"
    if unknown:
        yield f"uploads    of {unknown} image{'s' if unknown > 1 else ''} are not known yet"
