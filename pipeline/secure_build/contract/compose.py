"""Compose files: which images the services use, and a copy in which each is pinned by digest.

The copy keeps order, comments and everything else byte for byte; only image references change and
`build` goes, since the guest builds nothing. Rules: IBM's page "About the contract", parts on
compose; what the runtime makes of a reference by tag is an error there (HPL06010E).
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from yaml.nodes import Node, ScalarNode

from secure_build import strict_yaml
from secure_build.contract import text
from secure_build.contract.edit import Edits
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.reference import Digest, Pinned, Reference, Repository
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
            raise UsageError(
                f"{name}:1: a compose file needs `services`, a mapping with at least one service"
            )
        if "include" in data:
            raise _flatten(f"{name}:{document.line(('include',))}", "include")
        services = tuple(_service(document, service) for service in data["services"])
        return cls(document, services)

    def pinned(self, pins: Mapping[str, Pinned]) -> bytes:
        """The file with the image of every service as in `pins`, by service name."""
        edits = Edits(self.document)
        for service in self.services:
            _pin(edits, _body(self.document, service.name), str(pins[service.name]))
        changed = edits.apply().encode()
        if not self._is_expected(changed, pins):
            raise UsageError(
                f"{self.document.name} cannot be pinned without changing something else",
                hint="write `image` and `build` of each service out instead of sharing them by anchor",
            )
        return changed

    def check(self) -> None:
        """Raise UsageError when the file cannot be pinned, whatever the digests will be."""
        somewhere = Repository("registry.example.com", "image")
        self.pinned(
            {
                service.name: Pinned(somewhere, Digest.of(str(service.image or service.name).encode()))
                for service in self.services
            }
        )

    def local_files(self) -> list[tuple[str, str]]:
        """Relative paths that the services read, each with its place in the file: (path, where)."""
        data = self.document.data
        found: dict[str, str] = {}
        for kind in ("configs", "secrets"):
            for name, entry in _mapping(data.get(kind)).items():
                path = _mapping(entry).get("file")
                if isinstance(path, str) and not path.startswith(("/", "~")):
                    found.setdefault(path, self._where(kind, name, "file"))
        for service in self.services:
            for index, volume in enumerate(data["services"][service.name].get("volumes") or []):
                if path := _bound(volume):
                    found.setdefault(path, self._where("services", service.name, "volumes", index))
        return sorted(found.items())

    def _where(self, *place: str | int) -> str:
        return f"{self.document.name}:{self.document.line(place)}"

    def _is_expected(self, changed: bytes, pins: Mapping[str, Pinned]) -> bool:
        try:
            result = strict_yaml.load(changed, self.document.name).data
        except UsageError:
            # An anchor inside `build` was used elsewhere.
            return False
        expected = dict(self.document.data)
        expected["services"] = dict(expected["services"])
        for service in self.services:
            body = {key: value for key, value in expected["services"][service.name].items() if key != "build"}
            expected["services"][service.name] = body | {"image": str(pins[service.name])}
        return bool(_without_extensions(result) == _without_extensions(expected))


def _service(document: Document, name: str) -> Service:
    def where(*place: str | int) -> str:
        return f"{document.name}:{document.line(('services', name, *place))}"

    body = document.data["services"][name]
    if not isinstance(body, dict):
        raise UsageError(f"{where()}: service `{name}` must be a mapping with keys")
    if "extends" in body:
        raise _flatten(where("extends"), "extends")
    for key, instead in (("env_file", "environment"), ("label_file", "labels")):
        if key in body:
            raise UsageError(
                f"{where(key)}: `{key}` of service `{name}` is not supported",
                hint=f"write its lines under `{instead}`",
            )
    if body.get("pull_policy") in ("build", "never"):
        raise UsageError(
            f"{where('pull_policy')}: service `{name}` would not be pulled, and the guest has no images",
            hint="leave `pull_policy` out",
        )
    if body.get("platform") not in (None, str(GUEST)):
        raise UsageError(
            f"{where('platform')}: service `{name}` asks for {body['platform']}, and the guest is {GUEST}",
            hint="leave `platform` out",
        )
    volumes = body.get("volumes") or []
    if not isinstance(volumes, list):
        raise UsageError(f"{where('volumes')}: `volumes` of service `{name}` must be a list")
    for index, volume in enumerate(volumes):
        if _mapping(volume).get("type") == "image":
            raise UsageError(
                f"{where('volumes', index)}: service `{name}` mounts an image, which cannot be pinned",
                hint="copy the files into the service's own image",
            )
    if "image" not in body and "build" not in body:
        raise UsageError(
            f"{where()}: service `{name}` has neither `image` nor `build`",
            hint="name the image that it runs: `image: registry/repository:tag`",
        )
    if "image" not in body:
        return Service(name, None, True, where())
    return Service(name, _image(document, name, where("image")), "build" in body, where("image"))


def _image(document: Document, name: str, where: str) -> Reference:
    image = document.data["services"][name]["image"]
    if not isinstance(image, str):
        raise UsageError(f"{where}: `image` of service `{name}` must be text")
    if "$" in image:
        raise UsageError(
            f"{where}: `image` of service `{name}` has a variable, so what runs would not be decided here",
            hint="write the image's name out",
        )
    written = strict_yaml.find(_body(document, name), "image")
    assert written is not None
    assert isinstance(written.value, ScalarNode)
    if written.value.style in ("|", ">"):
        raise UsageError(f"{where}: `image` of service `{name}` is a block", hint="write it on one line")
    try:
        return Reference.parse(image)
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", hint=error.hint) from None


def _body(document: Document, name: str) -> Node:
    services = strict_yaml.find(document.root, "services")
    assert services is not None
    service = strict_yaml.find(services.value, name)
    assert service is not None
    return service.value


def _pin(edits: Edits, body: Node, pinned: str) -> None:
    """Set the image and take out `build`, wherever merge keys let them stand."""
    builds = list(strict_yaml.find_all(body, "build"))
    if image := strict_yaml.find(body, "image"):
        assert isinstance(image.value, ScalarNode)
        quote = image.value.style or ""
        edits.replace_value(
            image.key, image.value, f"{quote}{pinned}{quote}" if quote else text.scalar(pinned)
        )
    else:
        build = builds.pop(0)
        edits.replace_entry(build.key, build.value, f"image: {text.scalar(pinned)}")
    for build in builds:
        edits.remove_entry(build.mapping, build.key, build.value)


def _bound(volume: Any) -> str | None:
    """The path, relative to the compose file, that a volume brings into a container."""
    if isinstance(volume, dict):
        path = volume.get("source") if volume.get("type") == "bind" else None
        relative = isinstance(path, str) and not path.startswith(("/", "~"))
    else:
        # Without a leading dot it is the name of a volume.
        path, colon, _ = str(volume).partition(":")
        relative = bool(colon) and path.startswith(".")
    return path if relative else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
    path = PurePosixPath(posixpath.normpath(relative))
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"{where}: `{relative}` lies outside the folder of `{compose.name}`, and so outside the archive",
            hint="move it beside the compose file, or copy it into the image",
        )
    return path
