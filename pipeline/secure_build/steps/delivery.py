"""Whether the guest can pull the images, and with which of the config's `runtime` logins.

Only the `runtime` login, or none, is tried: this machine's own logins are not there at boot.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from secure_build import secret, stopping
from secure_build.contract import auths
from secure_build.contract.decision.model import Question
from secure_build.errors import RefusedError, SecureBuildError, ServiceError
from secure_build.model import GUEST, BuildRecord, Credential, Finding, Image
from secure_build.reference import Pinned, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.session import LoginRefusedError
from secure_build.steps.gathering.means import Means
from secure_build.steps.gathering.pulls import Registries
from secure_build.steps.job import Job

# What the config calls a login of the contract.
_LOGIN = re.compile(r"auths: (\S+):")


def check_logins(work: Job, registries: Iterable[str]) -> dict[str, Credential | None]:
    """The `runtime` login of each registry, None where the config has none.

    Raises UsageError for a login that must not be in a contract and for a secret that is missing.
    """
    logins: dict[str, Credential | None] = {}
    for registry in sorted(set(registries)):
        logins[registry] = runtime = work.login(registry, "runtime")
        if runtime is not None:
            auths.contract_key(registry)
            allowed = work.loaded.config.access(registry).allow_push_credential
            for push in _push_logins(work, registry) or [None]:
                auths.check_runtime(runtime, push, allow_push=allowed)
    return logins


def try_logins(work: Job) -> None:
    """Raise RefusedError for a `runtime` login that its registry refuses, before anything is published.

    Whether it may pull an image shows only when the image is there: registries answer in many ways
    for one that is not. One request for each registry tells whether user name and password are right.
    """
    config = work.loaded.config
    references = [image.image for image in config.built.values()]
    references += [image.mirror or image.use for image in config.used.values()]
    by_registry = {reference.repository.registry: reference for reference in reversed(references)}

    def attempt(registry: str) -> None:
        login = work.login(registry, "runtime")
        if login is None:
            return
        try:
            RemoteRegistry(registry, login, work.transport).tagged(by_registry[registry])
        except LoginRefusedError as error:
            raise RefusedError(f"the guest could not log in: {error.message}", hint=error.hint) from None
        except SecureBuildError:
            # What is wrong with the registry or the image is said where it is needed.
            return

    stopping.side_by_side(attempt, sorted(by_registry), jobs=work.options.requests)


def _push_logins(work: Job, registry: str) -> list[Credential | None]:
    """What this machine publishes with, if it does: a job that only writes contracts has no such secret."""
    access = work.loaded.config.access(registry)
    if access.push is None:
        config = work.loaded.config
        own = {image.image.repository for image in config.built.values()}
        own |= {image.mirror.repository for image in config.used.values() if image.mirror}
        return [work.machine_login(one) for one in sorted(own) if one.registry == registry]
    same_name = access.runtime is not None and access.runtime.password == access.push.password
    known = same_name or secret.is_known(access.push.password.secret)
    return [work.login(registry, "push")] if known else []


def try_pulls(work: Job, current: BuildRecord, images: Collection[Pinned]) -> list[Finding]:
    """Whether the guest could pull the images with the config's `runtime` logins; each is tried.

    Raises RefusedError for one that it could not pull, and ServiceError when a registry gives no answer.
    """
    logins = check_logins(work, (image.repository.registry for image in images))
    registries = Registries(means(work, current))

    def try_pull(image: Pinned) -> Finding:
        reference = Reference(image.repository, digest=image.digest)
        pull = registries.pull(Question(reference, logins[image.repository.registry])).pull
        if pull.outcome == "unknown":
            raise ServiceError(f"whether the guest could pull `{image}` is {pull.why}", hint=pull.hint)
        if pull.outcome == "bad":
            hint = pull.hint and in_config_words(pull.hint)
            raise RefusedError(f"the guest could not pull `{image}`: {pull.why}", hint=hint)
        return Finding("delivery", "pass" if pull.outcome == "good" else "deferred", str(image), pull.why)

    return stopping.side_by_side(try_pull, sorted(images), jobs=work.options.requests)


def means(work: Job, current: BuildRecord) -> Means:
    """With what images are asked for; without what only signatures need."""
    here = unpublished(work, current)
    local = {
        reference: image.descriptor
        for image in current.images
        if image.pinned in here
        for reference in names(image)
    }
    return Means(
        transport=work.transport,
        folder=work.options.workdir,
        jobs=work.options.requests,
        offline=work.options.offline,
        layout=work.layout,
        local=local,
        guests=frozenset(image.digest for image in work.resolved.values() if GUEST in image.platforms),
        coming=frozenset(Reference(one.repository, digest=one.digest) for one in mirrored(work)),
    )


def names(image: Image) -> tuple[Reference, Reference]:
    """How a contract names a built image: by its tag, or by its digest."""
    return image.reference, Reference(image.reference.repository, digest=image.descriptor.digest)


def in_config_words(hint: str) -> str:
    """A hint about the contract's logins, as people write them in the config."""
    return _LOGIN.sub(r"registries: \1: runtime:", hint)


def unpublished(work: Job, current: BuildRecord) -> set[Pinned]:
    """The images that are in the layout, and not at the registry that their references name."""
    found = {
        image.pinned for image in current.images if image.published != image.reference.repository.registry
    }
    return found | (mirrored(work) if work.options.to else set())


def mirrored(work: Job) -> set[Pinned]:
    """The images that are copied to a registry of one's own, where each is now or will be."""
    return {image.pinned for image in work.resolved.values() if image.mirror}
