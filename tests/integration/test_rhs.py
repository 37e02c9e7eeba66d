"""skopeo accepts what we sign, we accept what it signs, and both refuse the same."""

from __future__ import annotations

import itertools
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integration import cosigns
from integration.cosigns import Published
from secure_build.errors import RefusedError, SecureBuildError, ServiceError
from secure_build.model import Credential
from secure_build.reference import Digest, Pinned, Reference
from secure_build.registry.http import Transport
from secure_build.registry.signatures import SignatureExtension
from secure_build.secret import Secret
from secure_build.signers import lookaside, rhs
from secure_build.signers.gpg import GpgKey, opened_key, opened_verifier
from secure_build.signers.lookaside import SignatureStore, Tree, Upload
from services import running
from services.counting import CountingProxy
from services.file_server import FileServer
from services.gpg_keys import GpgHome
from services.needed import need
from services.running import RunningRegistry
from services.signatures import SignatureRegistry

STORES = ("folder", "web", "registry")
LOGIN = "uploader:canary"
_numbers = itertools.count()


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys of gpg's own, and two of them opened by us: `own`, and `foreign`, somebody else's."""

    home: GpgHome
    fingerprint: str
    own: GpgKey
    foreign: GpgKey


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    need("gpg", "skopeo", "docker-registry")
    with ExitStack() as stack:
        short = stack.enter_context(tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True))
        home = GpgHome(Path(short) / "gpg")
        own, foreign = home.make("own"), home.make("foreign")
        stack.callback(home.stop)
        folder = tmp_path_factory.mktemp("keys")
        opened = [
            stack.enter_context(opened_key(home.private(one).encode(), None, folder, "the key"))
            for one in (own, foreign)
        ]
        yield Keyring(home, own, *opened)


@dataclass(frozen=True, slots=True)
class Scene:
    """An image, where its signatures are, and two who look at them: skopeo and we."""

    image: Published
    name: Reference
    pinned: Pinned
    store: SignatureStore
    folder: Path
    place: str | None

    @property
    def manifests(self) -> list[Pinned]:
        """The members and the index, as this registry is called."""
        return [self.name.pin(one.digest) for one in (*self.image.members, self.image.image)]

    def sign(self, key: GpgKey, *, manifests: list[Pinned] | None = None) -> None:
        for one in manifests or self.manifests:
            lookaside.put(self.store, one, rhs.sign(key, one, self.name))

    def skopeo(self, public: bytes, name: str = "", *options: str, scope: str = "") -> bool:
        """Whether skopeo copies the image, when a signature by the key is demanded.

        `scope` is what the demand is about; everything else is refused.
        """
        demand = {"type": "signedBy", "keyType": "GPGKeys", "keyData": rhs.public_key_text(public)}
        registry = self.name.repository.registry
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {scope or registry: [demand]}}}
        (self.folder / "policy.json").write_text(json.dumps(policy))
        target = self.folder / f"copied{next(_numbers)}"
        said = subprocess.run(
            [
                *(running.tool("skopeo"), "--policy", self.folder / "policy.json"),
                *("--registries.d", registries(self.folder, registry, self.place)),
                *("--override-arch", "s390x", "copy", "--src-tls-verify=false", *options),
                *(f"docker://{name or self.name}", f"dir:{target}"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if said.returncode:
            assert "Source image rejected" in said.stderr, said.stderr
        return said.returncode == 0

    def ours(self, public: bytes, *manifests: Pinned, name: Reference | None = None) -> bool:
        """Whether we find a signature by the key for each manifest."""
        with opened_verifier(public, self.folder, "the key") as verifier:
            return all(
                any(rhs_accepts(verifier, one, pinned, name or self.name) for one in self.store.read(pinned))
                for pinned in manifests or self.manifests
            )


def rhs_accepts(*arguments: Any) -> bool:
    with suppress(RefusedError):
        rhs.check(*arguments)
        return True
    return False


def registries(folder: Path, registry: str, place: str | None) -> Path:
    """Tells skopeo where signatures are."""
    made = folder / "registries.d"
    made.mkdir(exist_ok=True)
    place = place or f"file://{folder}/nowhere"
    words = ("lookaside", "lookaside-staging") if place.startswith("file") else ("lookaside",)
    (made / "here.yaml").write_text(json.dumps({"docker": {registry: dict.fromkeys(words, place)}}))
    return made


@pytest.fixture
def make_scene(registry: RunningRegistry, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    with ExitStack() as stack:
        transport = stack.enter_context(Transport(connect_seconds=5, read_seconds=5))

        def make(kind: str, *, variable: str = "", repository: str = "") -> Scene:
            folder = tmp_path / f"scene{next(_numbers)}"
            folder.mkdir()
            image = cosigns.publish(
                folder, registry.host, transport, variable=variable, repository=repository
            )
            host, place = registry.host, f"file://{folder}/signatures" if kind != "registry" else None
            store: SignatureStore = Tree(folder / "signatures")
            if kind == "web":
                server = stack.enter_context(FileServer(folder / "signatures", LOGIN))
                user, _, password = LOGIN.partition(":")
                store = Upload(f"http://{server.host}", Credential("", user, Secret(password)), transport)
                place = f"http://{server.host}"
            elif kind == "registry":
                host = stack.enter_context(SignatureRegistry(registry.host)).host
                store = SignatureExtension(host, None, transport, push=True)
            ((reference, descriptor),) = image.layout.entries()
            name = Reference.parse(str(reference).replace(registry.host, host))
            return Scene(image, name, name.pin(descriptor.digest), store, folder, place)

        yield make


@pytest.mark.parametrize("kind", STORES)
def test_skopeo_accepts_what_we_sign(make_scene: Callable[..., Scene], keyring: Keyring, kind: str) -> None:
    scene, public = make_scene(kind), keyring.own.public_key
    assert not scene.skopeo(public)
    scene.sign(keyring.own)
    assert scene.ours(public)
    # The member of one platform, by tag; all, and the index with them; each by digest.
    assert scene.skopeo(public)
    assert scene.skopeo(public, "", "--all")
    for pinned in scene.manifests:
        assert scene.skopeo(public, str(pinned))
    assert not scene.skopeo(keyring.foreign.public_key)


def test_what_each_key_of_the_contract_covers(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    """The table of docs/rhs.md."""
    scene, public = make_scene("folder"), keyring.own.public_key
    repository, pinned = str(scene.name.repository), str(scene.pinned)
    other = Reference(scene.name.repository, "other")
    copy(scene.name, other)
    scene.sign(keyring.own)
    for one in scene.manifests:
        lookaside.put(scene.store, one, rhs.sign(keyring.own, one, other))
    covered = {
        str(scene.name): [str(scene.name)],
        repository: [str(scene.name), str(other), pinned],
        pinned: [pinned],
    }
    for scope, names in covered.items():
        asked = (str(scene.name), str(other), pinned)
        assert [one for one in asked if scene.skopeo(public, one, scope=scope)] == names, scope


@pytest.mark.parametrize("kind", STORES)
def test_signatures_are_put_once_and_those_of_others_stay(
    make_scene: Callable[..., Scene], keyring: Keyring, kind: str
) -> None:
    scene = make_scene(kind)
    scene.sign(keyring.foreign)
    foreign = scene.store.read(scene.pinned)
    own = rhs.sign(keyring.own, scene.pinned, scene.name)
    assert lookaside.put(scene.store, scene.pinned, own)
    assert not lookaside.put(scene.store, scene.pinned, own)
    assert scene.store.read(scene.pinned) == [*foreign, own]
    assert scene.ours(keyring.own.public_key, scene.pinned)
    assert scene.ours(keyring.foreign.public_key)


def test_a_member_without_a_signature_of_its_own(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    scene, public = make_scene("registry"), keyring.own.public_key
    scene.sign(keyring.own, manifests=[scene.pinned])
    assert not scene.skopeo(public)
    assert not scene.ours(public)
    scene.sign(keyring.own)
    assert scene.skopeo(public)
    assert scene.ours(public)


@pytest.mark.parametrize("kind", ["folder", "registry"])
def test_we_accept_what_skopeo_signs(make_scene: Callable[..., Scene], keyring: Keyring, kind: str) -> None:
    scene, public = make_scene(kind), keyring.own.public_key
    layout = f"oci:{scene.image.layout.directory}:{scene.image.layout.entries()[0][0]}"
    subprocess.run(
        [
            *(running.tool("skopeo"), "--insecure-policy", "--registries.d"),
            registries(scene.folder, scene.name.repository.registry, scene.place),
            *("copy", "--all", "--dest-tls-verify=false", "--sign-by", keyring.fingerprint),
            *(layout, f"docker://{scene.name}"),
        ],
        env={**running.environment(), "GNUPGHOME": str(keyring.home.folder)},
        capture_output=True,
        check=True,
    )
    assert scene.ours(public)
    assert scene.skopeo(public)
    assert not scene.ours(keyring.foreign.public_key)


def test_standalone_signatures_of_skopeo(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    scene = make_scene("folder")
    manifest, signature = scene.folder / "manifest", scene.folder / "signature"
    manifest.write_bytes(scene.image.layout.manifest(scene.image.descriptor).content)
    variables = {**running.environment(), "GNUPGHOME": str(keyring.home.folder)}
    program = running.tool("skopeo")
    subprocess.run(
        [program, "standalone-sign", manifest, str(scene.name), keyring.fingerprint, "--output", signature],
        env=variables,
        check=True,
    )
    with opened_verifier(keyring.own.public_key, scene.folder, "the key") as verifier:
        rhs.check(verifier, signature.read_bytes(), scene.pinned, scene.name)
    signature.write_bytes(rhs.sign(keyring.own, scene.pinned, scene.name))
    subprocess.run(
        [program, "standalone-verify", manifest, str(scene.name), keyring.fingerprint, signature],
        env=variables,
        check=True,
    )


# What both refuse


def claim(scene: Scene, pinned: Pinned, name: str = "", **changes: Any) -> bytes:
    """A payload with another name, or with other parts."""
    document = json.loads(rhs.payload(pinned, scene.name))
    if name:
        document["critical"]["identity"]["docker-reference"] = name
    document["critical"] |= changes
    return json.dumps(document).encode()


def twice(content: bytes) -> bytes:
    return content.replace(b'{"critical"', b'{"optional":{},"critical"', 1)


BAD: dict[str, Callable[[Keyring, Scene, Scene, Pinned], bytes]] = {
    "by a foreign key": lambda keys, scene, _, one: rhs.sign(keys.foreign, one, scene.name),
    "of another image": lambda keys, scene, other, _: rhs.sign(
        keys.own, scene.name.pin(other.pinned.digest), scene.name
    ),
    "for another tag": lambda keys, scene, _, one: keys.own.sign(
        claim(scene, one, f"{scene.name.repository}:other")
    ),
    "for another repository": lambda keys, scene, _, one: keys.own.sign(
        claim(scene, one, f"{scene.name.repository}x:{scene.name.tag}")
    ),
    "without a tag": lambda keys, scene, _, one: keys.own.sign(claim(scene, one, str(scene.name.repository))),
    "of another type": lambda keys, scene, _, one: keys.own.sign(claim(scene, one, type="cosign")),
    "with an unknown critical part": lambda keys, scene, _, one: keys.own.sign(claim(scene, one, more="")),
    "with a part twice": lambda keys, scene, _, one: keys.own.sign(twice(rhs.payload(one, scene.name))),
    "without the optional part": lambda keys, scene, _, one: keys.own.sign(
        json.dumps({"critical": json.loads(rhs.payload(one, scene.name))["critical"]}).encode()
    ),
    "that is no JSON": lambda keys, *_: keys.own.sign(b"critical"),
    "that signs nothing": lambda keys, *_: keys.home.run("--store", stdin=b"content"),
    "that is cut off": lambda keys, scene, _, one: rhs.sign(keys.own, one, scene.name)[:-20],
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_signatures(make_scene: Callable[..., Scene], keyring: Keyring, bad: str) -> None:
    scene, other = make_scene("folder"), make_scene("folder", variable="OTHER=yes")
    public = keyring.own.public_key
    for one in scene.manifests:
        scene.store.add(one, BAD[bad](keyring, scene, other, one))
    assert not scene.skopeo(public)
    assert not scene.ours(public)
    scene.sign(keyring.own)
    assert scene.skopeo(public)
    assert scene.ours(public)


NO_SIGNATURES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "unsigned": lambda _: b"\xcb\x0bb\x00\x00\x00\x00\x00hello",
    "text before it": lambda good: b"x" + good,
}


@pytest.mark.parametrize("bad", NO_SIGNATURES)
def test_what_spoils_the_good_signature_beside_it(
    make_scene: Callable[..., Scene], keyring: Keyring, bad: str
) -> None:
    scene, public = make_scene("folder"), keyring.own.public_key
    scene.sign(keyring.own)
    for one in scene.manifests:
        scene.store.add(one, NO_SIGNATURES[bad](scene.store.read(one)[0]))
        with pytest.raises(ServiceError, match="no signature, so readers refuse the image"):
            lookaside.put(scene.store, one, scene.store.read(one)[0])
    assert not scene.skopeo(public)


def test_a_tag_that_is_moved_to_another_image(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    scene, public = make_scene("folder"), keyring.own.public_key
    scene.sign(keyring.own)
    repository = scene.name.repository.path
    other = make_scene("folder", variable="OTHER=yes", repository=repository)
    other.sign(keyring.own)
    copy(other.name, scene.name)
    for one in other.manifests:
        for signature in other.store.read(one):
            scene.store.add(one, signature)
    # It is signed, under another tag.
    assert not scene.skopeo(public)
    assert not scene.ours(public, *other.manifests)
    assert scene.ours(public, *other.manifests, name=other.name)
    copy(scene.pinned, scene.name)
    assert scene.skopeo(public)
    assert scene.ours(public)


def copy(source: object, target: object) -> None:
    options = ("--all", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false")
    command = [running.tool("skopeo"), "--insecure-policy", "copy", *options]
    subprocess.run([*command, f"docker://{source}", f"docker://{target}"], check=True)


def test_keys_that_ended_after_they_had_signed(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    scene, home = make_scene("folder"), keyring.home
    past = ("--faked-system-time", "20200101T000000")
    home.run(*past, "--passphrase", "", "--quick-gen-key", "expired", "ed25519", "sign", "2d")
    revoked = home.make("revoked")
    good = home.public(revoked)
    for one in scene.manifests:
        content = rhs.payload(one, scene.name)
        scene.store.add(one, home.run(*past, "--local-user", "expired", "--sign", stdin=content))
        scene.store.add(one, home.run("--local-user", revoked, "--sign", stdin=content))
    assert scene.ours(good)
    assert scene.skopeo(good)
    revoke(home, revoked)
    for public in (home.public("expired"), home.public(revoked)):
        assert not scene.skopeo(public)
        assert not scene.ours(public)


def revoke(home: GpgHome, fingerprint: str) -> None:
    """By the certificate that gpg makes with each key, and marks against use by accident."""
    text = (home.folder / "openpgp-revocs.d" / f"{fingerprint}.rev").read_text()
    home.run("--import", stdin=text.replace(":-----BEGIN", "-----BEGIN").encode())


SUBKEY = "Subkey-Type: eddsa\nSubkey-Curve: ed25519\nSubkey-Usage: sign\n"


def test_a_subkey_alone_convinces_us_and_not_every_reader(
    make_scene: Callable[..., Scene], keyring: Keyring
) -> None:
    """Why it is warned of: this version of skopeo looks for the primary key's own fingerprint."""
    scene, home = make_scene("folder"), keyring.home
    primary = home.make("team", usage="cert", subkey=SUBKEY)
    alone = home.run("--armor", "--export-secret-subkeys", primary)
    with opened_key(alone, None, scene.folder, "the key") as key:
        assert key.fingerprint == primary != key.part
        scene.sign(key)
    assert scene.ours(home.public("team"))
    assert not scene.skopeo(home.public("team"))


def test_a_primary_key_that_can_sign_does_so_although_it_has_a_subkey(
    make_scene: Callable[..., Scene], keyring: Keyring
) -> None:
    scene, home = make_scene("folder"), keyring.home
    home.make("both", subkey=SUBKEY)
    with opened_key(home.private("both").encode(), None, scene.folder, "the key") as key:
        scene.sign(key)
    assert scene.ours(home.public("both"))
    assert scene.skopeo(home.public("both"))


def test_two_signatures_in_one_message(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    scene = make_scene("folder")
    both = ("--local-user", "own", "--local-user", "foreign")
    content = rhs.payload(scene.pinned, scene.name)
    scene.store.add(scene.pinned, keyring.home.run(*both, "--sign", stdin=content))
    assert not scene.ours(keyring.own.public_key, scene.pinned)
    scene.store.add(scene.pinned, keyring.home.run(*both[:2], "--sign", stdin=content))
    assert scene.ours(keyring.own.public_key, scene.pinned)


# Where they are served


def test_a_registry_says_whether_it_keeps_signatures(registry: RunningRegistry, transport: Transport) -> None:
    with SignatureRegistry(registry.host) as front, CountingProxy(front.host) as seen:
        assert SignatureExtension(seen.host, None, transport).is_there()
        assert [str(one) for one in seen.requests] == ["GET /v2/ 200"]
    assert not SignatureExtension(registry.host, None, transport).is_there()


def test_what_is_asked_of_a_private_registry(tmp_path: Path, transport: Transport) -> None:
    """No login is sent, as those who pull do not."""
    with (
        running.registry(tmp_path / "private", htpasswd={"user": "canary"}) as private,
        SignatureRegistry(private.host) as front,
        CountingProxy(front.host) as seen,
    ):
        login = Credential(seen.host, "user", Secret("canary"))
        assert SignatureExtension(seen.host, login, transport).is_there()
        assert [str(one) for one in seen.requests] == ["GET /v2/ 401"]


def test_a_registry_that_does_not_answer_is_no_registry_without_signatures(tmp_path: Path) -> None:
    with (
        FileServer(tmp_path, LOGIN) as server,
        Transport() as transport,
        pytest.raises(ServiceError, match=r"cannot ask .* whether it keeps signatures"),
    ):
        SignatureExtension(server.host, None, transport).is_there()


def test_an_upload_without_its_login(make_scene: Callable[..., Scene], keyring: Keyring) -> None:
    scene = make_scene("web")
    assert isinstance(scene.store, Upload)
    store = Upload(scene.store.url, None, scene.store.transport)
    with pytest.raises(SecureBuildError, match="cannot put a signature at") as caught:
        lookaside.put(store, scene.pinned, rhs.sign(keyring.own, scene.pinned, scene.name))
    assert "canary" not in str(caught.value)
    assert store.read(scene.pinned) == []


GOOD = {"schemaVersion": 2, "name": "x", "type": "atomic", "content": "kAA="}


@pytest.mark.parametrize("changes", [{"type": "other"}, {"schemaVersion": 1}])
def test_kinds_of_signatures_that_are_not_known(
    registry: RunningRegistry, transport: Transport, changes: dict[str, Any]
) -> None:
    image = Reference.parse("127.0.0.1/acme/web:1.4.0").pin(Digest.of(b"an image"))
    with SignatureRegistry(registry.host) as extended:
        extended.kept["acme/web", str(image.digest)] = [GOOD | changes, GOOD]
        assert SignatureExtension(extended.host, None, transport).read(image) == [b"\x90\0"]


@pytest.mark.parametrize("content", [None, 5, "!", "kAA", ["kAA="]])
def test_answers_that_make_no_sense(registry: RunningRegistry, transport: Transport, content: object) -> None:
    image = Reference.parse("127.0.0.1/acme/web:1.4.0").pin(Digest.of(b"an image"))
    with SignatureRegistry(registry.host) as extended:
        extended.kept["acme/web", str(image.digest)] = [GOOD | {"content": content}]
        with pytest.raises(ServiceError, match="answered with something else"):
            SignatureExtension(extended.host, None, transport).read(image)
