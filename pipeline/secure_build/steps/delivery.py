"""Whether the guest can pull the images, and with which of the config's `runtime` logins.

Only the `runtime` login, or none, is tried: this machine's own logins are not there at boot.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from secure_build import secret, stopping
from secure_build.contract import auths
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.model import BuildRecord, Credential, Finding
from secure_build.reference import Pinned, Reference
from secure_build.registry.client import AccessError, NotFoundError, RemoteRegistry
from secure_build.registry.session import LoginRefusedError
from secure_build.steps.job import Job


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

    stopping.side_by_side(attempt, sorted(by_registry), jobs=work.options.jobs)


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

    Raises UsageError for a private image without a login, and RefusedError for one that cannot pull.
    """
    elsewhere = unpublished(work, current)
    logins = check_logins(work, (image.repository.registry for image in images))

    def try_pull(image: Pinned) -> Finding:
        registry = image.repository.registry
        login = logins[registry]
        if work.options.offline:
            return _deferred(image, "the network is not to be used")
        if image in elsewhere:
            return _deferred(image, "it is not published to its registry yet")
        reference = Reference(image.repository, digest=image.digest)
        try:
            RemoteRegistry(registry, login, work.transport).resolve(reference)
        except NotFoundError:
            if image not in _mirrored(work):
                raise
            return _deferred(image, "it is not copied to its mirror yet")
        except AccessError as error:
            if login is None:
                raise UsageError(
                    f"`{image}` is private, and there is no login for the guest to pull it with",
                    hint=f"add a pull-only `runtime:` login under `registries: {registry}:`",
                ) from None
            raise RefusedError(
                f"the guest could not pull `{image}`: {error.message}", hint=error.hint
            ) from None
        how = f"as user `{login.username}`" if login else "without a login"
        return Finding(check="delivery", level="pass", what=str(image), why=f"it can be pulled {how}")

    return stopping.side_by_side(try_pull, sorted(images), jobs=work.options.jobs)


def unpublished(work: Job, current: BuildRecord) -> set[Pinned]:
    """The images that are in the layout, and not at the registry that their references name."""
    found = {
        image.pinned for image in current.images if image.published != image.reference.repository.registry
    }
    return found | (_mirrored(work) if work.options.to else set())


def _mirrored(work: Job) -> set[Pinned]:
    return {image.pinned for image in work.resolved.values() if image.mirror}


def _deferred(image: Pinned, why: str) -> Finding:
    return Finding("delivery", "deferred", str(image), f"{why}, so the guest's pull could not be tried")
