"""What a deployment needs to know, read from plain sections; what is hidden is said to be unknown."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest

from secure_build.contract.deployment import needs
from secure_build.contract.deployment.destinations import Destination
from secure_build.contract.deployment.needs import Deployment, Size, Volume
from secure_build.contract.deployment.ports import Port
from secure_build.errors import UsageError

SECRET = "Not-For-The-Eyes"
ENV = {"type": "env", "logging": {"logRouter": {"hostname": "logs.example", "iamApiKey": SECRET}}}
BOTH = ("docker-compose.yml", "docker-compose.yaml")


def of(
    workload: Any, env: Any = ENV, files: Mapping[str, str] | None = None, user_data: bytes = b""
) -> Deployment:
    def read(archive: str) -> dict[PurePosixPath, bytes]:
        if archive != "QUJD":
            raise UsageError("the archive is no gzip")
        return {PurePosixPath(name): content.encode() for name, content in (files or {}).items()}

    return needs.of(workload, env, user_data=user_data, read=read)


def composed(*lines: str, name: str = "docker-compose.yml") -> Deployment:
    return of({"compose": {"archive": "QUJD"}}, files={name: "\n".join(lines) + "\n"})


def played(**play: Any) -> Deployment:
    return of({"play": play})


def pod(image: str, **port: Any) -> dict[str, Any]:
    container = {"name": "web", "image": image, "ports": [port]}
    return {"kind": "Pod", "metadata": {"name": "shop"}, "spec": {"containers": [container]}}


def calls(found: Deployment) -> list[str]:
    return [f"{call.host}:{call.port}" for call in found.destinations if call.purpose != "logs"]


@pytest.mark.parametrize("name", BOTH)
def test_a_compose_file_in_its_archive(name: str) -> None:
    found = composed(
        "services:",
        f"  web: {{image: us.icr.io/acme/web@sha256:{'1' * 64}, ports: ['443:8443', '127.0.0.1:80:80']}}",
        "  db: {image: redis, ports: ['${PORT:-1}:80']}",
        name=name,
    )
    assert found.ports == (
        Port("service `web`", "tcp", 443, 443),
        Port("service `web`", "tcp", 80, 80, loopback=True),
    )
    assert calls(found) == ["us.icr.io:443", "docker.io:443"]
    assert found.unknown == ("service `db`: port `${PORT:-1}:80` depends on the contract's variables",)
    assert found.volumes == ()


def test_pods_as_objects_templates_and_files() -> None:
    files = {
        "a.yml": "---\n" + json.dumps(pod("registry.example:5000/a", hostPort=3)),
        "folder/b.yaml": json.dumps(pod("other.example/a", hostPort=4)),
    }
    play = {
        "archive": "QUJD",
        "resources": [pod("quay.io/acme/a:1", containerPort=1, hostPort=1), {"kind": "ConfigMap"}],
        "templates": [pod("{{ .Env.REGISTRY }}/b:1", containerPort=1, hostPort="{{ .Env.PORT }}")],
    }
    found = of({"play": play}, files=files)
    assert [port.first for port in found.ports or ()] == [1, 3]
    assert calls(found) == ["quay.io:443", "registry.example:5000"]
    port, registry = found.unknown
    assert "hostPort: {{ .Env.PORT }}" in port
    assert registry == "the registry of image `{{ .Env.REGISTRY }}/b:1`"


@pytest.mark.parametrize(
    ("workload", "files", "said"),
    [
        ({"compose": {"archive": "????"}}, {}, "compose: its archive cannot be read: the archive is no gzip"),
        ({"compose": {"archive": None}}, {}, "compose: it has no archive"),
        ({"compose": "x"}, {}, "compose: it has no archive"),
        ({"compose": {"archive": "QUJD"}}, {}, "no `docker-compose.yml` or `docker-compose.yaml`"),
        ({"compose": {"archive": "QUJD"}}, dict.fromkeys(BOTH, "{}"), "both `docker-compose.yml` and"),
        ({"compose": {"archive": "QUJD"}}, {"docker-compose.yml": "a: 1\na: 2"}, "the key `a` stands twice"),
        ({"compose": {"archive": "QUJD"}}, {"docker-compose.yml": "include: [x]"}, "other files bring in"),
        ({"compose": {"archive": "QUJD"}}, {"docker-compose.yml": "services: {a: {image: '$X/a'}}"},
         "the registry of image `$X/a`"),
        ({"play": {"archive": "QUJD"}}, {"\x1b[2J.yml": "\t"}, "this is not YAML"),
        ({"play": {"archive": ["QUJD"]}}, {}, "play: it has no archive"),
        ({"play": {"resources": [pod("a b\n")]}}, {}, "the registry of image `a b?`"),
        ({"confidential-containers": {}}, {}, "in the pods of the cluster"),
        ({"images": {"dct": {"a": {"notary": "https://u:p@[x"}}}}, {}, "a URL that is none"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_unknown(workload: Any, files: dict[str, str], said: str) -> None:
    found = of(workload, files=files)
    assert any(said in sentence for sentence in found.unknown)
    assert all(sentence.isprintable() for sentence in found.unknown)


def test_images_that_only_volumes_and_hooks_name_are_pulled_too() -> None:
    volumes = [{"name": "v", "image": {"reference": "quay.io/a/v"}}]
    shop = pod("quay.io/a/b") | {"spec": {"initContainers": [{"image": "ghcr.io/a/i"}], "volumes": volumes}}
    assert calls(played(resources=[shop])) == ["ghcr.io:443", "quay.io:443"]
    found = composed(
        "services:",
        "  web:",
        "    image: ghcr.io/a/b",
        "    pre_start: [{image: quay.io/a/c}]",
        "    volumes: [{type: image, source: us.icr.io/a/d}, {type: volume, source: data}]",
    )
    assert calls(found) == ["ghcr.io:443", "quay.io:443", "us.icr.io:443"]


def test_a_registry_that_a_variable_chooses_is_unknown_even_with_a_default() -> None:
    found = composed("services: {web: {image: '${REGISTRY:-us.icr.io}/a/b:1'}}")
    assert calls(found) == []
    assert found.unknown == ("the registry of image `${REGISTRY:-us.icr.io}/a/b:1`",)


def test_what_stands_twice_is_said_once() -> None:
    body = "{image: us.icr.io/a/b, ports: ['80:80', '80:80']}"
    found = composed(f"services: {{web: {body}, again: {body}}}")
    assert [port.container for port in found.ports or ()] == ["service `web`", "service `again`"]
    assert calls(found) == ["us.icr.io:443"]


def test_a_notary_server_is_called_and_its_password_not_told() -> None:
    dct = {"us.icr.io/a/b": {"notary": f"https://user:{SECRET}@notary.example:4443/x"}}
    found = of({"images": {"dct": dct}})
    assert found.destinations[0] == Destination("signatures", "notary.example", 4443)
    assert SECRET not in json.dumps(needs.document(found))


@pytest.mark.parametrize(
    ("logging", "found"),
    [
        ({"logRouter": {"hostname": "a.example"}}, Destination("logs", "a.example", 443)),
        ({"logRouter": {"hostname": "a.example", "port": 1443}}, Destination("logs", "a.example", 1443)),
        ({"syslog": {"hostname": "192.0.2.1", "port": 6514}}, Destination("logs", "192.0.2.1", 6514)),
        ({"syslog": {"hostname": "a.example", "server": "x"}}, "logs: the port of `a.example`"),
        ({"syslog": {"hostname": "a.example", "port": True}}, "logs: the port of `a.example`"),
        ({"syslog": {"hostname": "a.example", "port": "6514"}}, "logs: the port of `a.example`"),
        ({"syslog": {"hostname": "a.example", "port": 65536}}, "logs: the port of `a.example`"),
        ({"logRouter": {"hostname": "a.example / xxxx"}}, "logs: `a.example / xxxx` is no host name"),
        ({"logRouter": {"hostname": "a\nports to open:"}}, "logs: `a?ports to open:` is no host name"),
        ({"logRouter": None}, "logs: `None` is no host name"),
    ],
)  # fmt: skip
def test_where_the_logs_go(logging: Any, found: Destination | str) -> None:
    read = of({}, {"type": "env", "logging": logging})
    assert [*read.destinations, *read.unknown] == [found]


def test_volumes_by_name_from_both_sections() -> None:
    workload = {"volumes": {"data": {"mount": "/data", "filesystem": "xfs", "seed": SECRET}, "lost": {}}}
    grep11 = {"address": "192.0.2.1:9876", "clientKey": SECRET}
    volumes = {
        "data": {"seed": SECRET, "volumeName": "disk-1"},
        "more": {"volumeID": "r014", "kms": [SECRET], "grep11": grep11},
    }
    found = of(workload, {**ENV, "volumes": volumes})
    assert found.volumes == (
        Volume("data", "/data", "xfs", volume_name="disk-1"),
        Volume("lost", "/mnt/data", "ext4", missing="env"),
        Volume("more", volume_id="r014", missing="workload"),
    )
    assert found.destinations[1] == Destination("volume keys", "192.0.2.1", 9876)
    assert found.unknown == ("volume `more`: the address of its key management service",)
    said = "\n".join(needs.lines(found))
    assert "`lost` at /mnt/data (ext4): `env` does not have it (HPL07015E)" in said
    assert SECRET not in said + json.dumps(needs.document(found))


def test_an_encrypted_section_is_unknown_and_nothing_is_missing_for_it() -> None:
    volumes = {"volumes": {"data": {"seed": SECRET}}}
    without_workload, without_env = of(None, {**ENV, **volumes}), of(volumes, None)
    without_both = of(None, None)
    assert without_workload.ports is None
    assert without_workload.volumes == (Volume("data"),)
    assert without_env.ports == ()
    assert without_env.volumes == (Volume("data", "/mnt/data", "ext4"),)
    assert without_both.volumes is None
    assert [len(found.unknown) for found in (without_workload, without_env, without_both)] == [2, 2, 3]
    assert needs.lines(without_both)[:4] == [
        "ports to open:",
        "  unknown",
        "volumes to attach within 15 minutes of boot:",
        "  unknown",
    ]


# IBM's page "User data" for VPC: 64 K bytes.
@pytest.mark.parametrize(
    ("size", "level"),
    [(0, "pass"), (1, "pass"), (49152, "pass"), (49153, "warn"), (65536, "warn"), (65537, "fail")],
)
def test_the_size_of_the_user_data(size: int, level: str) -> None:
    found = of({}, user_data=bytes(size)).size
    assert found == Size(size, len(base64.b64encode(bytes(size))))
    assert found.level == level


def test_lines_for_people() -> None:
    found = composed("services: {web: {image: us.icr.io/a/b, ports: ['443:1', '127.0.0.1:9:9/udp', '5']}}")
    assert needs.lines(found) == [
        "ports to open:",
        "  tcp 443: service `web`",
        "  udp 9: service `web`, on a loopback address: needs no rule",
        "volumes to attach within 15 minutes of boot:",
        "  none",
        "hosts that the guest calls:",
        "  us.icr.io:443 (images)",
        "  logs.example:443 (logs)",
        "size: 0 bytes, 0 in base64: within the limit of IBM Cloud VPC",
        "not known from this contract:",
        "  service `web`: port 5 gets another port of the guest at each start",
    ]


def test_the_document_for_programs_is_json() -> None:
    found = of({"volumes": {"data": {"seed": SECRET}}}, None, user_data=b"x")
    assert json.loads(json.dumps(needs.document(found))) == {
        "ports": [],
        "volumes": [
            {"name": "data", "mount": "/mnt/data", "filesystem": "ext4"}
            | {"volume_name": None, "volume_id": None, "missing": None}
        ],
        "destinations": [],
        "size": {"plain": 1, "base64": 4, "level": "pass"},
        "unknown": list(found.unknown),
    }


@pytest.mark.parametrize("odd", [[], "x", 1, {"a": "b"}, [[None]]])
def test_sections_of_any_shape_raise_nothing(odd: Any) -> None:
    keys = ("compose", "play", "images", "volumes", "confidential-containers", "logging")
    plays = [{"play": {key: odd}} for key in ("resources", "templates", "archive")]
    for workload in [dict.fromkeys(keys, odd), *plays, {"images": {"dct": odd}}, {"volumes": {"v": odd}}]:
        found = of(workload, {**workload, "logging": {"logRouter": odd, "syslog": odd}})
        assert json.dumps(needs.document(found))
        assert all(line.isprintable() for line in needs.lines(found))
