"""Mounts, the right to push, parts of blobs, and the habits of registries that differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fakes.registry import FakeRegistry, Fault, small_image
from secure_build import stopping
from secure_build.errors import ServiceError, UsageError
from secure_build.layout import DamagedError
from secure_build.model import Credential, Descriptor
from secure_build.reference import Digest, Pinned, Reference, Repository
from secure_build.registry.client import AccessError, RemoteRegistry
from secure_build.registry.http import Answer, InterruptedTransferError, Transport
from secure_build.registry.session import Session
from secure_build.registry.tokens import Challenge, parse_token
from secure_build.secret import Secret

BLOB = bytes(range(256)) * 4000
DESCRIPTOR = Descriptor("application/octet-stream", Digest.of(BLOB), len(BLOB))
SCOPES = "repository:acme/web:pull,push repository:acme/base:pull"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "pause", lambda _: None)


@pytest.fixture
def tokens() -> Iterator[FakeRegistry]:
    with FakeRegistry(auth="token", users={"ann": "word", "bob": "word"}, readers=["bob"]) as registry:
        yield registry


@pytest.fixture
def basic() -> Iterator[FakeRegistry]:
    with FakeRegistry(auth="basic", users={"ann": "word", "bob": "word"}, readers=["bob"]) as registry:
        yield registry


def remote(registry: FakeRegistry, transport: Transport, user: str | None = "ann") -> RemoteRegistry:
    login = Credential(registry.host, user, Secret("word")) if user else None
    return RemoteRegistry(registry.host, login, transport, push=True)


def chunks() -> Iterator[bytes]:
    yield BLOB


def mount(registry: FakeRegistry, transport: Transport, user: str | None = "ann") -> bool:
    base, web = Repository(registry.host, "acme/base"), Repository(registry.host, "acme/web")
    return remote(registry, transport, user).put_blob(web, DESCRIPTOR, chunks, mount_from=base)


# Mounts


def test_what_another_repository_has_is_mounted(tokens: FakeRegistry, transport: Transport) -> None:
    tokens.blobs["acme/base", DESCRIPTOR.digest] = BLOB
    assert not mount(tokens, transport)
    assert tokens.blobs["acme/web", DESCRIPTOR.digest] == BLOB
    assert [request.scope for request in tokens.token_requests] == [SCOPES]
    assert len(tokens.asked("POST", "/uploads/")) == 2  # the first is met with 401
    assert tokens.asked("PUT") == []


def test_a_mount_that_becomes_an_upload_costs_no_request(
    registry: FakeRegistry, transport: Transport
) -> None:
    """Amazon ECR does so for what no manifest refers to."""
    assert mount(registry, transport, None)
    assert [request.method for request in registry.requests] == ["POST", "PUT"]
    assert registry.blobs["acme/web", DESCRIPTOR.digest] == BLOB
    assert registry.open_uploads == 0


def test_an_upload_that_a_mount_began_may_break_off(registry: FakeRegistry, transport: Transport) -> None:
    registry.faults.append(Fault("PUT", read=1000, drop="status"))
    assert mount(registry, transport, None)
    assert [request.method for request in registry.requests] == ["POST", "PUT", "HEAD", "POST", "PUT"]
    assert "mount" not in registry.asked("POST")[1].path


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500])
def test_a_mount_that_is_refused_becomes_an_upload(
    registry: FakeRegistry, transport: Transport, status: int
) -> None:
    headers = {"WWW-Authenticate": 'Basic realm="x"'}
    registry.faults.append(Fault("POST", "mount=", status=status, headers=headers))
    assert mount(registry, transport)
    assert registry.blobs["acme/web", DESCRIPTOR.digest] == BLOB


@pytest.mark.parametrize("kept", ["first", "last"])
def test_a_token_with_one_of_two_scopes_is_no_end(
    tokens: FakeRegistry, transport: Transport, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """GitLab grants the last scope, older Harbors the first."""
    tokens.blobs["acme/base", DESCRIPTOR.digest] = BLOB
    whole = tokens._token

    def part(request: Any, query: Any, body: bytes) -> Any:
        answer = whole(request, query, body)
        token = json.loads(answer.body)["token"]
        granted = tokens.tokens[token].split()
        tokens.tokens[token] = granted[0] if kept == "first" else granted[-1]
        return answer

    monkeypatch.setattr(tokens, "_token", part)
    assert mount(tokens, transport)
    assert tokens.blobs["acme/web", DESCRIPTOR.digest] == BLOB


def test_a_token_service_that_refuses_the_other_scope_is_no_end(
    tokens: FakeRegistry, transport: Transport
) -> None:
    web = Repository(tokens.host, "acme/web")
    for status in (403, 401):
        tokens.faults.append(Fault("GET", r"^/token.*acme%2Fbase", status=status))
        client = remote(tokens, transport)
        client.tagged(Reference(web, "1"))
        base = Repository(tokens.host, "acme/base")
        assert client.put_blob(web, DESCRIPTOR, chunks, mount_from=base)
        # The login is right all the same.
        client.tagged(Reference(Repository(tokens.host, "acme/third"), "1"))


def test_nothing_is_mounted_from_itself(registry: FakeRegistry, transport: Transport) -> None:
    web = Repository(registry.host, "acme/web")
    remote(registry, transport, None).put_blob(web, DESCRIPTOR, chunks, mount_from=web)
    assert "mount" not in registry.asked("POST")[0].path


# The right to push


@pytest.mark.parametrize("tells", ["claims", "scope"])
@pytest.mark.parametrize(("user", "right"), [("ann", "granted"), ("bob", "refused")])
def test_a_token_service_tells_who_may_push(
    tokens: FakeRegistry, transport: Transport, tells: str, user: str, right: str
) -> None:
    tokens.readable_tokens, tokens.tells_scope = tells == "claims", tells == "scope"
    client = remote(tokens, transport, user)
    for _ in range(2):
        assert client.push_right(Repository(tokens.host, "acme/web")) == right
    assert [request.method for request in tokens.requests] == ["GET", "GET"]
    assert tokens.writes == []


def test_a_token_that_tells_nothing_leaves_it_unknown(tokens: FakeRegistry, transport: Transport) -> None:
    """GHCR's are like that."""
    web = Repository(tokens.host, "acme/web")
    assert remote(tokens, transport).push_right(web) == "unknown"
    assert tokens.writes == []
    assert remote(tokens, transport).push_right(web, probe=True) == "granted"
    assert remote(tokens, transport, "bob").push_right(web, probe=True) == "refused"
    assert tokens.open_uploads == 0


@pytest.mark.parametrize(("user", "right"), [("ann", "granted"), ("bob", "refused")])
def test_a_basic_login_tells_nothing_unless_it_is_tried(
    basic: FakeRegistry, transport: Transport, user: str, right: str
) -> None:
    web = Repository(basic.host, "acme/web")
    client = remote(basic, transport, user)
    assert client.push_right(web) == "unknown"
    assert basic.writes == []
    assert client.push_right(web, probe=True) == right
    assert basic.open_uploads == 0
    assert basic.blobs == {}


def test_a_registry_without_logins_leaves_it_unknown(registry: FakeRegistry, transport: Transport) -> None:
    web = Repository(registry.host, "acme/web")
    client = remote(registry, transport, None)
    assert client.push_right(web) == "unknown"
    assert client.push_right(web, probe=True) == "granted"
    registry.read_only = True
    assert client.push_right(web, probe=True) == "refused"
    registry.faults.append(Fault("POST", status=404))
    assert client.push_right(web, probe=True) == "refused"
    registry.faults.append(Fault("POST", status=503, times=-1))
    assert client.push_right(web, probe=True) == "unknown"


@pytest.mark.parametrize("status", [401, 404, 405, 500])
def test_an_upload_that_cannot_be_cancelled_is_left(
    registry: FakeRegistry, transport: Transport, status: int
) -> None:
    """GHCR answers 405."""
    headers = {"WWW-Authenticate": 'Basic realm="x"'}
    registry.faults.append(Fault("DELETE", status=status, headers=headers))
    client = remote(registry, transport)
    assert client.push_right(Repository(registry.host, "acme/web"), probe=True) == "granted"


def test_a_wrong_login_is_an_error(tokens: FakeRegistry, transport: Transport) -> None:
    client = RemoteRegistry(tokens.host, Credential(tokens.host, "ann", Secret("wrong")), transport)
    with pytest.raises(AccessError, match="refuses the login of user `ann`"):
        client.push_right(Repository(tokens.host, "acme/web"))


def test_nobody_may_push_without_a_login(transport: Transport) -> None:
    with FakeRegistry(auth="token", public=True) as registry:
        registry.readable_tokens = True
        registry.public = False
        registry.users = {}
        with pytest.raises(AccessError, match="asks for a login and there is none"):
            remote(registry, transport, None).push_right(Repository(registry.host, "acme/web"))
        registry.public = True
        registry.faults.append(
            Fault(
                "GET",
                "^/v2/$",
                status=401,
                headers={"WWW-Authenticate": f'Bearer realm="{registry.url}/token"'},
            )
        )
        right = remote(registry, transport, None).push_right(Repository(registry.host, "acme/web"))
        assert right == "refused"


@pytest.mark.parametrize(
    "token",
    [
        "opaque",
        "a.b.c",
        "a.e30.c",
        "a.bnVsbA.c",
        "a.eyJhY2Nlc3MiOiA1fQ.c",
        "a.W10.c",
        "a.eyJhY2Nlc3MiOiBbNV19.c",
    ],
)
def test_a_token_that_is_no_readable_jwt_tells_nothing(token: str) -> None:
    assert parse_token(json.dumps({"token": token}).encode(), "r").granted is None


# Challenges


def test_hardening_05_a_401_with_another_scope_is_met_once(
    tokens: FakeRegistry, transport: Transport
) -> None:
    """What is not ours to ask for is not asked for."""
    challenge = f'Bearer realm="{tokens.url}/token",service="fake",scope="repository:other/secret:pull"'
    tokens.faults.append(Fault("HEAD", status=401, headers={"WWW-Authenticate": challenge}, times=-1))
    with pytest.raises(AccessError):
        remote(tokens, transport).has_blob(Repository(tokens.host, "acme/web"), DESCRIPTOR)
    assert [request.scope for request in tokens.token_requests] == ["repository:acme/web:pull,push"]
    assert len(tokens.asked("HEAD")) == 2


def test_the_scope_of_a_whole_registry_is_asked_for(tokens: FakeRegistry, transport: Transport) -> None:
    """ECR Public names `aws`."""
    challenge = f'Bearer realm="{tokens.url}/token",service="fake",scope="aws"'
    tokens.faults.append(Fault("HEAD", status=401, headers={"WWW-Authenticate": challenge}))
    remote(tokens, transport).has_blob(Repository(tokens.host, "acme/web"), DESCRIPTOR)
    assert [request.scope for request in tokens.token_requests] == ["repository:acme/web:pull,push aws"]


def test_scopes_of_other_repositories_are_left_out() -> None:
    challenge = Challenge("bearer", "https://a/t", "s", "repository:x:pull registry:catalog:* aws \t")
    assert challenge.scopes == ("registry:catalog:*", "aws")


def test_no_cookie_is_kept(registry: FakeRegistry, transport: Transport) -> None:
    """Harbor takes who sends one for a browser."""
    registry.faults.append(Fault("HEAD", headers={"Set-Cookie": "sid=1; Path=/"}))
    client = remote(registry, transport, None)
    for _ in range(2):
        client.has_blob(Repository(registry.host, "acme/web"), DESCRIPTOR)
    assert all("cookie" not in request.headers for request in registry.requests)


# Answers that differ


def test_who_writes_is_not_stopped_by_a_refused_look(registry: FakeRegistry, transport: Transport) -> None:
    """Artifactory answers 403 for a tag that is not there."""
    reference = Reference(Repository(registry.host, "acme/web"), "1")
    registry.faults.append(Fault("HEAD", status=403, times=2))
    assert remote(registry, transport, None).tagged(reference) is None
    with pytest.raises(AccessError):
        RemoteRegistry(registry.host, None, transport).tagged(reference)


def test_a_repository_that_a_push_does_not_make_is_explained(
    registry: FakeRegistry, transport: Transport
) -> None:
    body = b'{"errors": [{"code": "NAME_UNKNOWN", "message": "The repository does not exist"}]}'
    registry.faults.append(Fault("POST", status=404, body=body))
    with pytest.raises(ServiceError, match="NAME_UNKNOWN: The repository does not exist") as raised:
        remote(registry, transport, None).put_blob(Repository(registry.host, "acme/web"), DESCRIPTOR, chunks)
    assert (
        raised.value.hint == "this registry makes no repository by a push: create it, or its project, first"
    )


def test_a_registry_that_hangs_up_on_a_missing_repository_is_explained() -> None:
    """Amazon ECR."""
    host = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"

    class Broken(Transport):
        def request(self, *_: object, **__: object) -> Answer:
            raise InterruptedTransferError("POST got no answer: hung up")

    with Broken(deadline_seconds=0) as transport, pytest.raises(ServiceError, match="hung up") as raised:
        RemoteRegistry(host, None, transport).put_blob(Repository(host, "acme/web"), DESCRIPTOR, chunks)
    assert raised.value.hint == "create the repository first: Amazon ECR hangs up when it does not exist"


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("http://harbor.example/v2/x?a=b", "https://harbor.example/v2/x?a=b"),
        ("http://harbor.example:80/v2/x", "https://harbor.example/v2/x"),
        ("https://harbor.example/v2/x", "https://harbor.example/v2/x"),
        ("/v2/x", "https://harbor.example/v2/x"),
        ("x", "https://harbor.example/v2/acme/x"),
        ("https://store.example/x", "https://store.example/x"),
    ],
)
def test_hardening_06_plain_http_at_the_own_host_becomes_https(location: str, target: str) -> None:
    """A registry behind a proxy that ends TLS does not know better."""
    session = Session("harbor.example", None, Transport())
    assert session.target(_answer("https://harbor.example/v2/acme/y", location)) == target


@pytest.mark.parametrize("location", ["http://other.example/x", "http://10.0.0.1/x", "ftp://harbor.example/"])
def test_hardening_06_plain_http_elsewhere_is_refused(location: str) -> None:
    session = Session("harbor.example", None, Transport())
    with pytest.raises(ServiceError, match="which is no HTTPS address"):
        session.target(_answer("https://harbor.example/v2/acme/y", location))


def _answer(url: str, location: str) -> Answer:
    return Answer("POST", url, 202, {"Location": location}, None)  # type: ignore[arg-type]


# Reading blobs


def test_hardening_03_a_blob_is_gone_on_with_where_it_broke_off(
    registry: FakeRegistry, transport: Transport
) -> None:
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB
    registry.faults.append(Fault("GET", drop="body", times=3))
    found = b"".join(
        remote(registry, transport, None).blob(Repository(registry.host, "acme/web"), DESCRIPTOR)
    )
    assert found == BLOB
    ranges = [request.headers.get("range") for request in registry.requests]
    half, quarter, eighth = (len(BLOB) * part // 8 for part in (4, 6, 7))
    assert ranges == [None, f"bytes={half}-", f"bytes={quarter}-", f"bytes={eighth}-"]


def test_a_registry_that_knows_no_parts_sends_all_of_it_again(
    registry: FakeRegistry, transport: Transport
) -> None:
    registry.ranges = False
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB
    registry.faults.append(Fault("GET", drop="body", times=2))
    found = b"".join(
        remote(registry, transport, None).blob(Repository(registry.host, "acme/web"), DESCRIPTOR)
    )
    assert found == BLOB


def test_going_on_has_an_end(registry: FakeRegistry, transport: Transport) -> None:
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB
    registry.faults.append(Fault("GET", drop="body", times=-1))
    with pytest.raises(InterruptedTransferError):
        list(remote(registry, transport, None).blob(Repository(registry.host, "acme/web"), DESCRIPTOR))
    assert len(registry.requests) == 5


def test_a_part_of_something_else_is_noticed(registry: FakeRegistry, transport: Transport) -> None:
    web = Repository(registry.host, "acme/web")
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB
    registry.faults += [Fault("GET", drop="body"), Fault("GET", body=b"x" * (len(BLOB) // 2))]
    with pytest.raises(DamagedError):
        list(remote(registry, transport, None).blob(web, DESCRIPTOR))
    registry.faults += [
        Fault("GET", drop="body"),
        Fault("GET", headers={"Content-Range": "bytes 5-9/10"}),
    ]
    with pytest.raises(ServiceError, match="at another place"):
        list(remote(registry, transport, None).blob(web, DESCRIPTOR))


def test_a_blob_that_is_absent_is_said(registry: FakeRegistry, transport: Transport) -> None:
    with pytest.raises(ServiceError, match=r"cannot read blob .* answered 404 \(BLOB_UNKNOWN"):
        list(remote(registry, transport, None).blob(Repository(registry.host, "acme/web"), DESCRIPTOR))


def test_hardening_06_no_login_goes_along_when_a_part_is_elsewhere(
    basic: FakeRegistry, transport: Transport
) -> None:
    image = small_image()
    basic.add("acme/web", image)
    layer = image.manifest.layers[0]
    with FakeRegistry() as store:
        basic.blob_store = store
        store.faults.append(Fault("GET", drop="body"))
        found = remote(basic, transport).blob(Repository(basic.host, "acme/web"), layer)
        assert b"".join(found) == image.blobs[layer]
        assert [request.authorization for request in store.requests] == [None, None]


# Tags that cannot be moved


@pytest.mark.parametrize("status", [400, 409, 412])
def test_hardening_14_a_tag_that_is_ours_already_is_no_failure(
    registry: FakeRegistry, transport: Transport, status: int
) -> None:
    """On Amazon ECR and Harbor tags can be immutable, also for who sets them to what they are."""
    image = small_image()
    registry.add("acme/web", image)
    reference = Reference(Repository(registry.host, "acme/web"), "1")
    registry.tags["acme/web", "1"] = image.manifest.descriptor.digest
    registry.faults.append(Fault("PUT", "/manifests/1$", status=status))
    remote(registry, transport, None).tag(reference, image.manifest)


def test_hardening_14_a_tag_that_is_somebody_elses_is_a_failure(
    registry: FakeRegistry, transport: Transport
) -> None:
    image = small_image()
    registry.add("acme/web", image)
    somebody = registry.add_image("acme/web", "1", platforms=["linux/amd64"])
    reference = Reference(Repository(registry.host, "acme/web"), "1")
    body = b'{"errors": [{"code": "TAG_INVALID", "message": "the repository is immutable"}]}'
    registry.faults.append(Fault("PUT", "/manifests/1$", status=400, body=body, times=2))
    with pytest.raises(ServiceError, match="TAG_INVALID: the repository is immutable") as raised:
        remote(registry, transport, None).tag(reference, image.manifest)
    assert (
        raised.value.hint == f"the tag names {somebody}; where tags are immutable, publish under another one"
    )
    del registry.tags["acme/web", "1"]
    with pytest.raises(ServiceError, match="TAG_INVALID") as raised:
        remote(registry, transport, None).tag(reference, image.manifest)
    assert raised.value.hint is None


# Headers, and failures of what is read


def test_accept_is_sent_where_manifests_are_asked_for_only(
    registry: FakeRegistry, transport: Transport
) -> None:
    """Artifactory answers 406 to it elsewhere; and content must come as it is, not compressed."""
    image = small_image()
    registry.add("acme/web", image)
    client, web = remote(registry, transport, None), Repository(registry.host, "acme/web")
    client.resolve(Reference(web, digest=image.manifest.descriptor.digest))
    client.config(web, image.manifest)
    client.has_blob(web, DESCRIPTOR)
    client.put_blob(web, DESCRIPTOR, chunks)
    client.tag(Reference(web, "1"), image.manifest)
    client.tagged(Reference(web, "1"))
    asked = {request.path.split("/")[4] for request in registry.requests if "accept" in request.headers}
    assert asked == {"manifests"}
    assert {request.headers["accept-encoding"] for request in registry.requests} == {"identity"}


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("kind", ["look", "blob", "list"])
def test_hardening_02_reading_outlives_temporary_failures(
    registry: FakeRegistry, transport: Transport, status: int, kind: str
) -> None:
    registry.blobs["acme/web", DESCRIPTOR.digest] = BLOB
    client, web = remote(registry, transport, None), Repository(registry.host, "acme/web")
    ask = {
        "look": lambda: client.has_blob(web, DESCRIPTOR),
        "blob": lambda: b"".join(client.blob(web, DESCRIPTOR)),
        "list": lambda: client.referrers(web, DESCRIPTOR.digest),
    }[kind]
    method = "HEAD" if kind == "look" else "GET"
    for times in (1, 2):
        registry.faults.append(Fault(method, status=status, times=times))
        ask()
    registry.faults.append(Fault(method, status=status, times=-1))
    with pytest.raises(ServiceError, match=f"{method} {registry.url}/v2/acme/web/.* answered {status}"):
        ask()


def test_hardening_18_what_is_copied_is_named_by_digest_only() -> None:
    """Signing and copying take a `Pinned`, which has no place for a tag."""
    digest = str(DESCRIPTOR.digest)
    assert Pinned.parse(f"us.icr.io/acme/web@{digest}").digest == DESCRIPTOR.digest
    for name in ("us.icr.io/acme/web:1", f"us.icr.io/acme/web:1@{digest}", "us.icr.io/acme/web"):
        with pytest.raises(UsageError, match="is not pinned"):
            Pinned.parse(name)


def test_a_registry_that_changes_how_it_asks_for_a_login(transport: Transport) -> None:
    with FakeRegistry(users={"robot": "canary"}, auth="basic") as registry:
        login = Credential(registry.host, "robot", Secret("canary"))
        client = RemoteRegistry(registry.host, login, transport, push=True)
        web, api = (Repository(registry.host, f"acme/{name}") for name in ("web", "api"))
        assert client.tagged(Reference(web, "1")) is None
        registry.auth = "token"
        assert client.tagged(Reference(api, "1")) is None
        assert client.push_right(web) == "unknown"
