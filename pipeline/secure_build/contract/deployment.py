"""What a deployment must know about a contract: ports, volumes, hosts that are called, and its size.

It is read from plain sections; what a token or a variable hides is said to be unknown. Secrets are
not looked at. Which version of the runtime's image to start is not in a contract.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from secure_build import strict_yaml
from secure_build.contract import ports
from secure_build.contract.advice import listed, mapping
from secure_build.contract.places import Grammar, Name
from secure_build.contract.play import ENDINGS
from secure_build.contract.ports import Port, shown
from secure_build.errors import UsageError

Section = Mapping[str, Any] | None
Read = Callable[[str], Mapping[PurePosixPath, bytes]]
# IBM's page "User data" for VPC: 64 K bytes. It does not say whether before or after base64.
LARGEST = 64 << 10
# Without another one in the contract, by IBM's page "About the contract" and its schema.
_MOUNT, _FILESYSTEM = "/mnt/data", "ext4"
_HTTPS = 443
_HOST = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?")
_COMPOSE_NAMES = frozenset(PurePosixPath(f"docker-compose.{ending}") for ending in ("yml", "yaml"))


@dataclass(frozen=True, slots=True)
class Volume:
    """A data volume: where the workload has it, and which one the deployer means.

    `missing` names the section that does not have it although it is known: the guest stops
    (HPL07015E). `mount` and `filesystem` are None when the workload is not known.
    """

    name: str
    mount: str | None = None
    filesystem: str | None = None
    volume_name: str | None = None
    volume_id: str | None = None
    missing: Literal["workload", "env"] | None = None


@dataclass(frozen=True, slots=True)
class Destination:
    """A host and TCP port that the guest calls, and what for."""

    purpose: Literal["logs", "images", "signatures", "volume keys"]
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes of the user data, as they are and in base64."""

    plain: int
    base64: int

    @property
    def level(self) -> Literal["pass", "warn", "fail"]:
        """Whether IBM Cloud VPC takes it: `warn` when only its base64 is too large."""
        return "fail" if self.plain > LARGEST else "warn" if self.base64 > LARGEST else "pass"


@dataclass(frozen=True, slots=True)
class Deployment:
    """All of it. `ports` and `volumes` are None where no section tells them; `unknown` says what and why."""

    ports: tuple[Port, ...] | None
    volumes: tuple[Volume, ...] | None
    destinations: tuple[Destination, ...]
    size: Size
    unknown: tuple[str, ...]


def of(workload: Section, env: Section, *, user_data: bytes, read: Read) -> Deployment:
    """What the sections say; None stands for a section that is a token.

    `read` gives the files of an archive from its base64, and raises UsageError for one that is
    none; what it refuses is unknown here.
    """
    found: list[Port | Destination | str] = []
    if workload is None:
        found.append("the workload is encrypted: ports and registries")
    else:
        found += _workload(workload, read)
    if env is None:
        found.append("env is encrypted: the host that takes the logs")
    else:
        found += _env(env)
    if workload is None or env is None:
        found.append("volumes: what the encrypted section says of them")
    return Deployment(
        ports=None if workload is None else tuple(_of_kind(Port, found)),
        volumes=None if workload is None and env is None else tuple(_volumes(workload, env)),
        destinations=tuple(_of_kind(Destination, found)),
        size=Size(len(user_data), -(-len(user_data) // 3) * 4),
        unknown=tuple(_of_kind(str, found)),
    )


def lines(deployment: Deployment) -> list[str]:
    """The deployment for people, without any secret."""
    said = ["ports to open:"]
    for port in deployment.ports or ():
        why = ", on a loopback address: needs no rule" if port.loopback else ""
        said.append(f"  {port.protocol} {port.numbers}: {port.container}{why}")
    said += ["  none"] if deployment.ports == () else []
    said += ["  unknown"] if deployment.ports is None else []
    said.append("volumes to attach within 15 minutes of boot:")
    said += [f"  {_volume_line(volume)}" for volume in deployment.volumes or ()]
    said += ["  none"] if deployment.volumes == () else []
    said += ["  unknown"] if deployment.volumes is None else []
    said.append("hosts that the guest calls:")
    said += [f"  {call.purpose}: {call.host}:{call.port}" for call in deployment.destinations] or ["  none"]
    size = deployment.size
    limit = {
        "pass": "within the limit of IBM Cloud VPC",
        "warn": "its base64 is larger than the 65536 bytes of IBM Cloud VPC",
        "fail": "larger than the 65536 bytes of IBM Cloud VPC",
    }[size.level]
    said.append(f"size: {size.plain} bytes, {size.base64} in base64: {limit}")
    if deployment.unknown:
        said += ["not known from this contract:", *(f"  {sentence}" for sentence in deployment.unknown)]
    return said


def document(deployment: Deployment) -> dict[str, Any]:
    """The deployment as plain data for JSON, without any secret."""
    return dataclasses.asdict(deployment) | {
        "size": dataclasses.asdict(deployment.size) | {"level": deployment.size.level}
    }


def _of_kind[T](kind: type[T], found: Iterable[object]) -> list[T]:
    # What a service has twice is one thing to say.
    return list(dict.fromkeys(item for item in found if isinstance(item, kind)))


def _volume_line(volume: Volume) -> str:
    where = f" at {volume.mount} ({volume.filesystem})" if volume.mount else ""
    which = "".join(
        f", {key} `{value}`"
        for key, value in (("volumeName", volume.volume_name), ("volumeID", volume.volume_id))
        if value
    )
    missing = f": `{volume.missing}` does not have it (HPL07015E)" if volume.missing else ""
    return f"`{volume.name}`{where}{which}{missing}"


def _volumes(workload: Section, env: Section) -> Iterator[Volume]:
    inside = mapping(workload.get("volumes")) if workload is not None else {}
    outside = mapping(env.get("volumes")) if env is not None else {}
    for name in dict.fromkeys([*inside, *outside]):
        body, choice = mapping(inside.get(name)), mapping(outside.get(name))
        yield Volume(
            shown(name),
            shown(body.get("mount", _MOUNT)) if name in inside else None,
            shown(body.get("filesystem", _FILESYSTEM)) if name in inside else None,
            *(shown(choice[key]) if key in choice else None for key in ("volumeName", "volumeID")),
            missing="workload"
            if workload is not None and name not in inside
            else "env"
            if env is not None and name not in outside
            else None,
        )


def _env(env: Mapping[str, Any]) -> Iterator[Destination | str]:
    logging = mapping(env.get("logging"))
    if "logRouter" in logging:
        router = mapping(logging["logRouter"])
        yield _destination("logs", router.get("hostname"), router.get("port", _HTTPS))
    if "syslog" in logging:
        syslog = mapping(logging["syslog"])
        # Documentation and schema differ in the default.
        yield _destination("logs", syslog.get("hostname"), syslog.get("port"))
    for name, volume in mapping(env.get("volumes")).items():
        if "grep11" in mapping(volume):
            address = str(mapping(volume["grep11"]).get("address"))
            found = _HOST.fullmatch(address)
            host, port = (found[1], int(found[2])) if found and found[2] else (address, None)
            yield _destination("volume keys", host, port)
        if "kms" in mapping(volume):
            yield f"volume `{shown(name)}`: the address of its key management service"


def _workload(workload: Mapping[str, Any], read: Read) -> Iterator[Port | Destination | str]:
    if "compose" in workload:
        files = _files(mapping(workload["compose"]).get("archive"), "compose", read)
        if isinstance(files, str):
            yield files
        else:
            yield from _compose(files)
    if "play" in workload:
        play = mapping(workload["play"])
        for key, grammar in (("resources", "plain"), ("templates", "template")):
            for descriptor in listed(play.get(key)):
                yield from _pod(descriptor, "template" if grammar == "template" else "plain")
        if "archive" in play:
            files = _files(play["archive"], "play", read)
            if isinstance(files, str):
                yield files
            else:
                yield from _descriptors(files)
    if "confidential-containers" in workload:
        yield "confidential containers: their images and ports are in the pods of the cluster"
    for image in mapping(mapping(workload.get("images")).get("dct")).values():
        if isinstance(notary := mapping(image).get("notary"), str):
            yield _server(notary)


def _files(archive: Any, kind: str, read: Read) -> Mapping[PurePosixPath, bytes] | str:
    try:
        return read(archive) if isinstance(archive, str) else f"{kind}: it has no archive"
    except UsageError as error:
        return f"{kind}: its archive cannot be read: {shown(error.message)}"


def _compose(files: Mapping[PurePosixPath, bytes]) -> Iterator[Port | Destination | str]:
    names = sorted(_COMPOSE_NAMES & files.keys())
    if len(names) != 1:
        count = "both `docker-compose.yml` and" if names else "no `docker-compose.yml` or"
        yield f"compose: the archive has {count} `docker-compose.yaml`"
        return
    try:
        data = strict_yaml.load(files[names[0]], str(names[0])).data
    except UsageError as error:
        yield shown(error.message)
        return
    yield from ports.of_compose(data)
    services = mapping(mapping(data).get("services"))
    if "include" in mapping(data) or any("extends" in mapping(body) for body in services.values()):
        yield "compose: what other files bring in by `include` or `extends`"
    for body in map(mapping, services.values()):
        volumes, hooks = (
            map(mapping, listed(body.get("volumes"))),
            map(mapping, listed(body.get("pre_start"))),
        )
        named = [body.get("image"), *(hook.get("image") for hook in hooks)]
        named += [volume.get("source") for volume in volumes if volume.get("type") == "image"]
        for image in named:
            if image is not None:
                yield _registry(image, "compose")


def _descriptors(files: Mapping[PurePosixPath, bytes]) -> Iterator[Port | Destination | str]:
    for path, content in files.items():
        if len(path.parts) == 1 and path.name.endswith(ENDINGS):
            try:
                for document in strict_yaml.load_all(content, shown(path)):
                    yield from _pod(document.data, "plain")
            except UsageError as error:
                yield shown(error.message)


def _pod(descriptor: Any, grammar: Grammar) -> Iterator[Port | Destination | str]:
    yield from ports.of_pod(descriptor)
    spec = mapping(mapping(descriptor).get("spec"))
    containers = [body for key in ("initContainers", "containers") for body in listed(spec.get(key))]
    named = [mapping(body).get("image") for body in containers]
    named += [mapping(mapping(body).get("image")).get("reference") for body in listed(spec.get("volumes"))]
    for image in named:
        if image is not None:
            yield _registry(image, grammar)


def _registry(image: Any, grammar: Grammar) -> Destination | str:
    try:
        name = Name.parse(str(image), grammar)
    except UsageError:
        name = None
    if name is None or name.registry is not None or name.reference is None:
        return f"the registry of image `{shown(image)}`"
    found = _HOST.fullmatch(name.reference.repository.registry)
    assert found is not None
    return _destination("images", found[1], int(found[2] or _HTTPS))


def _server(url: str) -> Destination | str:
    try:
        parts = urlsplit(url)
        return _destination("signatures", parts.hostname, parts.port or _HTTPS)
    except ValueError:
        return _destination("signatures", url, None)


def _destination(
    purpose: Literal["logs", "images", "signatures", "volume keys"], host: Any, port: Any
) -> Destination | str:
    if isinstance(host, str) and (found := _HOST.fullmatch(host)) and not found[2]:
        if isinstance(port, int) and 1 <= port <= 65535:
            return Destination(purpose, host, port)
        return f"{purpose}: the port of `{shown(host)}`"
    return f"{purpose}: `{shown(host)}` is no host name"
