"""Checks of a whole contract: its sections, what must agree between them, its keys and its size.

Pure: nothing is decrypted, no signature is verified, nobody is asked. What a token hides is `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from secure_build import strict_yaml
from secure_build.contract.advice import mapping
from secure_build.contract.auths import registry_of
from secure_build.contract.checks import keys
from secure_build.contract.checks.sections import (
    finding,
    login_findings,
    section_findings,
    token_findings,
)
from secure_build.contract.document import Contract, SectionText
from secure_build.contract.places import place_of
from secure_build.contract.reading import guest_data
from secure_build.contract.schema import encodings, values
from secure_build.contract.schema.contract import Boot
from secure_build.errors import UsageError
from secure_build.mistakes import mistakes
from secure_build.model import Finding
from secure_build.reference import DOCKER_HUB
from secure_build.strict_yaml import Path

__all__ = ["contract_findings", "opened_findings", "section_findings"]

# Checks of what the two sections must agree on, and of what may end between making and joining them.
_BETWEEN = frozenset({"auths", "env", "signature", "signing-key", "volumes"})
# IBM Cloud takes 64 KB of user data, in base64 by IBM's general rules for servers.
_LARGE = 48 << 10


def contract_findings(contract: Contract, target: str, *, now: datetime) -> list[Finding]:
    """Everything that a contract shows without its keys; `now` decides on dates of certificates."""
    workload, env = _data(contract.workload), _data(contract.env)
    return [
        *section_findings(contract.workload, target),
        *section_findings(contract.env, target),
        *_attestation_key(contract, target),
        *_signature(contract, env),
        *_signing_key(contract, env, now),
        *_volumes(contract, workload, env),
        *_logins(contract, workload, env),
        *_shared(contract, workload, env, "auths", "login"),
        *_shared(contract, workload, env, "env", "variable"),
        *_boot(contract, target),
        *_size(contract),
    ]


def opened_findings(
    contract: Contract, workload: SectionText | None, env: SectionText | None, target: str, *, now: datetime
) -> list[Finding]:
    """The same, with what is known of the sections' text besides the tokens; None for what stays closed.

    Of a text behind a token only that is said which concerns the other section too.
    """
    found = contract_findings(contract, target, now=now)
    if env is not None:
        found = [one for one in found if (one.check, one.level) != ("signature", "unknown")]
    if not (contract.workload.is_token or contract.env.is_token) or env is None:
        return found
    plain = replace(contract, workload=workload or contract.workload, env=env)
    if workload is not None:
        found = [one for one in found if (one.check, one.level) != ("volumes", "unknown")]
    return found + [
        one
        for one in contract_findings(plain, target, now=now)
        if one.check in _BETWEEN
        and one not in found
        and (one.check, one.level) != ("signature", "warn")
        and one.level != "unknown"
    ]


def _data(section: SectionText) -> dict[str, Any] | None:
    """What a section holds; None when it is a token, or cannot be read, which is said elsewhere."""
    try:
        document = section.document
    except UsageError:
        return None
    return mapping(guest_data(document)) if document else None


def _place(section: SectionText, path: Path) -> str:
    assert section.document is not None
    return place_of(section.document, path)


def _attestation_key(contract: Contract, target: str) -> Iterable[Finding]:
    section = contract.attestation_public_key
    if section is None:
        return []
    where = contract.where("attestationPublicKey")
    if section.is_token:
        return token_findings("attestationPublicKey", section.value, target, where)
    return keys.attestation_key(section.value, where)


def _signing_key(contract: Contract, env: dict[str, Any] | None, now: datetime) -> Iterable[Finding]:
    key = mapping(env).get("signingKey")
    try:
        TypeAdapter(values.SigningKey).validate_python(key)
    except ValidationError:
        # There is none, or its form has been refused already.
        return []
    return keys.signing_key(str(key), now, _place(contract.env, ("signingKey",)))


def _signature(contract: Contract, env: dict[str, Any] | None) -> Iterator[Finding]:
    signature, where = contract.signature, contract.where("envWorkloadSignature")
    what = "`envWorkloadSignature`"
    if signature is not None and not encodings.grouped(signature):
        yield finding("signature", what, "must be base64", basis="schema", code="HPL05001E", where=where)
    if signature is not None and not (contract.workload.is_token and contract.env.is_token):
        yield finding(
            "signature",
            what,
            "signs a plain section, and which bytes of it the runtime checks is not known",
            level="warn",
            basis="inferred",
            code="HPL12001E",
            hint="encrypt both sections, then sign",
            where=where,
        )
    if env is None and contract.env.is_token:
        found = "is there" if signature is not None else "is missing"
        yield finding(
            "signature",
            what,
            f"{found}; whether the encrypted `env` has the `signingKey` that belongs to it cannot be seen",
            level="unknown",
            where=where if signature is not None else None,
        )
    elif env is not None and (signature is None) != ("signingKey" not in env):
        there, missing = ("`signingKey`", what) if signature is None else (what, "`signingKey` in `env`")
        yield finding(
            "signature",
            there,
            f"has no effect without {missing}: the runtime wants both or none",
            basis="inferred",
            code="HPL12004E",
            hint=f"add {missing}, or take {there} out",
            where=_place(contract.env, ("signingKey",)) if signature is None else where,
        )


def _volumes(
    contract: Contract, workload: dict[str, Any] | None, env: dict[str, Any] | None
) -> Iterator[Finding]:
    sides = [
        (contract.workload, workload, contract.env, env),
        (contract.env, env, contract.workload, workload),
    ]
    for here, data, there, other in sides:
        for name in mapping(mapping(data).get("volumes")):
            where = _place(here, ("volumes", name))
            what = f"volume `{name}` of `{here.section}`"
            if other is not None and name not in mapping(other.get("volumes")):
                why = f"`{there.section}` has no volume of that name; both halves must have the same names"
                yield finding("volumes", what, why, code="HPL07015E", where=where)
            elif there.is_token:
                why = f"`{there.section}` must have a volume of that name, and is encrypted"
                yield finding("volumes", what, why, level="unknown", where=where)


def _shared(
    contract: Contract, workload: dict[str, Any] | None, env: dict[str, Any] | None, key: str, what: str
) -> Iterator[Finding]:
    """What both sections say and the workload decides."""
    winners = mapping(mapping(workload).get(key))
    for name in mapping(mapping(env).get(key)):
        if name in winners:
            yield finding(
                key,
                f"{what} `{name}` of `env`",
                f"has no effect: the workload has this {what} too, and wins",
                level="warn",
                hint="leave it out of one of the sections",
                where=_place(contract.env, (key, name)),
            )


def _logins(
    contract: Contract, workload: dict[str, Any] | None, env: dict[str, Any] | None
) -> Iterator[Finding]:
    """Logins of the env that no image finds, or that podman finds beside another one of the workload."""
    if env is None or contract.env.document is None:
        return
    is_compose = "compose" in mapping(workload)
    yield from login_findings(contract.env.document, env, is_compose=is_compose)
    own, theirs = mapping(mapping(workload).get("auths")), mapping(env.get("auths"))
    for name in theirs:
        others = [key for key in own if registry_of(key) == registry_of(name) == DOCKER_HUB]
        if others and name not in own and not is_compose:
            yield finding(
                "auths",
                f"login `{name}` of `env`",
                f"is for Docker Hub, as is `{others[0]}` in the workload, and which one counts is not known",
                level="warn",
                basis="inferred",
                hint="leave it out of one of the sections",
                where=_place(contract.env, ("auths", name)),
            )


def _boot(contract: Contract, target: str) -> Iterator[Finding]:
    if contract.boot is None:
        return
    where = contract.where("boot")
    if target != "ccco":
        yield finding("unknown-key", "boot", f"means nothing to `{target}`", basis="schema", where=where)
        return
    try:
        document = strict_yaml.load(contract.boot.encode(), f"`boot` in {contract.name}")
        Boot.model_validate(document.data)
    except UsageError as error:
        yield finding("boot", "`boot`", error.message, hint=error.hint, where=where)
    except ValidationError as error:
        for mistake in mistakes(document, Boot, error):
            yield finding("boot", "`boot`", mistake.text(document), where=where)


def _size(contract: Contract) -> Iterator[Finding]:
    if contract.size > _LARGE:
        yield finding(
            "size",
            f"the contract has {contract.size >> 10} KiB",
            "IBM Cloud takes 64 KB of user data, which is 48 KB before base64; other platforms may take more",
            level="warn",
            basis="inferred",
            where=contract.name,
        )
