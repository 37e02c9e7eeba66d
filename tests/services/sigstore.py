"""A sigstore of our own: Fulcio with its CT log, Rekor, a timestamp authority, and an OIDC issuer.

All of it is one HTTP server on the loopback, which trusts nobody: it checks every token, every proof
of possession and every signature that it is given. Each service can be told to misbehave. Timestamps
(RFC 3161) are openssl's. `Files` are what clients are told to trust.
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from services import sigstore_keys as keys
from services.serving import Serving
from services.sigstore_ca import Fulcio, Timestamps
from services.sigstore_keys import Refused
from services.sigstore_log import Answer, Log

GITHUB = "https://token.actions.githubusercontent.com"
GITHUB_IDENTITY = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1"
GITHUB_CLAIMS: Mapping[str, Any] = {
    "sub": "repo:acme/app:ref:refs/tags/v1",
    "repository": "acme/app",
    "ref": "refs/tags/v1",
    "event_name": "push",
    "job_workflow_ref": "acme/app/.github/workflows/release.yml@refs/tags/v1",
}
_SECONDS = 600


@dataclass(slots=True)
class Service:
    """How one of the services behaves; tests change it while it runs.

    Its clock is `ahead` by so many seconds. A `silent` one takes requests and never answers; one with
    a `status` answers all of them with it. The next `lost` answers get lost after their work was done.
    """

    ahead: int = 0
    silent: bool = False
    status: int | None = None
    lost: int = 0

    @property
    def now(self) -> datetime:
        return datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=self.ahead)


@dataclass(frozen=True, slots=True)
class Files:
    """What clients are told. The last three are for cosign 2, which does not take them together."""

    trusted_root: Path
    signing_config: Path
    trust_config: Path
    fulcio: Path
    rekor: Path
    ct: Path


class LocalSigstore(Serving):
    """Runs while the `with` block lasts. `rekor_version` is that of the log's interface.

    `requests` holds a line for each request that was answered; `request_token` is what the issuer's
    address wants to see, as GitHub's does, and `claims` is whom it then takes the job for. Certificates are
    good for `certificate_seconds`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        rekor_version: Literal[1, 2] = 1,
        timestamps: bool = True,
        empty_log: bool = False,
    ) -> None:
        super().__init__(_Server(self))
        directory.mkdir(parents=True, exist_ok=True)
        self.url = f"http://{self.host}"
        self.fulcio, self.rekor, self.tsa, self.oidc = Service(), Service(), Service(), Service()
        self.requests: list[str] = []
        self.request_token = secrets.token_urlsafe(16)
        self.claims = GITHUB_CLAIMS
        self.certificate_seconds = _SECONDS
        self.closing = threading.Event()
        self._issuer_key = rsa.generate_private_key(65537, 2048)
        # A trust root that begins now would not know what began a moment ago.
        start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
        self._fulcio, self._log = Fulcio(start), Log(self.host, empty=empty_log)
        self._timestamps = Timestamps(directory, start)
        self.files = self._write(directory, start, rekor_version, timestamps=timestamps)

    def __exit__(self, *raised: object) -> None:
        self.closing.set()
        super().__exit__(*raised)

    def token(
        self,
        claims: Mapping[str, Any] = GITHUB_CLAIMS,
        *,
        issuer: str = GITHUB,
        audience: str | list[str] = "sigstore",
        seconds: int = _SECONDS,
    ) -> str:
        """A token of the issuer that is good for so many seconds; the clock is the issuer's."""
        now = int(self.oidc.now.timestamp())
        # cosign takes a token for the name of a file unless its algorithm is this one.
        header = {"alg": "RS256", "typ": "JWT", "kid": "1"}
        body = {"iss": issuer, "aud": audience, "iat": now, "nbf": now, "exp": now + seconds, **claims}
        signed = f"{_part(keys.canonical(header))}.{_part(keys.canonical(body))}"
        signature = self._issuer_key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_part(signature)}"

    def answer(self, method: str, path: str, query: str, bearer: str, body: bytes) -> Answer:
        """What the server says; raises Refused."""
        match method, path:
            case "POST", "/api/v2/signingCert":
                return self._certificate_v2(json.loads(body), bearer)
            case "POST", "/api/v1/signingCert":
                return self._certificate_v1(json.loads(body), bearer)
            case "POST", "/api/v1/log/entries":
                return self._log.add_v1(json.loads(body), self.rekor.now)
            case "POST", "/api/v2/log/entries":
                return self._log.add_v2(json.loads(body))
            case "GET", "/api/v1/log/entries":
                return self._log.get_v1(index=int(parse_qs(query)["logIndex"][0]))
            case "GET", "/api/v1/log/publicKey":
                return Answer(200, keys.pem(self._log.key), "application/x-pem-file")
            case "GET", entry if entry.startswith("/api/v1/log/entries/"):
                return self._log.get_v1(uuid=entry.rpartition("/")[2])
            case "POST", "/api/v1/timestamp":
                return Answer(201, self._timestamps.answer(body), "application/timestamp-reply")
            case "GET", "/token":
                return self._token_by_request(query, bearer)
        return Answer(404, {"code": 404, "message": f"no {method} {path}"})

    def service(self, path: str) -> Service:
        """Which service answers below this path."""
        if path.endswith("/signingCert"):
            return self.fulcio
        if path.endswith("/timestamp"):
            return self.tsa
        return self.rekor if "/log/" in path else self.oidc

    def _token_by_request(self, query: str, bearer: str) -> Answer:
        if not secrets.compare_digest(bearer, self.request_token):
            return Answer(401, {"message": "not the request token"})
        token = self.token(self.claims, audience=parse_qs(query)["audience"][0])
        return Answer(200, {"count": 1, "value": token})

    def _claims(self, token: str) -> dict[str, Any]:
        """The claims of a token of the issuer that is good now."""
        signed, _, signature = token.rpartition(".")
        try:
            key = self._issuer_key.public_key()
            key.verify(_unpart(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (InvalidSignature, ValueError):
            raise Refused("the token is not signed by the issuer") from None
        claims: dict[str, Any] = json.loads(_unpart(signed.partition(".")[2]))
        # Kubernetes and SPIFFE write a list.
        if claims["aud"] not in ("sigstore", ["sigstore"]):
            raise Refused("the token is for another audience")
        if not claims["nbf"] - 60 <= self.fulcio.now.timestamp() < claims["exp"]:
            raise Refused("the token has expired, or is not valid yet")
        return claims

    def _certificate_v2(self, request: dict[str, Any], bearer: str) -> Answer:
        claims = self._claims(bearer)
        if "certificateSigningRequest" in request:
            wanted = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
            if not wanted.is_signature_valid:
                raise Refused("the certificate signing request has a wrong signature")
            key = wanted.public_key()
        else:
            request = request["publicKeyRequest"]
            key = keys.read(request["publicKey"]["content"])
            keys.check(key, request["proofOfPossession"], _proven(claims))
        certificates = [one.decode() for one in self._chain(claims, key)]
        # cosign takes 201 for an error.
        return Answer(200, {"signedCertificateEmbeddedSct": {"chain": {"certificates": certificates}}})

    def _certificate_v1(self, request: dict[str, Any], bearer: str) -> Answer:
        claims = self._claims(bearer)
        key = keys.read(request["publicKey"]["content"])
        keys.check(key, request["signedEmailAddress"], _proven(claims))
        return Answer(201, b"".join(self._chain(claims, key)), "application/pem-certificate-chain")

    def _chain(self, claims: Mapping[str, Any], key: Any) -> list[bytes]:
        issued = self._fulcio.issue(claims, key, self.fulcio.now, self.certificate_seconds)
        return [one.public_bytes(Encoding.PEM) for one in (issued, self._fulcio.certificate)]

    def _write(self, directory: Path, start: datetime, version: int, *, timestamps: bool) -> Files:
        valid = {"start": start.strftime("%Y-%m-%dT%H:%M:%SZ")}

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            public = {
                "rawBytes": keys.text(keys.der(key)),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": valid,
            }
            log_id = {"keyId": keys.text(keys.digest(key))}
            return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": log_id}

        def authority(*chain: x509.Certificate) -> dict[str, Any]:
            certificates = [{"rawBytes": keys.text(one.public_bytes(Encoding.DER))} for one in chain]
            subject = {"organization": "local sigstore", "commonName": "authority"}
            chain_of = {"certificates": certificates}
            return {"subject": subject, "uri": self.url, "certChain": chain_of, "validFor": valid}

        def service(version: int, path: str = "") -> list[dict[str, Any]]:
            url = self.url + path
            return [{"url": url, "majorApiVersion": version, "validFor": valid, "operator": "local"}]

        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self._log.key)],
            "certificateAuthorities": [authority(self._fulcio.certificate)],
            "ctlogs": [log(self._fulcio.ct_key)],
            "timestampAuthorities": [authority(*self._timestamps.chain)],
        }
        config: dict[str, Any] = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service(1),
            "oidcUrls": service(1),
            "rekorTlogUrls": service(version),
            "rekorTlogConfig": {"selector": "ANY"},
        }
        if timestamps:
            config |= {"tsaUrls": service(1, "/api/v1/timestamp"), "tsaConfig": {"selector": "ANY"}}
        media_type = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        client = {"mediaType": media_type, "trustedRoot": root, "signingConfig": config}

        def write(name: str, content: bytes) -> Path:
            (directory / name).write_bytes(content)
            return directory / name

        return Files(
            trusted_root=write("trusted_root.json", keys.canonical(root)),
            signing_config=write("signing_config.json", keys.canonical(config)),
            trust_config=write("client_trust_config.json", keys.canonical(client)),
            fulcio=write("fulcio.pem", self._fulcio.certificate.public_bytes(Encoding.PEM)),
            rekor=write("rekor.pub", keys.pem(self._log.key)),
            ct=write("ctfe.pub", keys.pem(self._fulcio.ct_key)),
        )


def _proven(claims: Mapping[str, Any]) -> bytes:
    """What a client signs, to show that it has the key."""
    return str(claims.get("email") or claims["sub"]).encode()


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _unpart(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, sigstore: LocalSigstore) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sigstore = sigstore


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        sigstore, parts = self.server.sigstore, urlsplit(self.path)
        path = parts.path.replace("//", "/").rstrip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        bearer = self.headers.get("Authorization", "").partition(" ")[2]
        service = sigstore.service(path)
        if service.silent:
            sigstore.closing.wait()
            self.close_connection = True
            return
        if service.status is not None:
            answer = Answer(service.status, {"code": service.status, "message": "told to refuse"})
        else:
            answer = self._answer(lambda: sigstore.answer(self.command, path, parts.query, bearer, body))
        sigstore.requests.append(f"{self.command} {path} {answer.status}")
        if service.lost:
            service.lost -= 1
            self.close_connection = True
            return
        self._send(answer)

    do_GET = do_POST = _handle  # noqa: N815

    def _answer(self, answer: Callable[[], Answer]) -> Answer:
        try:
            return answer()
        except Refused as refused:
            return Answer(400, {"code": 3, "message": str(refused)})
        except (ValueError, KeyError, TypeError) as error:
            return Answer(400, {"code": 3, "message": f"{type(error).__name__}: {error}"})

    def _send(self, answer: Answer) -> None:
        content = answer.content if isinstance(answer.content, bytes) else json.dumps(answer.content).encode()
        self.send_response_only(answer.status)
        self.send_header("Content-Type", answer.media_type)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (answer.headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
