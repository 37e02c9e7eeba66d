"""What the contract verbs print: sections with their secrets masked, tokens in full, lines to expect.

Each function that shows a result returns the exit code that goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from secure_build import verify_document
from secure_build.contract.deployment import expected, needs
from secure_build.contract.deployment.expected import Expected
from secure_build.model import BuildRecord
from secure_build.output import exit_code, fragment_document, print_data, print_masked, show_record
from secure_build.report import shown, visible
from secure_build.steps import findings, summary

if TYPE_CHECKING:
    from secure_build.steps.assemble import Assembled
    from secure_build.steps.emission import Emitted
    from secure_build.steps.job import Job
    from secure_build.steps.re_encrypt import ReEncrypted
    from secure_build.steps.run import Ran
    from secure_build.steps.show import Shown


def show_run(ran: Ran, job: Job, form: str) -> int:
    """All that a run wrote: of the contract or, without one, of its sections."""
    if ran.verified is not None:
        job.report.step(f"verify: {verify_document.summary(ran.verified)}")
    if form != "text":
        document = _document(ran.record, job, ran.sections, ran.contract)
        if ran.fragment is not None:
            document["images-section"] = fragment_document(ran.fragment)
        if ran.handed_on is not None:
            document["handed-on"] = str(ran.handed_on)
        if ran.verified is not None:
            document["verify"] = verify_document.document(ran.verified)
        print_data(document, form)
    elif not ran.sections:
        return show_record(ran.record, job, form)
    elif ran.contract is not None:
        _print_assembled(ran.contract)
    else:
        for section in ran.sections:
            _print_section(section)
    return exit_code(ran.record)


def show_section(result: BuildRecord, section: Emitted, job: Job, form: str) -> int:
    if form != "text":
        print_data(_document(result, job, [section], None), form)
    else:
        _print_section(section)
    return exit_code(result)


def show_assembled(result: BuildRecord, contract: Assembled, job: Job, form: str) -> int:
    if form != "text":
        print_data(_document(result, job, [], contract), form)
    else:
        _print_assembled(contract)
    return exit_code(result)


def show_re_encrypted(result: BuildRecord, made: ReEncrypted, form: str) -> int:
    before = made.before.hexadecimal if made.before else None
    after = made.value.digest.hexadecimal
    if form != "text":
        changed = [{"name": f"contract:{made.name}", "before": before, "after": after}]
        changed += [{"name": "contract:envWorkloadSignature", "before": None, "after": None}]
        print_data({"path": str(made.path), "changed": changed, "findings": findings(result.findings)}, form)
    else:
        print(f"{made.name}: {made.value}")
        print("# The attestation record will differ:")
        print(f"#   contract:{made.name} was {before or 'that of the plain section'}")
        print(f"#   contract:{made.name} will be {after}")
        print("#   contract:envWorkloadSignature: what `secure-build contract assemble` signs then")
    return exit_code(result)


def show_contract(found: Shown | str, form: str) -> int:
    """What `contract show` found; the text of an attestation record is printed as it is.

    Both come from others, so controls in them are written out.
    """
    if isinstance(found, str):
        if form != "text":
            print_data({"attestation": found}, form)
        else:
            print(visible(found), end="")
        return 0
    if form != "text":
        print_data(
            {
                "sections": {
                    section.name: {
                        "encrypted": section.encrypted,
                        "sha256": section.digest.hexadecimal,
                        "text": section.text,
                    }
                    for section in found.sections
                },
                "expected-attestation": _lines(found.lines),
                "deployment": needs.document(found.deployment),
                "files": [str(path) for path in found.files],
            },
            form,
        )
        return 0
    for section in found.sections:
        print(f"# {section.name}: {'encrypted' if section.encrypted else 'plain'}, {section.digest}")
        print(visible(section.text or ""), end="")
    print("#")
    _print_comment(needs.lines(found.deployment))
    _print_expected(found.lines)
    for path in found.files:
        print(f"# written: {path}")
    return 0


def _document(
    result: BuildRecord, job: Job, sections: Iterable[Emitted], contract: Assembled | None
) -> dict[str, Any]:
    document = {**summary(result), "record": str(job.record_path)}
    for section in sections:
        document[section.name] = {
            "path": str(section.path),
            "masked": section.masked,
            "unchanged": section.unchanged,
            "encrypted": str(section.encrypted) if section.encrypted else None,
            "sha256": section.value.digest.hexadecimal if section.value else None,
        }
    if contract is not None:
        document["contract"] = {
            "path": str(contract.path),
            "masked": contract.masked,
            "unchanged": contract.unchanged,
            "files": [str(path) for path in contract.files],
        }
        document["expected-attestation"] = _lines(contract.lines)
        document["deployment"] = needs.document(contract.deployment)
    return document


def _lines(lines: Sequence[Expected]) -> list[dict[str, str]]:
    return [{"name": one.name, "sha256": one.digest.hexadecimal, "basis": one.basis} for one in lines]


def _print_section(section: Emitted) -> None:
    """The token in full, for it is to be handed on; or else the plain text with its secrets masked."""
    if section.value is not None:
        print(f"# Plain, with its secrets, in {section.path} (readable by its owner only)")
        print(f"{section.name}: {section.value}")
        print(
            f"# The attestation record will show: {section.value.digest.hexadecimal} contract:{section.name}"
        )
    else:
        print_masked(section.path, section.masked)


def _print_assembled(contract: Assembled) -> None:
    print(f"# The contract is in {contract.path}")
    print(contract.masked, end="")
    _print_comment(needs.lines(contract.deployment))
    _print_expected(contract.lines)
    for path in contract.files:
        print(f"# written: {path}")


def _print_expected(lines: Sequence[Expected]) -> None:
    print("# The attestation record will show:")
    _print_comment(expected.text(lines).splitlines())


def _print_comment(lines: Iterable[str]) -> None:
    for line in lines:
        print(shown(f"#   {line.removeprefix('# ')}"))
