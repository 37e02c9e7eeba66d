"""Asking a registry as the guest does: what is good, what is bad, and what nobody can say."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fakes.registry import FakeRegistry, Fault, small_image
from secure_build.contract.decision.model import Entry, Pull, Question
from secure_build.manifest import OCI_INDEX, index_of
from secure_build.model import Credential, Descriptor, Platform
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.steps.gathering import Means, gather

USERS = {"puller": "pull-canary", "pusher": "push-canary"}


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with FakeRegistry() as started:
        yield started


@pytest.fixture
def means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Means]:
    monkeypatch.setattr("secure_build.registry.http._PAUSES", (0.01, 0.01))
    with Transport(connect_seconds=2, read_seconds=1, deadline_seconds=3) as transport:
        yield Means(transport=transport, folder=tmp_path, jobs=4, offline=False)


def question(registry: FakeRegistry, name: Digest | str, login: Credential | None = None) -> Question:
    repository = Repository(registry.host, "acme/web")
    tag, digest = (name, None) if isinstance(name, str) else (None, name)
    return Question(Reference(repository, tag, digest), login)


def pulled(means: Means, asked: Question) -> Pull:
    return gather([asked], [], means)[0][asked].pull


def login(registry: FakeRegistry, user: str, password: str | None = None) -> Credential:
    return Credential(registry.host, user, Secret(password or USERS[user]))


def test_one_platform_takes_two_requests_and_several_take_three(registry: FakeRegistry, means: Means) -> None:
    one = registry.add_image("acme/web", "one")
    assert pulled(means, question(registry, one)) == Pull(
        "good", "it can be pulled without a login, and is for linux/s390x", digest=one
    )
    assert len(registry.requests) == 2
    registry.requests.clear()
    several = registry.add_image("acme/web", "several", platforms=("linux/amd64", "linux/s390x"))
    assert pulled(means, question(registry, "several")).digest == several
    assert len(registry.requests) == 3


def test_equal_questions_are_asked_once(registry: FakeRegistry, means: Means) -> None:
    digest = registry.add_image("acme/web", "one")
    asked = {question(registry, digest) for _ in range(5)}
    gather(asked, [], means)
    assert len(registry.requests) == 2


@pytest.mark.parametrize("platforms", [("linux/amd64",), ("linux/amd64", "linux/arm64")])
def test_what_is_not_for_the_guest_is_bad(
    registry: FakeRegistry, means: Means, platforms: tuple[str, ...]
) -> None:
    digest = registry.add_image("acme/web", platforms=platforms)
    found = pulled(means, question(registry, digest))
    assert found.outcome == "bad"
    assert "is not for linux/s390x" in found.why
    assert found.hint == "build it for linux/s390x too, or name another image"


def test_an_index_that_lies_about_its_member_is_bad(registry: FakeRegistry, means: Means) -> None:
    image = small_image("linux/amd64")
    member = registry.add("acme/web", image)
    size = len(image.manifest.content)
    index = index_of([Descriptor(image.manifest.media_type, member, size, Platform.parse("linux/s390x"))])
    digest = Digest.of(index.content)
    registry.manifests["acme/web", digest] = (OCI_INDEX, index.content)
    found = pulled(means, question(registry, digest))
    assert (found.outcome, "its config says linux/amd64" in found.why) == ("bad", True)


def test_which_of_two_members_runs_is_unknown(registry: FakeRegistry, means: Means) -> None:
    images = [small_image(layer=layer) for layer in (b"one", b"two")]
    members = [
        Descriptor(one.manifest.media_type, registry.add("acme/web", one), len(one.manifest.content))
        for one in images
    ]
    index = index_of([replace(one, platform=Platform.parse("linux/s390x")) for one in members])
    digest = Digest.of(index.content)
    registry.manifests["acme/web", digest] = (OCI_INDEX, index.content)
    found = pulled(means, question(registry, digest))
    assert (found.outcome, "several members" in found.why) == ("unknown", True)


def test_an_index_in_an_index_is_bad(registry: FakeRegistry, means: Means) -> None:
    inner = index_of([])
    member = Digest.of(inner.content)
    registry.manifests["acme/web", member] = (OCI_INDEX, inner.content)
    platform = Platform.parse("linux/s390x")
    index = index_of([Descriptor(OCI_INDEX, member, len(inner.content), platform)])
    digest = Digest.of(index.content)
    registry.manifests["acme/web", digest] = (OCI_INDEX, index.content)
    found = pulled(means, question(registry, digest))
    assert (found.outcome, "is an index itself" in found.why) == ("bad", True)


def test_an_index_in_the_place_of_cosigns_signatures_is_none(registry: FakeRegistry, means: Means) -> None:
    digest = registry.add_image("acme/web", "one")
    index = index_of([])
    registry.manifests["acme/web", Digest.of(index.content)] = (OCI_INDEX, index.content)
    registry.tags["acme/web", f"sha256-{digest.hexadecimal}.sig"] = Digest.of(index.content)
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    entry = Entry("cosign", "web", base64.b64encode(pem).decode(), None, "c:1")
    asked = replace(question(registry, digest), entry=entry)
    signed = gather([asked], [], means)[0][asked].signed
    assert signed is not None
    assert signed.outcome == "bad"


def test_a_login_that_may_follow_makes_unknown(means: Means) -> None:
    with FakeRegistry(auth="token", users=USERS) as private:
        digest = private.add_image("acme/web", "one")
        asked = replace(question(private, digest), login_may_follow=True)
        assert pulled(means, asked).outcome == "unknown"


def test_what_is_not_there_is_bad(registry: FakeRegistry, means: Means) -> None:
    found = pulled(means, question(registry, Digest.of(b"nothing")))
    assert (found.outcome, "does not exist" in found.why) == ("bad", True)


def test_a_member_that_is_gone_is_bad(registry: FakeRegistry, means: Means) -> None:
    digest = registry.add_image("acme/web", platforms=("linux/amd64", "linux/s390x"))
    member = small_image("linux/s390x", layer=b"linux/s390x").manifest.descriptor.digest
    del registry.manifests["acme/web", member]
    found = pulled(means, question(registry, digest))
    assert (found.outcome, f"its member {member} is not there" in found.why) == ("bad", True)


# Logins


def test_only_the_contracts_login_counts(
    means: Means, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeRegistry(auth="token", users=USERS) as private:
        digest = private.add_image("acme/web", "one")
        # This machine's own login works, and the guest does not have it.
        auths = {private.host: {"auth": "cHVsbGVyOnB1bGwtY2FuYXJ5"}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        found = pulled(means, question(private, digest))
        assert found.outcome == "bad"
        assert f"the contract has no login for `{private.host}`" in found.why
        assert f"`auths: {private.host}:`" in (found.hint or "")
        good = pulled(means, question(private, digest, login(private, "puller")))
        assert (good.outcome, "as user `puller`" in good.why) == ("good", True)
        wrong = pulled(means, question(private, digest, login(private, "puller", "no")))
        assert (wrong.outcome, "refuses the login of user `puller`" in wrong.why) == ("bad", True)


def test_a_login_without_the_right_to_pull_is_bad(means: Means) -> None:
    with FakeRegistry(auth="token", users=USERS) as private:
        digest = private.add_image("acme/web", "one")
        denied = b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'
        private.faults.append(Fault("GET", "manifests", times=9, status=403, body=denied))
        found = pulled(means, question(private, digest, login(private, "pusher")))
        assert (found.outcome, "user `pusher` may not pull" in found.why) == ("bad", True)


def test_anybody_may_pull_a_public_image(means: Means) -> None:
    with FakeRegistry(auth="token", users=USERS, public=True) as public:
        digest = public.add_image("acme/web", "one")
        assert pulled(means, question(public, digest)).outcome == "good"


# Registries that give no answer, or a wrong one

LIES = {
    "429": Fault("GET", "manifests", times=99, status=429, headers={"Retry-After": "1"}),
    "429 for an hour": Fault("GET", "manifests", times=99, status=429, headers={"Retry-After": "3600"}),
    "500": Fault("GET", "manifests", times=99, status=500),
    "503": Fault("GET", "manifests", times=99, status=503),
    "stall before the answer": Fault("GET", "manifests", times=99, stall="status"),
    "stall in the body": Fault("GET", "manifests", times=99, stall="body"),
    "broken off": Fault("GET", "manifests", times=99, drop="status"),
    "broken off in the body": Fault("GET", "manifests", times=99, drop="body"),
    "other bytes": Fault("GET", "manifests", times=99, body=b"{}"),
    "a web page": Fault("GET", "manifests", times=99, body=b"<html>", headers={"Content-Type": "text/html"}),
    "another digest": Fault(
        "GET", "manifests", times=99, headers={"Docker-Content-Digest": f"sha256:{'0' * 64}"}
    ),
    "another type": Fault("GET", "manifests", times=99, headers={"Content-Type": "text/plain"}),
    "other config": Fault("GET", "blobs", times=99, body=b'{"os":"linux","architecture":"s390x"}'),
    "no config": Fault("GET", "blobs", times=99, status=404),
    "config unavailable": Fault("GET", "blobs", times=99, status=502),
}


@pytest.mark.parametrize("name", LIES)
def test_no_answer_and_lies_are_unknown(registry: FakeRegistry, means: Means, name: str) -> None:
    digest = registry.add_image("acme/web", "one")
    registry.faults.append(replace(LIES[name]))
    found = pulled(means, question(registry, digest))
    assert found.outcome == "unknown"
    assert found.why.startswith("not known: ")


@pytest.mark.parametrize(
    ("fault", "most"),
    [
        (Fault("GET", "manifests", times=9999, drop="status"), 3),
        (Fault("GET", "manifests", times=9999, status=503), 9),
        (Fault("GET", "manifests", times=9999, status=429), 9),
    ],
)
def test_a_registry_that_does_not_answer_is_not_asked_for_every_image(
    registry: FakeRegistry, means: Means, fault: Fault, most: int
) -> None:
    registry.faults.append(replace(fault))
    asked = [question(registry, Digest.of(str(number).encode())) for number in range(200)]
    answers, _ = gather(asked, [], replace(means, jobs=1))
    assert {answer.pull.outcome for answer in answers.values()} == {"unknown"}
    # Each is tried three times.
    assert len(registry.requests) <= most


def test_an_error_about_one_image_hides_no_other(registry: FakeRegistry, means: Means) -> None:
    digests = [registry.add("acme/web", small_image(layer=layer)) for layer in (b"one", b"two", b"three")]
    registry.faults.append(Fault("GET", str(digests[0]), times=99, status=500))
    asked = [question(registry, digest) for digest in digests]
    answers, _ = gather(asked, [], replace(means, jobs=1))
    assert [answers[one].pull.outcome for one in asked] == ["unknown", "good", "good"]


def test_a_registry_that_is_down_is_unknown(means: Means) -> None:
    with FakeRegistry() as gone:
        asked = question(gone, Digest.of(b"x"))
    assert "cannot reach" in pulled(means, asked).why


def test_offline_nobody_is_asked(registry: FakeRegistry, means: Means) -> None:
    digest = registry.add_image("acme/web", "one")
    assert pulled(replace(means, offline=True), question(registry, digest)).outcome == "deferred"
    assert not registry.requests
