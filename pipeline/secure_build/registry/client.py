"""A client for the OCI distribution protocol (distribution-spec v1.1).

One object per registry and login. Tokens are kept per scope and sent to the registry's own host
only; redirects are followed without them. Whatever comes back is hashed and bounded while it is
read. Manifests are raw bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import quote, urljoin, urlsplit

from secure_build import manifest
from secure_build.errors import MachineError, ServiceError
from secure_build.layout import verified
from secure_build.manifest import Manifest
from secure_build.model import Credential, Descriptor
from secure_build.reference import DOCKER_HUB, Digest, Reference, Repository
from secure_build.registry.auth import Challenge, check_realm, is_loopback, parse_challenge
from secure_build.registry.http import TEMPORARY, Answer, InterruptedTransferError, Transport
from secure_build.secret import Secret, basic_authorization

_MOST_REDIRECTS = 5
_UPLOAD_TRIES = 3
_LARGEST_TOKEN = 64 << 10
_LARGEST_CONFIG = 8 << 20


class AccessError(MachineError):
    """The registry refuses the login, or refuses the login's owner what was asked."""


class NotFoundError(ServiceError):
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
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[str, str] = {}

    def __str__(self) -> str:
        return self.registry

    # Reading

    def has_blob(self, repository: Repository, descriptor: Descriptor) -> bool:
        answer = self._request("HEAD", self._blob(repository, descriptor.digest), repository)
        answer.close()
        if answer.status == 200:
            size = answer.headers.get("Content-Length")
            return size is None or size == str(descriptor.size)
        if answer.status == 404:
            return False
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
        named = answer.headers.get("Docker-Content-Digest")
        return Digest.parse(named) if named else self.resolve(reference).descriptor.digest

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
        named = answer.headers.get("Docker-Content-Digest")
        if (wanted and found != wanted) or (named and named.startswith("sha256:") and named != str(found)):
            raise ServiceError(
                f"{self.registry} answered for `{reference}` with content whose digest is {found}"
            )
        return manifest.parse(content, media_type)

    def get_manifest(self, repository: Repository, descriptor: Descriptor) -> Manifest:
        return self.resolve(Reference(repository, digest=descriptor.digest))

    def config(self, repository: Repository, image: Manifest) -> bytes:
        """The config blob of an image manifest."""
        assert image.config is not None
        if image.config.size > _LARGEST_CONFIG:
            raise ServiceError(f"the config of an image in `{repository}` has {image.config.size} bytes")
        answer = self._request("GET", self._blob(repository, image.config.digest), repository)
        if answer.status != 200:
            raise self._failure(answer, f"cannot read blob {image.config.digest} of `{repository}`")
        return b"".join(verified(answer.chunks(), image.config, f"`{repository}`"))

    # Writing

    def put_blob(
        self, repository: Repository, descriptor: Descriptor, chunks: Callable[[], Iterator[bytes]]
    ) -> None:
        """Upload a blob in one streamed request; a broken upload is begun anew."""
        for attempt in range(1, _UPLOAD_TRIES + 1):
            try:
                self._upload(repository, descriptor, chunks)
                return
            except InterruptedTransferError:
                if attempt == _UPLOAD_TRIES:
                    raise
                # The registry may have kept the blob although its answer was lost.
                if self.has_blob(repository, descriptor):
                    return

    def put_manifest(self, repository: Repository, content: Manifest) -> None:
        self._put_manifest(repository, str(content.descriptor.digest), content)

    def tag(self, reference: Reference, content: Manifest) -> None:
        self._put_manifest(reference.repository, reference.tag or "latest", content)

    # Inside

    def _upload(
        self, repository: Repository, descriptor: Descriptor, chunks: Callable[[], Iterator[bytes]]
    ) -> None:
        what = f"cannot upload blob {descriptor.digest} to `{repository}`"
        started = self._request("POST", f"/v2/{repository.path}/blobs/uploads/", repository)
        if started.status != 202:
            raise self._failure(started, what)
        started.close()
        location = urljoin(started.url, started.headers.get("Location", ""))
        location += ("&" if urlsplit(location).query else "?") + f"digest={quote(str(descriptor.digest))}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(descriptor.size)}
        done = self._request("PUT", location, repository, headers=headers, body=chunks, retry=False)
        if done.status in TEMPORARY:
            raise InterruptedTransferError(done.explained(what))
        if done.status != 201:
            raise self._failure(done, what)
        done.close()

    def _put_manifest(self, repository: Repository, name: str, content: Manifest) -> None:
        headers = {"Content-Type": content.media_type}
        answer = self._request(
            "PUT", self._manifest(repository, name), repository, headers=headers, body=lambda: content.content
        )
        if answer.status not in (200, 201):
            raise self._failure(answer, f"cannot write `{repository}:{name}`")
        answer.close()
        named = answer.headers.get("Docker-Content-Digest")
        if named and named != str(content.descriptor.digest):
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
        body: Callable[[], Iterator[bytes] | bytes] | None = None,
        retry: bool = True,
    ) -> Answer:
        """A request with the token for this scope; one 401 is answered, a second is final."""
        url = urljoin(self._url, path)
        scope = f"repository:{repository.path}:{self._actions}"

        def send() -> Answer:
            login = self._authorization(scope) if self._is_own(url) else {}
            return self._transport.request(
                method, url, headers={**(headers or {}), **login}, body=body, retry=retry
            )

        answer = send()
        if answer.status == 401 and self._is_own(url):
            answer.close()
            self._answer_challenge(answer, scope)
            answer = send()
        if method in ("GET", "HEAD"):
            answer = self._follow(answer, headers or {})
        return answer

    def _follow(self, answer: Answer, headers: Mapping[str, str]) -> Answer:
        """Follow redirects, without credentials: blob stores have their own, in the address."""
        for _ in range(_MOST_REDIRECTS):
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            answer.close()
            target = urljoin(answer.url, answer.headers.get("Location", ""))
            if urlsplit(target).scheme not in ("https", urlsplit(self._url).scheme):
                raise ServiceError(f"{self.registry} redirects to an address that is not HTTPS")
            answer = self._transport.request(answer.method, target, headers=headers)
        raise ServiceError(f"{self.registry} redirects more than {_MOST_REDIRECTS} times")

    def _authorization(self, scope: str) -> dict[str, str]:
        with self._lock:
            challenge, token = self._challenge, self._tokens.get(scope)
        if challenge and challenge.scheme == "basic":
            return {"Authorization": f"Basic {self._basic()}"}
        if challenge and not token:
            token = self._fetch_token(challenge, scope)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _answer_challenge(self, answer: Answer, scope: str) -> None:
        challenge = parse_challenge(answer.headers.get("WWW-Authenticate", ""))
        with self._lock:
            known, self._challenge = self._challenge, challenge
            self._tokens.pop(scope, None)
        if challenge.scheme == "basic" and (known == challenge or self._credential is None):
            raise self._refused()

    def _basic(self) -> str:
        if self._credential is None:
            raise self._refused()
        return basic_authorization(self._credential.username, self._credential.password.reveal())

    def _fetch_token(self, challenge: Challenge, scope: str) -> str:
        check_realm(challenge.realm, self._url)
        headers = {"Authorization": f"Basic {self._basic()}"} if self._credential else {}
        fields = {"service": challenge.service, "scope": scope}
        answer = self._transport.request(
            "GET",
            challenge.realm,
            headers=headers,
            fields={key: value for key, value in fields.items() if value},
        )
        if answer.status in (400, 401, 403):
            answer.close()
            raise self._refused()
        if answer.status != 200:
            raise ServiceError(answer.explained(f"no token for {self.registry}"))
        try:
            document = manifest.load_object(answer.body(_LARGEST_TOKEN))
            token = Secret(str(document.get("token") or document["access_token"])).reveal()
        except (ValueError, KeyError):
            raise ServiceError(
                f"the token service of {self.registry} gave an answer without a token"
            ) from None
        with self._lock:
            self._tokens[scope] = token
        return token

    def _is_own(self, url: str) -> bool:
        return urlsplit(url)[:2] == urlsplit(self._url)[:2]

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

    def _failure(self, answer: Answer, what: str) -> Exception:
        if answer.status == 401:
            answer.close()
            return self._refused()
        if answer.status == 403:
            who = f"user `{self._credential.username}`" if self._credential else "anonymous users"
            return AccessError(answer.explained(what), hint=f"{self.registry} does not allow it to {who}")
        return ServiceError(answer.explained(what))

    def _blob(self, repository: Repository, digest: Digest) -> str:
        return f"/v2/{repository.path}/blobs/{digest}"

    def _manifest(self, repository: Repository, name: str) -> str:
        return f"/v2/{repository.path}/manifests/{name}"


def _accept() -> dict[str, str]:
    return {"Accept": ", ".join(manifest.MEDIA_TYPES)}
