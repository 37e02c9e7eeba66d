"""A client for the OCI distribution protocol (distribution-spec v1.1).

One object per registry and login. Tokens are kept per scope and sent to the registry's own host
only; redirects are followed without them. Whatever comes back is hashed and bounded while it is
read. Manifests are raw bytes.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, urlencode, urljoin, urlsplit

from secure_build import manifest
from secure_build.errors import MachineError, ServiceError, UsageError
from secure_build.layout import verified
from secure_build.manifest import Manifest
from secure_build.model import Credential, Descriptor
from secure_build.reference import DOCKER_HUB, Digest, Reference, Repository
from secure_build.registry.auth import IDENTITY_USER, Challenge, check_realm, is_loopback, parse_challenge
from secure_build.registry.http import TEMPORARY, Answer, Body, InterruptedTransferError, Transport, redacted
from secure_build.secret import Secret, basic_authorization

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_LARGEST_TOKEN = 64 << 10
_LARGEST_CONFIG = 8 << 20
# What may stand in a header; a token with a line break would be a header of its own.
_TOKEN = re.compile(r"[!-~]+")


class AccessError(MachineError):
    """The registry refuses the login, or refuses the login's owner what was asked."""


class NotFoundError(UsageError):
    """The registry has no such manifest or blob."""


class RemoteRegistry:
    """One registry, spoken to with one login or none, to read or, with `push`, also to write."""

    def __init__(
        self, registry: str, credential: Credential | None, transport: Transport, *, push: bool = False
    ) -> None:
        self.registry = registry
        # One scope for all requests to a repository: one token serves the whole publication.
        self._actions = "pull,push" if push else "pull"
        self._credential = credential
        self._transport = transport
        host = "registry-1.docker.io" if registry == DOCKER_HUB else registry
        scheme = "http" if is_loopback(urlsplit(f"//{host}").hostname) else "https"
        self._url = f"{scheme}://{host}"
        # Held while a token is fetched, so that threads that need the same one wait for it.
        self._login = threading.Lock()
        self._challenge: Challenge | None = None
        self._authorizations: dict[str, str] = {}
        self._login_is_wrong = False

    def __str__(self) -> str:
        return self.registry

    # Reading

    def has_blob(self, repository: Repository, descriptor: Descriptor) -> bool:
        answer = self._request("HEAD", self._blob(repository, descriptor.digest), repository)
        answer.close()
        if answer.status in (200, 404):
            return _is_kept(answer, descriptor)
        raise self._failure(answer, f"cannot ask for blob {descriptor.digest}")

    def tagged(self, reference: Reference) -> Digest | None:
        """The digest behind a tag; where the registry does not name it, it is computed."""
        path = self._manifest(reference.repository, reference.tag or "latest")
        answer = self._request("HEAD", path, reference.repository, headers=_accept())
        answer.close()
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise self._failure(answer, f"cannot look up `{reference}`")
        return _named_digest(answer) or self.resolve(reference).descriptor.digest

    def resolve(self, reference: Reference) -> Manifest:
        """The manifest that the reference names now; a digest in it must be the content's.

        Raises NotFoundError when there is none.
        """
        wanted = reference.digest
        path = self._manifest(reference.repository, str(wanted or reference.tag or "latest"))
        answer = self._request("GET", path, reference.repository, headers=_accept())
        if answer.status == 404:
            answer.close()
            raise NotFoundError(
                f"`{reference}` does not exist", hint="check the name and tag; a private image needs a login"
            )
        if answer.status != 200:
            raise self._failure(answer, f"cannot read `{reference}`")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        content = answer.body(manifest.LARGEST)
        found = Digest.of(content)
        if found != (wanted or found) or found != (_named_digest(answer) or found):
            raise ServiceError(
                f"{self.registry} answered for `{reference}` with content whose digest is {found}"
            )
        return manifest.parse(content, media_type)

    def get_manifest(self, repository: Repository, descriptor: Descriptor) -> Manifest:
        try:
            return self.resolve(Reference(repository, digest=descriptor.digest))
        except NotFoundError as error:
            # Nobody asked for it by name: it should be there.
            raise ServiceError(error.message) from None

    def config(self, repository: Repository, image: Manifest) -> bytes:
        """The config blob of an image manifest."""
        assert image.config is not None
        if image.config.size > _LARGEST_CONFIG:
            raise ServiceError(f"the config of an image in `{repository}` has {image.config.size} bytes")
        return b"".join(self.blob(repository, image.config))

    def blob(self, repository: Repository, descriptor: Descriptor) -> Iterator[bytes]:
        """A blob's bytes; raises DamagedError at the end when they are not what was asked for."""
        answer = self._request("GET", self._blob(repository, descriptor.digest), repository)
        if answer.status != 200:
            raise self._failure(answer, f"cannot read blob {descriptor.digest} of `{repository}`")
        with contextlib.closing(answer):
            yield from verified(answer.chunks(), descriptor, f"`{repository}`")

    # Writing

    def put_blob(
        self, repository: Repository, descriptor: Descriptor, chunks: Callable[[], Iterator[bytes]]
    ) -> None:
        """Upload a blob in one streamed request; a broken upload is begun anew."""
        what = f"cannot upload blob {descriptor.digest} to `{repository}`"
        begun = False

        def attempt() -> Answer:
            nonlocal begun
            if begun:
                # The registry may have kept the blob although its answer was lost.
                path = self._blob(repository, descriptor.digest)
                kept = self._request("HEAD", path, repository, retry=False)
                kept.close()
                if _is_kept(kept, descriptor):
                    return kept
            begun = True
            return self._upload(repository, descriptor, chunks)

        try:
            answer = self._transport.persist(attempt)
        except InterruptedTransferError as error:
            raise ServiceError(f"{what}: {error.message}", hint=error.hint) from None
        if answer.status not in (200, 201):
            raise self._failure(answer, what)
        answer.close()

    def put_manifest(self, repository: Repository, content: Manifest) -> None:
        self._put_manifest(repository, str(content.descriptor.digest), content)

    def tag(self, reference: Reference, content: Manifest) -> None:
        self._put_manifest(reference.repository, reference.tag or "latest", content)

    # Inside

    def _upload(
        self, repository: Repository, descriptor: Descriptor, chunks: Callable[[], Iterator[bytes]]
    ) -> Answer:
        """The answer to one attempt: that of its second request, or a temporary one of its first."""
        path = f"/v2/{repository.path}/blobs/uploads/"
        started = self._request("POST", path, repository, headers={"Content-Length": "0"}, retry=False)
        if started.status in TEMPORARY:
            return started
        if started.status != 202:
            raise self._failure(started, f"cannot begin an upload to `{repository}`")
        started.close()
        location = self._target(started)
        location += ("&" if urlsplit(location).query else "?") + f"digest={quote(str(descriptor.digest))}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        return self._request("PUT", location, repository, headers=headers, body=chunks, retry=False)

    def _put_manifest(self, repository: Repository, name: str, content: Manifest) -> None:
        headers = {"Content-Type": content.media_type, "Content-Length": str(len(content.content))}
        path = self._manifest(repository, name)
        answer = self._request(
            "PUT", path, repository, headers=headers, body=lambda: iter((content.content,))
        )
        if answer.status != 201:
            raise self._failure(answer, f"cannot write `{repository}` {name}")
        answer.close()
        named = _named_digest(answer)
        if named and named != content.descriptor.digest:
            raise ServiceError(
                f"{self.registry} stored `{repository}` {content.descriptor.digest} as {named}"
            )

    def _request(
        self,
        method: str,
        path: str,
        repository: Repository,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        retry: bool = True,
    ) -> Answer:
        """A request with the login for this repository; redirects are followed while reading."""
        url = urljoin(self._url, path)

        def send(authorization: str | None) -> Answer:
            login = {"Authorization": authorization} if authorization else {}
            return self._transport.request(
                method, url, headers={**(headers or {}), **login}, body=body, retry=retry
            )

        for _ in range(_MOST_REDIRECTS):
            # Blob stores have an authorization of their own, in the address.
            own = _origin(url) == _origin(self._url)
            answer = self._logged_in(send, repository) if own else send(None)
            if method not in ("GET", "HEAD") or answer.status not in _REDIRECTS:
                return answer
            answer.close()
            url = self._target(answer)
        raise ServiceError(f"{self.registry} redirects more than {_MOST_REDIRECTS} times")

    def _logged_in(self, send: Callable[[str | None], Answer], repository: Repository) -> Answer:
        """What the registry itself answers; the first 401 is met with a login, the second is final."""
        scope = f"repository:{repository.path}:{self._actions}"
        first = self._authorization(scope)
        answer = send(first)
        if answer.status != 401:
            return answer
        answer.close()
        with self._login:
            self._challenge = parse_challenge(answer.headers.get("WWW-Authenticate", ""))
        second = self._authorization(scope, refused=first)
        return answer if second == first else send(second)

    def _target(self, answer: Answer) -> str:
        """Where an answer points to; plain HTTP only on this machine and when we speak it already."""
        location = answer.headers.get("Location", "")
        try:
            target = urljoin(answer.url, location)
            scheme, host, _ = _origin(target)
        except ValueError:
            scheme, host = "", None
        local = urlsplit(self._url).scheme == scheme == "http" and is_loopback(host)
        if not location or not host or not (scheme == "https" or local):
            raise ServiceError(f"{self.registry} points to `{redacted(location)}`, which is no HTTPS address")
        return target

    def _authorization(self, scope: str, *, refused: str | None = None) -> str | None:
        """The header that logs in for this scope, None as long as nothing was asked for.

        A token that was refused is replaced, once for all threads that hold it.
        """
        with self._login:
            if self._challenge is None:
                return None
            known = self._authorizations.get(scope)
            if known is None or known == refused:
                known = self._authorizations[scope] = self._log_in(self._challenge, scope)
            return known

    def _log_in(self, challenge: Challenge, scope: str) -> str:
        if self._login_is_wrong or (challenge.scheme == "basic" and self._credential is None):
            raise self._refused()
        if challenge.scheme == "basic":
            return self._basic()
        answer = self._ask_for_token(challenge, scope)
        if answer.status == 401:
            answer.close()
            self._login_is_wrong = True
            raise self._refused()
        if answer.status in (400, 403):
            raise AccessError(answer.explained(f"no token for {self.registry}"), hint=self._not_allowed())
        if answer.status != 200:
            raise ServiceError(answer.explained(f"no token for {self.registry}"))
        return f"Bearer {_token(answer.body(_LARGEST_TOKEN), self.registry)}"

    def _ask_for_token(self, challenge: Challenge, scope: str) -> Answer:
        check_realm(challenge.realm, self._url)
        fields = {"service": challenge.service, "scope": scope}
        if self._credential and self._credential.username == IDENTITY_USER:
            fields |= {
                "grant_type": "refresh_token",
                "client_id": "secure-build",
                "refresh_token": self._credential.password.reveal(),
            }
            form = urlencode(fields).encode()
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "Content-Length": str(len(form)),
            }
            return self._transport.request(
                "POST", challenge.realm, headers=headers, body=lambda: iter((form,))
            )
        query = urlencode({name: value for name, value in fields.items() if value})
        address = challenge.realm + ("&" if urlsplit(challenge.realm).query else "?") + query
        login = {"Authorization": self._basic()} if self._credential else {}
        return self._transport.request("GET", address, headers=login)

    def _basic(self) -> str:
        assert self._credential is not None
        return "Basic " + basic_authorization(self._credential.username, self._credential.password.reveal())

    def _refused(self) -> AccessError:
        if self._credential is None:
            return AccessError(
                f"{self.registry} asks for a login and there is none",
                hint=f"name one under `registries: {self.registry}:`, or run `docker login {self.registry}`",
            )
        return AccessError(
            f"{self.registry} refuses the login of user `{self._credential.username}`",
            hint="check user name and password; the password may have expired",
        )

    def _not_allowed(self) -> str:
        who = f"user `{self._credential.username}`" if self._credential else "anonymous users"
        return f"{self.registry} does not allow it to {who}"

    def _failure(self, answer: Answer, what: str) -> Exception:
        got_token = self._challenge is not None and self._challenge.scheme == "bearer"
        if answer.status == 401 and not (self._credential and got_token):
            answer.close()
            return self._refused()
        if answer.status in (401, 403):
            return AccessError(answer.explained(what), hint=self._not_allowed())
        return ServiceError(answer.explained(what))

    def _blob(self, repository: Repository, digest: Digest) -> str:
        return f"/v2/{repository.path}/blobs/{digest}"

    def _manifest(self, repository: Repository, name: str) -> str:
        return f"/v2/{repository.path}/manifests/{name}"


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(manifest.MEDIA_TYPES)}


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address; raises ValueError."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _is_kept(answer: Answer, descriptor: Descriptor) -> bool:
    """Whether a blob is there and whole; an answer that names no size may itself be cut off."""
    return answer.status == 200 and answer.headers.get("Content-Length") == str(descriptor.size)


def _named_digest(answer: Answer) -> Digest | None:
    """The SHA-256 digest that the registry names; None where it names none or one of another kind."""
    try:
        return Digest.parse(answer.headers.get("Docker-Content-Digest", ""))
    except UsageError:
        return None


def _token(content: bytes, registry: str) -> str:
    try:
        document = manifest.load_object(content)
        token = document.get("token") or document.get("access_token")
    except (ValueError, RecursionError):
        token = None
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise ServiceError(f"the token service of {registry} gave an answer without a token")
    return Secret(token).reveal()
