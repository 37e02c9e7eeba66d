"""Proxies and certificates: what the environment and the machine say, and what is made of it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry
from fakes.transport import checked_transport
from secure_build import stopping
from secure_build.errors import ServiceError, UsageError
from secure_build.registry import network
from secure_build.registry.http import InterruptedTransferError, Transport
from secure_build.registry.network import Proxies, Proxy
from secure_build.registry.session import Session
from secure_build.secret import mask

PROXY = Proxy("http://proxy.example:3128")


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def proxies(**variables: str) -> Proxies:
    return Proxies.of(variables)


def excepted(url: str, rule: str) -> bool:
    usual = Proxies.of({"HTTPS_PROXY": PROXY.url, "HTTP_PROXY": PROXY.url})
    assert usual.for_address(url) == PROXY
    return Proxies(PROXY, PROXY, Proxies.of({"NO_PROXY": rule}).exceptions).for_address(url) is None


# Proxies


def test_each_scheme_has_its_proxy() -> None:
    found = proxies(HTTP_PROXY="http://plain.example", HTTPS_PROXY="https://secure.example:8443")
    assert found.for_address("http://us.icr.io/v2/") == Proxy("http://plain.example:80")
    assert found.for_address("https://us.icr.io/v2/") == Proxy("https://secure.example:8443")
    assert proxies().for_address("https://us.icr.io/v2/") is None


def test_capitals_go_before_small_letters_and_empty_is_unset() -> None:
    assert proxies(HTTPS_PROXY="a:1", https_proxy="b:1").https == Proxy("http://a:1")
    assert proxies(HTTPS_PROXY="", https_proxy="b:1").https == Proxy("http://b:1")
    assert proxies(HTTPS_PROXY="").https is None


def test_a_web_request_cannot_set_the_proxy() -> None:
    found = proxies(HTTP_PROXY="a:1", HTTPS_PROXY="b:1", REQUEST_METHOD="GET")
    assert (found.http, found.https) == (None, Proxy("http://b:1"))


def test_the_login_of_a_proxy_is_apart_and_masked() -> None:
    found = proxies(HTTPS_PROXY="http://ann:se%2Fcret@proxy.example:3128").https
    assert found
    assert found.url == "http://proxy.example:3128"
    assert found.authorization == "Basic YW5uOnNlL2NyZXQ="
    assert mask("<se/cret> <se%2Fcret> <YW5uOnNlL2NyZXQ=>") == "<***> <***> <***>"


@pytest.mark.parametrize(
    "value", ["socks5://ann:canary@host:1080", "http://", "http://[::1", "ftp://canary", "http://h:x"]
)
def test_a_proxy_that_cannot_be_used_is_refused_without_its_value(value: str) -> None:
    with pytest.raises(UsageError, match=r"^`HTTPS_PROXY` names no HTTP proxy$") as raised:
        proxies(HTTPS_PROXY=value)
    assert "canary" not in str(raised.value)
    assert raised.value.hint


def test_an_address_of_the_sixth_version() -> None:
    assert proxies(HTTPS_PROXY="http://[fd00::1]:3128").https == Proxy("http://[fd00::1]:3128")


@pytest.mark.parametrize(
    "url", ["http://localhost:5000/v2/", "http://127.0.0.1:5000/", "https://127.9.9.9/", "http://[::1]:5000/"]
)
def test_loopback_is_never_proxied(url: str) -> None:
    assert Proxies(PROXY, PROXY).for_address(url) is None


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://us.icr.io/v2/", "*"),
        ("https://us.icr.io/v2/", "us.icr.io"),
        ("https://us.icr.io/v2/", "US.ICR.IO"),
        ("https://us.icr.io/v2/", "icr.io"),
        ("https://us.icr.io/v2/", ".icr.io"),
        ("https://us.icr.io/v2/", "*.icr.io"),
        ("https://us.icr.io./v2/", "icr.io"),
        ("https://us.icr.io/v2/", "quay.io, us.icr.io:443"),
        ("https://us.icr.io:5000/v2/", "us.icr.io:5000"),
        ("https://10.1.2.3/v2/", "10.0.0.0/8"),
        ("https://10.1.2.3/v2/", "10.1.2.3"),
        ("https://10.1.2.3:5000/v2/", "10.1.2.3:5000"),
        ("https://[fd00::5]/v2/", "fd00::/8"),
        ("https://[fd00::5]/v2/", "fd00::5"),
        ("https://[fd00::5]:5000/v2/", "[fd00::5]:5000"),
    ],
)
def test_exceptions(url: str, rule: str) -> None:
    assert excepted(url, rule)


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("https://us.icr.io/v2/", ""),
        ("https://us.icr.io/v2/", ",, ,"),
        ("https://us.icr.io/v2/", "cr.io"),
        ("https://icr.io/v2/", ".icr.io"),
        ("https://us.icr.io.evil.example/v2/", "us.icr.io"),
        ("https://us.icr.io/v2/", "us.icr.io:5000"),
        ("http://us.icr.io/v2/", "us.icr.io:443"),
        ("https://10.1.2.3/v2/", "10.2.0.0/16"),
        ("https://10.1.2.3/v2/", "10.1.2.3:5000"),
        ("https://10.1.2.3/v2/", "10.1.2.3/99"),
        ("https://[fd00::5]/v2/", "fe80::/10"),
    ],
)
def test_no_exceptions(url: str, rule: str) -> None:
    assert not excepted(url, rule)


def test_a_proxy_that_is_away_is_told_from_a_registry_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "pause", lambda _: None)
    with FakeRegistry() as gone:
        pass
    monkeypatch.setenv("HTTPS_PROXY", f"http://ann:canary-word@{gone.host}")
    with checked_transport() as transport:
        with pytest.raises(
            ServiceError, match=r"^cannot reach us\.icr\.io through the proxy: \[Errno"
        ) as raised:
            transport.request("GET", "https://us.icr.io/v2/")
        assert raised.value.hint == "check `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`"
        assert "canary" not in str(raised.value)


# Certificates


def test_a_registry_without_a_folder_is_trusted_as_usual(tmp_path: Path) -> None:
    (tmp_path / "docker" / "certs.d" / "quay.io").mkdir(parents=True)
    assert network.trust("https://us.icr.io/v2/") is None
    assert network.trust("http://quay.io/v2/") is None


@pytest.mark.parametrize(
    ("url", "folder", "found"),
    [
        ("https://us.icr.io/v2/", "us.icr.io", True),
        ("https://us.icr.io/v2/", "us.icr.io:443", True),
        ("https://us.icr.io:443/v2/", "us.icr.io", True),
        ("https://us.icr.io:5000/v2/", "us.icr.io:5000", True),
        ("https://us.icr.io:5000/v2/", "us.icr.io", False),
        ("https://us.icr.io/v2/", "us.icr.io:5000", False),
    ],
)
@pytest.mark.parametrize("whose", ["docker", "containers"])
def test_folders_are_named_after_host_and_port(
    tmp_path: Path, whose: str, url: str, folder: str, found: bool
) -> None:
    (tmp_path / whose / "certs.d" / folder).mkdir(parents=True)
    assert (network.trust(url) is not None) is found


def test_a_registry_on_this_machine_speaks_tls_when_there_are_certificates_for_it(tmp_path: Path) -> None:
    assert Session("localhost:5000", None, Transport()).url == "http://localhost:5000"
    (tmp_path / "docker" / "certs.d" / "localhost:5000").mkdir(parents=True)
    assert Session("localhost:5000", None, Transport()).url == "https://localhost:5000"


@pytest.mark.parametrize("url", ["https://../v2/", "https://./v2/", "https:///v2/"])
def test_a_host_that_is_a_path_has_no_folder(tmp_path: Path, url: str) -> None:
    (tmp_path / "docker" / "certs.d").mkdir(parents=True)
    assert network.trust(url) is None


def test_a_folder_adds_to_what_the_system_trusts(tmp_path: Path) -> None:
    folder = tmp_path / "docker" / "certs.d" / "us.icr.io"
    folder.mkdir(parents=True)
    (folder / "README").write_text("no certificate")
    context = network.trust("https://us.icr.io/")
    assert context
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats() == ssl.create_default_context().cert_store_stats()


@pytest.mark.parametrize("name", ["ca.crt", "client.cert"])
def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "docker" / "certs.d" / "us.icr.io"
    folder.mkdir(parents=True)
    (folder / name).write_text("rubbish")
    (folder / "client.key").write_text("rubbish")
    with pytest.raises(UsageError, match=rf"^the certificate `{folder / name}` cannot be used: "):
        network.trust("https://us.icr.io/")


@pytest.mark.parametrize("closed", ["docker", "docker/certs.d", "docker/certs.d/us.icr.io"])
def test_a_folder_that_only_root_may_look_into_is_passed_over(tmp_path: Path, closed: str) -> None:
    (tmp_path / "docker" / "certs.d" / "us.icr.io").mkdir(parents=True)
    (tmp_path / closed).chmod(0)
    root = os.geteuid() == 0
    try:
        if root:
            os.seteuid(65534)
        assert network.trust("https://us.icr.io/") is None
    finally:
        if root:
            os.seteuid(0)
        (tmp_path / closed).chmod(0o700)


def test_a_client_certificate_without_its_key_is_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "docker" / "certs.d" / "us.icr.io"
    folder.mkdir(parents=True)
    (folder / "client.cert").write_text("rubbish")
    assert network.trust("https://us.icr.io/")


# Time-outs


@pytest.fixture
def full() -> Iterator[str]:
    """An address where no further connection is taken, and none refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        host, port = server.getsockname()
        waiting = []
        for _ in range(4):
            connection = socket.socket()
            connection.setblocking(False)
            connection.connect_ex((host, port))
            waiting.append(connection)
        yield f"{host}:{port}"
        for connection in waiting:
            connection.close()


def test_hardening_04_a_connection_that_is_not_taken_is_given_up(
    full: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "pause", lambda _: None)
    with (
        checked_transport(connect_seconds=0.1) as transport,
        pytest.raises(InterruptedTransferError, match=f"^cannot reach {full}: "),
    ):
        transport.request("GET", f"http://{full}/v2/")
