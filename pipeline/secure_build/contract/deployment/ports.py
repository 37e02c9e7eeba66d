"""Which ports of the guest a compose file or a pod publishes, so that somebody can open them.

What depends on the contract's variables, or on how a container runs, is not guessed: a sentence
says so in place of a port. Nothing is refused here. Rules: Compose specification, `ports` of a
service; Kubernetes, `ContainerPort`; IBM's page "About the contract", part on play.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from secure_build.contract.advice import listed, mapping

# `[[address:][published]:]target[/protocol]`, where an IPv6 address stands in brackets.
_SHORT = re.compile(
    r"(?:(?:(?P<address>\[[^\]]*\]|[^:\[\]]*):)?(?P<published>[^:]*):)?(?P<target>[^:/]+)(?:/(?P<protocol>.+))?"
)
_NUMBERS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
LAST = 65535
_LONGEST = 80


@dataclass(frozen=True, slots=True)
class Port:
    """Ports `first` to `last` of the guest that lead into a container.

    With a range for one container port compose takes any of it. `loopback`: nobody outside the
    guest reaches it, so it needs no rule.
    """

    container: str
    protocol: str
    first: int
    last: int
    loopback: bool = False

    @property
    def numbers(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


def of_compose(data: Any) -> Iterator[Port | str]:
    """The ports of every service, also of those in a profile; text for what cannot be told."""
    for name, service in mapping(mapping(data).get("services")).items():
        what = f"service `{shown(name)}`"
        if mapping(service).get("network_mode") == "host":
            yield _host_network(what)
            continue
        for port in listed(mapping(service).get("ports")):
            yield _compose_port(what, port)


def of_pod(data: Any) -> Iterator[Port | str]:
    """The ports of a pod's containers, none for another descriptor; text for what cannot be told."""
    if mapping(data).get("kind") != "Pod":
        return
    pod, spec = f"pod `{shown(mapping(data.get('metadata')).get('name'))}`", mapping(data.get("spec"))
    if spec.get("hostNetwork"):
        yield _host_network(pod)
        return
    for key in ("initContainers", "containers"):
        for container in map(mapping, listed(spec.get(key))):
            for port in map(mapping, listed(container.get("ports"))):
                # Without a host port nothing is bound; Go takes 0 for none.
                if port.get("hostPort") not in (None, 0):
                    yield _pod_port(f"container `{shown(container.get('name'))}` of {pod}", port)


def shown(value: Any) -> str:
    """A value of somebody's contract as it may stand in a line for people."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(value)[:_LONGEST])


def _compose_port(what: str, port: Any) -> Port | str:
    if isinstance(port, dict):
        keys = ("host_ip", "published", "target", "protocol")
        address, published, target, protocol = (_text(port.get(key)) for key in keys)
        written = ", ".join(f"{key}: {port[key]}" for key in keys if key in port)
    else:
        written = str(port)
        found = _SHORT.fullmatch(written)
        if "$" not in written and not found:
            return f"{what}: `{shown(written)}` is no port that docker compose takes"
        address, published, target, protocol = (_text(part) for part in found.groups()) if found else [""] * 4
    if "$" in written:
        return f"{what}: port `{shown(written)}` depends on the contract's variables"
    if _range(target) and published in ("", "0"):
        return f"{what}: port {target} gets another port of the guest at each start"
    numbers = _range(target) and _range(published)
    return _port(what, written, address, numbers, protocol)


def _pod_port(what: str, port: dict[str, Any]) -> Port | str:
    written = ", ".join(f"{key}: {port[key]}" for key in ("hostIP", "hostPort", "protocol") if key in port)
    if "{{" in written:
        return f"{what}: port `{shown(written)}` depends on the contract's variables"
    host = port["hostPort"]
    numbers = _range(str(host)) if isinstance(host, int) else None
    return _port(what, written, _text(port.get("hostIP")), numbers, _text(port.get("protocol")))


def _port(
    what: str, written: str, address: str, numbers: tuple[int, int] | None, protocol: str
) -> Port | str:
    try:
        bound = ipaddress.ip_address(address.strip("[]")) if address else None
    except ValueError:
        return f"{what}: `{shown(written)}` names no address that a port can be bound to"
    protocol = protocol.lower() or "tcp"
    if numbers is None or protocol not in ("tcp", "udp", "sctp"):
        return f"{what}: `{shown(written)}` is no port"
    inner = getattr(bound, "ipv4_mapped", None) or bound
    return Port(what, protocol, *numbers, loopback=inner is not None and inner.is_loopback)


def _range(text: str) -> tuple[int, int] | None:
    found = _NUMBERS.fullmatch(text)
    if not found:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return (first, last) if 1 <= first <= last <= LAST else None


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _host_network(what: str) -> str:
    return f"{what} uses the guest's own network: its ports are those that it listens on"
