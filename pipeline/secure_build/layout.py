"""OCI image layouts on disk (image-spec v1.1, image-layout.md): read, verify while reading, write.

Every blob is hashed and bounded while it is read. `index.json` is replaced whole, and names each
image by its full reference. Builders write into a staging folder whose blobs are the layout's own,
so that blobs that are there are not copied and no builder ever touches `index.json`.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from secure_build import files, manifest
from secure_build.errors import ServiceError, UsageError
from secure_build.manifest import Manifest
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository

REFERENCE_NAME = "org.opencontainers.image.ref.name"
_VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20
_LARGEST_CONFIG = 8 << 20


class DamagedError(ServiceError):
    """Content is not what its digest or size says."""


class Layout:
    """An image layout directory; also a place to publish to, like a registry."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return f"oci:{self.directory}"

    @classmethod
    def at(cls, directory: Path) -> Layout:
        """The layout at `directory`, to read; a directory that is missing or empty holds nothing.

        Raises UsageError when something else is there.
        """
        is_new = not directory.exists() or (directory.is_dir() and not any(directory.iterdir()))
        if not is_new and not (directory / "oci-layout").exists():
            raise UsageError(f"`{directory}` is neither empty nor an OCI image layout")
        return cls(directory)

    @classmethod
    def create(cls, directory: Path) -> Layout:
        """The same to write to: it is made where it is not there yet."""
        layout = cls.at(directory)
        if not (directory / "oci-layout").exists():
            files.write(directory / "oci-layout", _VERSION)
        (directory / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        return layout

    # Reading

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here with its size; its bytes are checked when they are read."""
        try:
            return self._path(descriptor.digest).stat().st_size == descriptor.size
        except FileNotFoundError:
            return False

    def artifact(self, digest: Digest) -> Manifest | None:
        """The OCI manifest with this digest, of which no descriptor is known; None when it is not here."""
        try:
            size = self._path(digest).stat().st_size
        except FileNotFoundError:
            return None
        return self.manifest(Descriptor(manifest.OCI_MANIFEST, digest, size))

    def holds_image(self, descriptor: Descriptor) -> bool:
        """Whether an image is here with everything that it refers to."""
        if not self.has(descriptor):
            return False
        content = self.manifest(descriptor)
        return all(map(self.has, content.blobs)) and all(map(self.holds_image, content.members))

    def size(self, descriptor: Descriptor) -> int:
        """The bytes of an image's configs and layers."""
        content = self.manifest(descriptor)
        return sum(blob.size for blob in content.blobs) + sum(map(self.size, content.members))

    def chunks(self, descriptor: Descriptor) -> Iterator[bytes]:
        """The blob's bytes; raises DamagedError at the end when they are not what was asked for."""
        return verified(self._read(descriptor.digest), descriptor, f"`{self.directory}`")

    def read(self, descriptor: Descriptor, *, at_most: int = _LARGEST_CONFIG) -> bytes:
        if descriptor.size > at_most:
            raise ServiceError(
                f"blob {descriptor.digest} has {descriptor.size} bytes; the limit is {at_most}"
            )
        return b"".join(self.chunks(descriptor))

    def manifest(self, descriptor: Descriptor) -> Manifest:
        return manifest.parse(self.read(descriptor, at_most=manifest.LARGEST), descriptor.media_type)

    def config(self, image: Manifest) -> bytes:
        assert image.config is not None
        return self.read(image.config)

    def entries(self) -> list[tuple[str | None, Descriptor]]:
        """What `index.json` lists: reference name and descriptor."""
        return [
            (_name_of(entry), _entry_descriptor(entry, self.directory))
            for entry in self._index()["manifests"]
        ]

    # Writing

    def write(self, content: bytes, media_type: str) -> Descriptor:
        """Put a blob; returns its descriptor."""
        descriptor = Descriptor(media_type, Digest.of(content), len(content))
        self.write_from(descriptor, lambda: iter((content,)))
        return descriptor

    def write_from(self, descriptor: Descriptor, chunks: Callable[[], Iterator[bytes]]) -> bool:
        """Put a blob from verified chunks; false when it was here already."""
        if self.has(descriptor):
            return False
        with files.replacing(self._path(descriptor.digest)) as file:
            for chunk in verified(chunks(), descriptor, "what was to be written"):
                file.write(chunk)
        return True

    def name(self, reference: Reference, descriptor: Descriptor) -> None:
        """List the image under its full reference, instead of what had that name before."""
        self._list(descriptor, {"annotations": {REFERENCE_NAME: str(reference)}})

    def _list(self, descriptor: Descriptor, more: dict[str, Any]) -> None:
        """Put an entry into the index, instead of the one of its name, or of its digest without one."""
        entry = {
            "mediaType": descriptor.media_type,
            "digest": str(descriptor.digest),
            "size": descriptor.size,
            **more,
        }

        def key(one: dict[str, Any]) -> tuple[str, str]:
            name = _name_of(one)
            return (name, "") if name is not None else ("", str(one.get("digest")))

        with self._lock:
            index = self._index()
            others = [other for other in index["manifests"] if key(other) != key(entry)]
            index["manifests"] = sorted(
                [*others, entry], key=lambda item: (_name_of(item) or "", str(item.get("digest")))
            )
            files.write(self.directory / "index.json", (json.dumps(index, indent=2) + "\n").encode())

    @contextlib.contextmanager
    def staging(self) -> Iterator[Layout]:
        """A layout for one builder run, with the blobs of this one and an index of its own."""
        folder = Path(tempfile.mkdtemp(dir=self.directory.parent, prefix=".staging-"))
        try:
            (folder / "blobs").symlink_to((self.directory / "blobs").resolve(), target_is_directory=True)
            files.write(folder / "oci-layout", _VERSION)
            yield Layout(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # Publishing: what a registry offers, see `registry.Registry`

    def has_blob(self, _repository: Repository, descriptor: Descriptor) -> bool:
        return self.has(descriptor)

    def put_blob(
        self,
        _repository: Repository,
        descriptor: Descriptor,
        chunks: Callable[[], Iterator[bytes]],
        *,
        mount_from: Repository | None = None,  # noqa: ARG002  # all blobs are in one place already
    ) -> bool:
        return self.write_from(descriptor, chunks)

    def attach(
        self,
        _repository: Repository,
        _subject: Digest,
        artifacts: Sequence[Manifest],
        chunks: Callable[[Descriptor], Iterator[bytes]],
    ) -> list[Manifest]:
        """Put artifacts and list them without a name, where tools look for what refers to an image."""
        for artifact in artifacts:
            for blob in artifact.blobs:
                self.write_from(blob, functools.partial(chunks, blob))
            self.write(artifact.content, artifact.media_type)
            self._list(artifact.descriptor, {"artifactType": manifest.artifact_type(artifact)})
        return list(artifacts)

    def find(self, reference: Reference) -> Manifest | None:
        """The manifest listed under the reference, when all of the image is here."""
        listed = [entry for name, entry in self.entries() if name == str(reference)]
        found = next((entry for entry in listed if self.holds_image(entry)), None)
        return None if found is None else self.manifest(found)

    def tagged(self, reference: Reference) -> Digest | None:
        """The digest of the same."""
        found = self.find(reference)
        return None if found is None else found.descriptor.digest

    def put_manifest(self, _repository: Repository, content: Manifest) -> None:
        self.write(content.content, content.media_type)

    def get_manifest(self, _repository: Repository, descriptor: Descriptor) -> Manifest:
        return self.manifest(descriptor)

    def tag(self, reference: Reference, content: Manifest) -> None:
        self.write(content.content, content.media_type)
        self.name(reference, content.descriptor)

    # Inside

    def _path(self, digest: Digest) -> Path:
        return self.directory / "blobs" / "sha256" / digest.hexadecimal

    def _read(self, digest: Digest) -> Iterator[bytes]:
        try:
            with self._path(digest).open("rb") as file:
                yield from _file_chunks(file)
        except FileNotFoundError:
            raise DamagedError(
                f"the layout `{self.directory}` lacks blob {digest}", hint="delete the layout and build again"
            ) from None

    def _index(self) -> dict[str, Any]:
        path = self.directory / "index.json"
        try:
            index = manifest.load_object(path.read_bytes())
            manifests = index.get("manifests")
            if not isinstance(manifests, list) or not all(isinstance(entry, dict) for entry in manifests):
                raise ValueError("it has no list of objects `manifests`")
            return index
        except FileNotFoundError:
            return {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": []}
        except (ValueError, RecursionError) as error:
            raise DamagedError(
                f"`{path}` cannot be read: {error}", hint="delete the layout and build again"
            ) from None


def verified(chunks: Iterator[bytes], descriptor: Descriptor, place: str) -> Iterator[bytes]:
    """The chunks, hashed and counted on the way; raises DamagedError when they differ."""
    hasher = hashlib.sha256()
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            break
        hasher.update(chunk)
        yield chunk
    if size != descriptor.size or hasher.hexdigest() != descriptor.digest.hexadecimal:
        raise DamagedError(
            f"blob {descriptor.digest} of {place} is damaged: {size} bytes that do not have this digest"
            if size == descriptor.size
            else f"blob {descriptor.digest} of {place} has not the {descriptor.size} bytes it should have"
        )


def _file_chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _name_of(entry: dict[str, Any]) -> str | None:
    annotations = entry.get("annotations")
    name = annotations.get(REFERENCE_NAME) if isinstance(annotations, dict) else None
    return name if isinstance(name, str) else None


def _entry_descriptor(entry: dict[str, Any], directory: Path) -> Descriptor:
    try:
        size = entry["size"]
        if type(size) is not int or size < 0:
            raise ValueError(f"`{size}` is no size")
        return Descriptor(str(entry["mediaType"]), Digest.parse(entry["digest"]), size)
    except (KeyError, TypeError, ValueError, UsageError):
        raise DamagedError(f"`{directory / 'index.json'}` holds an entry that is no descriptor") from None


__all__ = ["REFERENCE_NAME", "DamagedError", "Layout", "verified"]
