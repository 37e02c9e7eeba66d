"""Credentials that this machine has for registries: what Docker, Podman and their helpers keep.

A login that the config of secure-build names comes in by parameter and goes first. Then the first
of these files that has one for the repository:

1. the file that `REGISTRY_AUTH_FILE` names; then no other is read (containers-auth.json(5));
2. Docker's `config.json`, in `$DOCKER_CONFIG` or `~/.docker`;
3. Podman's `$XDG_RUNTIME_DIR/containers/auth.json`;
4. `$XDG_CONFIG_HOME/containers/auth.json`, by default `~/.config/containers/auth.json`.

Docker's goes before Podman's as in go-containerregistry; a build machine that logs in for this
program with `docker login` is not surprised by what somebody once told Podman. In each file the
order is Docker's: the helper for the registry, the credential store, then `auths`, where an entry
for `host/namespace` goes before one for `host`.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from secure_build import process
from secure_build.errors import MachineError, UsageError
from secure_build.manifest import load_object
from secure_build.model import Credential
from secure_build.process import ProcessError, Program
from secure_build.reference import DOCKER_HUB, Repository, registry_name
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


def docker_config_directory() -> Path:
    """Where Docker's client keeps its config: `$DOCKER_CONFIG`, else `~/.docker`."""
    try:
        return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    except RuntimeError:
        return Path("/nonexistent")  # This account has no home.


def machine_credential(repository: Repository) -> Credential | None:
    """The machine's login for the repository, None when there is none.

    Raises UsageError for a file that cannot be read, MachineError for a broken helper.
    """
    return _find(repository.registry, repository.path)


def _find(registry: str, path: str | None) -> Credential | None:
    return next(filter(None, (_login_in(file, registry, path) for file in _files())), None)


def _files() -> list[Path]:
    """The files to look into, in order."""
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        return [Path(named)]
    files = [docker_config_directory() / "config.json"]
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        files.append(Path(runtime) / "containers" / "auth.json")
    try:
        home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        files.append(Path(home) / "containers" / "auth.json")
    except RuntimeError:
        pass  # This account has no home.
    return files


def _login_in(file: Path, registry: str, path: str | None) -> Credential | None:
    try:
        document = load_object(file.read_bytes())
        auths, helpers = _section(document, "auths"), _section(document, "credHelpers")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the logins in `{file}` cannot be read: {_reason(error)}") from None
    helper = _entry(helpers, registry) or document.get("credsStore")
    if helper and (found := _from_helper(str(helper), registry, file)):
        return found
    for key in _namespaces(registry, path):
        if entry := auths.get(key):
            return _from_auths(entry, registry, file)
    entry = _entry(auths, registry)
    return _from_auths(entry, registry, file) if entry else None


def _namespaces(registry: str, path: str | None) -> list[str]:
    """The keys that name the repository or a part of its path, the most specific first."""
    parts = path.split("/") if path else []
    return ["/".join((registry, *parts[:length])) for length in range(len(parts), 0, -1)]


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


def _from_auths(entry: Any, registry: str, file: Path) -> Credential | None:
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
            f"the login for {registry} in `{file}` is damaged",
            hint=f"log in again: `docker login {registry}`",
        ) from None
    return None


def _from_helper(name: str, registry: str, file: Path) -> Credential | None:
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
            f"`{helper.name}`, which `{file}` names for {registry}, failed: {error.ending}",
            hint=f"try it by hand: `echo {key} | {helper.name} get`",
        ) from None
    try:
        answer = load_object(output)
        return Credential(registry, str(answer["Username"]), Secret(str(answer["Secret"])))
    except (ValueError, KeyError, RecursionError):
        raise MachineError(f"`{helper.name}` gave an answer for {registry} that is no login") from None


def _reason(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
