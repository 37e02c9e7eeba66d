"""What an auditor with a disclosure file will be able to read, by the names of the fields."""

from __future__ import annotations

from typing import Any

from secure_build.contract import schema
from secure_build.contract.auths import contract_key
from secure_build.contract.schema.secrecy import secret_paths
from secure_build.steps.job import Job
from secure_build.steps.sections import env_section, sealed_secrets, workload_parts


def disclosed(work: Job) -> tuple[str, ...]:
    """The secret fields of the sections that the config makes; none without an auditor's key.

    What compose files and pods hold is not looked at; the auditor reads all of that as well.
    """
    config = work.loaded.config
    if config.encrypt.auditor_disclosure is None:
        return ()
    model = schema.models(config.target)
    sections: list[tuple[str, type[Any], dict[str, Any]]] = []
    if config.workload is not None:
        logins = {
            contract_key(host): {"username": access.runtime.username, "password": "-"}
            for host, access in config.registries.items()
            if access.runtime is not None
        }
        body: dict[str, Any] = {"auths": logins, **workload_parts(work, config.workload)}
        if sealed := config.workload.confidential_containers.secret:
            body["confidential-containers"] = {"secret": sealed_secrets(work, sealed)}
        sections.append(("workload", model.workload, body))
    if config.env is not None:
        sections.append(("env", model.env, env_section(work, config.env, signing_key=None)))
    return tuple(
        ".".join(map(str, (name, *path)))
        for name, part, data in sections
        for path in secret_paths(part, data)
    )
