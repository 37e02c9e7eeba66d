"""Logins: tokens per scope, where credentials go, and that no secret is ever told."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fakes.registry import FakeRegistry, Fault, TokenRequest, small_image
from fakes.transport import checked_transport
from secure_build import secret, stopping
from secure_build.errors import SecureBuildError, ServiceError
from secure_build.model import Credential
from secure_build.reference import Reference, Repository
from secure_build.registry.client import AccessError, RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.registry.tokens import Challenge, check_realm, parse_challenge
from secure_build.secret import Secret, mask

PASSWORD = "correct-horse"
WRONG_PASSWORD = "wrong-staple"
IMAGE = small_image()


@pytest.fixture
def transport() -> Iterator[Transport]:
    with checked_transport() as transport:
        yield transport


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "pause", lambda _: None)


@pytest.fixture(autouse=True)
def nothing_revealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is masked here is not masked in other tests."""
    monkeypatch.setattr(secret, "_masked", set())


@pytest.fixture
def tokens() -> Iterator[FakeRegistry]:
    with FakeRegistry(auth="token", users={"ann": PASSWORD, "bob": PASSWORD}, readers=["bob"]) as registry:
        yield registry


@pytest.fixture
def basic() -> Iterator[FakeRegistry]:
    with FakeRegistry(auth="basic", users={"ann": PASSWORD, "bob": PASSWORD}, readers=["bob"]) as registry:
        yield registry


def login(registry: FakeRegistry, user: str = "ann", password: str = PASSWORD) -> Credential:
    return Credential(registry.host, user, Secret(password))


def publish(remote: RemoteRegistry, path: str = "acme/web") -> None:
    """What publishing asks of a registry, in its order."""
    repository = Repository(remote.registry, path)
    remote.tagged(Reference(repository, "1.0"))

    def send(blob: Any) -> None:
        if not remote.has_blob(repository, blob):
            remote.put_blob(repository, blob, lambda: iter([IMAGE.blobs[blob]]))

    stopping.side_by_side(send, IMAGE.blobs, jobs=4)
    remote.put_manifest(repository, IMAGE.manifest)
    remote.get_manifest(repository, IMAGE.manifest.descriptor)
    remote.tag(Reference(repository, "1.0"), IMAGE.manifest)
    assert remote.tagged(Reference(repository, "1.0"))


# Tokens


def test_one_token_serves_a_whole_publication(tokens: FakeRegistry, transport: Transport) -> None:
    publish(RemoteRegistry(tokens.host, login(tokens), transport, push=True))
    assert tokens.token_requests == [TokenRequest("repository:acme/web:pull,push", "ann", granted=True)]
    assert [request.status for request in tokens.requests].count(401) == 1


def test_each_repository_has_a_token_of_its_own(tokens: FakeRegistry, transport: Transport) -> None:
    remote = RemoteRegistry(tokens.host, login(tokens), transport, push=True)
    publish(remote, "acme/web")
    publish(remote, "acme/api")
    publish(remote, "acme/web")
    assert [request.scope for request in tokens.token_requests] == [
        "repository:acme/web:pull,push",
        "repository:acme/api:pull,push",
    ]


def test_who_only_reads_asks_for_no_more(tokens: FakeRegistry, transport: Transport) -> None:
    tokens.add_image("acme/web", "1.0")
    RemoteRegistry(tokens.host, login(tokens), transport).resolve(
        Reference(Repository(tokens.host, "acme/web"), "1.0")
    )
    assert [request.scope for request in tokens.token_requests] == ["repository:acme/web:pull"]


def test_threads_that_start_together_ask_for_one_token(tokens: FakeRegistry, transport: Transport) -> None:
    tokens.add_image("acme/web", "1.0")
    remote = RemoteRegistry(tokens.host, login(tokens), transport)
    reference = Reference(Repository(tokens.host, "acme/web"), "1.0")
    stopping.side_by_side(remote.resolve, [reference] * 16, jobs=16)
    assert len(tokens.token_requests) == 1


def test_hardening_05_an_expired_token_is_replaced(tokens: FakeRegistry, transport: Transport) -> None:
    remote = RemoteRegistry(tokens.host, login(tokens), transport, push=True)
    publish(remote)
    tokens.expire_tokens()
    publish(remote)
    assert len(tokens.token_requests) == 2


def test_hardening_05_a_token_may_expire_within_an_upload(tokens: FakeRegistry, transport: Transport) -> None:
    remote = RemoteRegistry(tokens.host, login(tokens), transport, push=True)
    repository = Repository(tokens.host, "acme/web")
    blob, content = next(iter(IMAGE.blobs.items()))
    expired: list[bool] = []

    def chunks() -> Iterator[bytes]:
        if not expired:
            tokens.expire_tokens()
            expired.append(True)
        yield content

    remote.put_blob(repository, blob, chunks)
    assert [request.status for request in tokens.asked("PUT")] == [401, 201]
    assert len(tokens.asked("POST", "/uploads/")) == 2
    assert ("acme/web", blob.digest) in tokens.blobs


def test_public_images_need_no_login(transport: Transport) -> None:
    with FakeRegistry(auth="token", public=True) as registry:
        registry.add_image("acme/web", "1.0")
        RemoteRegistry(registry.host, None, transport).resolve(
            Reference(Repository(registry.host, "acme/web"), "1.0")
        )


def test_a_token_for_anybody_is_asked_for_without_a_login(transport: Transport) -> None:
    with FakeRegistry(auth="token", public=True) as registry:
        registry.add_image("acme/web", "1.0")
        registry.public = False
        registry.tokens["known"] = "repository:acme/web:pull"
        registry.faults.append(Fault("GET", "^/token", status=200, body=b'{"access_token": "known"}'))
        RemoteRegistry(registry.host, None, transport).resolve(
            Reference(Repository(registry.host, "acme/web"), "1.0")
        )
        assert [request.authorization for request in registry.asked("GET", "^/token")] == [None]


def test_an_identity_token_is_exchanged(tokens: FakeRegistry, transport: Transport) -> None:
    tokens.identity_tokens["refresh-me"] = "ann"
    publish(RemoteRegistry(tokens.host, login(tokens, "<token>", "refresh-me"), transport, push=True))
    assert [request.username for request in tokens.token_requests] == ["ann"]
    assert [request.method for request in tokens.requests if request.path.startswith("/token")] == ["POST"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b"[]",
        b'{"token": ""}',
        b'{"token": 5}',
        b'{"token": "a b"}',
        b'{"token": "a\\r\\nX-Evil: 1"}',
        b'{"token": "caf\\u00e9"}',
        b"[" * 50_000,
        b"x" * 70_000,
    ],
)
def test_hardening_05_an_answer_without_a_token_is_named(
    tokens: FakeRegistry, transport: Transport, body: bytes
) -> None:
    tokens.faults.append(Fault("GET", "^/token", status=200, body=body))
    with pytest.raises(ServiceError, match=r"answer without a token|more than 65536 bytes"):
        publish(RemoteRegistry(tokens.host, login(tokens), transport, push=True))


def test_hardening_05_a_token_service_that_fails_is_named(tokens: FakeRegistry, transport: Transport) -> None:
    tokens.faults.append(Fault("GET", "^/token", status=500, times=2))
    remote = RemoteRegistry(tokens.host, login(tokens), transport, push=True)
    publish(remote)
    tokens.expire_tokens()
    tokens.faults.append(Fault("GET", "^/token", status=500, times=-1))
    what = rf"^no token for {tokens.host}: GET {tokens.url}/token\?\*\*\* answered 500"
    with pytest.raises(ServiceError, match=what):
        publish(remote)


# Refusals


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_a_wrong_password_is_tried_once(transport: Transport, auth: Any) -> None:
    with FakeRegistry(auth=auth, users={"ann": PASSWORD}) as registry:
        remote = RemoteRegistry(registry.host, login(registry, password=WRONG_PASSWORD), transport, push=True)
        with pytest.raises(AccessError, match=f"^{registry.host} refuses the login of user `ann`$") as raised:
            publish(remote)
        assert raised.value.exit_code == 3
        assert raised.value.hint == "check user name and password; the password may have expired"
        assert len(registry.requests) == 2
        assert [r.authorization is not None for r in registry.requests] == [False, True]


def test_a_basic_login_that_is_refused_later_is_not_repeated(
    basic: FakeRegistry, transport: Transport
) -> None:
    remote = RemoteRegistry(basic.host, login(basic), transport, push=True)
    publish(remote)
    basic.users.clear()
    basic.requests.clear()
    with pytest.raises(AccessError, match="refuses the login"):
        publish(remote)
    assert len(basic.requests) == 1


def test_a_wrong_password_is_not_tried_for_other_repositories(
    tokens: FakeRegistry, transport: Transport
) -> None:
    remote = RemoteRegistry(tokens.host, login(tokens, password=WRONG_PASSWORD), transport)
    failures = []

    def attempt(number: int) -> None:
        with pytest.raises(AccessError, match="refuses the login") as raised:
            remote.tagged(Reference(Repository(tokens.host, f"acme/{number}"), "1.0"))
        failures.append(raised)

    stopping.side_by_side(attempt, range(8), jobs=8)
    assert len(failures) == 8
    assert len(tokens.token_requests) == 1


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_a_missing_login_is_said(transport: Transport, auth: Any) -> None:
    with FakeRegistry(auth=auth, users={"ann": PASSWORD}) as registry:
        with pytest.raises(
            AccessError, match=f"^{registry.host} asks for a login and there is none$"
        ) as raised:
            publish(RemoteRegistry(registry.host, None, transport, push=True))
        assert raised.value.hint == (
            f"name one under `registries: {registry.host}:`, or run `docker login {registry.host}`"
        )
        assert len(registry.requests) <= 2


def test_who_may_not_push_is_told_so(tokens: FakeRegistry, basic: FakeRegistry, transport: Transport) -> None:
    """A token service grants less than was asked for; a basic login ends in 403."""
    for registry, status in ((tokens, 401), (basic, 403)):
        remote = RemoteRegistry(registry.host, login(registry, "bob"), transport, push=True)
        with pytest.raises(AccessError, match=f"cannot begin an upload .* answered {status}") as raised:
            publish(remote)
        assert (
            raised.value.hint
            == f"{registry.host} does not allow it to user `bob`, or has no such project or repository"
        )
        assert registry.blobs == {}
        assert len(registry.asked("POST")) <= 2 * len(IMAGE.blobs)


def test_403_is_told_with_the_registrys_own_words(basic: FakeRegistry, transport: Transport) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "this namespace is locked"}]}'
    basic.faults.append(Fault("GET", status=403, body=body))
    reference = Reference(Repository(basic.host, "acme/web"), "1.0")
    with pytest.raises(AccessError, match="DENIED: this namespace is locked") as raised:
        RemoteRegistry(basic.host, None, transport).resolve(reference)
    assert (
        raised.value.hint
        == f"{basic.host} does not allow it to anonymous users, or has no such project or repository"
    )
    assert len(basic.requests) == 1


def test_a_token_service_that_denies_is_told(tokens: FakeRegistry, transport: Transport) -> None:
    body = b'{"errors": [{"code": "DENIED", "message": "not your repository"}]}'
    tokens.faults.append(Fault("GET", "^/token", status=403, body=body))
    with pytest.raises(AccessError, match="not your repository") as raised:
        publish(RemoteRegistry(tokens.host, login(tokens), transport, push=True))
    assert (
        raised.value.hint
        == f"{tokens.host} does not allow it to user `ann`, or has no such project or repository"
    )


# Where credentials go


def test_a_basic_login_is_sent_when_it_was_asked_for(basic: FakeRegistry, transport: Transport) -> None:
    publish(RemoteRegistry(basic.host, login(basic), transport, push=True))
    expected = "Basic " + base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    assert [request.authorization for request in basic.requests][:2] == [None, expected]
    assert [request.status for request in basic.requests].count(401) == 1


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_hardening_06_no_login_goes_to_a_blob_store(transport: Transport, auth: Any) -> None:
    with FakeRegistry(auth=auth, users={"ann": PASSWORD}) as registry, FakeRegistry() as store:
        registry.add("acme/web", IMAGE)
        registry.blob_store = store
        remote = RemoteRegistry(registry.host, login(registry), transport)
        remote.config(Repository(registry.host, "acme/web"), IMAGE.manifest)
        assert registry.asked("GET")[-1].authorization
        assert [request.authorization for request in store.requests] == [None]


@pytest.mark.parametrize("auth", ["token", "basic"])
def test_hardening_06_no_login_goes_to_an_upload_elsewhere(transport: Transport, auth: Any) -> None:
    with FakeRegistry(auth=auth, users={"ann": PASSWORD}) as registry, FakeRegistry() as other:
        location = {"Location": f"{other.url}/v2/acme/web/blobs/uploads/here"}
        registry.faults.append(Fault("POST", "/uploads/", skip=1, headers=location))
        other.faults.append(Fault("PUT", status=201))
        remote = RemoteRegistry(registry.host, login(registry), transport, push=True)
        blob, content = next(iter(IMAGE.blobs.items()))
        remote.put_blob(Repository(registry.host, "acme/web"), blob, lambda: iter([content]))
        assert [(request.method, request.authorization) for request in other.requests] == [("PUT", None)]


def test_hardening_06_a_foreign_host_that_asks_for_a_login_gets_none(
    tokens: FakeRegistry, transport: Transport
) -> None:
    with FakeRegistry(auth="basic", users={"ann": PASSWORD}) as store:
        tokens.add("acme/web", IMAGE)
        tokens.blob_store = store
        remote = RemoteRegistry(tokens.host, login(tokens), transport)
        with pytest.raises(AccessError, match=rf"GET {store.url}/.*\?\*\*\* answered 401"):
            remote.config(Repository(tokens.host, "acme/web"), IMAGE.manifest)
        assert [request.authorization for request in store.requests] == [None]


def test_hardening_06_no_login_goes_to_a_token_service_at_a_private_address(transport: Transport) -> None:
    with FakeRegistry(auth="token", realm="http://169.254.169.254/token") as registry:
        remote = RemoteRegistry(registry.host, login(registry), transport)
        with pytest.raises(ServiceError, match=r"sends logins to `http://169\.254\.169\.254`"):
            remote.tagged(Reference(Repository(registry.host, "acme/web"), "1.0"))


def test_a_token_service_may_be_elsewhere_and_have_a_query(transport: Transport) -> None:
    service = FakeRegistry(users={"ann": PASSWORD})
    with service, FakeRegistry(auth="token", realm=f"{service.url}/token?account=acme") as registry:
        registry.tokens = service.tokens
        publish(RemoteRegistry(registry.host, login(registry), transport, push=True))
        assert [request.path for request in service.requests] == [
            "/token?account=acme&service=fake&scope=repository%3Aacme%2Fweb%3Apull%2Cpush"
        ]


@pytest.mark.parametrize(
    "realm",
    [
        "https://auth.docker.io/token",
        "https://us.icr.io/oauth/token",
        "https://8.8.8.8/token",
        "https://auth.example:8443/token?x=1",
    ],
)
def test_realms_to_trust(realm: str) -> None:
    check_realm(realm, "https://us.icr.io")


@pytest.mark.parametrize(
    "realm",
    [
        "http://us.icr.io/token",
        "http://auth.example/token",
        "https://127.0.0.1/token",
        "https://localhost/token",
        "https://10.0.0.1/token",
        "https://169.254.169.254/token",
        "https://[::1]/token",
        "https://[fd00::1]/token",
        "https:///token",
        "ftp://auth.example/token",
        "file:///etc/passwd",
        "/token",
        "",
        "https://[::1",
    ],
)
def test_realms_not_to_trust(realm: str) -> None:
    with pytest.raises(ServiceError, match=r"^the registry us\.icr\.io sends logins to"):
        check_realm(realm, "https://us.icr.io")


def test_a_private_registry_may_be_its_own_token_service() -> None:
    check_realm("https://10.0.0.1/token", "https://10.0.0.1:5000")


def test_a_registry_on_this_machine_may_speak_plainly() -> None:
    check_realm("http://127.0.0.1:5001/token", "http://localhost:5000")
    with pytest.raises(ServiceError):
        check_realm("http://auth.example/token", "http://localhost:5000")


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        ('Basic realm="x"', Challenge("basic")),
        ("basic", Challenge("basic")),
        ('Bearer realm="https://a/t",service="s"', Challenge("bearer", "https://a/t", "s")),
        ('bearer  service=s, realm="https://a/t?x=1,2"', Challenge("bearer", "https://a/t?x=1,2", "s")),
        ('Bearer realm="https://a/t", Basic realm="other"', Challenge("bearer", "https://a/t")),
    ],
)
def test_challenges(header: str, challenge: Challenge) -> None:
    assert parse_challenge(header) == challenge


@pytest.mark.parametrize("header", ["", "Bearer", 'Bearer service="x"', "Negotiate", 'Digest realm="x"'])
def test_challenges_that_nobody_can_meet(header: str) -> None:
    with pytest.raises(ServiceError, match="neither basic nor bearer"):
        parse_challenge(header)


# No secret in any text


def _told(error: BaseException) -> str:
    hint = error.hint if isinstance(error, SecureBuildError) else None
    return "\n".join([str(error), repr(error), str(hint), *traceback.format_exception(error)])


CANARY = "canary/pässword+with=signs"
CANARY_FORMS = [
    CANARY,
    base64.b64encode(CANARY.encode()).decode(),
    base64.b64encode(f"ann:{CANARY}".encode()).decode(),
    "canary%2F",
    "canary-token",
]


def _sweep(act: Callable[[], object]) -> list[str]:
    """The forms of the canary that the failure tells."""
    with pytest.raises(Exception) as raised:  # noqa: PT011  # whatever it is, it must not tell
        act()
    return [form for form in CANARY_FORMS if form in _told(raised.value)]


@pytest.mark.parametrize(
    "fault",
    [
        Fault("HEAD", status=500, times=-1),
        Fault("HEAD", skip=1, status=401, times=-1),
        Fault("HEAD", skip=1, status=403),
        Fault("HEAD", skip=1, drop="status", times=-1),
        Fault("GET", "^/token", status=200, body=b'{"token": "canary-token\\n"}'),
        Fault("GET", "^/token", status=200, body=b'"canary-token"'),
        Fault("GET", "^/token", status=401, body=CANARY.encode()),
        Fault("GET", "^/token", status=500, body=CANARY.encode(), times=-1),
        Fault("GET", "^/token", drop="status", times=-1),
        Fault("HEAD", skip=1, status=307, headers={"Location": "http://10.0.0.1/x?canary-token"}),
        Fault("HEAD", skip=1, status=307, headers={"Location": "http://canary-token@10.0.0.1/x"}),
    ],
)
def test_no_failure_tells_a_secret(transport: Transport, fault: Fault) -> None:
    with FakeRegistry(auth="token", users={"ann": CANARY}) as registry:
        registry.faults.append(fault)
        remote = RemoteRegistry(registry.host, login(registry, password=CANARY), transport)
        reference = Reference(Repository(registry.host, "acme/web"), "1.0")
        assert _sweep(lambda: remote.tagged(reference)) == []


def test_the_sweep_finds_what_is_told() -> None:
    for form in CANARY_FORMS:

        def tell(form: str = form) -> None:
            raise ServiceError("told", hint=f"<{form}>")

        assert form in _sweep(tell)


def test_a_registry_that_echoes_the_login_is_masked(basic: FakeRegistry, transport: Transport) -> None:
    encoded = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
    body = json.dumps({"errors": [{"code": "DENIED", "message": f"{PASSWORD} {encoded}"}]}).encode()
    basic.faults.append(Fault("HEAD", skip=1, status=403))
    basic.faults.append(Fault("GET", skip=1, status=403, body=body))
    remote = RemoteRegistry(basic.host, login(basic), transport)
    with pytest.raises(AccessError, match=r"DENIED: \*\*\* \*\*\*"):
        remote.resolve(Reference(Repository(basic.host, "acme/web"), "1.0"))


def test_a_token_is_hidden_from_the_log(tokens: FakeRegistry, transport: Transport) -> None:
    publish(RemoteRegistry(tokens.host, login(tokens), transport, push=True))
    token = next(iter(tokens.tokens))
    assert mask(f"<{token}> <{PASSWORD}>") == "<***> <***>"
