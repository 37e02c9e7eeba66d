"""What differs between two builds of one image: in which layer, in which files, and in what.

Nothing is unpacked: layers are read as streams, and of a file only what tells it from another is kept.
Which of the two is right is not decided here.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from secure_build import manifest
from secure_build.errors import SecureBuildError, ServiceError
from secure_build.layout import Layout
from secure_build.manifest import Manifest
from secure_build.model import Descriptor, Platform

# So many files of a layer are named.
_NAMED = 5
# A layer with more files than this is not compared by its files.
_MOST_FILES = 1_000_000
_CHUNK = 1 << 20
_PLAIN = ("application/vnd.oci.image.layer.v1.tar",)
_GZIP = (
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
# Why two builds differ, the reasons that explain others first, and what helps.
HINTS = {
    "content": "a step is random, counts, writes the time into a file, or takes something from the network",
    "files": "a step depends on the machine, on the time or on the network: look at who makes these",
    "order": "the files are the same in another order: use the recorded builder, in the recorded version",
    "owner": "a step ran as another user, or a file has another owner: set it with `COPY --chown`",
    "mode": "the rights of files differ: set them with `COPY --chmod`",
    "time": "files have the time of the build: let the builder rewrite times, or set them in the step",
    "compression": "the files are the same: another version of the builder or its library packed them",
    "config": "what the image says of itself differs: a label, a variable or the history holds a time",
    "layers": "one build has steps that the other lacks",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs: where, of what kind (a key of `HINTS`), and what it is."""

    where: str
    kind: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def differences(
    before: Layout, recorded: Descriptor, after: Layout, again: Descriptor
) -> tuple[Difference, ...]:
    """Everything that differs between two images, the config first, each layer by its place from 1.

    What cannot be read is said as a difference of its own. Raises ServiceError for damaged manifests.
    """
    first, second = (_manifests(*one) for one in ((before, recorded), (after, again)))
    found: list[Difference] = []
    for platform in dict.fromkeys([*first, *second]):
        place = f"{platform}, " if platform and len(first) > 1 else ""
        if platform not in first or platform not in second:
            found.append(Difference(f"{platform}", "layers", "is in one of the two only"))
            continue
        found += _of_manifests(place, before, first[platform], after, second[platform])
    return tuple(found)


def _manifests(layout: Layout, descriptor: Descriptor) -> dict[Platform | None, Manifest]:
    top = layout.manifest(descriptor)
    if not top.members:
        return {None: top}
    return {member.platform: layout.manifest(member) for member in top.members}


def _of_manifests(
    place: str, before: Layout, first: Manifest, after: Layout, second: Manifest
) -> Iterator[Difference]:
    if first.config != second.config:
        configs = [
            manifest.load_object(layout.config(one)) for layout, one in ((before, first), (after, second))
        ]
        keys = sorted(
            key for key in configs[0].keys() | configs[1].keys() if configs[0].get(key) != configs[1].get(key)
        )
        # The layers are told of by themselves.
        if named := [f"`{key}`" for key in keys if key != "rootfs"]:
            yield Difference(
                f"{place}config", "config", f"{', '.join(named)} differ{'s' if len(named) == 1 else ''}"
            )
    if len(first.layers) != len(second.layers):
        what = f"{len(first.layers)} layers were recorded, and now there are {len(second.layers)}"
        yield Difference(f"{place}layers", "layers", what)
    for number, (one, other) in enumerate(zip(first.layers, second.layers, strict=False), 1):
        if one.digest != other.digest:
            where = f"{place}layer {number} of {len(first.layers)}"
            yield from _of_layers(where, _Layer(before, one), _Layer(after, other))


@dataclass(frozen=True, slots=True)
class _Layer:
    layout: Layout
    descriptor: Descriptor


@dataclass(frozen=True, slots=True)
class _File:
    """What an entry of a layer is. `more` are extended attributes and what else a header says."""

    position: int
    content: tuple[bytes, int, str, str]
    owner: tuple[int, int, str, str]
    mode: int
    time: float
    more: tuple[tuple[str, str], ...]


def _of_layers(where: str, first: _Layer, second: _Layer) -> Iterator[Difference]:
    try:
        files, others = _files(first), _files(second)
    except SecureBuildError as error:
        yield Difference(where, "content", f"differs, and cannot be compared by its files: {error.message}")
        return
    by_kind: dict[str, list[str]] = {}
    for path in sorted(files.keys() | others.keys()):
        one, other = files.get(path), others.get(path)
        if one is None or other is None:
            by_kind.setdefault("files", []).append(
                f"`{path}` is in {'this' if one is None else 'the recorded'} one only"
            )
            continue
        for kind, differs in (
            ("content", (one.content, one.more) != (other.content, other.more)),
            ("owner", one.owner != other.owner),
            ("mode", one.mode != other.mode),
            ("time", one.time != other.time),
        ):
            if differs:
                by_kind.setdefault(kind, []).append(f"`{path}`")
    order = [
        [path for path, _ in sorted(one.items(), key=lambda item: item[1].position)]
        for one in (files, others)
    ]
    if files.keys() == others.keys() and order[0] != order[1]:
        moved = next(path for path, other in zip(*order, strict=True) if path != other)
        by_kind["order"] = [f"from `{moved}` on"]
    if not by_kind:
        by_kind["compression"] = ["the same files, packed otherwise"]
    for kind in HINTS:
        if named := by_kind.get(kind):
            rest = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            yield Difference(where, kind, f"{_TITLES[kind]}{', '.join(named[:_NAMED])}{rest}")


_TITLES = {
    "content": "another content: ",
    "files": "",
    "order": "another order, ",
    "owner": "another owner: ",
    "mode": "other rights: ",
    "time": "another time: ",
    "compression": "",
}


def _files(layer: _Layer) -> Mapping[str, _File]:
    """The entries by their paths; of a path that stands twice, the last."""
    media_type = layer.descriptor.media_type
    if media_type not in (*_PLAIN, *_GZIP):
        raise ServiceError(f"layers of the type `{media_type}` are not read here")
    stream = io.BufferedReader(_Stream(layer.layout.chunks(layer.descriptor)), _CHUNK)
    found: dict[str, _File] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|gz" if media_type in _GZIP else "r|") as tar:
            for position, entry in enumerate(itertools.islice(tar, _MOST_FILES + 1)):
                if position == _MOST_FILES:
                    raise ServiceError(f"it has more than {_MOST_FILES} files")
                found[entry.name] = _file(tar, entry, position)
    except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
        raise ServiceError(f"it is no tar that can be read to its end: {error}") from None
    return found


def _file(tar: tarfile.TarFile, entry: tarfile.TarInfo, position: int) -> _File:
    hashed = hashlib.sha256()
    # Of a link, the other end has the content.
    if entry.isreg() and (content := tar.extractfile(entry)) is not None:
        while chunk := content.read(_CHUNK):
            hashed.update(chunk)
    device = f"{entry.devmajor}:{entry.devminor}" if entry.isdev() else ""
    return _File(
        position,
        (entry.type, entry.size, entry.linkname + device, hashed.hexdigest()),
        (entry.uid, entry.gid, entry.uname, entry.gname),
        entry.mode,
        entry.mtime,
        tuple(sorted((key, text) for key, text in entry.pax_headers.items() if "xattr" in key)),
    )


class _Stream(io.RawIOBase):
    """Bytes that come in pieces, as a file that can only be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._left:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._left = chunk
        part = self._left[: len(buffer)]
        self._left = self._left[len(part) :]
        buffer[: len(part)] = part
        return len(part)
