"""On whose machinery this runs, by what the CI system says of itself in the environment.

Whoever starts the process can set these variables, so nothing rests on them: who signed is what is
verified. Nothing that is private to this machine is read, its name least of all. docs/attestations.md
defines the identities.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PRINTABLE = re.compile(r"[!-~]{1,1024}")


@dataclass(frozen=True, slots=True)
class Host:
    """`identity` is a URI; `invocation` tells this run from all others, None where nothing does."""

    identity: str
    invocation: str | None = None


LOCAL = Host("urn:x-secure-build:host:local")


def host(environment: Mapping[str, str] | None = None) -> Host:
    """The workflow of GitHub Actions, the runner of GitLab, Tekton, or else some machine."""
    given = os.environ if environment is None else environment
    known = {name: value for name, value in given.items() if _PRINTABLE.fullmatch(value)}
    try:
        if known.get("GITHUB_ACTIONS") == "true":
            server = known["GITHUB_SERVER_URL"]
            run = f"{server}/{known['GITHUB_REPOSITORY']}/actions/runs/{known['GITHUB_RUN_ID']}"
            attempt = known.get("GITHUB_RUN_ATTEMPT", "1")
            return Host(f"{server}/{known['GITHUB_WORKFLOW_REF']}", f"{run}/attempts/{attempt}")
        if known.get("GITLAB_CI") == "true":
            runner = f"{known['CI_PROJECT_URL']}/-/runners/{known['CI_RUNNER_ID']}"
            return Host(runner, known["CI_JOB_URL"])
        if uid := known.get("TEKTON_TASKRUN_UID"):
            return Host("urn:x-secure-build:host:tekton", f"urn:uuid:{uid}")
    except KeyError:
        # It says too little to be named.
        pass
    return LOCAL
