"""Credentials for registries: Docker's config file and its helpers, and the answer to a challenge.

Credentials of the config file of secure-build come in by parameter and go first; this module reads
only what belongs to the machine. Tokens are asked for per scope (distribution token
specification) and sent to the registry's own host only; that is `client.py`'s business.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from secure_build import process
from secure_build.errors import MachineError, ServiceError, UsageError
from secure_build.manifest import load_object
from secure_build.model import Credential
from secure_build.process import ProcessError, Program
from secure_build.reference import DOCKER_HUB
from secure_build.secret import Secret

# The name under which Docker's own client keeps the login for Docker Hub.
HUB_KEY = "https://index.docker.io/v1/"
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELPER_SECONDS = 30
_NO_CREDENTIALS = "credentials not found"
_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))')


@dataclass(frozen=True, slots=True)
class Challenge:
    """A parsed WWW-Authenticate header: `basic`, or `bearer` with realm and service."""

    scheme: str
    realm: str = ""
    service: str = ""


def docker_config_credential(registry: str) -> Credential | None:
    """The machine's login for the registry, from `$DOCKER_CONFIG/config.json` or `~/.docker`.

    Looks in the helper for this registry, then the credential store, then `auths`, like Docker's
    client. Raises UsageError for a file that cannot be read, MachineError for a broken helper.
    """
    path = docker_config_directory() / "config.json"
    try:
        document = load_object(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UsageError(f"the Docker config `{path}` cannot be read: {_reason(error)}") from None
    keys = (
        [HUB_KEY, DOCKER_HUB, "index.docker.io"]
        if registry == DOCKER_HUB
        else [registry, f"https://{registry}"]
    )
    helpers = document.get("credHelpers") or {}
    helper = next((helpers[key] for key in keys if key in helpers), document.get("credsStore"))
    if helper:
        return _from_helper(str(helper), keys[0], registry)
    auths = document.get("auths") or {}
    entry = next((auths[key] for key in keys if key in auths), None)
    return _from_entry(entry, registry, path) if entry else None


def docker_config_directory() -> Path:
    """Where Docker's client keeps its config: `$DOCKER_CONFIG`, else `~/.docker`."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")


def parse_challenge(header: str) -> Challenge:
    """The challenge of a 401 answer; raises ServiceError for one that nobody can answer."""
    scheme, _, rest = header.strip().partition(" ")
    if scheme.lower() == "basic":
        return Challenge("basic")
    if scheme.lower() == "bearer":
        values = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
        if values.get("realm"):
            return Challenge("bearer", values["realm"], values.get("service", ""))
    raise ServiceError(f"the registry asks for a login that is neither basic nor bearer: `{header[:100]}`")


def check_realm(realm: str, registry_url: str) -> None:
    """Refuse a token service to which credentials must not go.

    A hostile registry could name a machine inside the network, or plain HTTP. Allowed are HTTPS at
    a public name, and the registry's own host in the way we already speak to it.
    """
    target, own = urlsplit(realm), urlsplit(registry_url)
    same_host = target.hostname == own.hostname
    if target.scheme == "https" and (same_host or not _is_private(target.hostname)):
        return
    if target.scheme == "http" and own.scheme == "http" and is_loopback(target.hostname):
        return
    raise ServiceError(
        f"the registry {own.netloc} sends logins to `{target.scheme}://{target.netloc}`, "
        "which is not HTTPS at a public host"
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
    if host is None or host == "localhost":
        return True
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False


def _from_entry(entry: Any, registry: str, path: Path) -> Credential | None:
    try:
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


def _from_helper(name: str, key: str, registry: str) -> Credential | None:
    if not _HELPER_NAME.fullmatch(name):
        raise UsageError(f"`{name[:80]}` is no name of a Docker credential helper")
    helper = Program(f"docker-credential-{name}", f"docker-credential-{name}")
    try:
        output = process.run(helper, ["get"], stdin=key.encode(), timeout=_HELPER_SECONDS, quiet=True)
    except ProcessError as error:
        if _NO_CREDENTIALS in error.output.lower():
            return None
        raise MachineError(
            f"`{helper.name}`, which the Docker config names for {registry}, failed ({error.status})",
            hint=f"try it by hand: `echo {key} | {helper.name} get`",
        ) from None
    try:
        answer = json.loads(output)
        return Credential(registry, str(answer["Username"]), Secret(str(answer["Secret"])))
    except (ValueError, KeyError, TypeError):
        raise MachineError(f"`{helper.name}` gave an answer for {registry} that is no login") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
