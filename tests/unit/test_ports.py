"""Ports of compose files and pods: what is published is told, and nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest

from secure_build.contract.deployment import ports
from secure_build.contract.deployment.ports import Port


def of_service(**body: Any) -> list[Port | str]:
    return list(ports.of_compose({"services": {"web": body}}))


def of_container(port: Any, **spec: Any) -> list[Port | str]:
    container = {"name": "web", "ports": [port]}
    pod = {"kind": "Pod", "metadata": {"name": "shop"}, "spec": {"containers": [container], **spec}}
    return list(ports.of_pod(pod))


# Compose specification, ports, short syntax and long syntax.
@pytest.mark.parametrize(
    ("written", "protocol", "first", "last", "loopback"),
    [
        ("8000:80", "tcp", 8000, 8000, False),
        ("9090-9091:8080-8081", "tcp", 9090, 9091, False),
        ("8000-9000:80", "tcp", 8000, 9000, False),
        ("6060:6060/udp", "udp", 6060, 6060, False),
        ("80:80/TCP", "tcp", 80, 80, False),
        ("0.0.0.0:443:8443", "tcp", 443, 443, False),
        ("127.0.0.1:8001:80", "tcp", 8001, 8001, True),
        ("127.8.9.1:5000-5010:5000-5010", "tcp", 5000, 5010, True),
        ("[::1]:6001:6001", "tcp", 6001, 6001, True),
        ("[::ffff:127.0.0.1]:6001:6001", "tcp", 6001, 6001, True),
        ("[::]:6001:6001/sctp", "sctp", 6001, 6001, False),
        ({"target": 80, "published": 8080}, "tcp", 8080, 8080, False),
        ({"target": 80, "published": "8080-8090", "protocol": "udp"}, "udp", 8080, 8090, False),
        ({"target": 80, "published": "1", "host_ip": "::1", "mode": "host"}, "tcp", 1, 1, True),
    ],
)
def test_a_port_of_a_service(written: Any, protocol: str, first: int, last: int, loopback: bool) -> None:
    assert of_service(ports=[written]) == [Port("service `web`", protocol, first, last, loopback)]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("80", "port 80 gets another port of the guest at each start"),
        (80, "port 80 gets another port of the guest at each start"),
        ("3000-3005", "port 3000-3005 gets another"),
        (":8080", "port 8080 gets another"),
        ("127.0.0.1::80", "port 80 gets another"),
        ("0:80", "port 80 gets another"),
        ({"target": 80}, "port 80 gets another"),
        ({"target": 80, "published": None}, "port 80 gets another"),
        ("${PORT:-8080}:80", "port `${PORT:-8080}:80` depends on the contract's variables"),
        ("8080:$PORT", "depends on the contract's variables"),
        ({"target": 80, "published": "${PORT}"}, "depends on the contract's variables"),
        ("99999:80", "is no port"),
        ("0-5:80", "is no port"),
        ("90-80:80", "is no port"),
        ("80:80/http", "is no port"),
        ("80:", "is no port"),
        ("", "is no port"),
        (True, "is no port"),
        (None, "is no port"),
        (["80:80"], "is no port"),
        ("٨٠:80", "is no port"),
        ({"published": 80}, "is no port"),
        ({"target": 80, "published": True}, "is no port"),
        ({"target": 80, "published": 10**30}, "is no port"),
        ("localhost:80:80", "names no address"),
        ("80:80\n443:443", "`80:80?443:443` names no address"),
        ("x" * 10**6, "is no port"),
    ],
)
def test_a_port_that_cannot_be_told(written: Any, said: str) -> None:
    (found,) = of_service(ports=[written])
    assert isinstance(found, str)
    assert said in found
    assert found.isprintable()
    assert len(found) < 200


def test_a_container_on_the_network_of_the_guest_has_no_ports_that_can_be_told() -> None:
    (service,) = of_service(network_mode="host", ports=["80:80"])
    (pod,) = of_container({"containerPort": 80, "hostPort": 80}, hostNetwork=True)
    for found in (service, pod):
        assert isinstance(found, str)
        assert "those that it listens on" in found


def test_an_init_container_may_go_on_running_and_publish_a_port() -> None:
    found = of_container({}, initContainers=[{"name": "proxy", "ports": [{"hostPort": 443}]}])
    assert found == [Port("container `proxy` of pod `shop`", "tcp", 443, 443)]


# Kubernetes, ContainerPort; IBM's page "About the contract": nothing is bound without `hostPort`.
@pytest.mark.parametrize(
    ("port", "found"),
    [
        ({"containerPort": 80, "hostPort": 8080}, ("tcp", 8080, False)),
        ({"containerPort": 80, "hostPort": 53, "protocol": "UDP"}, ("udp", 53, False)),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}, ("tcp", 8080, True)),
        ({"containerPort": 80, "hostPort": 8080, "hostIP": "::"}, ("tcp", 8080, False)),
        ({"containerPort": 80}, None),
        ({"containerPort": 80, "hostPort": 0}, None),
        ("80", None),
    ],
)
def test_a_port_of_a_container(port: Any, found: tuple[str, int, bool] | None) -> None:
    container = "container `web` of pod `shop`"
    expected = [Port(container, found[0], found[1], found[1], found[2])] if found else []
    assert of_container(port) == expected


@pytest.mark.parametrize(
    ("port", "said"),
    [
        ({"hostPort": "{{ .Env.PORT }}"}, "depends on the contract's variables"),
        ({"hostPort": 80, "hostIP": "{{ .Env.ADDRESS }}"}, "depends on the contract's variables"),
        ({"hostPort": "80"}, "is no port"),
        ({"hostPort": True}, "is no port"),
        ({"hostPort": 65536}, "is no port"),
        ({"hostPort": -1}, "is no port"),
        ({"hostPort": 80, "protocol": ["TCP"]}, "is no port"),
        ({"hostPort": 80, "hostIP": "localhost"}, "names no address"),
    ],
)
def test_a_port_of_a_container_that_cannot_be_told(port: Any, said: str) -> None:
    (found,) = of_container(port)
    assert isinstance(found, str)
    assert said in found


@pytest.mark.parametrize(
    "odd",
    [
        None,
        "services",
        {"services": []},
        {"services": {"a": None, "b": {"ports": {"80": 80}}}},
        {"kind": "Pod"},
        {"kind": "Pod", "spec": {"containers": [None, {"ports": 1}]}},
        {"kind": "ConfigMap", "spec": {"hostNetwork": True}},
    ],
)
def test_what_is_no_compose_file_and_no_pod_has_no_ports(odd: Any) -> None:
    assert [*ports.of_compose(odd), *ports.of_pod(odd)] == []
