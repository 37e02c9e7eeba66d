"""The verbs as functions; the only package that composes the parts.

Each step reads the build record that the one before it wrote and writes its own, so that each is
usable alone, in another job or on another day. `run` is all of them in order.
"""

from __future__ import annotations

from typing import Any

from secure_build.model import BuildRecord
from secure_build.steps.build import build
from secure_build.steps.contract import (
    ContractFile,
    Fragment,
    check_workload,
    contract_images,
    contract_workload,
)
from secure_build.steps.delivery import check_logins
from secure_build.steps.init import InitOptions, Started, init
from secure_build.steps.job import Job, Options, job
from secure_build.steps.publish import publish

__all__ = [
    "ContractFile",
    "Fragment",
    "InitOptions",
    "Job",
    "Options",
    "Started",
    "build",
    "contract_images",
    "contract_workload",
    "init",
    "job",
    "publish",
    "run",
    "summary",
]


def run(work: Job) -> tuple[BuildRecord, ContractFile | None]:
    """Build, publish and, when the config has a workload, the contract.

    What can be known to be wrong before anything is built is found before anything is built.
    """
    config = work.loaded.config
    if config.workload is not None:
        check_workload(work, selected=work.selected())
    for registry in config.registries if not work.options.to else ():
        work.login(registry, "push")
    check_logins(work, config.registries)
    build(work)
    result = publish(work)
    if config.workload is None:
        return result, None
    return contract_workload(work, draft=False)


def summary(result: BuildRecord) -> dict[str, Any]:
    """What a run has to show, as plain data."""
    return {
        "source": {"commit": result.source.commit, "clean": result.source.clean},
        "images": [
            {
                "name": image.name,
                "reference": str(image.reference),
                "digest": str(image.descriptor.digest),
                "pinned": str(image.pinned),
                "platforms": [str(platform) for platform in image.platforms],
                "published": image.published,
            }
            for image in result.images
        ],
        "used": [{"reference": str(image.reference), "pinned": str(image.pinned)} for image in result.used],
        "findings": [
            {"check": finding.check, "level": finding.level, "what": finding.what, "why": finding.why}
            for finding in result.findings
        ],
    }
