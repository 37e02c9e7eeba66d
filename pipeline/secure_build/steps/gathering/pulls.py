"""Pulling as the guest would: the manifest, its member for the guest's platform, and what its config says.

At most three requests for an image, and none for a config that was read before. Layers are not asked
for: whoever put the manifest there had to put them first (distribution-spec v1.1, "Pushing Manifests").
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field

from secure_build import manifest
from secure_build.contract.decision.model import Pull, Question
from secure_build.errors import SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import GUEST, Credential, Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import InterruptedTransferError, UnavailableError
from secure_build.registry.session import AccessError, LoginRefusedError
from secure_build.steps.gathering.means import Means

# How often a registry may say that it cannot answer now.
_MOST_FAILURES = 3
Way = tuple[str, Credential | None]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of a pull; `guest` is the manifest that the guest runs, where it is known."""

    pull: Pull
    guest: Digest | None = None


class _NoGuestError(Exception):
    """The image, whose digest it has, has nothing for the guest; the message says why."""

    def __init__(self, why: str, digest: Digest) -> None:
        super().__init__(why)
        self.digest = digest


@dataclass(slots=True)
class Registries:
    """The registries, each with each login opened once.

    One that cannot be reached is not asked again, nor one that says several times that it cannot answer:
    each time has been tried and waited for.
    """

    means: Means
    _clients: dict[Way, RemoteRegistry] = field(default_factory=dict)
    _silent: dict[str, ServiceError] = field(default_factory=dict)
    _failures: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def client(self, registry: str, login: Credential | None) -> RemoteRegistry:
        """The registry with this login; raises ServiceError when it did not answer before."""
        with self._lock:
            if registry in self._silent:
                known = self._silent[registry]
                raise ServiceError(known.message, hint=known.hint)
            found = self._clients.get((registry, login))
            if found is None:
                found = self._clients[registry, login] = RemoteRegistry(registry, login, self.means.transport)
            return found

    def silent(self, registry: str, error: ServiceError) -> None:
        """Remember that a registry gave no answer, or none that helps."""
        if not isinstance(error, UnavailableError):
            return
        with self._lock:
            self._failures[registry] += 1
            if isinstance(error, InterruptedTransferError) or self._failures[registry] >= _MOST_FAILURES:
                self._silent.setdefault(registry, error)

    def pull(self, question: Question, reference: Reference | None = None) -> Pulled:
        """Pull the question's image, or with its login another reference of the same repository."""
        wanted = reference or question.reference
        local = self.means.local.get(wanted)
        if local is not None:
            return self._local(wanted, local)
        if self.means.offline:
            return Pulled(
                Pull("deferred", "the network is not to be used, so the guest's pull was not tried")
            )
        registry, login = wanted.repository.registry, question.login
        try:
            client = self.client(registry, login)
            found = client.find(wanted)
            if found is None and wanted in self.means.coming:
                return Pulled(Pull("deferred", "it is not copied to its mirror yet, so a pull was not tried"))
            if found is None and question.login_may_follow:
                return Pulled(_open_login(wanted))
            if found is None:
                hint = "correct its name, or publish it"
                if login is None:
                    hint += f"; if it is private, add a login: `auths: {registry}:`"
                return Pulled(Pull("bad", f"`{wanted}` does not exist", hint))
            guest = self._guest(client, wanted.repository, found)
        except _NoGuestError as error:
            return Pulled(_without_guest(wanted, error))
        except AccessError as error:
            if question.login_may_follow:
                return Pulled(_open_login(wanted))
            return Pulled(_not_allowed(wanted, login, error))
        except SecureBuildError as error:
            if isinstance(error, ServiceError):
                self.silent(registry, error)
            return Pulled(Pull("unknown", f"not known: {error.message}", error.hint or "try again"))
        how = f"as user `{login.username}`" if login else "without a login"
        why = f"it can be pulled {how}, and is for {GUEST}"
        return Pulled(Pull("good", why, digest=found.descriptor.digest), guest)

    def _local(self, wanted: Reference, descriptor: Descriptor) -> Pulled:
        """What can be told of an image that is in the layout only."""
        layout = self.means.layout
        assert layout is not None
        try:
            guest = self._guest(None, wanted.repository, layout.manifest(descriptor))
        except _NoGuestError as error:
            return Pulled(_without_guest(wanted, error))
        except SecureBuildError as error:
            return Pulled(Pull("unknown", error.message, error.hint))
        why = "it is not at its registry yet, so the guest's pull could not be tried"
        return Pulled(Pull("deferred", why, digest=descriptor.digest), guest)

    def _guest(self, client: RemoteRegistry | None, repository: Repository, found: Manifest) -> Digest:
        """The manifest for the guest; raises _NoGuestError when there is none whose config says so."""
        layout, digest = self.means.layout, found.descriptor.digest
        image = found
        if found.config is None:
            members = [one for one in found.members if one.platform == GUEST]
            if not members:
                named = ", ".join(sorted({str(one.platform) for one in found.members if one.platform}))
                raise _NoGuestError(f"it is for {named or 'no platform that it names'}", digest)
            if len({one.digest for one in members}) > 1:
                raise ServiceError(
                    f"it has several members for {GUEST}, and which one runs is not documented"
                )
            # What the guest pulls must be at the registry, though its bytes are here too.
            member = _member(client, layout, repository, members[0])
            if member is None:
                raise _NoGuestError(f"its member {members[0].digest} is not there", digest)
            image = member
        if image.config is None:
            raise _NoGuestError("its member for it is an index itself", digest)
        if digest in self.means.guests:
            return image.descriptor.digest
        if layout is not None and layout.has(image.config):
            content = layout.config(image)
        else:
            assert client is not None
            content = client.config(repository, image)
        said = manifest.platform_of_config(content)
        if (said.os, said.architecture) != (GUEST.os, GUEST.architecture):
            raise _NoGuestError(f"its config says {said}", digest)
        return image.descriptor.digest


def _member(
    client: RemoteRegistry | None, layout: Layout | None, repository: Repository, member: Descriptor
) -> Manifest | None:
    if client is not None:
        return client.find(Reference(repository, digest=member.digest))
    assert layout is not None
    return layout.manifest(member)


def _without_guest(wanted: Reference, error: _NoGuestError) -> Pull:
    hint = f"build it for {GUEST} too, or name another image"
    return Pull("bad", f"`{wanted}` is not for {GUEST}: {error}", hint, error.digest)


def _open_login(wanted: Reference) -> Pull:
    why = f"`{wanted}` is hidden from those without a login, and whether `env` has one is not known"
    return Pull("unknown", why, "verify the whole contract, with the config that made it")


def _not_allowed(wanted: Reference, login: Credential | None, error: AccessError) -> Pull:
    registry = wanted.repository.registry
    if login is None:
        why = f"`{wanted}` is private, and the contract has no login for `{registry}`"
        return Pull("bad", why, f"add a pull-only login: `auths: {registry}:`")
    if isinstance(error, LoginRefusedError):
        why = f"{registry} refuses the login of user `{login.username}`"
        return Pull("bad", why, f"correct user name and password under `auths: {registry}:`")
    why = f"user `{login.username}` may not pull `{wanted}`"
    return Pull(
        "bad", why, f"give the user the right to pull, or name another one under `auths: {registry}:`"
    )
