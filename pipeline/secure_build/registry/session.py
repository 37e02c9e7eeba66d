"""Requests to one registry with one login: challenges, tokens per scope, redirects, refusals.

Tokens are kept per scope and sent to the registry's own host only; redirects are followed without
them. Cookies are never kept: Harbor takes a client that sends its own back for a browser and asks
it for a CSRF token (dotnet/sdk#37221).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlencode, urljoin, urlsplit, urlunsplit

from secure_build.address import is_loopback
from secure_build.errors import MachineError, ServiceError
from secure_build.model import Credential
from secure_build.reference import DOCKER_HUB
from secure_build.registry import network
from secure_build.registry.auth import IDENTITY_USER
from secure_build.registry.http import (
    TEMPORARY,
    Answer,
    Body,
    Transport,
    UnavailableError,
    redacted,
)
from secure_build.registry.tokens import (
    Challenge,
    Token,
    check_realm,
    parse_challenge,
    parse_token,
)
from secure_build.secret import basic_authorization

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_LARGEST_TOKEN = 64 << 10

Scopes = tuple[str, ...]


class AccessError(MachineError):
    """The registry refuses the login, or refuses the login's owner what was asked."""


class LoginRefusedError(AccessError):
    """The login itself is wrong, whatever it is used for."""


class Session:
    """A registry and the login to use there, None for none."""

    def __init__(self, registry: str, credential: Credential | None, transport: Transport) -> None:
        self.registry = registry
        self.transport = transport
        self._credential = credential
        host = "registry-1.docker.io" if registry == DOCKER_HUB else registry
        self.url = f"https://{host}"
        # On this machine it is plain HTTP, unless there are certificates for it.
        if is_loopback(urlsplit(self.url).hostname) and network.trust(self.url) is None:
            self.url = f"http://{host}"
        # Held while a token is fetched, so that threads that need the same one wait for it.
        self._login = threading.Lock()
        self._challenge: Challenge | None = None
        self._authorizations: dict[Scopes, str] = {}
        self._tokens: dict[Scopes, Token] = {}
        self._login_is_wrong = False

    def request(
        self,
        method: str,
        path: str,
        scopes: Scopes,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        retry: bool = True,
        follow: bool = True,
    ) -> Answer:
        """A request with the login for these scopes; redirects are followed while reading."""
        url = urljoin(self.url, path)

        def send(authorization: str | None) -> Answer:
            login = {"Authorization": authorization} if authorization else {}
            return self.transport.request(
                method, url, headers={**(headers or {}), **login}, body=body, retry=retry
            )

        for _ in range(_MOST_REDIRECTS):
            # Blob stores have an authorization of their own, in the address.
            own = self.is_own(url)
            answer = self._logged_in(send, scopes) if own else send(None)
            reading = method in ("GET", "HEAD") and follow
            if not reading or answer.status not in _REDIRECTS:
                return answer
            answer.close()
            url = self.target(answer)
        raise ServiceError(f"{self.registry} redirects more than {_MOST_REDIRECTS} times")

    def is_own(self, url: str) -> bool:
        """Whether the address is one of the registry itself, to which its login may go."""
        return origin(url) == origin(self.url)

    def target(self, answer: Answer) -> str:
        """Where an answer points to; plain HTTP only on this machine and when we speak it already."""
        location = answer.headers.get("Location", "")
        try:
            target = urljoin(answer.url, location)
            scheme, host, _ = origin(target)
        except ValueError:
            scheme, host = "", None
        own = urlsplit(self.url)
        if scheme == "http" and own.scheme == "https" and host == own.hostname:
            # Behind a proxy that ends TLS a registry may not know how it is spoken to
            # (distribution/distribution#970).
            return urlunsplit(urlsplit(target)._replace(scheme="https", netloc=own.netloc))
        local = own.scheme == scheme == "http" and is_loopback(host)
        if not location or not host or not (scheme == "https" or local):
            raise ServiceError(f"{self.registry} points to `{redacted(location)}`, which is no HTTPS address")
        return target

    def granted(self, scopes: Scopes, repository: str) -> frozenset[str] | None:
        """The actions that a token service grants for these scopes; None where it does not tell.

        Asks for the token. Raises AccessError when the login is refused or there is none.
        """
        with self._login:
            known = self._challenge
        if known is None:
            answer = self.transport.request("GET", f"{self.url}/v2/")
            answer.close()
            if answer.status != 401:
                return None
            with self._login:
                known = self._challenge = parse_challenge(answer.headers.get("WWW-Authenticate", ""))
        if known.scheme != "bearer":
            return None
        self._authorization(scopes)
        # There is none when the registry has asked for a password before, in another way than now.
        token = self._tokens.get(scopes)
        if token is None or token.granted is None:
            return None
        return token.granted.get(repository, frozenset())

    def failure(self, answer: Answer, what: str) -> Exception:
        """The exception for an answer that was not hoped for; its message begins with `what`."""
        got_token = self._challenge is not None and self._challenge.scheme == "bearer"
        if answer.status == 401 and not (self._credential and got_token):
            answer.close()
            return self._refused()
        if answer.status in (401, 403):
            return AccessError(answer.explained(what), hint=self._not_allowed())
        if answer.status in TEMPORARY:
            return UnavailableError(answer.explained(what))
        return ServiceError(answer.explained(what))

    # Inside

    def _logged_in(self, send: Callable[[str | None], Answer], scopes: Scopes) -> Answer:
        """What the registry itself answers; the first 401 is met with a login, the second is final."""
        first = self._authorization(scopes)
        answer = send(first)
        if answer.status != 401:
            return answer
        answer.close()
        with self._login:
            self._challenge = parse_challenge(answer.headers.get("WWW-Authenticate", ""))
        second = self._authorization(scopes, refused=first)
        return answer if second == first else send(second)

    def _authorization(self, scopes: Scopes, *, refused: str | None = None) -> str | None:
        """The header that logs in for these scopes, None as long as nothing was asked for.

        A token that was refused is replaced, once for all threads that hold it.
        """
        with self._login:
            if self._challenge is None:
                return None
            known = self._authorizations.get(scopes)
            if known is None or known == refused:
                known = self._authorizations[scopes] = self._log_in(self._challenge, scopes)
            return known

    def _log_in(self, challenge: Challenge, scopes: Scopes) -> str:
        if self._login_is_wrong or (challenge.scheme == "basic" and self._credential is None):
            raise self._refused()
        if challenge.scheme == "basic":
            return self._basic()
        answer = self._ask_for_token(challenge, (*scopes, *challenge.scopes))
        if answer.status == 401:
            answer.close()
            # A service that has known the login before refuses the scopes.
            self._login_is_wrong = not self._tokens
            raise self._refused()
        if answer.status in (400, 403):
            raise AccessError(answer.explained(f"no token for {self.registry}"), hint=self._not_allowed())
        if answer.status != 200:
            raise ServiceError(answer.explained(f"no token for {self.registry}"))
        token = self._tokens[scopes] = parse_token(answer.body(_LARGEST_TOKEN), self.registry)
        return f"Bearer {token.value.reveal()}"

    def _ask_for_token(self, challenge: Challenge, scopes: Scopes) -> Answer:
        check_realm(challenge.realm, self.url)
        fields = [("service", challenge.service)] if challenge.service else []
        if self._credential and self._credential.username == IDENTITY_USER:
            fields += [
                ("scope", " ".join(scopes)),
                ("grant_type", "refresh_token"),
                ("client_id", "secure-build"),
                ("refresh_token", self._credential.password.reveal()),
            ]
            form = urlencode(fields).encode()
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(len(form)),
            }
            return self.transport.request(
                "POST", challenge.realm, headers=headers, body=lambda: iter((form,))
            )
        query = urlencode([*fields, *(("scope", scope) for scope in scopes)])
        address = challenge.realm + ("&" if urlsplit(challenge.realm).query else "?") + query
        login = {"Authorization": self._basic()} if self._credential else {}
        return self.transport.request("GET", address, headers=login)

    def _basic(self) -> str:
        assert self._credential is not None
        return "Basic " + basic_authorization(self._credential.username, self._credential.password.reveal())

    def _refused(self) -> AccessError:
        if self._credential is None:
            return AccessError(
                f"{self.registry} asks for a login and there is none",
                hint=f"name one under `registries: {self.registry}:`, or run `docker login {self.registry}`",
            )
        return LoginRefusedError(
            f"{self.registry} refuses the login of user `{self._credential.username}`",
            hint="check user name and password; the password may have expired",
        )

    def _not_allowed(self) -> str:
        who = f"user `{self._credential.username}`" if self._credential else "anonymous users"
        # Harbor and Quay answer so for what is not there (goharbor/harbor#966, shipwright-io/build#788).
        return f"{self.registry} does not allow it to {who}, or has no such project or repository"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address; raises ValueError."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
