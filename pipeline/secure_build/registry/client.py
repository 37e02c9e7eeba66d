"""A client for the OCI distribution protocol (distribution-spec v1.1): reading and writing.

One object per registry and login. Blobs are streamed; whatever was interrupted is begun anew a few
times, and never what was refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar, Literal
from urllib.parse import quote, urlencode, urlsplit

from secure_build import manifest
from secure_build.errors import ServiceError
from secure_build.manifest import Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry import referrers
from secure_build.registry.http import TEMPORARY, Answer, InterruptedTransferError
from secure_build.registry.reader import NotFoundError, Reader, is_kept, named_digest
from secure_build.registry.referrers import Referrer
from secure_build.registry.session import AccessError
from secure_build.registry.tokens import covers, scope_of

PushRight = Literal["granted", "refused", "unknown"]
# A manifest names what the registry has not got (distribution-spec, Error Codes).
_MISSING_CODES = frozenset({"BLOB_UNKNOWN", "MANIFEST_BLOB_UNKNOWN"})
_LISTING_ATTEMPTS = 3


class MissingBlobsError(ServiceError):
    """The registry has not got the blobs of a manifest, whatever it said before."""


class _RefusedManifestError(ServiceError):
    """The registry does not want a manifest, or not under this name."""


class RemoteRegistry(Reader):
    """One registry, spoken to with one login or none, to read or, with `push`, also to write."""

    # Our own threads take turns at the index of one manifest's referrers.
    _turns: ClassVar[dict[tuple[Repository, Digest], threading.Lock]] = {}

    def put_blob(
        self,
        repository: Repository,
        descriptor: Descriptor,
        chunks: Callable[[], Iterator[bytes]],
        *,
        mount_from: Repository | None = None,
    ) -> bool:
        """Store a blob; returns whether its bytes were sent.

        Another repository of this registry that has it may be named: then no byte is sent, unless
        the registry does not do so. Else it is one streamed request; a broken upload is begun anew.
        """
        mounting = None
        if mount_from is not None and mount_from != repository:
            mounting = self._mount(repository, descriptor, mount_from)
            if mounting is not None and mounting.status == 201:
                return False
        begun = False

        def attempt() -> Answer:
            nonlocal begun, mounting
            started, mounting = mounting, None
            if begun:
                # The registry may have kept the blob although its answer was lost.
                path = self._blob(repository, descriptor.digest)
                kept = self._request("HEAD", path, repository, retry=False)
                kept.close()
                if is_kept(kept, descriptor):
                    return kept
            begun = True
            return self._upload(repository, descriptor, chunks, started)

        what = f"cannot upload blob {descriptor.digest} to `{repository}`"
        try:
            answer = self._session.transport.persist(attempt)
        except InterruptedTransferError as error:
            raise ServiceError(f"{what}: {error.message}", hint=self._hung_up() or error.hint) from None
        if answer.status not in (200, 201):
            raise self._session.failure(answer, what)
        answer.close()
        return True

    def put_manifest(self, repository: Repository, content: Manifest) -> None:
        """Store a manifest under its digest, without a tag.

        One with a subject is listed there, also where the registry keeps no list of referrers. Raises
        MissingBlobsError when blobs of it are not there.
        """
        answer = self._put_manifest(repository, str(content.descriptor.digest), content)
        subject = referrers.subject_of(content)
        if subject is not None and not answer.headers.get("OCI-Subject"):
            self._list_by_tag(repository, subject, content)

    def tag(self, reference: Reference, content: Manifest) -> None:
        """Let the tag name a manifest; one that does already is no failure.

        Where tags are immutable, as they can be on Amazon ECR and Harbor, that too is refused
        (moby/buildkit#3776): an answer that was lost must not fail the second attempt.
        """
        try:
            self._put_manifest(reference.repository, reference.tag or "latest", content)
        except _RefusedManifestError as error:
            named = self.tagged(reference)
            if named is None:
                raise
            if named != content.descriptor.digest:
                raise ServiceError(
                    error.message,
                    hint=f"the tag names {named}; where tags are immutable, publish under another one",
                ) from None

    def attach(
        self,
        repository: Repository,
        subject: Digest,
        artifacts: Sequence[Manifest],
        chunks: Callable[[Descriptor], Iterator[bytes]],
    ) -> list[Manifest]:
        """Store artifacts about a manifest, with their blobs, and list them; what is listed is left alone.

        What comes back was not listed before.

        Where the registry keeps no lists, somebody else may write the index under the fallback tag at
        the same moment: whether they are listed is seen by reading.
        """
        with self._turn(repository, subject):
            kept: list[Referrer] | None = None
            listed = self._listed(repository, subject)
            if listed is None:
                listed = kept = self._index(repository, subject)
            there = {one.descriptor.digest for one in listed}
            absent = [one for one in artifacts if one.descriptor.digest not in there]
            unlisted = [one for one in absent if not self._attach(repository, one, chunks)]
            if unlisted:
                kept = self._index(repository, subject) if kept is None else kept
                self._put_index(repository, subject, [*kept, *map(referrers.referrer_of, unlisted)])
        return absent

    def push_right(self, repository: Repository, *, probe: bool = False) -> PushRight:
        """Whether the login may push to the repository, without pushing anything.

        A token service tells what it grants; elsewhere it is unknown, unless `probe` opens an upload
        and cancels it. Raises AccessError when the login itself is refused.
        """
        granted = self._session.granted((scope_of(repository, "pull,push"),), repository.path)
        if granted is not None:
            return "granted" if covers(granted, "push") else "refused"
        return self._probe(repository) if probe else "unknown"

    # Inside

    def _mount(self, repository: Repository, descriptor: Descriptor, source: Repository) -> Answer | None:
        """The answer to a mount: 201 for done, 202 for an upload that it began instead, else None.

        The specification leaves it to registries: Amazon ECR mounts only what a manifest refers to
        (aws/containers-roadmap#2860), GitLab and older Harbors grant one of the two scopes
        (estesp/manifest-tool#53, goharbor/harbor#2411), while Docker Hub wants both
        (oras-project/rust-oci-client#235).
        """
        query = urlencode({"mount": str(descriptor.digest), "from": source.path})
        path = f"/v2/{repository.path}/blobs/uploads/?{query}"
        scopes = (self._scope(repository), scope_of(source, "pull"))
        try:
            answer = self._session.request("POST", path, scopes, headers={"Content-Length": "0"}, retry=False)
        except (AccessError, InterruptedTransferError):
            return None
        answer.close()
        return answer if answer.status in (201, 202) else None

    def _upload(
        self,
        repository: Repository,
        descriptor: Descriptor,
        chunks: Callable[[], Iterator[bytes]],
        started: Answer | None,
    ) -> Answer:
        """The answer to one attempt: that of its second request, or a temporary one of its first."""
        if started is None:
            started = self._begin(repository)
            if started.status in TEMPORARY:
                return started
            if started.status == 404:
                raise ServiceError(
                    started.explained(f"cannot begin an upload to `{repository}`"),
                    hint="this registry makes no repository by a push: create it, or its project, first",
                )
            if started.status != 202:
                raise self._session.failure(started, f"cannot begin an upload to `{repository}`")
            started.close()
        location = self._session.target(started)
        location += ("&" if urlsplit(location).query else "?") + f"digest={quote(str(descriptor.digest))}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        return self._request("PUT", location, repository, headers=headers, body=chunks, retry=False)

    def _begin(self, repository: Repository) -> Answer:
        path = f"/v2/{repository.path}/blobs/uploads/"
        return self._request("POST", path, repository, headers={"Content-Length": "0"}, retry=False)

    def _probe(self, repository: Repository) -> PushRight:
        try:
            answer = self._session.transport.persist(lambda: self._begin(repository))
        except AccessError:
            return "refused"
        answer.close()
        if answer.status != 202:
            return "refused" if answer.status in (401, 403, 404, 405) else "unknown"
        # It ends by itself in time: GHCR does not let it be cancelled (radius-project/radius#12623),
        # others want a right of its own for that.
        self._request("DELETE", self._session.target(answer), repository, retry=False).close()
        return "granted"

    def _attach(
        self, repository: Repository, artifact: Manifest, chunks: Callable[[Descriptor], Iterator[bytes]]
    ) -> bool:
        """Store an artifact; returns whether the registry lists it by itself.

        The config of artifacts is the same for all, so it is sent only when the registry lacks it.
        """

        def put(blob: Descriptor) -> None:
            self.put_blob(repository, blob, lambda: chunks(blob))

        for layer in artifact.layers:
            put(layer)
        name = str(artifact.descriptor.digest)
        try:
            answer = self._put_manifest(repository, name, artifact)
        except MissingBlobsError:
            assert artifact.config is not None
            put(artifact.config)
            answer = self._put_manifest(repository, name, artifact)
        return bool(answer.headers.get("OCI-Subject"))

    def _put_manifest(self, repository: Repository, name: str, content: Manifest) -> Answer:
        headers = {"Content-Type": content.media_type, "Content-Length": str(len(content.content))}
        path = self._manifest(repository, name)
        answer = self._request(
            "PUT", path, repository, headers=headers, body=lambda: iter((content.content,))
        )
        what = f"cannot write `{repository}` {name}"
        if answer.status in (400, 404, 409, 412):
            message, codes = answer.explained_with_codes(what)
            raise MissingBlobsError(message) if codes & _MISSING_CODES else _RefusedManifestError(message)
        if answer.status != 201:
            raise self._session.failure(answer, what)
        answer.close()
        named = named_digest(answer)
        if named and named != content.descriptor.digest:
            raise ServiceError(
                f"{self.registry} stored `{repository}` {content.descriptor.digest} as {named}"
            )
        return answer

    def _list_by_tag(self, repository: Repository, subject: Digest, content: Manifest) -> None:
        """Add a manifest to the index under the fallback tag of its subject.

        Somebody else may write that index at the same moment, so it is looked at afterwards.
        """
        own = referrers.referrer_of(content)
        with self._turn(repository, subject):
            for _ in range(_LISTING_ATTEMPTS):
                listed = self._index(repository, subject)
                if any(one.descriptor.digest == own.descriptor.digest for one in listed):
                    return
                self._put_index(repository, subject, [*listed, own])
            listed = self._index(repository, subject)
            if not any(one.descriptor.digest == own.descriptor.digest for one in listed):
                raise ServiceError(
                    f"`{repository}:{referrers.fallback_tag(subject)}` does not list "
                    f"{own.descriptor.digest} right after it was added",
                    hint="somebody else writes there at the same time; try again",
                )

    def _turn(self, repository: Repository, subject: Digest) -> threading.Lock:
        return self._turns.setdefault((repository, subject), threading.Lock())

    def _index(self, repository: Repository, subject: Digest) -> list[Referrer]:
        """What the index under the fallback tag lists; raises ServiceError when another thing is there."""
        reference = Reference(repository, referrers.fallback_tag(subject))
        kept = self.find(reference)
        if kept is not None and kept.media_type != manifest.OCI_INDEX:
            raise ServiceError(f"`{reference}` is no index of referrers, so nothing is added to it")
        return [] if kept is None else referrers.parse(kept.content)

    def _put_index(self, repository: Repository, subject: Digest, listed: Sequence[Referrer]) -> None:
        index = manifest.parse(referrers.index_of(listed), manifest.OCI_INDEX)
        self.tag(Reference(repository, referrers.fallback_tag(subject)), index)

    def _hung_up(self) -> str | None:
        # aws/containers-roadmap#1970
        if ".dkr.ecr." in self.registry:
            return "create the repository first: Amazon ECR hangs up when it does not exist"
        return None


__all__ = ["AccessError", "MissingBlobsError", "NotFoundError", "PushRight", "RemoteRegistry"]
