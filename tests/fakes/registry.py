"""A registry on loopback that keeps everything in memory, logs every request and fails on request.

It speaks the distribution protocol as far as clients push and pull images: blobs and parts of them,
uploads in one request or several, mounts, manifests, tags, referrers, basic logins and tokens per
scope. It refuses what a real registry refuses: content that has another digest, manifests whose
blobs are absent. It deletes nothing but uploads.

    with FakeRegistry(users={"ci": "password"}, auth="token") as registry:
        digest = registry.add_image("acme/web", "1.0")
        registry.faults.append(Fault("GET", "/manifests/", status=503, times=2))
        ...  # work with `registry.host`
        assert [request.status for request in registry.requests] == [...]
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from secure_build import manifest
from secure_build.manifest import OCI_MANIFEST, Manifest
from secure_build.model import Descriptor, Platform
from secure_build.reference import Digest
from services.serving import Serving

_ROUTE = re.compile(
    r"/v2/(?P<repository>.+)/(?P<kind>blobs|manifests|referrers)/(?P<name>(?:uploads/)?[^/]*)"
)
Point = Literal["status", "headers", "body"]


@dataclass
class Request:
    """One line of the log. `status` is None when there was no answer, `received` counts body bytes."""

    method: str
    path: str
    headers: dict[str, str]
    status: int | None = None
    received: int = 0

    @property
    def authorization(self) -> str | None:
        return self.headers.get("authorization")

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.status}"


@dataclass
class Answer:
    """What the registry is about to say."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Fault:
    """What goes wrong with the next `times` requests of this method whose path matches.

    `path` is a regular expression that is searched for; `skip` lets so many matching requests pass
    first. With `status` the request is answered so and does nothing; else it does its work.
    """

    method: str
    path: str = ""
    times: int = 1
    skip: int = 0
    status: int | None = None
    # Put into the answer; None takes a header out.
    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    # Take so many bytes of the request's body and leave the others on the line.
    read: int | None = None
    # Close the connection before the status line, within the headers or half way through the body.
    drop: Point | None = None
    # Say nothing more from there on, with the connection open.
    stall: Point | None = None

    def strikes(self, request: Request) -> bool:
        if self.times == 0 or request.method != self.method or not re.search(self.path, request.path):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


@dataclass(frozen=True)
class TokenRequest:
    """What the token service was asked for, by whom, and whether it gave a token."""

    scope: str
    username: str | None
    granted: bool


@dataclass(frozen=True)
class SmallImage:
    """The manifest of a valid image for one platform and the blobs it names."""

    manifest: Manifest
    blobs: dict[Descriptor, bytes]


def small_image(platform: str = "linux/s390x", *, layer: bytes = b"a layer") -> SmallImage:
    """An image of one layer; the layer is not unpacked by anything and may be any bytes."""
    named = Platform.parse(platform)
    config = {
        "architecture": named.architecture,
        "os": named.os,
        **({"variant": named.variant} if named.variant else {}),
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer))]},
    }
    contents = [
        ("application/vnd.oci.image.config.v1+json", json.dumps(config).encode()),
        ("application/vnd.oci.image.layer.v1.tar", layer),
    ]
    blobs = {Descriptor(kind, Digest.of(content), len(content)): content for kind, content in contents}
    entries = [
        {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size} for blob in blobs
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": entries[0], "layers": entries[1:]}
    return SmallImage(manifest.parse(json.dumps(document).encode(), OCI_MANIFEST), blobs)


class FakeRegistry(Serving):
    """The registry; serves while the `with` block lasts.

    Content is found under `(repository, digest)`, tags under `(repository, tag)`. Everything may be
    read and changed at any time.

    `auth` is how it asks for a login: not at all, `basic`, or `token` with its own token service,
    unless `realm` names another one. `users` maps names to passwords, `readers` are users that may
    only pull. With `public`, anybody may pull.
    """

    def __init__(
        self,
        *,
        auth: Literal["none", "basic", "token"] = "none",
        users: Mapping[str, str] | None = None,
        readers: Sequence[str] = (),
        public: bool = False,
        realm: str | None = None,
    ) -> None:
        self.auth = auth
        self.users = dict(users or {})
        self.readers = set(readers)
        self.public = public
        self.realm = realm
        # Refresh tokens of OAuth 2 and the users they stand for.
        self.identity_tokens: dict[str, str] = {}
        self.read_only = False
        self.absolute_locations = False
        # What the registry can do beyond the least: mount blobs, send parts of them, list referrers.
        self.mounts = True
        self.ranges = True
        self.lists_referrers = False
        self.referrers_per_page = 100
        # What a manifest names is missing although a look finds it.
        self.lost_blobs: set[Digest] = set()
        # Whether tokens are JWTs that tell what they grant, and whether the answer tells it.
        self.readable_tokens = False
        self.tells_scope = False
        # Another registry that blobs are read from, by redirects; it gets a copy at that moment.
        self.blob_store: FakeRegistry | None = None
        self.blobs: dict[tuple[str, Digest], bytes] = {}
        self.manifests: dict[tuple[str, Digest], tuple[str, bytes]] = {}
        self.tags: dict[tuple[str, str], Digest] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.token_requests: list[TokenRequest] = []
        self.tokens: dict[str, str] = {}
        self._uploads: dict[str, bytes] = {}
        self._lock = threading.Lock()
        super().__init__(_Server(self))
        self.url = f"http://{self.host}"

    def __exit__(self, *_: object) -> None:
        self._server.closing.set()
        super().__exit__()
        if self._server.errors:
            raise self._server.errors[0]

    # For tests

    def add(self, repository: str, image: SmallImage) -> Digest:
        """Put an image there, without a tag."""
        for blob, content in image.blobs.items():
            self.blobs[repository, blob.digest] = content
        return self._add_manifest(repository, image.manifest)

    def add_image(
        self, repository: str, tag: str | None = None, *, platforms: Sequence[str] = ("linux/s390x",)
    ) -> Digest:
        """Put a small image there, or for several platforms an index of them; the tag names it."""
        images = [small_image(platform, layer=platform.encode()) for platform in platforms]
        digests = [self.add(repository, image) for image in images]
        digest = digests[0]
        if len(images) > 1:
            members = [
                Descriptor(OCI_MANIFEST, digest, len(image.manifest.content), Platform.parse(platform))
                for digest, image, platform in zip(digests, images, platforms, strict=True)
            ]
            digest = self._add_manifest(repository, manifest.index_of(members))
        if tag is not None:
            self.tags[repository, tag] = digest
        return digest

    def asked(self, method: str, path: str = "") -> list[Request]:
        """The logged requests of this method whose path matches the regular expression."""
        return [
            request for request in self.requests if request.method == method and re.search(path, request.path)
        ]

    @property
    def writes(self) -> list[str]:
        """Every request that was to change something, with its status."""
        return [str(request) for request in self.requests if request.method not in ("GET", "HEAD")]

    def expire_tokens(self) -> None:
        self.tokens.clear()

    # Answering

    def answer(self, request: Request, body: bytes) -> Answer:
        parts = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        with self._lock:
            if parts.path == "/token":
                return self._token(request, query, body)
            if parts.path == "/v2/":
                return self._refusal(request, None) or Answer(200, body=b"{}")
            route = _ROUTE.fullmatch(parts.path)
            if route is None:
                return _error(404, "NAME_UNKNOWN")
            repository, kind, name = route["repository"], route["kind"], route["name"]
            refusal = self._refusal(request, repository)
            if refusal is not None:
                return refusal
            if request.method not in ("GET", "HEAD") and self.read_only:
                return _error(405, "UNSUPPORTED", "the registry is read-only")
            if kind == "manifests":
                return self._manifest(request, repository, name, body)
            if kind == "referrers":
                return self._referrers(repository, name, query)
            if name.startswith("uploads/"):
                return self._upload(request, repository, name.removeprefix("uploads/"), query, body)
            return self._blob(request, repository, name)

    def _blob(self, request: Request, repository: str, name: str) -> Answer:
        content = self.blobs.get((repository, Digest.parse(name)))
        if content is None:
            return _error(404, "BLOB_UNKNOWN")
        if self.blob_store is not None:
            self.blob_store.blobs[repository, Digest.parse(name)] = content
            return Answer(307, {"Location": f"{self.blob_store.url}{request.path}?signature=of-the-store"})
        headers = {"Docker-Content-Digest": name, "Content-Type": "application/octet-stream"}
        wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
        if wanted and self.ranges:
            start = int(wanted[1])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            return Answer(206, headers, content[start:])
        return Answer(200, headers, content)

    def _referrers(self, repository: str, name: str, query: Mapping[str, str]) -> Answer:
        if not self.lists_referrers:
            return Answer(404, body=b"404 page not found")
        found = []
        for (place, digest), (media_type, content) in sorted(self.manifests.items()):
            document = json.loads(content)
            if place == repository and document.get("subject", {}).get("digest") == name:
                kind = document.get("artifactType") or document["config"]["mediaType"]
                found.append(
                    {
                        "mediaType": media_type,
                        "digest": str(digest),
                        "size": len(content),
                        "artifactType": kind,
                    }
                )
        start = int(query.get("from", 0))
        end = start + self.referrers_per_page
        path = f"/v2/{repository}/referrers/{name}?from={end}"
        more = {"Link": f'<{path}>; rel="next"'} if end < len(found) else {}
        index = {"schemaVersion": 2, "mediaType": manifest.OCI_INDEX, "manifests": found[start:end]}
        return Answer(200, {"Content-Type": manifest.OCI_INDEX, **more}, json.dumps(index).encode())

    def _upload(
        self, request: Request, repository: str, upload: str, query: Mapping[str, str], body: bytes
    ) -> Answer:
        if request.method == "POST":
            upload = secrets.token_hex(8)
            if "mount" in query and self.mounts:
                digest = Digest.parse(query["mount"])
                if (query["from"], digest) in self.blobs:
                    self.blobs[repository, digest] = self.blobs[query["from"], digest]
                    return Answer(201, {"Location": f"/v2/{repository}/blobs/{digest}"})
            self._uploads[upload] = b""
        if upload not in self._uploads:
            return _error(404, "BLOB_UPLOAD_UNKNOWN")
        content = self._uploads[upload] = self._uploads[upload] + body
        if request.method == "DELETE":
            del self._uploads[upload]
            return Answer(204)
        if request.method != "PUT":
            prefix = self.url if self.absolute_locations else ""
            location = f"{prefix}/v2/{repository}/blobs/uploads/{upload}?state=kept"
            return Answer(202, {"Location": location, "Range": f"0-{max(len(content) - 1, 0)}"})
        del self._uploads[upload]
        digest = Digest.of(content)
        if query.get("digest") != str(digest):
            return _error(400, "DIGEST_INVALID", "the content has another digest")
        self.blobs[repository, digest] = content
        self.lost_blobs.discard(digest)
        return Answer(201, {"Docker-Content-Digest": str(digest)})

    @property
    def open_uploads(self) -> int:
        return len(self._uploads)

    def _manifest(self, request: Request, repository: str, name: str, body: bytes) -> Answer:
        if request.method == "PUT":
            return self._put_manifest(request, repository, name, body)
        digest = Digest.parse(name) if ":" in name else self.tags.get((repository, name))
        if digest is None or (repository, digest) not in self.manifests:
            return _error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        media_type, content = self.manifests[repository, digest]
        return Answer(200, {"Content-Type": media_type, "Docker-Content-Digest": str(digest)}, content)

    def _put_manifest(self, request: Request, repository: str, name: str, body: bytes) -> Answer:
        parsed = manifest.parse(body, request.headers["content-type"])
        digest = parsed.descriptor.digest
        if ":" in name and name != str(digest):
            return _error(400, "DIGEST_INVALID")
        for kept, named in ((self.blobs, parsed.blobs), (self.manifests, parsed.members)):
            for descriptor in named:
                if (repository, descriptor.digest) not in kept or descriptor.digest in self.lost_blobs:
                    return _error(400, "MANIFEST_BLOB_UNKNOWN", str(descriptor.digest))
        self._add_manifest(repository, parsed)
        if ":" not in name:
            self.tags[repository, name] = digest
        subject = json.loads(body).get("subject")
        told = {"OCI-Subject": subject["digest"]} if subject and self.lists_referrers else {}
        return Answer(201, {"Docker-Content-Digest": str(digest), **told})

    def _add_manifest(self, repository: str, content: Manifest) -> Digest:
        digest = content.descriptor.digest
        self.manifests[repository, digest] = (content.media_type, content.content)
        return digest

    # Logins

    def _refusal(self, request: Request, repository: str | None) -> Answer | None:
        """The answer to a request that lacks the login it needs."""
        action = "pull" if request.method in ("GET", "HEAD") else "push"
        if self.auth == "none" or (self.public and action == "pull"):
            return None
        kind, _, value = (request.authorization or "").partition(" ")
        if self.auth == "basic":
            user = self._user(request)
            if user is None:
                return _error(401, "UNAUTHORIZED", challenge='Basic realm="fake"')
            return _error(403, "DENIED") if action == "push" and user in self.readers else None
        granted = self.tokens.get(value, "") if kind == "Bearer" else ""
        if (repository is None and granted) or (repository and self._covers(granted, repository, action)):
            wanted = parse_qs(urlsplit(request.path).query).get("from", [])
            if not ("mount=" in request.path and self._lacks_source(granted, wanted)):
                return None
        problem = ',error="insufficient_scope"' if granted else ""
        realm = self.realm or f"{self.url}/token"
        scope = f"repository:{repository}:{'pull' if action == 'pull' else 'pull,push'}"
        challenge = f'Bearer realm="{realm}",service="fake",scope="{scope}"{problem}'
        return _error(401, "UNAUTHORIZED", "authentication required", challenge=challenge)

    def _token(self, request: Request, query: Mapping[str, str], body: bytes) -> Answer:
        if request.method == "POST":
            query = {name: values[0] for name, values in parse_qs(body.decode()).items()}
            user = self.identity_tokens.get(query["refresh_token"])
            offered = True
        else:
            user, offered = self._user(request), request.authorization is not None
            scopes = parse_qs(urlsplit(request.path).query).get("scope", [])
        scope = query.get("scope", "") if request.method == "POST" else " ".join(scopes)
        granted = user is not None or (self.public and not offered)
        self.token_requests.append(TokenRequest(scope, user, granted))
        if not granted:
            return _error(401, "UNAUTHORIZED", "incorrect username or password")
        if user is None or user in self.readers:
            scope = scope.replace("pull,push", "pull")
        token = secrets.token_urlsafe(24)
        if self.readable_tokens:
            token = f"{_part({'alg': 'none'})}.{_part({'access': _access(scope)})}.{token}"
        self.tokens[token] = scope
        document = {"token": token} | ({"scope": scope} if self.tells_scope else {})
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(document).encode())

    def _user(self, request: Request) -> str | None:
        kind, _, value = (request.authorization or "").partition(" ")
        if kind != "Basic":
            return None
        user, _, password = base64.b64decode(value).decode().partition(":")
        return user if self.users.get(user) == password else None

    @staticmethod
    def _covers(granted: str, repository: str, action: str) -> bool:
        entries = _access(granted)
        return any(entry["name"] == repository and action in entry["actions"] for entry in entries)

    def _lacks_source(self, granted: str, sources: Sequence[str]) -> bool:
        """Like Docker Hub, where who mounts must show that he may pull there."""
        return not all(self._covers(granted, source, "pull") for source in sources)


def _access(scope: str) -> list[dict[str, Any]]:
    """The `access` claim that says the same as these scopes."""
    entries = []
    for part in scope.split():
        kind, _, rest = part.partition(":")
        name, _, actions = rest.rpartition(":")
        entries.append({"type": kind, "name": name, "actions": actions.split(",")})
    return entries


def _part(document: Any) -> str:
    """A part of a JWT."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def _error(status: int, code: str, message: str = "", *, challenge: str | None = None) -> Answer:
    headers = {"Content-Type": "application/json"} | ({"WWW-Authenticate": challenge} if challenge else {})
    return Answer(status, headers, json.dumps({"errors": [{"code": code, "message": message}]}).encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, registry: FakeRegistry) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.registry = registry
        self.closing = threading.Event()
        self.errors: list[Exception] = []

    def handle_error(self, *_: object) -> None:
        """Clients may hang up; anything else is a mistake of this fake and fails the test."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # The answer's headers and body in separate packets would wait for each other.
    wbufsize = -1
    disable_nagle_algorithm = True
    server: _Server

    def _handle(self) -> None:
        registry = self.server.registry
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers)
        with registry._lock:
            registry.requests.append(request)
            fault = next((fault for fault in registry.faults if fault.strikes(request)), None)
        size = int(headers.get("content-length", 0))
        wanted = size if fault is None or fault.read is None else min(size, fault.read)
        body = self.rfile.read(wanted)
        request.received = len(body)
        if len(body) < wanted:
            self.close_connection = True  # The client hung up.
            return
        self.close_connection = wanted < size
        if fault is None:
            self._send(request, registry.answer(request, body), None, None)
            return
        whole = len(body) == size
        if fault.status is not None or not whole:
            answer = Answer(fault.status or 400)
        else:
            answer = registry.answer(request, body)
        for name, value in fault.headers.items():
            answer.headers.pop(name, None)
            if value is not None:
                answer.headers[name] = value
        if fault.body is not None:
            answer.body = fault.body
        self._send(request, answer, fault.drop or fault.stall, "stall" if fault.stall else "drop")

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _send(self, request: Request, answer: Answer, point: Point | None, then: str | None) -> None:
        if point != "status":
            request.status = answer.status
            text = [f"HTTP/1.1 {answer.status} because", f"Content-Length: {len(answer.body)}"]
            text += [f"{name}: {value}" for name, value in answer.headers.items()]
            text += ["Connection: close"] if self.close_connection else []
            head = "\r\n".join([*text, "", ""]).encode()
            body = b"" if request.method == "HEAD" else answer.body
            if point == "headers":
                head, body = head[: len(head) // 2], b""
            elif point == "body":
                body = body[: len(body) // 2]
            self.wfile.write(head + body)
            self.wfile.flush()
        if point is not None:
            self.close_connection = True
            if then == "stall":
                self.server.closing.wait()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass
