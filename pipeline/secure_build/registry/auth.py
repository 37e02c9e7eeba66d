"""Credentials for registries: Docker's config file and its helpers, and the answer to a challenge.

Credentials of the config file of secure-build come in by parameter and go first; this module reads
only what belongs to the machine. Tokens are asked for per scope (distribution token
specification) and sent to the registry's own host only; that is `client.py`'s business.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from secure_build import process
from secure_build.errors import MachineError, ServiceError, UsageError
from secure_build.manifest import load_object
from secure_build.model import Credential
from secure_build.process import ProcessError, Program
from secure_build.reference import DOCKER_HUB, registry_name
from secure_build.secret import Secret

# The name under which Docker's own client keeps the login for Docker Hub.
HUB_KEY = "https://index.docker.io/v1/"
# The user name by which Docker says that the password is an identity token (OAuth 2 refresh token).
IDENTITY_USER = "<token>"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_SECONDS = 30
_HELPER_PACKAGES = {
    "pass": "golang-docker-credential-helpers",
    "secretservice": "golang-docker-credential-helpers",
    "ecr-login": "amazon-ecr-credential-helper",
}
# What the helpers of clouds and desktops read; nothing else that starts here gets to see it.
_HELPER_VARIABLES = re.compile(
    r"(?:AWS|AZURE|GOOGLE|CLOUDSDK|PASSWORD_STORE)_.*|GNUPGHOME|DBUS_SESSION_BUS_ADDRESS"
)
_NO_CREDENTIALS = "credentials not found"
_KEY = re.compile(r"(?:https?://)?([^/]+)(?:/|/v[12]/?)?")
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A parsed WWW-Authenticate header: `basic`, or `bearer` with realm and service."""

    scheme: str
    realm: str = ""
    service: str = ""


def docker_config_directory() -> Path:
    """Where Docker's client keeps its config: `$DOCKER_CONFIG`, else `~/.docker`."""
    try:
        return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    except RuntimeError:
        return Path("/nonexistent")  # This account has no home.


def docker_config_credential(registry: str) -> Credential | None:
    """The machine's login for the registry, from `config.json` in `docker_config_directory`.

    Looks in the helper for this registry, then the credential store, then `auths`, like Docker's
    client. Raises UsageError for a file that cannot be read, MachineError for a broken helper.
    """
    path = docker_config_directory() / "config.json"
    try:
        document = load_object(path.read_bytes())
        auths, helpers = _section(document, "auths"), _section(document, "credHelpers")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the Docker config `{path}` cannot be read: {_reason(error)}") from None
    helper = _entry(helpers, registry) or document.get("credsStore")
    if helper:
        return _from_helper(str(helper), registry)
    entry = _entry(auths, registry)
    return _from_auths(entry, registry, path) if entry else None


def parse_challenge(header: str) -> Challenge:
    """The challenge of a 401 answer; raises ServiceError for one that nobody can answer."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "basic":
        return Challenge("basic")
    if scheme.lower() == "bearer":
        # A second challenge may follow in the same header; the first one's parameters stand.
        found = reversed(_PARAMETER.findall(rest))
        values = {name.lower(): quoted or plain for name, quoted, plain in found}
        if values.get("realm"):
            return Challenge("bearer", values["realm"], values.get("service", ""))
    raise ServiceError(f"the registry asks for a login that is neither basic nor bearer: `{header[:100]}`")


def check_realm(realm: str, registry_url: str) -> None:
    """Refuse a token service to which credentials must not go.

    A hostile registry could name a machine inside the network, or plain HTTP. Allowed are HTTPS at
    a public name, and the registry's own host in the way we already speak to it. Raises
    ServiceError.
    """
    own = urlsplit(registry_url)
    try:
        target = urlsplit(realm)
        address = f"{target.scheme}://{target.netloc.rpartition('@')[2]}"
    except ValueError:
        raise ServiceError(f"the registry {own.netloc} sends logins to an address that is none") from None
    if target.scheme == "https" and (target.hostname == own.hostname or not _is_private(target.hostname)):
        return
    if target.scheme == "http" and own.scheme == "http" and is_loopback(target.hostname):
        return
    raise ServiceError(
        f"the registry {own.netloc} sends logins to `{address}`, which is not HTTPS at a public host"
    )


def is_loopback(host: str | None) -> bool:
    """Whether the host is this machine by its spelling: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address((host or "").strip("[]")).is_loopback
    except ValueError:
        return False


def _is_private(host: str | None) -> bool:
    if not host or host == "localhost":
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name) or {}
    if not isinstance(section, dict):
        raise ValueError(f"`{name}` is no JSON object")
    return section


def _entry(section: Mapping[str, Any], registry: str) -> Any:
    """What is said of the registry, under its plain name first; Docker keeps older spellings too."""
    named = (key for key in section if _registry_of(key) == registry)
    return next((section[key] for key in (registry, *named) if key in section), None)


def _registry_of(key: str) -> str | None:
    match = _KEY.fullmatch(key)
    try:
        return registry_name(match[1]) if match else None
    except UsageError:
        return None


def _from_auths(entry: Any, registry: str, path: Path) -> Credential | None:
    try:
        if token := entry.get("identitytoken"):
            return Credential(registry, IDENTITY_USER, Secret(str(token)))
        if encoded := entry.get("auth"):
            username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
            if not colon:
                raise ValueError("no colon")
            return Credential(registry, username, Secret(password.rstrip("\0")))
        if entry.get("username") and entry.get("password"):
            return Credential(registry, str(entry["username"]), Secret(str(entry["password"])))
    except (AttributeError, TypeError, ValueError, binascii.Error):
        raise UsageError(
            f"the login for {registry} in `{path}` is damaged",
            hint=f"log in again: `docker login {registry}`",
        ) from None
    return None


def _from_helper(name: str, registry: str) -> Credential | None:
    if not _HELPER_NAME.fullmatch(name):
        raise UsageError(f"`{name[:80]}` is no name of a Docker credential helper")
    helper = Program(f"docker-credential-{name}", _HELPER_PACKAGES.get(name, f"docker-credential-{name}"))
    key = HUB_KEY if registry == DOCKER_HUB else registry
    variables = {name: value for name, value in os.environ.items() if _HELPER_VARIABLES.fullmatch(name)}
    try:
        output = process.run(
            helper, ["get"], stdin=key.encode(), environment=variables, timeout=_HELPER_SECONDS, quiet=True
        )
    except ProcessError as error:
        if _NO_CREDENTIALS in error.output.lower():
            return None
        raise MachineError(
            f"`{helper.name}`, which the Docker config names for {registry}, failed: {error.ending}",
            hint=f"try it by hand: `echo {key} | {helper.name} get`",
        ) from None
    try:
        answer = load_object(output)
        return Credential(registry, str(answer["Username"]), Secret(str(answer["Secret"])))
    except (ValueError, KeyError, RecursionError):
        raise MachineError(f"`{helper.name}` gave an answer for {registry} that is no login") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
