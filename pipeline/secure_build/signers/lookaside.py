"""Lookaside storage: signatures in a tree of their own, on this machine or behind an address.

The tree is that of containers-registries.d(5): `PATH@sha256=HEX/signature-N`, numbered from 1 without
gaps. The registry is not named in it. Who signed what is not asked here.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from secure_build import files, secret
from secure_build.errors import ServiceError
from secure_build.model import Credential
from secure_build.reference import Pinned
from secure_build.registry.http import Transport, redacted

_LARGEST = 1 << 20
_MOST = 100
# How signatures begin: OpenPGP packets that hold one, old and new (RFC 4880, 4.2), or a name of a format.
_TAGS = (2, 4, 8)
_BEGINNINGS = {
    0,
    *(0xC0 | tag for tag in _TAGS),
    *(0x80 | tag << 2 | size for tag in _TAGS for size in range(4)),
}
# Two images may have the same manifest: the numbers of its signatures are given one at a time.
_numbering = threading.Lock()


class SignatureStore(Protocol):
    """Where the signatures of images are kept."""

    def read(self, image: Pinned) -> list[bytes]:
        """The signatures of a manifest; nobody has checked them."""

    def add(self, image: Pinned, signature: bytes) -> None:
        """Keep one more."""


def path_of(image: Pinned) -> str:
    """The folder of a manifest's signatures."""
    return f"{image.repository.path}@sha256={image.digest.hexadecimal}"


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree on this machine."""

    folder: Path

    def __str__(self) -> str:
        return f"`{self.folder}`"

    def read(self, image: Pinned) -> list[bytes]:
        found: list[bytes] = []
        while (path := self.path(image, len(found) + 1)).exists():
            found.append(files.read(path, at_most=_LARGEST, what="the signature"))
        return found

    def add(self, image: Pinned, signature: bytes) -> None:
        with _numbering:
            files.write(self.path(image, len(self.read(image)) + 1), signature)

    def path(self, image: Pinned, number: int) -> Path:
        """Where a signature is."""
        return self.folder / path_of(image) / f"signature-{number}"


@dataclass(frozen=True, slots=True)
class Upload:
    """A tree behind an address that takes files by HTTP PUT."""

    url: str
    credential: Credential | None
    transport: Transport

    def __str__(self) -> str:
        return redacted(self.url)

    def read(self, image: Pinned) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < _MOST:
            address = self._address(image, len(found) + 1)
            answer = self.transport.request("GET", address, headers=self._login())
            if answer.status == 404:
                answer.close()
                return found
            if answer.status != 200:
                raise ServiceError(answer.explained(f"cannot read signatures of `{image}`"))
            found.append(answer.body(_LARGEST))
        raise ServiceError(f"{self} holds more than {_MOST} signatures of `{image}`")

    def add(self, image: Pinned, signature: bytes) -> None:
        headers = {**self._login(), "Content-Length": str(len(signature))}
        with _numbering:
            address = self._address(image, len(self.read(image)) + 1)
            answer = self.transport.request("PUT", address, headers=headers, body=lambda: iter((signature,)))
        if answer.status not in (200, 201, 204):
            raise ServiceError(
                answer.explained(f"cannot put a signature at {redacted(address)}"),
                hint="the server must take files by PUT below `lookaside: upload:`",
            )
        answer.close()

    def _address(self, image: Pinned, number: int) -> str:
        return f"{self.url}/{path_of(image)}/signature-{number}"

    def _login(self) -> dict[str, str]:
        if self.credential is None:
            return {}
        login = self.credential
        return {
            "Authorization": f"Basic {secret.basic_authorization(login.username, login.password.reveal())}"
        }


def put(store: SignatureStore, image: Pinned, signature: bytes) -> bool:
    """Keep a signature there, unless it is there; returns whether it was put.

    Raises ServiceError when it is not read back, and when it could convince nobody: readers of
    signatures (containers/image) refuse an image for the sake of one that they do not know.
    """
    before = store.read(image)
    if not all(one and one[0] in _BEGINNINGS for one in before):
        raise ServiceError(
            f"{store} has something beside `{image}` that is no signature, so readers refuse the image",
            hint="remove it there",
        )
    if signature in before:
        return False
    store.add(image, signature)
    if signature not in store.read(image):
        raise ServiceError(
            f"{store} does not give a signature of `{image}` back right after it was put there"
        )
    return True
