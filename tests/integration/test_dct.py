"""Docker Content Trust with a real Notary server and signer, and the plain `notary` client beside ours."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from cryptography.hazmat.primitives.asymmetric import ec

from integration.processes import wait_until
from secure_build.errors import MachineError, RefusedError, ServiceError, UsageError
from secure_build.model import Credential
from secure_build.reference import Digest, Repository
from secure_build.secret import Secret
from secure_build.signers.dct import Keys, Notary, opened
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import RootCertificate, Target, root_certificate
from services import certificates, running
from services.forged import PAST, ForgedServer, Trust
from services.needed import need
from services.notary import Client, NotaryServer, notary
from services.serving import Serving
from services.tokens import TokenService

A, B = Target(Digest.of(b"image A"), 528), Target(Digest.of(b"image B"), 529)
_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotaryServer]:
    need("notary", "notary-server", "notary-signer", "openssl")
    with notary(tmp_path_factory.mktemp("notary")) as started:
        yield started


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", running.environment()["PATH"])


@pytest.fixture
def repository() -> Repository:
    """One that no other test uses."""
    return Repository.parse(f"us.icr.io/acme/web{next(_numbers)}")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Path]:
    """A work folder, which must have no keys in it at the end."""
    yield tmp_path / "work"
    assert not list((tmp_path / "work").glob(".keys-*"))


@pytest.fixture
def make_client(tmp_path: Path, server: NotaryServer) -> Callable[..., Client]:
    def make(**settings: object) -> Client:
        return Client.at(tmp_path / f"client{next(_numbers)}", server, server.authority, **settings)

    return make


def new_key() -> NotaryKey:
    return NotaryKey(ec.generate_private_key(ec.SECP256R1()))


ROOT, TARGETS, DELEGATION = new_key(), new_key(), new_key()


class Opening:
    """Our side: a work folder and a server."""

    def __init__(self, folder: Path, server: NotaryServer) -> None:
        self.folder, self.server = folder, server

    def __call__(
        self, keys: Keys | None = None, *, url: str | None = None, **options: object
    ) -> AbstractContextManager[Notary]:
        settings = {"ca": self.server.authority.read_bytes(), **options}
        return opened(self.folder, url or self.server.url, keys=keys, **settings)  # type: ignore[arg-type]


@pytest.fixture
def ours(work: Path, server: NotaryServer) -> Opening:
    return Opening(work, server)


def pinned(repository: Repository, public_key: str) -> dict[str, object]:
    """The part of a plain client's config that trusts one root certificate only."""
    identifier = RootCertificate.parse(public_key).identifier
    return {"trust_pinning": {"certs": {str(repository): [identifier]}, "disable_tofu": True}}


def told(client: Client, repository: Repository, tag: str) -> Target | None:
    """What the plain client says of a tag, None when it refuses."""
    client.forget()
    found = client.try_to("lookup", str(repository), tag)
    if found.returncode != 0:
        return None
    _, digest, size = found.stdout.split()
    return Target(Digest(digest), int(size))


def test_what_we_sign_a_plain_client_finds(
    ours: Opening, repository: Repository, make_client: Callable[..., Client]
) -> None:
    with ours(Keys(ROOT, TARGETS)) as here:
        assert here.trust_data(repository) is None
        signed = here.publish(repository, {"1.0": A, "1.1": B})
        assert signed.published
        assert here.lookup(repository, "1.1") == B
        assert here.lookup(repository, "2.0") is None
    other = make_client(**pinned(repository, signed.root_certificate))
    assert [told(other, repository, tag) for tag in ("1.0", "1.1", "2.0")] == [A, B, None]
    # Anybody can look with nothing but what the contract says.
    with ours() as anybody:
        assert anybody.lookup(repository, "1.0", signed.root_certificate) == A


def test_the_public_key_is_what_the_recipe_gives(
    ours: Opening, repository: Repository, make_client: Callable[..., Client]
) -> None:
    need("jq", "openssl")
    with ours(Keys(ROOT)) as here:
        signed = here.publish(repository, {"1": A})
    other = make_client()
    other.do("list", str(repository))
    root = other.metadata(str(repository)) / "root.json"
    recipe = ".signed.keys[.signed.roles.root.keyids[0]].keyval.public"
    by_jq = subprocess.run(
        ["jq", "-r", recipe, root], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert signed.root_certificate == by_jq == root_certificate(root.read_bytes())
    subject = certificates.openssl("x509", "-noout", "-subject", input=base64.b64decode(by_jq))
    assert str(repository).encode() in subject


def test_the_check_by_hand_in_the_docs(
    ours: Opening, server: NotaryServer, repository: Repository, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "dct.md").read_text()
    (script,) = [block for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if "lookup" in block]
    with ours(Keys(ROOT)) as here:
        signed, foreign = (
            here.publish(one, {"1": A}) for one in (repository, Repository.parse(f"{repository}x"))
        )
    for number, (one, seen) in enumerate(((signed, f"1 {A.digest} {A.size}\n"), (foreign, None))):
        folder = tmp_path / str(number)
        folder.mkdir()
        variables = {
            "REPOSITORY": str(repository),
            "TAG": "1",
            "NOTARY": server.url,
            "PUBLIC_KEY": one.root_certificate,
            "SSL_CERT_FILE": str(server.authority),
        }
        done = subprocess.run(
            ["sh", "-c", script],
            cwd=folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout == seen) if seen else (done.returncode and "trust_pinning" in done.stdout)


def test_a_delegation_that_others_have_given(
    ours: Opening, repository: Repository, make_client: Callable[..., Client], tmp_path: Path
) -> None:
    """By a certificate, as `notary delegation add` and `docker trust signer add` take it."""
    other, gun = make_client(), str(repository)
    key = certificates.private_key(tmp_path, "ci", "ec:prime256v1", passphrase="the pipeline's")
    certificate = tmp_path / "ci.pem"
    certificate.write_bytes(
        certificates.openssl(
            *("req", "-x509", "-key", str(key), "-days", "300", "-subj", "/CN=ci", "-passin", "stdin"),
            input=b"the pipeline's\n",
        )
    )
    other.do("init", gun)
    other.do("key", "rotate", gun, "snapshot", "--server-managed")
    other.do("delegation", "add", gun, "targets/releases", str(certificate), "--all-paths", "--publish")
    kept = (other.metadata(gun) / "root.json").read_bytes()
    delegation = NotaryKey.parse(key.read_bytes(), Secret("the pipeline's"), "the delegation's key")
    with ours(Keys(delegation=delegation), root_certificates=kept) as here:
        assert here.publish(repository, {"1": A}).root_certificate == root_certificate(kept)
    assert told(other, repository, "1") == A


def test_what_a_plain_client_signs_we_verify(
    ours: Opening, repository: Repository, make_client: Callable[..., Client]
) -> None:
    other, gun = make_client(), str(repository)
    other.do("init", gun, "--publish")
    other.do("addhash", gun, "1.0", str(A.size), "--sha256", A.digest.hexadecimal, "--publish")
    kept = (other.metadata(gun) / "root.json").read_bytes()
    with ours(root_certificates=kept) as here:
        assert here.lookup(repository, "1.0") == A
    # Its keys, as it keeps them, are taken; its snapshot key stays with it.
    other.do("key", "rotate", gun, "snapshot", "--server-managed")
    word = Secret(other.passphrase)
    keys = Keys(*(NotaryKey.parse(other.key(role), word, role) for role in ("root", "targets")))
    with ours(keys) as here:
        assert here.publish(repository, {"1.1": B}).root_certificate == root_certificate(kept)
    assert (told(other, repository, "1.0"), told(other, repository, "1.1")) == (A, B)


def test_nothing_is_published_twice(ours: Opening, server: NotaryServer, repository: Repository) -> None:
    with ours(Keys(ROOT, TARGETS)) as here:
        first = here.publish(repository, {"1": A})
        before = server.log.read_text().count('"http.request.method":"POST"')
        again = here.publish(repository, {"1": A})
        assert not again.published
        assert again.root_certificate == first.root_certificate
        assert before > 0
        assert server.log.read_text().count('"http.request.method":"POST"') == before
        # The caller knows what is there, and may give the tag another digest all the same.
        assert here.publish(repository, {"1": B}).published
        assert here.lookup(repository, "1") == B


@pytest.mark.parametrize("before", [Keys(ROOT), Keys(ROOT, TARGETS)], ids=["made-once", "given"])
@pytest.mark.parametrize("after", [Keys(ROOT), Keys(ROOT, TARGETS)], ids=["made-once", "given"])
def test_another_run_signs_with_what_it_has(
    ours: Opening,
    repository: Repository,
    make_client: Callable[..., Client],
    before: Keys,
    after: Keys,
) -> None:
    """The root key lets in a targets key, and old clients follow; the contract's key stays."""
    with ours(before) as here:
        first = here.publish(repository, {"1": A})
    old = make_client(**pinned(repository, first.root_certificate))
    old.do("list", str(repository))
    shutil.rmtree(ours.folder)  # as on another machine
    with ours(after) as here:
        assert here.publish(repository, {"2": B}).root_certificate == first.root_certificate
    assert old.do("lookup", str(repository), "2").split()[1] == str(B.digest)
    assert told(old, repository, "1") == A


def test_a_delegation_signs_without_the_other_keys(
    ours: Opening, repository: Repository, make_client: Callable[..., Client]
) -> None:
    with ours(Keys(ROOT, delegation=DELEGATION)) as here:
        first = here.publish(repository, {"1": A})
    anchor = base64.b64decode(first.root_certificate)
    with ours(Keys(delegation=DELEGATION), root_certificates=anchor) as here:
        assert here.publish(repository, {"2": B}).published
        assert here.lookup(repository, "1") == A
    with ours(Keys(delegation=new_key()), root_certificates=anchor) as here, pytest.raises(RefusedError):
        here.publish(repository, {"3": B})
    assert "targets/releases" in make_client().do("list", str(repository))


def test_two_roles_may_not_name_different_digests(
    ours: Opening, repository: Repository, make_client: Callable[..., Client]
) -> None:
    with ours(Keys(ROOT, TARGETS, DELEGATION)) as here:
        signed = here.publish(repository, {"1": A})
    with ours(Keys(ROOT, TARGETS)) as here:
        with pytest.raises(RefusedError, match="names another digest"):
            here.publish(repository, {"1": B})
        assert here.lookup(repository, "1") == A
    # Somebody else can do it.
    other, gun = make_client(), str(repository)
    (other.folder / "trust" / "private").mkdir(parents=True)
    (other.folder / "trust" / "private" / f"{TARGETS.identifier}.key").write_bytes(
        TARGETS.locked(other.passphrase, "targets")
    )
    other.do("addhash", gun, "1", str(B.size), "--sha256", B.digest.hexadecimal, "--publish")
    with ours() as here, pytest.raises(RefusedError, match="two digests"):
        here.lookup(repository, "1", signed.root_certificate)


def certificate_for(repository: Repository, folder: Path) -> tuple[NotaryKey, bytes]:
    """An RSA root key with a certificate of one's own, by openssl."""
    key = certificates.private_key(folder, "root")
    subject = "/CN=" + str(repository).replace("/", "\\/")
    certificate = certificates.openssl(
        *("req", "-x509", "-key", str(key), "-days", "300", "-subj", subject),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
    )
    return NotaryKey.parse(key.read_bytes(), None, "the root key"), certificate


def test_a_root_certificate_that_is_given_is_used(
    ours: Opening, repository: Repository, tmp_path: Path
) -> None:
    root, certificate = certificate_for(repository, tmp_path)
    with ours(Keys(ROOT), root_certificates=certificate) as here, pytest.raises(UsageError, match="not of"):
        here.publish(repository, {"1": A})
    never_begun = pytest.raises(RefusedError, match="no trust data")
    with ours(Keys(targets=TARGETS), root_certificates=certificate) as here, never_begun:
        here.publish(repository, {"1": A})
    with ours(Keys(root), root_certificates=certificate) as here:
        signed = here.publish(repository, {"1": A})
        assert base64.b64decode(signed.root_certificate) == certificate
        elsewhere = here.publish(Repository.parse(f"{repository}x"), {"1": A})
        assert elsewhere.root_certificate != signed.root_certificate
    with ours(root_certificates=certificate) as here:
        assert here.lookup(repository, "1") == A


def test_the_root_key_changes(
    ours: Opening, repository: Repository, make_client: Callable[..., Client]
) -> None:
    new = new_key()
    with ours(Keys(ROOT, TARGETS)) as here:
        first = here.publish(repository, {"1": A})
        follower = make_client()
        follower.do("list", str(repository))
        changed = here.change_root(repository, new)
        assert changed != first.root_certificate
        with pytest.raises(RefusedError):
            here.lookup(repository, "1", first.root_certificate)
        assert here.lookup(repository, "1", changed) == A
    # Who trusted the old one follows, since it has signed the new one.
    assert follower.do("lookup", str(repository), "1").split()[1] == str(A.digest)
    with ours(Keys(new, TARGETS)) as here:
        assert here.publish(repository, {"2": B}).root_certificate == changed
    with ours(Keys(ROOT, TARGETS)) as here, pytest.raises(RefusedError, match="another root key"):
        here.publish(repository, {"3": B})


def test_two_publish_at_once(ours: Opening, work: Path, server: NotaryServer, repository: Repository) -> None:
    with ours(Keys(ROOT, TARGETS)) as here:
        here.publish(repository, {"0": A})

    def publish(number: int) -> bool:
        with Opening(work / str(number), server)(Keys(ROOT, TARGETS)) as one:
            return one.publish(repository, {f"1.{number}": A}).published

    # Two at once, since one of three could lose twice.
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(publish, range(2))) == [True, True]
    with ours(Keys(ROOT)) as here:
        data = here.trust_data(repository)
        assert data is not None
        assert [data.target(f"1.{number}") for number in range(2)] == [A, A]


def test_many_tags_of_one_repository_side_by_side(ours: Opening, repository: Repository) -> None:
    with ours(Keys(ROOT, TARGETS)) as here:
        with ThreadPoolExecutor(6) as pool:
            signed = list(pool.map(lambda number: here.publish(repository, {f"1.{number}": A}), range(6)))
        assert len({one.root_certificate for one in signed}) == 1
        data = here.trust_data(repository)
        assert data is not None
        assert [data.target(f"1.{number}") for number in range(6)] == [A] * 6


class LyingServer(Serving):
    """Passes on what the real server says, but where `lie` says something else about a path."""

    def __init__(self, upstream: NotaryServer) -> None:
        self.lie: Callable[[str, bytes], bytes | str] = lambda _path, body: body
        pool = urllib3.PoolManager(ca_certs=str(upstream.authority))
        lying = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                got = pool.request("GET", upstream.url + self.path)
                told = lying.lie(self.path, got.data)
                if isinstance(told, str):  # the path to answer with instead
                    got = pool.request("GET", upstream.url + told)
                    told = got.data
                self.send_response(got.status)
                self.send_header("Content-Length", str(len(told)))
                self.end_headers()
                self.wfile.write(told)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        self.url = f"http://{self.host}"


@pytest.fixture
def liar(server: NotaryServer) -> Iterator[LyingServer]:
    with LyingServer(server) as running_liar:
        yield running_liar


def about(*parts: str) -> Callable[[str], bool]:
    return lambda path: all(part in path for part in parts)


def test_a_lying_server_is_refused(
    ours: Opening, repository: Repository, liar: LyingServer, tmp_path: Path
) -> None:
    """By the plain client and by us alike; and when it tells the truth again, both accept."""
    foreign = Repository.parse(f"{repository}x")
    with ours(Keys(ROOT, TARGETS)) as here:
        signed = here.publish(repository, {"1": A})
        old = {path: path.read_bytes() for path in (ours.folder / "notary").rglob("*.json")}
        here.publish(repository, {"1": B})
        here.publish(foreign, {"1": B})
    url, gun = liar.url, f"/{repository}/"
    client = Client.at(
        tmp_path / "judge", url, ours.server.authority, **pinned(repository, signed.root_certificate)
    )

    def swapped(path: str, body: bytes) -> bytes:
        return body.replace(base64.b64encode(bytes.fromhex(B.digest.hexadecimal)), b"A" * 43 + b"=")

    def resigned(path: str, body: bytes) -> bytes:
        if "targets" not in path:
            return body
        document = json.loads(body)
        document["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
        return json.dumps(document).encode()

    def of_another_name(path: str, body: bytes) -> bytes | str:
        return path.replace(gun, f"/{foreign}/")

    def of_a_file(name: str) -> Callable[[str, bytes], bytes]:
        (stale,) = [content for path, content in old.items() if path.name == name]
        return lambda path, body: stale if f"/{name.removesuffix('.json')}." in path else body

    def cut(path: str, body: bytes) -> bytes:
        return body[:-20] if path.endswith(".json") else body

    def truth(path: str, body: bytes) -> bytes:
        return body

    lies = [swapped, resigned, of_another_name, of_a_file("targets.json"), of_a_file("snapshot.json"), cut]
    for lie in lies:
        liar.lie = lie
        assert told(client, repository, "1") is None
        with ours(url=url, ca=None) as here, pytest.raises(RefusedError):
            here.lookup(repository, "1", signed.root_certificate)
    liar.lie = truth
    assert told(client, repository, "1") == B
    with ours(url=url, ca=None) as here:
        assert here.lookup(repository, "1", signed.root_certificate) == B


def test_an_older_state_is_refused_by_who_has_seen_a_newer(
    ours: Opening, repository: Repository, liar: LyingServer
) -> None:
    """All of it put back verifies for a new client: only the kept data tells."""
    with ours(Keys(ROOT, TARGETS)) as here:
        signed = here.publish(repository, {"1": A})
        kept = ours.folder / "notary" / str(repository) / "_trust"
        stale = {path.stem: path.read_bytes() for path in kept.rglob("*.json")}
        here.publish(repository, {"1": B})

    def put_back(path: str, body: bytes) -> bytes:
        name = Path(urlsplit(path).path).name.partition(".")[0]
        return stale.get(name, body)

    liar.lie = put_back
    with ours(Keys(ROOT, TARGETS), url=liar.url, ca=None) as here:
        with pytest.raises(RefusedError, match="older"):
            here.publish(repository, {"2": A})
        shutil.rmtree(kept)
        assert here.lookup(repository, "1", signed.root_certificate) == A


@pytest.mark.parametrize(
    ("wrong", "accepted"),
    [
        ({}, True),
        ({"expires": {"root": PAST}}, False),
        ({"expires": {"targets": PAST}}, False),
        ({"expires": {"snapshot": PAST}}, False),
        ({"expires": {"timestamp": PAST}}, False),
        ({"certificate_expires": PAST}, False),
        ({"name": "us.icr.io/acme/other"}, False),
        ({"name": "us.icr.io/acme/*"}, True),
        ({"releases": {}}, True),
        # What is gone with a role that has expired is not there; what other roles name is.
        ({"releases": {"2": (B.digest.hexadecimal, 1)}, "expires": {"targets/releases": PAST}}, True),
    ],
    ids=lambda value: str(sorted(value)) if isinstance(value, dict) else "",
)
def test_expired_trust_data_is_refused(
    work: Path, tmp_path: Path, wrong: dict[str, Any], *, accepted: bool
) -> None:
    """All of it is signed as it should be; the plain client judges as we do."""
    need("notary", "openssl")
    repository = Repository.parse("us.icr.io/acme/web")
    trust = Trust(str(repository), {"1": (A.digest.hexadecimal, A.size)}, **wrong)
    public_key = base64.b64encode(trust.certificate).decode()
    authority, _ = certificates.authority(tmp_path)
    with ForgedServer(trust) as forged, opened(work, forged.url) as here:
        client = Client.at(tmp_path / "judge", forged.url, authority, **pinned(repository, public_key))
        assert told(client, repository, "1") == (A if accepted else None)
        if accepted:
            assert here.lookup(repository, "1", public_key) == A
            assert here.lookup(repository, "2", public_key) is None
        else:
            with pytest.raises(RefusedError):
                here.lookup(repository, "1", public_key)


def test_foreign_keys_are_refused(ours: Opening, repository: Repository) -> None:
    other = Repository.parse(f"{repository}x")
    with ours(Keys(ROOT, TARGETS)) as here:
        signed, foreign = (here.publish(one, {"1": A}) for one in (repository, other))
        with pytest.raises(RefusedError, match="rests on another root"):
            here.lookup(repository, "1", foreign.root_certificate)
        assert here.lookup(repository, "1", signed.root_certificate) == A
    with ours(Keys(new_key())) as here, pytest.raises(RefusedError, match="another root key"):
        here.lookup(repository, "1")
    anchor = base64.b64decode(signed.root_certificate)
    with ours(Keys(targets=new_key()), root_certificates=anchor) as here:
        with pytest.raises(RefusedError, match="is not here, and it is needed"):
            here.publish(repository, {"1": B})
        assert here.lookup(repository, "1") == A
    with (
        ours(Keys(targets=TARGETS), root_certificates=anchor) as here,
        pytest.raises(UsageError, match="none"),
    ):
        here.lookup(other, "1")


def test_what_is_gone_from_the_server_is_not_begun_anew(
    ours: Opening, work: Path, repository: Repository, tmp_path: Path
) -> None:
    with ours(Keys(ROOT)) as here:
        here.publish(repository, {"1": A})
    with notary(tmp_path / "empty") as empty, Opening(work, empty)(Keys(ROOT)) as here:
        with pytest.raises(RefusedError, match="although it had some"):
            here.publish(repository, {"1": A})
        shutil.rmtree(work / "notary")
        assert here.publish(repository, {"1": A}).published


def test_a_server_that_is_away_or_another(
    ours: Opening, work: Path, repository: Repository, tmp_path: Path
) -> None:
    with ours(Keys(ROOT), url="https://127.0.0.1:9") as here, pytest.raises(ServiceError, match="refused"):
        here.publish(repository, {"1": A})
    foreign, _ = certificates.authority(tmp_path)
    with (
        ours(Keys(ROOT), ca=foreign.read_bytes()) as here,
        pytest.raises(ServiceError, match="unknown authority"),
    ):
        here.lookup(repository, "1")
    with ours(Keys(ROOT), ca=None) as here, pytest.raises(ServiceError, match="no trusted connection"):
        here.lookup(repository, "1")
    with pytest.raises(UsageError, match="certificate"), ours(Keys(ROOT), ca=b"none"):
        pass


def test_a_server_that_is_silent(ours: Opening, repository: Repository) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            ours(Keys(ROOT), url=url, ca=None, seconds=1) as here,
            pytest.raises(ServiceError, match="gave no answer"),
        ):
            here.lookup(repository, "1")


def test_a_login_is_asked_for_and_kept_out_of_the_environment(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Repository
) -> None:
    """The server takes tokens only; what every program was given is written down before it starts."""
    need("notary", "notary-server", "notary-signer", "openssl")
    seen = tmp_path / "seen"
    record_programs(tmp_path / "bin", seen, monkeypatch)
    word, passphrase = "pass word:with a colon", "the passphrase of a key"
    # Whoever gives no name gets a token that is good for nothing: the program asks for one before it logs in.
    rights: dict[str, set[str]] = {"publisher": {"push", "pull", "*"}, "guest": {"pull"}, "": set()}
    (tmp_path / "tokens").mkdir()
    locked = certificates.private_key(tmp_path, "root", "ec:prime256v1", passphrase=passphrase)
    root = NotaryKey.parse(locked.read_bytes(), Secret(passphrase), "the root key")
    with (
        TokenService(tmp_path / "tokens", dict.fromkeys(rights, word), rights) as tokens,
        notary(tmp_path / "server", tokens=tokens.trust) as server,
    ):
        ours = Opening(work, server)

        def login(name: str, password: str = word) -> Credential:
            return Credential("us.icr.io", name, Secret(password))

        with ours(Keys(root, TARGETS, DELEGATION), login=login("publisher")) as here:
            signed = here.publish(repository, {"1": A})
            changed = here.change_root(repository, ROOT)
        with ours(login=login("guest")) as here:
            assert here.lookup(repository, "1", changed) == A
        with ours(Keys(ROOT, TARGETS), login=login("guest")) as here, pytest.raises(MachineError):
            here.publish(repository, {"2": A})
        with (
            ours(login=login("guest", "wrong")) as here,
            pytest.raises(MachineError, match="refuses the login"),
        ):
            here.lookup(repository, "1", changed)
        with ours() as here, pytest.raises(MachineError, match="refuses the login"):
            here.lookup(repository, "1", signed.root_certificate)
    given = b"".join(path.read_bytes() for path in seen.glob("given-*"))
    assert b"NOTARY_ROOT_PASSPHRASE" in given
    assert b"addhash" in given
    for hidden in (word, passphrase, base64.b64encode(f"publisher:{word}".encode()).decode()):
        assert hidden.encode() not in given
    stored = list(seen.glob("keys-*/*.key"))
    assert len({path.name for path in stored}) >= 3
    for path in stored:
        assert b"ENCRYPTED" in path.read_bytes()
        with pytest.raises(UsageError, match="passphrase is wrong"):
            NotaryKey.parse(path.read_bytes(), Secret(passphrase), "it")
        assert path.stat().st_mode & 0o777 == 0o600
    assert {path.read_text() for path in seen.glob("mode-*")} == {"700\n"}


def record_programs(folder: Path, seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `notary` before the real one that writes down its arguments, environment and key store."""
    real = running.tool("notary")
    folder.mkdir()
    seen.mkdir()
    (folder / "notary").write_text(f"""#!/bin/bash
cat /proc/$$/cmdline /proc/$$/environ >{seen}/given-$$
stat -c %a "$(dirname "$2")" >{seen}/mode-$$
[[ ! -d $(dirname "$2")/trust/private ]] || cp -a "$(dirname "$2")/trust/private" {seen}/keys-$$
exec {real} "$@"
""")
    (folder / "notary").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_no_key_is_left_after_a_signal(work: Path, repository: Repository) -> None:
    script = """
import signal, sys
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec
from secure_build.reference import Digest, Repository
from secure_build.signers.dct import Keys, opened
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import Target

signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
keys = Keys(NotaryKey(ec.generate_private_key(ec.SECP256R1())))
with opened(Path(sys.argv[1]), sys.argv[2], keys=keys) as here:
    here.publish(Repository.parse(sys.argv[3]), {"1": Target(Digest.of(b""), 1)})
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        child = subprocess.Popen([sys.executable, "-c", script, str(work), url, str(repository)])
        wait_until(lambda: list(work.glob(".keys-*/*/config.json")), "the program runs")
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 143


def test_the_program_is_absent(
    ours: Opening, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with ours(Keys(ROOT)) as here, pytest.raises(MachineError, match="`notary` is not on this machine"):
        here.lookup(repository, "1")
