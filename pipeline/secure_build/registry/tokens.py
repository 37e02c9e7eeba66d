"""Challenges and tokens of registries (distribution's token specification); pure but for masking.

Who may be sent a login, how a token is asked for, and what a token service says it granted. The
requests themselves are `session.py`'s business.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from secure_build.address import is_loopback, is_private
from secure_build.errors import ServiceError
from secure_build.manifest import load_object
from secure_build.reference import Repository
from secure_build.secret import Secret

_PARAMETER = re.compile(r'([A-Za-z_]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s,]*))')
# What may stand in a header; a token with a line break would be a header of its own.
_TOKEN = re.compile(r"[!-~]+")
# Scopes of a registry as a whole, such as `aws` or `registry:catalog:*`.
_PLAIN_SCOPE = re.compile(r"[!-~]{1,256}")


@dataclass(frozen=True, slots=True)
class Challenge:
    """A parsed WWW-Authenticate header: `basic`, or `bearer` with realm, service and scope."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes to ask for beside our own.

        Which repositories we need is our business: asking for another one because an answer says so
        could hand the registry a token for what is not its own. Left is what is of no repository:
        ECR Public grants nothing without its scope `aws` (helm/helm#12491).
        """
        named = (part for part in self.scope.split() if _PLAIN_SCOPE.fullmatch(part))
        return tuple(part for part in named if not part.startswith("repository:"))


@dataclass(frozen=True, slots=True)
class Token:
    """A token and the actions it grants for each repository path; None where nobody can tell."""

    value: Secret
    granted: Mapping[str, frozenset[str]] | None


def scope_of(repository: Repository, actions: str) -> str:
    """How a token service is told what is to be done with a repository: `pull` or `pull,push`."""
    return f"repository:{repository.path}:{actions}"


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
            return Challenge("bearer", values["realm"], values.get("service", ""), values.get("scope", ""))
    raise ServiceError(f"the registry asks for a login that is neither basic nor bearer: `{header[:100]}`")


def parse_token(content: bytes, registry: str) -> Token:
    """The token of a token service's answer; raises ServiceError when it holds none."""
    try:
        document = load_object(content)
        token = document.get("token") or document.get("access_token")
    except (ValueError, RecursionError):
        token = None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ServiceError(f"the token service of {registry} gave an answer without a token")
    scope = document.get("scope")
    granted = _granted_by_scope(scope) if isinstance(scope, str) and scope else _granted_by_claims(token)
    value = Secret(token)
    value.reveal()  # From here on the masker hides it.
    return Token(value, granted)


def _granted_by_scope(scope: str) -> dict[str, frozenset[str]]:
    """The `scope` of an OAuth 2 answer, for example `repository:acme/web:pull,push`."""
    granted: dict[str, frozenset[str]] = {}
    for part in scope.split():
        kind, _, rest = part.partition(":")
        name, _, actions = rest.rpartition(":")
        if kind == "repository":
            granted[name] = granted.get(name, frozenset()) | frozenset(actions.split(","))
    return granted


def _granted_by_claims(token: str) -> dict[str, frozenset[str]] | None:
    """The `access` claim of a JWT; None for a token that is none.

    The registry checks its signature; for us it is nothing but a hint. GHCR's tokens tell nothing
    (radius-project/radius#12623).
    """
    try:
        claims = load_object(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
        access: list[dict[str, Any]] = claims["access"] or []
        granted: dict[str, frozenset[str]] = {}
        for entry in access:
            if entry.get("type") == "repository":
                name = str(entry["name"])
                granted[name] = granted.get(name, frozenset()) | frozenset(map(str, entry["actions"]))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return granted


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
    if target.scheme == "https" and (target.hostname == own.hostname or not is_private(target.hostname)):
        return
    if target.scheme == "http" and own.scheme == "http" and is_loopback(target.hostname):
        return
    raise ServiceError(
        f"the registry {own.netloc} sends logins to `{address}`, which is not HTTPS at a public host"
    )


def covers(granted: Iterable[str], action: str) -> bool:
    """Whether an action is among those granted."""
    return bool({action, "*"} & set(granted))
