"""What the auditor's config requires besides a whole chain.

A requirement is as well known as the links that it rests on: where one of those could not be checked, what
it would say is somebody's word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from secure_build import config, files
from secure_build.config import Config, Loaded, Requirement
from secure_build.contract import document
from secure_build.contract.checks import keys
from secure_build.contract.document import Contract
from secure_build.errors import UsageError
from secure_build.lock import Lock
from secure_build.materials import per_platform
from secure_build.model import GUEST, BuildRecord, Finding
from secure_build.steps import record_signature
from secure_build.steps.auditing import recorded
from secure_build.steps.auditing.commits import BuiltFrom, built_from
from secure_build.steps.auditing.recorded import Told
from secure_build.steps.auditing.trail import Trail, finding

_LARGEST_KEY = 1 << 20


def policy(trail: Trail) -> Iterable[Finding]:
    """One finding for each requirement; raises UsageError for a config that has none."""
    assert trail.options.config is not None
    loaded = config.load(trail.options.config)
    if loaded.config.audit is None:
        raise UsageError(
            f"`{trail.options.config}` requires nothing of an audit", hint="add `audit: {require: […]}`"
        )
    for name in loaded.config.audit.require:
        rule = _RULES[name]
        told = _unsettled(trail, rule.rests_on) or rule.check(_Asked(trail, loaded, name))
        if told.level == "fail":
            hint, where = f"required: {config.MEANINGS[name]}", loaded.where("audit", "require")
            yield finding("policy", "fail", name, told.why, hint, where=where)
        else:
            yield finding("policy", told.level, name, told.why)


def _unsettled(trail: Trail, rests_on: tuple[str, ...]) -> Told | None:
    """Why nothing can be told, by the links that it would rest on; None when it can."""
    levels = {one.name: one.level for one in trail.links if one.name in rests_on}
    for name, level in levels.items():
        if level in ("fail", "deferred"):
            return Told("deferred", f"not looked at: `{name}` does not hold")
    unknown = [name for name, level in levels.items() if level == "unknown"]
    return Told("unknown", f"it rests on `{unknown[0]}`, which could not be checked") if unknown else None


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one requirement is told by."""

    trail: Trail
    loaded: Loaded
    name: Requirement

    @property
    def built(self) -> BuildRecord:
        assert self.trail.built is not None
        return self.trail.built

    def of_commit(self, check: Callable[[BuiltFrom], Told]) -> Told:
        """What a check of the commit tells."""
        directory = self.trail.options.repository
        assert directory is not None
        with built_from(directory, self.built.built_from) as found:
            return check(found)

    def contract(self) -> Contract:
        path = self.trail.options.contract
        assert path is not None
        return Contract.parse(files.read(path, at_most=document.LARGEST), str(path))


def _recorded(asked: _Asked) -> Told:
    told = recorded.tell(asked.name, asked.built)
    assert told is not None
    return told


def _evidence(asked: _Asked) -> Told:
    """What the record names must be there and good, which the link of this name tells."""
    told = _recorded(asked)
    return told if told.level == "fail" else _unsettled(asked.trail, (asked.name,)) or told


def _signed_commit(asked: _Asked) -> Told:
    assert asked.loaded.config.audit is not None
    paths = [asked.loaded.directory / key.file for key in asked.loaded.config.audit.commit_keys]
    given = {f"the commit key `{path}`": files.read(path, at_most=_LARGEST_KEY) for path in paths}

    def check(commit: BuiltFrom) -> Told:
        is_signed, why = commit.signature(given)
        return Told("pass" if is_signed else "fail", f"commit {commit.source.commit}: {why}")

    return asked.of_commit(check)


_NO_CONFIG = Told("unknown", "the commit does not hold the config that the build record names")


def _locked_bases(asked: _Asked) -> Told:
    def check(commit: BuiltFrom) -> Told:
        found = commit.config(asked.built)
        return _NO_CONFIG if found is None else _of_lock(asked.built, commit.lock(found[0]))

    return asked.of_commit(check)


def _of_lock(built: BuildRecord, lock: Lock) -> Told:
    silent = [image.name for image in built.images if image.materials is None]
    if silent:
        return Told("fail", f"{', '.join(silent)}: the builder did not say what it took from outside")
    loose = dict.fromkeys(_loose(built, lock))
    if loose:
        return Told("fail", f"neither named by digest nor locked at what was taken: {', '.join(loose)}")
    return Told("pass", "all that was taken is named by digest or locked in the commit")


def _loose(built: BuildRecord, lock: Lock) -> Iterator[str]:
    for image in built.images:
        for platform, taken in per_platform(image.materials or (), image.platforms).items():
            for one in taken:
                if not one.is_fixed and lock.digest(one.kind, one.name, platform) != one.digest:
                    yield one.name
    for used in built.used:
        wanted = str(used.reference.tagged())
        if used.reference.digest is None and lock.digest("used", wanted, GUEST) != str(used.digest):
            yield wanted


def _separate_pull_key(asked: _Asked) -> Told:
    def check(commit: BuiltFrom) -> Told:
        found = commit.config(asked.built)
        return _NO_CONFIG if found is None else _of_logins(found[1])

    return asked.of_commit(check)


def _of_logins(built: Config) -> Told:
    unknown = []
    for registry, access in built.registries.items():
        if access.runtime is None:
            continue
        if access.allow_push_credential:
            return Told("fail", f"{registry}: the config allows the login that publishes in the contract")
        if access.push is None:
            unknown.append(registry)
        elif access.push.password == access.runtime.password:
            return Told("fail", f"{registry}: `push` and `runtime` name the same secret")
    if unknown:
        return Told("unknown", f"{', '.join(unknown)}: the config does not name what publishes")
    return Told("pass", "the config names different secrets, or no login for the guest")


def _signed_record(asked: _Asked) -> Told:
    level = next(one.level for one in asked.trail.links if one.name == "author")
    if level == "pass":
        return Told("pass", "it is signed by whom you trust")
    if level == "fail":
        return Told("deferred", "not looked at: `author` does not hold")
    path = asked.trail.options.record
    if path is not None and not record_signature.bundles_beside(path):
        return Told("fail", "nobody has signed it")
    return Told("unknown", "it rests on `author`, which could not be checked")


def _digests_only(asked: _Asked) -> Told:
    named = [one.what for one in asked.trail.found if one.reference is None or one.reference.digest is None]
    if named:
        return Told("fail", f"not named by digest: {', '.join(named)}")
    return Told("pass", "every container names its image by digest")


def _encrypted_contract(asked: _Asked) -> Told:
    contract = asked.contract()
    plain = [one.section for one in (contract.workload, contract.env) if not one.is_token]
    if plain:
        return Told("fail", f"not encrypted: {', '.join(plain)}")
    return Told("pass", "`workload` and `env` are tokens")


def _signed_contract(asked: _Asked) -> Told:
    contract = asked.contract()
    if contract.signature is None:
        return Told("fail", "the contract has no `envWorkloadSignature`")
    env = asked.trail.plain.get("env")
    if env is None:
        return Told("unknown", "the key that signed is in `env`, and what that holds is not known")
    checked = next(iter(keys.signature_finding(contract, env)), None)
    if checked is None:
        return Told(
            "fail", "the runtime checks no signature: `env` has no `signingKey`, or no section is a token"
        )
    return Told(checked.level, f"`envWorkloadSignature` {checked.why}")


class _Rule(NamedTuple):
    rests_on: tuple[str, ...]
    check: Callable[[_Asked], Told]


_RULES: Mapping[Requirement, _Rule] = {
    "clean-source": _Rule(("author",), _recorded),
    "signed-commit": _Rule(("author", "source"), _signed_commit),
    "locked-bases": _Rule(("author", "source"), _locked_bases),
    "sbom": _Rule(("author",), _evidence),
    "provenance": _Rule(("author",), _evidence),
    "reproducible": _Rule(("author",), _recorded),
    "signed-record": _Rule((), _signed_record),
    "separate-pull-key": _Rule(("author", "source"), _separate_pull_key),
    "digests-only": _Rule(("containers",), _digests_only),
    "encrypted-contract": _Rule(("sections",), _encrypted_contract),
    "signed-contract": _Rule(("tokens",), _signed_contract),
}
