"""Reading from a registry (distribution-spec v1.1, Pull and Content Discovery).

Whatever comes back is hashed and bounded while it is read. Manifests are raw bytes. Logins and
redirects are `session.py`'s business, writing is `client.py`'s.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Generator, Iterator, Mapping
from urllib.parse import urljoin

from secure_build import manifest, stopping
from secure_build.errors import ServiceError, UsageError
from secure_build.layout import DamagedError, verified
from secure_build.manifest import Manifest
from secure_build.model import Credential, Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry import referrers
from secure_build.registry.http import Answer, Body, InterruptedTransferError, Transport, redacted
from secure_build.registry.referrers import Referrer
from secure_build.registry.session import Session
from secure_build.registry.tokens import scope_of

_LARGEST_CONFIG = 8 << 20
# How often a blob is gone on with after its transfer broke off.
_MOST_RESUMPTIONS = 4
_MOST_PAGES = 64
# How long what was just written may take to be listed, in seconds.
_LISTING_PAUSES = (0.2, 0.5, 1.0)
_CONTENT_RANGE = re.compile(r"bytes (\d+)-")
# How registries say that they list no referrers: as the specification has it, Quay for a manifest it
# does not know (quay/quay#3071), Artifactory (google/go-containerregistry#1962), and GHCR, which
# leads to a web page (artifacthub/hub#4785).
_NO_LIST = frozenset({400, 404, 405, 406, 301, 302, 303, 307, 308})
# Those that may say it of one manifest or repository only.
_NO_LIST_OF_THIS = frozenset({400, 406})


class NotFoundError(UsageError):
    """The registry has no such manifest or blob."""


class Reader:
    """One registry, spoken to with one login or none. With `push`, its tokens also serve to write."""

    def __init__(
        self, registry: str, credential: Credential | None, transport: Transport, *, push: bool = False
    ) -> None:
        self.registry = registry
        self._session = Session(registry, credential, transport)
        # One scope for all requests to a repository: one token serves the whole publication.
        self._push = push
        # Until it has said that it keeps no lists of referrers.
        self._may_list = True

    def __str__(self) -> str:
        return self.registry

    def has_blob(self, repository: Repository, descriptor: Descriptor) -> bool:
        answer = self._request("HEAD", self._blob(repository, descriptor.digest), repository)
        answer.close()
        if answer.status in (200, 404):
            return is_kept(answer, descriptor)
        raise self._session.failure(answer, f"cannot ask for blob {descriptor.digest}")

    def tagged(self, reference: Reference) -> Digest | None:
        """The digest behind a tag; where the registry does not name it, it is computed."""
        path = self._manifest(reference.repository, reference.tag or "latest")
        answer = self._request("HEAD", path, reference.repository, headers=_accept())
        answer.close()
        # Artifactory refuses so to tell of a tag that is not there (google/go-containerregistry#1691).
        # Whoever wants to write hears about its rights when it does.
        if answer.status == 404 or (answer.status == 403 and self._push):
            return None
        if answer.status != 200:
            raise self._session.failure(answer, f"cannot look up `{reference}`")
        # Amazon ECR did not name it for years (google/containerregistry#10).
        return named_digest(answer) or self.resolve(reference).descriptor.digest

    def resolve(self, reference: Reference) -> Manifest:
        """The manifest that the reference names now; a digest in it must be the content's.

        Raises NotFoundError when there is none.
        """
        found = self.find(reference)
        if found is None:
            raise NotFoundError(
                f"`{reference}` does not exist", hint="check the name and tag; a private image needs a login"
            )
        return found

    def find(self, reference: Reference) -> Manifest | None:
        """The manifest that the reference names now, None when there is none."""
        wanted = reference.digest
        path = self._manifest(reference.repository, str(wanted or reference.tag or "latest"))
        answer = self._request("GET", path, reference.repository, headers=_accept())
        if answer.status == 404:
            answer.close()
            return None
        if answer.status != 200:
            raise self._session.failure(answer, f"cannot read `{reference}`")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        content = answer.body(manifest.LARGEST)
        found = Digest.of(content)
        if found != (wanted or found) or found != (named_digest(answer) or found):
            raise DamagedError(
                f"{self.registry} answered for `{reference}` with content whose digest is {found}"
            )
        return manifest.parse(content, media_type)

    def get_manifest(self, repository: Repository, descriptor: Descriptor) -> Manifest:
        found = self.find(Reference(repository, digest=descriptor.digest))
        if found is None:
            # Nobody asked for it by name: it should be there.
            raise ServiceError(f"`{repository}@{descriptor.digest}` does not exist")
        return found

    def config(self, repository: Repository, image: Manifest) -> bytes:
        """The config blob of an image manifest."""
        assert image.config is not None
        if image.config.size > _LARGEST_CONFIG:
            raise ServiceError(f"the config of an image in `{repository}` has {image.config.size} bytes")
        return b"".join(self.blob(repository, image.config))

    def blob(self, repository: Repository, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob's bytes; a transfer that breaks off is gone on with where it ended, a few times.

        Raises DamagedError at the end when they are not what was asked for, ServiceError when they
        cannot be had.
        """
        chunks = self._blob_chunks(repository, descriptor)
        # At once when it fails: whoever keeps the exception keeps no connection.
        with contextlib.closing(chunks):
            yield from verified(chunks, descriptor, f"`{repository}`")

    def referrers(
        self, repository: Repository, digest: Digest, *, expected: Collection[Digest] = ()
    ) -> tuple[Referrer, ...]:
        """What names this manifest as its subject, from the registry's list and the fallback tag.

        Both are read, since clients that write to the one do not see the other. A registry may take a
        moment until it lists what was written: while something `expected` is missing, it is asked
        again for about two seconds.
        """
        for pause in (*_LISTING_PAUSES, None):
            listed = [*(self._listed(repository, digest) or ()), *self._listed_by_tag(repository, digest)]
            found = {referrer.descriptor.digest: referrer for referrer in reversed(listed)}
            if pause is None or set(expected) <= found.keys():
                break
            stopping.pause(pause)
        return tuple(found[digest] for digest in sorted(found))

    def referrers_by_turns(self, repository: Repository, digest: Digest) -> Iterator[list[Referrer]]:
        """The same without waiting: the registry's list, and what only the fallback tag names.

        Whoever has found what was wanted goes on no further, and the second is not asked for.
        """
        listed = self._listed(repository, digest) or []
        if listed:
            yield listed
        known = {one.descriptor.digest for one in listed}
        yield [one for one in self._listed_by_tag(repository, digest) if one.descriptor.digest not in known]

    # Inside

    def _blob_chunks(self, repository: Repository, descriptor: Descriptor) -> Generator[bytes, None, None]:
        received = 0
        for left in reversed(range(_MOST_RESUMPTIONS + 1)):
            answer = self._blob_from(repository, descriptor, received)
            skip = received if answer.status == 200 else 0
            try:
                with contextlib.closing(answer):
                    for chunk in answer.chunks():
                        piece = chunk[min(skip, len(chunk)) :]
                        skip -= len(chunk) - len(piece)
                        received += len(piece)
                        yield piece
                return
            except InterruptedTransferError:
                if not left or received >= descriptor.size:
                    raise

    def _blob_from(self, repository: Repository, descriptor: Descriptor, start: int) -> Answer:
        """The answer with a blob from some byte on, or with all of it where the registry prefers that."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        path = self._blob(repository, descriptor.digest)
        answer = self._request("GET", path, repository, headers=headers)
        if answer.status == 206 and start:
            begin = _CONTENT_RANGE.match(answer.headers.get("Content-Range", ""))
            if begin and int(begin[1]) == start:
                return answer
            answer.close()
            raise ServiceError(f"{self.registry} went on with blob {descriptor.digest} at another place")
        if answer.status != 200:
            raise self._session.failure(answer, f"cannot read blob {descriptor.digest} of `{repository}`")
        return answer

    def _listed(self, repository: Repository, digest: Digest) -> list[Referrer] | None:
        """The registry's own list; None where it keeps none, which is asked once."""
        if not self._may_list:
            return None
        path: str | None = f"/v2/{repository.path}/referrers/{digest}"
        found: list[Referrer] = []
        for _ in range(_MOST_PAGES):
            answer = self._request(
                "GET", path or "", repository, headers={"Accept": manifest.OCI_INDEX}, follow=False
            )
            if answer.status in _NO_LIST:
                answer.close()
                self._may_list = answer.status in _NO_LIST_OF_THIS
                return None
            if answer.status != 200:
                raise self._session.failure(answer, f"cannot list what refers to `{repository}@{digest}`")
            link = referrers.next_page(answer.headers.get("Link"))
            found += referrers.parse(answer.body(manifest.LARGEST))
            if link is None:
                return found
            path = self._next_page(answer, link)
        raise ServiceError(f"{self.registry} lists more than {_MOST_PAGES} pages of referrers of {digest}")

    def _next_page(self, answer: Answer, link: str) -> str:
        try:
            address = urljoin(answer.url, link)
            if self._session.is_own(address):
                return address
        except ValueError:
            pass
        raise ServiceError(f"{self.registry} continues a list at `{redacted(link)}`, which is not its own")

    def _listed_by_tag(self, repository: Repository, digest: Digest) -> list[Referrer]:
        kept = self._find_index(repository, digest)
        return [] if kept is None else referrers.parse(kept.content)

    def _find_index(self, repository: Repository, digest: Digest) -> Manifest | None:
        """The index under the fallback tag; something else under that tag lists nothing."""
        found = self.find(Reference(repository, referrers.fallback_tag(digest)))
        return found if found is not None and found.media_type == manifest.OCI_INDEX else None

    def _request(
        self,
        method: str,
        path: str,
        repository: Repository,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        retry: bool = True,
        follow: bool = True,
    ) -> Answer:
        scopes = (self._scope(repository),)
        return self._session.request(
            method, path, scopes, headers=headers, body=body, retry=retry, follow=follow
        )

    def _scope(self, repository: Repository) -> str:
        return scope_of(repository, "pull,push" if self._push else "pull")

    def _blob(self, repository: Repository, digest: Digest) -> str:
        return f"/v2/{repository.path}/blobs/{digest}"

    def _manifest(self, repository: Repository, name: str) -> str:
        return f"/v2/{repository.path}/manifests/{name}"


def is_kept(answer: Answer, descriptor: Descriptor) -> bool:
    """Whether a blob is there and whole; an answer that names no size may itself be cut off."""
    return answer.status == 200 and answer.headers.get("Content-Length") == str(descriptor.size)


def named_digest(answer: Answer) -> Digest | None:
    """The SHA-256 digest that the registry names; None where it names none or one of another kind."""
    try:
        return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
    except UsageError:
        return None


def _accept() -> dict[str, str]:
    # All kinds, or Azure's registry says of the others that they are not there (Azure/acr#764). Only
    # where a manifest is asked for: Artifactory answers 406 elsewhere (dotnet/sdk-container-builds#382).
    return {"Accept": ", ".join(manifest.MEDIA_TYPES)}
