"""run: all steps in order, from the commit to the contract."""

from __future__ import annotations

from dataclasses import dataclass, replace

from secure_build import record
from secure_build.contract.decision.model import Verified
from secure_build.contract.document import SECTIONS
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.model import BuildRecord
from secure_build.reference import Pinned
from secure_build.steps.assemble import Assembled, check_files, contract_assemble
from secure_build.steps.build import build, require_locked
from secure_build.steps.content_trust import check_destination
from secure_build.steps.contract import Fragment, check_workload, write_fragment, write_workload
from secure_build.steps.delivery import check_logins, try_logins
from secure_build.steps.emission import Emitted, certificate_of, withdraw
from secure_build.steps.env import check_env, contract_env
from secure_build.steps.handover import put_record
from secure_build.steps.job import Job
from secure_build.steps.keys import keys
from secure_build.steps.made import made as made_sections
from secure_build.steps.publish import publish
from secure_build.steps.sign import is_wanted, sign
from secure_build.steps.simple_signing import check_stores
from secure_build.steps.verdict import settled
from secure_build.steps.verify import verify_made


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run did: the record, the fragment for people with a contract of their own, the sections that it
    wrote, the contract when it has both, what the runtime would decide about it, and where the record is
    in a registry."""

    record: BuildRecord
    fragment: Fragment | None
    sections: tuple[Emitted, ...] = ()
    contract: Assembled | None = None
    verified: Verified | None = None
    handed_on: Pinned | None = None


def run(work: Job) -> Ran:
    """Build, or take what the named records have, sign, publish, and write what the config has of a contract.

    What can be known to be wrong before anything is built is found before anything is built.
    """
    config = work.loaded.config
    if work.options.hand_on and work.options.to:
        raise UsageError("`--hand-on` puts the record into a registry, and `--to` names a layout")
    if work.options.offline and not work.options.to:
        raise UsageError(
            "`--offline` leaves no registry to publish to", hint="name a layout instead: `--to oci:DIR`"
        )
    if work.options.records:
        _check_joined(work)
    if not config.images:
        raise UsageError(
            f"`{work.loaded.path}` has no images to build",
            hint="`secure-build contract env` writes the env section of a config without images",
        )
    if config.workload is not None:
        check_workload(work, selected=work.selected())
    check_destination(work)
    keys(work).check()
    check_stores(work)
    certificate_of(work)
    settled(work, check_env(work), what="the env section")
    check_files(work)
    for registry in config.registries if not work.options.to else ():
        work.login(registry, "push")
    check_logins(work, config.registries)
    if config.workload is not None and not work.options.to:
        try_logins(work)
    if not work.options.records:
        work.require_whole()
        with work.report.stage("build"):
            build(work)
    if is_wanted(work):
        with work.report.stage("sign"):
            sign(work)
    with work.report.stage("publish"):
        published = publish(work)
    with work.report.stage("contract"):
        ran = _with_contract(work, published)
    if not work.options.hand_on:
        return ran
    return replace(ran, handed_on=put_record(work, ran.record, keys(work).at_hand))


def _check_joined(work: Job) -> None:
    """Raise for records that are not enough to go on with, or not of this commit or lock."""
    if work.options.platform:
        raise UsageError(
            "`--platform` says what to build, and with `--record` nothing is built",
            hint="leave `--platform` out",
        )
    joined = work.current_record()
    work.require_commit(joined, work.checkout(commit=joined.built_from.commit))
    built = {image.name for image in joined.images}
    if absent := [name for name in work.selected() if name not in built]:
        raise UsageError(
            f"no record has the image `{absent[0]}`",
            hint="name the record of it too, or only the images to go on with",
        )
    for image in joined.images:
        require_locked(work, image)


def _with_contract(work: Job, published: BuildRecord) -> Ran:
    """The sections that the config has, and the contract when it has both, once they are verified."""
    config = work.loaded.config
    if config.workload is None and config.env is None:
        return Ran(*write_fragment(work, published))
    made = made_sections(work, published)
    verified = verify_made(work, published, made, just_published=True)
    emitted = []
    assembled = None
    try:
        settled(work, verified.all_findings, what="the contract")
        result, found = published, verified.all_findings
        if made.workload is not None:
            result, section = write_workload(work, result, made.workload, (), draft=False)
            emitted.append(section)
            found += result.findings
        if made.env is not None:
            result, section = contract_env(work, draft=False)
            emitted.append(section)
            found += result.findings
        if len(emitted) == len(SECTIONS):
            result, assembled = contract_assemble(work, draft=False)
            found += result.findings
    except SecureBuildError as error:
        refused = made.texts if isinstance(error, RefusedError) else {}
        withdraw(work, refused, written={section.name for section in emitted})
        raise
    # What each step found replaced what the one before had found.
    result = replace(result, findings=tuple(dict.fromkeys(found)))
    record.write(work.record_path, result)
    result, fragment = write_fragment(work, result, is_tried=config.workload is not None)
    return Ran(result, fragment, tuple(emitted), assembled, verified)
