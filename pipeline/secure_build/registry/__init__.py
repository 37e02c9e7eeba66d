"""Where blobs and manifests live: a registry over HTTP (`client.py`) or a layout (`layout.py`).

`client.py` writes and `reader.py` reads, through `session.py` (logins, redirects) and `http.py`
(time-outs, retries); `auth.py` and `network.py` know what this machine says of logins, proxies and
certificates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from secure_build.manifest import Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository


class Registry(Protocol):
    """What publishing needs of a place. Content is addressed by digest; tags come last."""

    def has_blob(self, repository: Repository, descriptor: Descriptor) -> bool: ...

    def put_blob(
        self,
        repository: Repository,
        descriptor: Descriptor,
        chunks: Callable[[], Iterator[bytes]],
        *,
        mount_from: Repository | None = None,
    ) -> bool:
        """Store a blob; returns whether its bytes were sent. `chunks` is called anew for each attempt.

        `mount_from` is another repository of the same place that may have it.
        """

    def put_manifest(self, repository: Repository, content: Manifest) -> None:
        """Store a manifest under its digest, without a tag."""

    def get_manifest(self, repository: Repository, descriptor: Descriptor) -> Manifest:
        """The manifest with this digest, its bytes checked; raises ServiceError when it is absent."""

    def attach(
        self,
        repository: Repository,
        subject: Digest,
        artifacts: Sequence[Manifest],
        chunks: Callable[[Descriptor], Iterator[bytes]],
    ) -> list[Manifest]:
        """Store artifacts about a manifest that is there, with their blobs, and list them as its referrers.

        `chunks` gives the bytes of a blob. What is listed already is not sent again; what was not comes back.
        """

    def find(self, reference: Reference) -> Manifest | None:
        """The manifest that the reference's tag or digest names, None when there is none."""

    def tagged(self, reference: Reference) -> Digest | None:
        """The digest that the reference's tag names, None when there is no such tag."""

    def tag(self, reference: Reference, content: Manifest) -> None:
        """Let the reference's tag name this manifest."""
