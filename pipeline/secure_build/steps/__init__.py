"""The verbs as functions; the only package that composes the parts.

Each step reads the build record that the one before it wrote and writes its own, so that each is
usable alone, in another job or on another day. `run` is all of them in order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from secure_build import secret
from secure_build.errors import SecureBuildError, UsageError
from secure_build.model import BuildRecord, Finding
from secure_build.report import Report
from secure_build.steps.build import build, require_locked
from secure_build.steps.check import check
from secure_build.steps.contract import (
    ContractFile,
    Fragment,
    check_workload,
    contract_images,
    contract_workload,
)
from secure_build.steps.delivery import check_logins, try_logins
from secure_build.steps.handover import hand_on
from secure_build.steps.init import InitOptions, Started, init
from secure_build.steps.job import Job, Options, opened
from secure_build.steps.join import join
from secure_build.steps.lock import Locked, lock
from secure_build.steps.plan import plan
from secure_build.steps.publish import publish

__all__ = [
    "ContractFile",
    "Fragment",
    "InitOptions",
    "Job",
    "Locked",
    "Options",
    "Started",
    "build",
    "check",
    "contract_images",
    "contract_workload",
    "findings",
    "hand_on",
    "init",
    "job",
    "lock",
    "plan",
    "publish",
    "run",
    "summary",
]


@contextlib.contextmanager
def job(options: Options, report: Report) -> Iterator[Job]:
    """One invocation, see `steps/job.py`; records that it names are joined into its own first."""
    with opened(options, report) as work:
        if options.records:
            join(work)
        yield work


def run(work: Job) -> tuple[BuildRecord, ContractFile | None]:
    """Build, or take what the named records have, then publish and, with a workload, the contract.

    What can be known to be wrong before anything is built is found before anything is built.
    """
    config = work.loaded.config
    if work.options.records:
        if work.options.platform:
            raise UsageError(
                "`--platform` says what to build, and with `--record` nothing is built",
                hint="leave `--platform` out",
            )
        joined = work.current_record()
        work.require_commit(joined, work.checkout(commit=joined.built_from.commit))
        for image in joined.images:
            require_locked(work, image)
    if config.workload is not None:
        check_workload(work, selected=work.selected())
    for registry in config.registries if not work.options.to else ():
        work.login(registry, "push")
    check_logins(work, config.registries)
    if config.workload is not None and not work.options.to:
        try_logins(work)
    if not work.options.records:
        work.require_whole()
        build(work)
    result = publish(work)
    if config.workload is None:
        return result, None
    try:
        return contract_workload(work, draft=False)
    except SecureBuildError:
        if (left := work.options.workdir / "workload.yaml").exists():
            work.report.step(f"`{left}` is that of an earlier run, and stays as it is")
        raise


def summary(result: BuildRecord) -> dict[str, Any]:
    """What a run has to show, as plain data."""
    return {
        "source": {"commit": result.built_from.commit, "clean": result.built_from.clean},
        "images": [
            {
                "name": image.name,
                "reference": str(image.reference),
                "digest": str(image.descriptor.digest),
                "pinned": str(image.pinned),
                "platforms": [str(platform) for platform in image.platforms],
                "missing": [str(platform) for platform in image.missing],
                "published": image.published,
            }
            for image in result.images
        ],
        "used": [{"reference": str(image.reference), "pinned": str(image.pinned)} for image in result.used],
        "findings": findings(result.findings),
    }


def findings(listed: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as plain data, masked, since they quote others; what is not known of one is left out."""
    return [
        {
            name: secret.mask(value)
            for name in ("check", "level", "what", "why", "hint", "where")
            if (value := getattr(finding, name)) is not None
        }
        for finding in listed
    ]
