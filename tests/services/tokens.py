"""A token service for a registry: who may do what, as JWTs that the registry checks for itself.

It follows the distribution project's token specification: a GET with basic login, an answer with
the token, the `access` claim with what was granted.
"""

from __future__ import annotations

import base64
import json
import secrets
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from services import certificates
from services.running import TokenTrust
from services.serving import Serving

_SERVICE, _ISSUER = "tests", "token-service"


@dataclass(frozen=True, slots=True)
class Asked:
    """The scopes that were asked for, by whom, and the status of the answer."""

    scopes: tuple[str, ...]
    user: str | None
    status: int


class TokenService(Serving):
    """Serves while the `with` block lasts.

    `users` maps names to passwords, `rights` names to the actions they may do; nobody else gets a
    token, unless rights of `""` are those of everybody. `seconds` is how long one is good for. With
    `tls`, a certificate and its key, it is spoken to by HTTPS.
    """

    def __init__(
        self,
        directory: Path,
        users: Mapping[str, str],
        rights: Mapping[str, set[str]],
        *,
        seconds: int = 300,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self.users, self.rights, self.seconds = dict(users), dict(rights), seconds
        self.asked: list[Asked] = []
        self.certificate, self._key = certificates.self_signed(directory, "tokens")
        super().__init__(_Server(self))
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.trust = TokenTrust(
            realm=f"{'https' if tls else 'http'}://{self.host}/token",
            service=_SERVICE,
            issuer=_ISSUER,
            certificate=self.certificate,
        )

    def answer(self, authorization: str, scopes: tuple[str, ...]) -> tuple[int, dict[str, Any]]:
        """Status and document for one request."""
        kind, _, encoded = authorization.partition(" ")
        user, _, password = base64.b64decode(encoded).decode().partition(":") if kind == "Basic" else [""] * 3
        known = self.users.get(user) == password if user else "" in self.rights
        status = 200 if known else 401
        self.asked.append(Asked(scopes, user or None, status))
        if status != 200:
            return status, {"errors": [{"code": "UNAUTHORIZED", "message": "unknown user"}]}
        access = [self._granted(user, scope) for scope in scopes]
        return 200, {"token": self._token(user, access), "expires_in": self.seconds}

    def _granted(self, user: str, scope: str) -> dict[str, Any]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        return {
            "type": kind,
            "name": name,
            "actions": sorted(set(actions.split(",")) & self.rights.get(user, set())),
        }

    def _token(self, user: str, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        text = "".join(self.certificate.read_text().splitlines()[1:-1])
        header = {"typ": "JWT", "alg": "RS256", "x5c": [text]}
        claims = {
            "iss": _ISSUER,
            "sub": user,
            "aud": _SERVICE,
            "nbf": now - 60,
            "iat": now,
            "exp": now + self.seconds,
            "jti": secrets.token_hex(8),
            "access": access,
        }
        signed = f"{_part(json.dumps(header).encode())}.{_part(json.dumps(claims).encode())}"
        return f"{signed}.{_part(certificates.sign(signed.encode(), self._key))}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, service: TokenService) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        scopes = tuple(scope for value in query.get("scope", []) for scope in value.split())
        status, document = self.server.service.answer(self.headers.get("Authorization", ""), scopes)
        body = json.dumps(document).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
