"""Addresses of git repositories on servers: parsed once, so that nothing else is ever handed to git.

Taken are `https://`, `ssh://` and `user@host:path`, and `http://` on this machine only. Everything
else that git would act on is refused: local paths, `file://`, remote helpers (`ext::`), options,
credentials inside the address, and characters that a shell or a library could expand.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Literal, Self
from urllib.parse import urlsplit

from secure_build.errors import UsageError

_FORMS = "write `https://HOST/PATH`, `ssh://USER@HOST/PATH` or `USER@HOST:PATH`"
_URL = re.compile(r"(?P<scheme>https?|ssh)://(?P<authority>[^/]*)(?P<path>/.*)", re.DOTALL)
_SHORT = re.compile(r"(?P<user>[^@:/]+)@(?P<host>[^@:/]+):(?P<path>.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^@:]+)(?::(?P<port>[0-9]{1,5}))?")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_PATH = re.compile(r"[A-Za-z0-9._~/%+@:,=-]+")
_LONGEST = 2048
_MOST_PORTS = 65535


@dataclass(frozen=True, slots=True)
class Address:
    """Where a git repository is served. It never holds a password.

    A `path` without `/` at its start is relative to the user's home (`user@host:path`).
    """

    scheme: Literal["https", "http", "ssh"]
    host: str
    port: int | None
    user: str | None
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises UsageError, which does not repeat the text where it could hold a password."""
        if found := _URL.fullmatch(text[: _LONGEST + 1]):
            authority = _AUTHORITY.fullmatch(found["authority"])
            if authority is None:
                raise UsageError("the address has no plain host and port, or a password in it", hint=_FORMS)
            user, host, port = authority["user"], authority["host"], authority["port"]
            scheme, path = found["scheme"], found["path"]
        elif found := _SHORT.fullmatch(text[: _LONGEST + 1]):
            scheme, user, host, port, path = "ssh", found["user"], found["host"], None, found["path"]
        else:
            raise UsageError("this is no address of a git repository on a server", hint=_FORMS)
        if scheme != "ssh" and user is not None:
            raise UsageError(
                "the address has a user name or password in it", hint="set `username` and `token` beside it"
            )
        if len(text) > _LONGEST:
            raise UsageError(f"the address is longer than {_LONGEST} characters")
        if not _HOST.fullmatch(host) or (user is not None and not _USER.fullmatch(user)):
            raise UsageError("the address has an impossible host or user name", hint=_FORMS)
        if port is not None and not 1 <= int(port) <= _MOST_PORTS:
            raise UsageError(f"the address has the impossible port {port}")
        if scheme == "http" and not is_loopback(host):
            raise UsageError("`http://` is taken for this machine only", hint="use `https://`")
        return cls(
            "https" if scheme == "https" else "http" if scheme == "http" else "ssh",
            host.lower(),
            int(port) if port else None,
            user,
            path.rstrip("/"),
        )

    def __post_init__(self) -> None:
        if not self.path.strip("/"):
            raise UsageError("the address names no repository", hint=_FORMS)
        if not _PATH.fullmatch(self.path):
            raise UsageError(
                "the path of the address has a character that is not taken as it is",
                hint="use letters, digits and `._~/%+@:,=-`, and `%24` and the like for others",
            )
        if self.path.startswith(("-", ":")) or {".", ".."} & set(self.path.split("/")):
            raise UsageError("the path of the address has `.` or `..` in it, or is an option")

    def resolve(self, relative: str) -> Address:
        """The address that `./…` or `../…` in `.gitmodules` means (gitmodules(5)); raises UsageError."""
        path, rest = self.path, relative
        while rest.startswith(("./", "../")):
            if rest.startswith("../"):
                if not path.strip("/"):
                    raise UsageError("the relative address leaves its server")
                path = path.rpartition("/")[0]
            rest = rest.partition("/")[2]
        if not rest:
            raise UsageError("the relative address names no repository")
        separator = "/" if path or self.path.startswith("/") else ""
        return replace(self, path=f"{path}{separator}{rest}".rstrip("/"))

    def same_server(self, other: Address) -> bool:
        """Whether what was meant for the other address may be shown to this one."""
        return (self.scheme, self.host, self.port, self.user) == (
            other.scheme,
            other.host,
            other.port,
            other.user,
        )

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{self.scheme}://{self.host}" + (f":{self.port}" if self.port else "")

    def __str__(self) -> str:
        """As git takes it."""
        user = f"{self.user}@" if self.user else ""
        if not self.path.startswith("/"):
            return f"{user}{self.host}:{self.path}"
        return f"{self.scheme}://{user}{self.origin.partition('://')[2]}{self.path}"


def is_loopback(host: str | None) -> bool:
    """Whether the host is this machine by its spelling: `localhost`, 127.0.0.0/8 or ::1."""
    if host is None or host.lower() == "localhost":
        return host is not None
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_encrypted(url: str) -> None:
    """Raise UsageError for an address to which everybody on the way could read what is sent."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise UsageError(f"`{parts.scheme}://{parts.netloc}` is no `https://` address")


def is_private(host: str | None) -> bool:
    """Whether the host is no public one by its spelling: this machine, or an address inside a network."""
    if not host or host == "localhost":
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
