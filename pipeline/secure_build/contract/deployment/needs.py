"""What a deployment must know about a contract: ports, volumes, hosts that are called, and its size.

It is read from plain sections; what a token or a variable hides is said to be unknown. Secrets are
not looked at. Which version of the runtime's image to start is not in a contract.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

from secure_build import strict_yaml
from secure_build.contract.advice import listed, mapping
from secure_build.contract.archive import COMPOSE_NAMES
from secure_build.contract.deployment import destinations, ports
from secure_build.contract.deployment.destinations import HTTPS, Destination
from secure_build.contract.deployment.ports import Port, shown
from secure_build.contract.places import Grammar
from secure_build.contract.play import ENDINGS
from secure_build.errors import UsageError

Section = Mapping[str, Any] | None
Read = Callable[[str], Mapping[PurePosixPath, bytes]]
_Kind = TypeVar("_Kind")
# IBM's page "User data" for VPC: 64 K bytes. It does not say whether before or after base64.
LARGEST = 64 << 10
# Without another one in the contract, by IBM's page "About the contract" and its schema.
_MOUNT, _FILESYSTEM = "/mnt/data", "ext4"


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
    size = deployment.size
    limit = {
        "pass": "within the limit of IBM Cloud VPC",
        "warn": f"the base64 is over the {LARGEST} bytes that IBM Cloud VPC takes",
        "fail": f"over the {LARGEST} bytes that IBM Cloud VPC takes",
    }[size.level]
    said = [
        *_list("ports to open", map(_port_line, deployment.ports) if deployment.ports is not None else None),
        *_list(
            "volumes to attach within 15 minutes of boot",
            map(_volume_line, deployment.volumes) if deployment.volumes is not None else None,
        ),
        *_list(
            "hosts that the guest calls",
            (f"{call.host}:{call.port} ({call.purpose})" for call in deployment.destinations)
            if deployment.destinations or deployment.ports is not None
            else None,
        ),
        f"size: {size.plain} bytes, {size.base64} in base64: {limit}",
    ]
    if deployment.unknown:
        said += _list("not known from this contract", deployment.unknown)
    return said


def document(deployment: Deployment) -> dict[str, Any]:
    """The deployment as plain data for JSON, without any secret."""
    return dataclasses.asdict(deployment) | {
        "size": dataclasses.asdict(deployment.size) | {"level": deployment.size.level}
    }


def _of_kind(kind: type[_Kind], found: Iterable[object]) -> list[_Kind]:
    # What a service has twice is one thing to say.
    return list(dict.fromkeys(item for item in found if isinstance(item, kind)))


def _list(title: str, items: Iterable[str] | None) -> list[str]:
    listing = ["unknown"] if items is None else list(items) or ["none"]
    return [f"{title}:", *(f"  {item}" for item in listing)]


def _port_line(port: Port) -> str:
    why = ", on a loopback address: needs no rule" if port.loopback else ""
    return f"{port.protocol} {port.numbers}: {port.container}{why}"


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
        missing: Literal["workload", "env"] | None = None
        if workload is not None and name not in inside:
            missing = "workload"
        elif env is not None and name not in outside:
            missing = "env"
        yield Volume(
            shown(name),
            mount=shown(body.get("mount", _MOUNT)) if name in inside else None,
            filesystem=shown(body.get("filesystem", _FILESYSTEM)) if name in inside else None,
            volume_name=shown(choice["volumeName"]) if "volumeName" in choice else None,
            volume_id=shown(choice["volumeID"]) if "volumeID" in choice else None,
            missing=missing,
        )


def _env(env: Mapping[str, Any]) -> Iterator[Destination | str]:
    logging = mapping(env.get("logging"))
    if "logRouter" in logging:
        router = mapping(logging["logRouter"])
        yield destinations.of_host("logs", router.get("hostname"), router.get("port", HTTPS))
    if "syslog" in logging:
        syslog = mapping(logging["syslog"])
        # Documentation and schema differ in the default.
        yield destinations.of_host("logs", syslog.get("hostname"), syslog.get("port"))
    for name, volume in mapping(env.get("volumes")).items():
        if "grep11" in mapping(volume):
            yield destinations.of_address("volume keys", mapping(volume["grep11"]).get("address"))
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
        for descriptor in listed(play.get("resources")):
            yield from _pod(descriptor, "plain")
        for descriptor in listed(play.get("templates")):
            yield from _pod(descriptor, "template")
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
            yield destinations.of_url("signatures", notary)


def _files(archive: Any, kind: str, read: Read) -> Mapping[PurePosixPath, bytes] | str:
    try:
        return read(archive) if isinstance(archive, str) else f"{kind}: it has no archive"
    except UsageError as error:
        return f"{kind}: its archive cannot be read: {shown(error.message)}"


def _compose(files: Mapping[PurePosixPath, bytes]) -> Iterator[Port | Destination | str]:
    names = [name for name in COMPOSE_NAMES if name in files]
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
        named = [body.get("image")]
        named += [mapping(hook).get("image") for hook in listed(body.get("pre_start"))]
        volumes = map(mapping, listed(body.get("volumes")))
        named += [volume.get("source") for volume in volumes if volume.get("type") == "image"]
        for image in named:
            if image is not None:
                yield destinations.of_image(image, "compose")


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
            yield destinations.of_image(image, grammar)
