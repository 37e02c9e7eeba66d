"""`auths`: how the contract spells registries, and which credentials may go into it.

The guest pulls at every boot, months from now, with what stands here. Grammar: `auths` of IBM's
contract schema (hosts whose labels begin with a letter, IPv4, or Docker Hub's URL).
"""

from __future__ import annotations

import base64
import re

from secure_build.errors import UsageError
from secure_build.manifest import load_object
from secure_build.model import Credential
from secure_build.reference import DOCKER_HUB, registry_name

# Docker's client finds a login for Docker Hub under this key only; podman takes it as well.
HUB_KEY = "https://index.docker.io/v1/"
_LABEL = r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]+)?")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}(?::[0-9]+)?")
# Users whose password is a token of some hours.
_TOKEN_USERS = frozenset({"AWS", "gitlab-ci-token", "iambearer", "oauth2accesstoken"})
# Seconds: a token for longer than a month is somebody's decision.
_LONG = 30 * 24 * 3600
_SHORTEST = 3


def is_key(text: str) -> bool:
    """Whether the schema takes the text as a key of `auths`."""
    return text == HUB_KEY or bool(_IPV4.fullmatch(text) or _HOST.fullmatch(text))


def registry_of(key: str) -> str:
    """The registry behind a key of `auths`, also for the several spellings of Docker Hub."""
    try:
        return registry_name(key.removeprefix("https://").partition("/")[0])
    except UsageError:
        return key


def contract_key(registry: str) -> str:
    """The key of a registry in `auths`; raises UsageError when the schema cannot express it."""
    if registry == DOCKER_HUB:
        return HUB_KEY
    if is_key(registry):
        return registry
    raise UsageError(
        f"the contract cannot hold a login for `{registry}`: "
        "every part of the host name must begin with a letter",
        hint="use another registry, or another name for it, for images that need a login",
    )


def check_runtime(runtime: Credential, push: Credential | None, *, allow_push: bool) -> None:
    """Refuse a credential that should not be in a contract; raises UsageError.

    Refused are short-lived ones always, and the one that publishes unless `allow_push`.
    """
    where = f"registries: {runtime.registry}: runtime"
    password = runtime.password.reveal()
    if len(runtime.username) < _SHORTEST or len(password) < _SHORTEST:
        raise UsageError(f"{where}: user name and password need at least {_SHORTEST} characters each")
    reason = _short_lived(runtime.username, password)
    if reason:
        raise UsageError(
            f"{where}: this credential is short-lived ({reason}), and the guest needs it at every boot",
            hint="make a long-lived, pull-only credential; for IBM Container Registry an API key "
            "with user name `iamapikey`",
        )
    # Some registries take any user name, so the password alone decides.
    if push and not allow_push and password == push.password.reveal():
        raise UsageError(
            f"{where}: this is the credential that publishes: who reads the contract could replace images",
            hint="make a pull-only credential; `allow-push-credential: true` allows it all the same",
        )


def _short_lived(username: str, password: str) -> str | None:
    if username in _TOKEN_USERS:
        return f"user `{username}` logs in with an access token"
    if password.startswith("ghs_"):
        return "it is the token of a GitHub Actions job"
    lifetime = _lifetime(password)
    if lifetime is not None and lifetime < _LONG:
        return "it is a token that expires"
    return None


def _lifetime(password: str) -> float | None:
    """For how many seconds a JSON Web Token (RFC 7519) was issued; None for anything else."""
    parts = password.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = load_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        expiry, issued = payload.get("exp"), payload.get("iat")
        if not isinstance(expiry, int | float):
            return None
        return float(expiry) - float(issued) if isinstance(issued, int | float) else 0
    except (ValueError, OverflowError):
        return None
