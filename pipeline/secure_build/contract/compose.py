"""Compose files: which images the services use, and a copy in which each is pinned by digest.

The copy keeps order, comments and everything else byte for byte; only image references change and
`build` goes, since the guest builds nothing. Rules: IBM's page "About the contract", parts on
compose; what the runtime makes of a reference by tag is an error there (HPL06010E).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from yaml.nodes import ScalarNode

from secure_build import strict_yaml
from secure_build.contract.edit import Edits
from secure_build.errors import UsageError
from secure_build.reference import Pinned, Reference
from secure_build.strict_yaml import Document

LARGEST = strict_yaml.LARGEST


@dataclass(frozen=True, slots=True)
class Service:
    """A service of a compose file: the image that it names, and whether it has `build`."""

    name: str
    image: Reference | None
    builds: bool
    where: str


@dataclass(frozen=True, slots=True)
class ComposeFile:
    """A compose file that can be pinned: parsed, and free of what cannot be decided from it alone."""

    document: Document
    services: tuple[Service, ...]

    @classmethod
    def parse(cls, content: bytes, name: str) -> ComposeFile:
        """Read a compose file; raises UsageError with file and line for what cannot be pinned."""
        document = strict_yaml.load(content, name)
        data = document.data
        if not isinstance(data, dict) or not isinstance(data.get("services"), dict) or not data["services"]:
            raise UsageError(f"{name}: a compose file needs `services`, a mapping with at least one service")
        if "include" in data:
            raise _flatten(f"{name}:{document.line(('include',))}", "include")
        services = tuple(_service(document, service) for service in data["services"])
        return cls(document, services)

    def pinned(self, pins: Mapping[str, Pinned]) -> bytes:
        """The file with the image of every service as in `pins`, by service name."""
        edits = Edits(self.document)
        for service in self.services:
            _pin(self.document, edits, service, str(pins[service.name]))
        name = self.document.name
        try:
            result = strict_yaml.load(edits.apply().encode(), name)
        except UsageError as error:
            raise UsageError(
                f"{name} cannot be pinned: {error.message}",
                hint="`build` probably holds an anchor that is used elsewhere",
            ) from None
        if _without_extensions(result.data) != _without_extensions(self._expected(pins)):
            raise UsageError(
                f"{name} cannot be pinned without changing something else",
                hint="write `image` and `build` of each service out instead of sharing them by anchor",
            )
        return result.text.encode()

    def local_files(self) -> list[tuple[str, str]]:
        """Relative paths that the services read, each with its place in the file: (path, where)."""
        data = self.document.data
        found: dict[str, str] = {}
        for kind in ("configs", "secrets"):
            for name, entry in (data.get(kind) or {}).items():
                path = entry.get("file") if isinstance(entry, dict) else None
                if isinstance(path, str) and not path.startswith(("/", "~")):
                    found.setdefault(path, self._where(kind, name, "file"))
        for service in self.services:
            for index, volume in enumerate(data["services"][service.name].get("volumes") or []):
                source = volume.get("source") if isinstance(volume, dict) else str(volume).split(":")[0]
                # Without a leading dot it is the name of a volume.
                if isinstance(source, str) and source.split("/")[0] in (".", ".."):
                    found.setdefault(source, self._where("services", service.name, "volumes", index))
        return sorted(found.items())

    def _where(self, *place: str | int) -> str:
        return f"{self.document.name}:{self.document.line(place)}"

    def _expected(self, pins: Mapping[str, Pinned]) -> Any:
        data = copy.deepcopy(self.document.data)
        for service in self.services:
            body = data["services"][service.name] = dict(data["services"][service.name])
            body.pop("build", None)
            body["image"] = str(pins[service.name])
        return data


def _service(document: Document, name: str) -> Service:
    place = ("services", name)
    where = f"{document.name}:{document.line(place)}"
    body = document.data["services"][name]
    if not isinstance(body, dict):
        raise UsageError(f"{where}: service `{name}` must be a mapping with keys")
    if "extends" in body:
        raise _flatten(f"{document.name}:{document.line((*place, 'extends'))}", "extends")
    if "env_file" in body:
        raise UsageError(
            f"{document.name}:{document.line((*place, 'env_file'))}: "
            f"`env_file` of service `{name}` is not supported",
            hint="write the variables under `environment`",
        )
    for index, volume in enumerate(body.get("volumes") or []):
        if isinstance(volume, dict) and volume.get("type") == "image":
            raise UsageError(
                f"{document.name}:{document.line((*place, 'volumes', index))}: "
                f"service `{name}` mounts an image, which cannot be pinned"
            )
    if "image" not in body:
        if "build" not in body:
            raise UsageError(f"{where}: service `{name}` has neither `image` nor `build`")
        return Service(name, None, True, where)
    where = f"{document.name}:{document.line((*place, 'image'))}"
    image = body["image"]
    if not isinstance(image, str):
        raise UsageError(f"{where}: `image` of service `{name}` must be text")
    if "$" in image:
        raise UsageError(
            f"{where}: `image` of service `{name}` has a variable, so what runs would not be decided here",
            hint="write the image's name out",
        )
    try:
        return Service(name, Reference.parse(image), "build" in body, where)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from None


def _pin(document: Document, edits: Edits, service: Service, pinned: str) -> None:
    """Set the image and take out `build`, wherever merge keys let them stand."""
    services = strict_yaml.find(document.root, "services")
    assert services is not None
    body = strict_yaml.find(services.value, service.name)
    assert body is not None
    image = strict_yaml.find(body.value, "image")
    build = strict_yaml.find(body.value, "build")
    if image:
        assert isinstance(image.value, ScalarNode)
        edits.replace_scalar(image.value, pinned)
        if build:
            edits.remove_entry(build.mapping, build.key, build.value)
    elif build:
        edits.replace_entry(build.key, build.value, f"image: {pinned}")


def _without_extensions(data: Any) -> Any:
    # Anchors often stand in `x-` blocks, which compose ignores; there a changed image is no change.
    return {key: value for key, value in data.items() if not key.startswith("x-")}


def _flatten(where: str, key: str) -> UsageError:
    return UsageError(
        f"{where}: `{key}` brings in other files, and the runtime checks only this one",
        hint="flatten it first: `docker compose config --no-interpolate > flat.yml`",
    )


def archive_path(compose: PurePosixPath, relative: str, where: str) -> PurePosixPath:
    """Where a file beside the compose file goes in the archive; raises UsageError outside of it."""
    parts = [part for part in PurePosixPath(relative).parts if part != "."]
    if ".." in parts:
        raise UsageError(
            f"{where}: `{relative}` lies outside the folder of `{compose.name}`, and so outside the archive"
        )
    return PurePosixPath(*parts)
