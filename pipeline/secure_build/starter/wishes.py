"""What the user says about a starter on the command line, parsed. Secrets come by name only."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from secure_build.address import Address
from secure_build.config.tokens import token_reason
from secure_build.errors import UsageError
from secure_build.reference import DOCKER_HUB, Reference, registry_name

# IBM Container Registry takes API keys under this user name: IBM Cloud docs, "Accessing your
# namespaces interactively".
ICR_USER = "iamapikey"
DEFAULT_TAG = "0.1.0"
_SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SHORTEST_USER = 3
KNOWN_HOSTS = "known_hosts"


@dataclass(frozen=True, slots=True)
class LoginWish:
    """A user name and the name of the secret with the password."""

    username: str
    secret: str

    @classmethod
    def parse(cls, text: str) -> LoginWish:
        """Read `USER=SECRET_NAME`. What is wrong is not repeated: it may be a password."""
        username, _, secret = text.rpartition("=")
        if len(username) < _SHORTEST_USER or not username.isprintable() or not _is_secret_name(secret):
            raise UsageError(
                "a login is `USER=SECRET_NAME`: a user name of at least three characters "
                "and the name of a secret, with letters, digits and `_` only",
                hint="never the password: it is looked up under that name when it is needed",
            )
        return cls(username, secret)

    @property
    def data(self) -> dict[str, Any]:
        """The login as it stands in the config."""
        return {"username": self.username, "password": {"secret": self.secret}}


@dataclass(frozen=True, slots=True)
class RegistryWish:
    """Where images go that have no name yet: a registry and a path in it."""

    host: str
    path: str

    @classmethod
    def parse(cls, text: str) -> RegistryWish:
        """Read `HOST/NAMESPACE`; raises UsageError."""
        host, _, path = text.rstrip("/").partition("/")
        if not ("." in host or ":" in host or host == "localhost"):
            raise UsageError(
                f"`{text[:80]}` names no registry: its first part has neither `.` nor `:`",
                hint="write `HOST/NAMESPACE`, for example `us.icr.io/acme`",
            )
        wish = cls(registry_name(host), path)
        if wish.host == DOCKER_HUB and not path:
            raise UsageError("Docker Hub needs a namespace", hint="write `docker.io/NAMESPACE`")
        wish.name("image")
        return wish

    def name(self, image: str) -> Reference:
        """The reference of an image of this name, with the tag that starters give."""
        return Reference.parse("/".join(filter(None, (self.host, self.path, f"{image}:{DEFAULT_TAG}"))))


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the command line says.

    `source` is the section of the config, empty for the repository here, with its `comments`.
    """

    target: str | None = None
    registry: RegistryWish | None = None
    push: LoginWish | None = None
    runtime: LoginWish | None = None
    compose: str | None = None
    play: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    comments: dict[tuple[str, ...], str] = field(default_factory=dict)
    # Of the repository, for the image of a Dockerfile at its top.
    name: str = "app"


def checked_secret(name: str) -> str:
    """The name of a secret; raises UsageError that does not repeat it, since it may be the secret."""
    if not _is_secret_name(name):
        raise UsageError(
            "the name of a secret has letters, digits and `_` only",
            hint="never the secret itself: it is looked up under that name when it is needed",
        )
    return name


def _is_secret_name(text: str) -> bool:
    """Whether this can name a secret; access tokens look much like names, and are none."""
    return bool(_SECRET_NAME.fullmatch(text)) and token_reason("", text) is None


def is_icr(host: str) -> bool:
    """Whether a registry is IBM Container Registry."""
    return host == "icr.io" or host.endswith(".icr.io")


def secret_name(host: str, use: str) -> str:
    """The name that starters give a secret of a host: `US_ICR_IO_PUSH`."""
    name = re.sub(r"[^A-Z0-9]+", "_", host.upper()).strip("_")
    return f"{'HOST_' if name[:1].isdigit() else ''}{name}_{use}"


def source(address: Address, *, ref: str | None = None, token: str | None = None) -> dict[str, Any]:
    """The section `source` for a repository on a server; `token` is the name of a secret.

    Over SSH it names the secret with the key, and the file with the host's public keys.
    """
    section: dict[str, Any] = {"url": str(address), **({"ref": ref} if ref else {})}
    if address.scheme == "ssh":
        return section | {
            "ssh-key": {"secret": secret_name(address.host, "SSH_KEY")},
            "known-hosts": KNOWN_HOSTS,
        }
    return section | ({"token": {"secret": checked_secret(token)}} if token else {})


def source_comments(address: Address) -> dict[tuple[str, ...], str]:
    """What to say above its keys."""
    return {
        ("source",): "Leave this out when this file lies in the repository itself.",
        ("source", "known-hosts"): f"The host's public keys: the output of `ssh-keyscan {address.host}`,\n"
        "compared with the fingerprints that the host publishes.",
    }
