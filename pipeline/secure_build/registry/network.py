"""What this machine says of the network: proxies, and the authorities that registries are trusted by.

Proxies are read as Go's programs read them (golang.org/x/net/http/httpproxy), so that builders and
this program take the same way: `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, in capitals first, with
domains, ports, addresses and networks. Loopback is never proxied.

Certificates are those of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`, which OpenSSL reads
itself; besides, for one registry, what docker-certs(5) and containers-certs.d(5) say: `*.crt` are
authorities, `*.cert` and `*.key` our own certificate, in a folder named after the host and port.
"""

from __future__ import annotations

import ipaddress
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote, urlsplit

from secure_build.address import is_loopback
from secure_build.errors import UsageError
from secure_build.secret import Secret, basic_authorization

_CERTIFICATES = ("/etc/containers/certs.d", "/etc/docker/certs.d")
_OWN_CERTIFICATES = ("containers/certs.d", "docker/certs.d")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's address without its login, and the header that logs in there."""

    url: str
    authorization: str | None = None


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which requests go through a proxy."""

    http: Proxy | None = None
    https: Proxy | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def of(cls, variables: Mapping[str, str]) -> Proxies:
        """What the environment says; raises UsageError for a proxy that cannot be used."""

        def value(name: str) -> str:
            return variables.get(name) or variables.get(name.lower()) or ""

        # Where this variable is set, a header of a web request can set HTTP_PROXY (CVE-2016-5385).
        plain = "" if "REQUEST_METHOD" in variables else value("HTTP_PROXY")
        exceptions = tuple(part.strip().lower() for part in value("NO_PROXY").split(",") if part.strip())
        return cls(_proxy(plain, "HTTP_PROXY"), _proxy(value("HTTPS_PROXY"), "HTTPS_PROXY"), exceptions)

    def for_address(self, url: str) -> Proxy | None:
        """The proxy for this address, None to go there directly."""
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or _PORTS.get(parts.scheme)
        if is_loopback(host) or any(_is_excepted(rule, host, port) for rule in self.exceptions):
            return None
        return self.https if parts.scheme == "https" else self.http


def proxies() -> Proxies:
    """This machine's proxies."""
    return Proxies.of(os.environ)


def trust(url: str) -> ssl.SSLContext | None:
    """How to check the host of this address, when the machine has certificates for it alone.

    Raises UsageError for a certificate that cannot be read.
    """
    listed = [
        files
        for name in _folder_names(url)
        for folder in _folders(name)
        if (files := _list(folder)) is not None
    ]
    if not listed:
        return None
    context = ssl.create_default_context()
    for path in chain.from_iterable(listed):
        key = path.with_suffix(".key")
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert" and key.exists():
                context.load_cert_chain(path, key)
        except (OSError, ValueError) as error:
            raise UsageError(f"the certificate `{path}` cannot be used: {error}") from None
    return context


def _list(folder: Path) -> list[Path] | None:
    """What is in a folder of certificates; None where there is none, or none for this account.

    The engine makes `/etc/docker` for root alone; containers-certs.d passes over such a folder too.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None


def _folder_names(url: str) -> list[str]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    # A name of dots alone would be a folder above.
    if parts.scheme != "https" or not host.strip("."):
        return []
    return [f"{host}:{port or 443}"] if port not in (None, 443) else [host, f"{host}:443"]


def _folders(name: str) -> list[Path]:
    try:
        own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    except RuntimeError:
        own = Path("/nonexistent")  # This account has no home.
    return [*(own / folder / name for folder in _OWN_CERTIFICATES), *(Path(f) / name for f in _CERTIFICATES)]


def _proxy(value: str, name: str) -> Proxy | None:
    if not value:
        return None
    try:
        parts = urlsplit(value if "://" in value else f"http://{value}")
        host, port = parts.hostname, parts.port
        # Of bytes that are no UTF-8, a variable has halves of surrogate pairs.
        value.encode()
    except ValueError:
        host, port = None, None
    if host is None or parts.scheme not in _PORTS:
        # The value may hold a password.
        raise UsageError(
            f"`{name}` names no HTTP proxy", hint="write `http://host:port`; SOCKS proxies are not supported"
        )
    address = f"[{host}]" if ":" in host else host
    authorization = None
    if parts.username is not None:
        password = Secret(unquote(parts.password or ""))
        login = basic_authorization(unquote(parts.username), password.reveal())
        authorization = f"Basic {login}"
    return Proxy(f"{parts.scheme}://{address}:{port or _PORTS[parts.scheme]}", authorization)


def _is_excepted(rule: str, host: str, port: int | None) -> bool:
    """Whether a part of NO_PROXY covers the host."""
    if rule == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule.strip("[]"), strict=False)
    except ValueError:
        pass
    name, colon, wanted = rule.rpartition(":")
    if colon and wanted.isdecimal():
        if wanted != str(port):
            return False
        rule = name
    rule = rule.strip("[]").removeprefix("*")
    # `example.com` covers itself and what is below, `.example.com` only what is below.
    return host == rule or host.endswith(rule if rule.startswith(".") else f".{rule}")
