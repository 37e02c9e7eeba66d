"""OpenPGP signatures of images: what gpg and skopeo accept and refuse, ours do too, in both directions."""

from __future__ import annotations

import base64
import itertools
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_build.errors import RefusedError, UsageError
from secure_build.layout import Layout
from secure_build.model import Credential
from secure_build.reference import Digest, Pinned, Reference
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers import gpg, lookaside, rhs
from secure_build.signers.lookaside import Tree, Upload
from services import images, running
from services.gpg_keys import GpgHome
from services.needed import need
from services.running import RunningRegistry
from services.serving import Serving

_numbers = itertools.count()
SUBKEY = "Subkey-Type: eddsa\nSubkey-Curve: ed25519\nSubkey-Usage: sign\n"


@dataclass(frozen=True)
class Bench:
    """Keys of people, and images in a registry whose signatures are in a tree."""

    gpg: GpgHome
    registry: RunningRegistry
    folder: Path

    @property
    def tree(self) -> Tree:
        return Tree(self.folder / "lookaside")

    def image(self, word: str, tag: str = "1.0.0") -> tuple[Pinned, Reference]:
        """A new image for two platforms, by digest and by tag."""
        name = f"{self.registry.host}/rhs{os.getpid()}-{next(_numbers)}/web:{tag}"
        layout = Layout.create(self.folder / f"layout{next(_numbers)}")
        digest = images.busybox(layout, name, variable=f"WORD={word}")
        images.push(layout, name)
        reference = Reference.parse(name)
        return reference.pin(digest), reference

    def manifests(self, image: Pinned) -> list[Pinned]:
        """The index and its members."""
        inspected = self.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{image}").stdout
        members = [Digest.parse(one["digest"]) for one in json.loads(inspected).get("manifests", [])]
        return [image, *(Pinned(image.repository, member) for member in members)]

    def sign(self, key: str, image: Pinned, name: Reference) -> None:
        """Sign index and members as we do."""
        with gpg.opened_key(self.gpg.private(key).encode(), None, self.folder, "the key") as opened:
            for one in self.manifests(image):
                self.tree.add(one, rhs.sign(opened, one, name))

    def ours(self, key: str, image: Pinned, name: Reference | None) -> None:
        """Raise RefusedError unless every manifest has a signature that we take."""
        with gpg.opened_verifier(self.gpg.public(key), self.folder, "the key") as verifier:
            for one in self.manifests(image):
                reasons = []
                for signature in self.tree.read(one):
                    try:
                        rhs.check(verifier, signature, one, name)
                        break
                    except RefusedError as error:
                        reasons.append(error.message)
                else:
                    raise RefusedError("; ".join(reasons) or "there is no signature")

    def theirs(
        self, key: str, name: Reference | Pinned, place: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """skopeo copies the image for a policy that demands this key."""
        demand = {
            "type": "signedBy",
            "keyType": "GPGKeys",
            "keyData": base64.b64encode(self.gpg.public(key)).decode(),
        }
        policy = {"default": [{"type": "reject"}], "transports": {"docker": {"": [demand]}}}
        (self.folder / "policy.json").write_text(json.dumps(policy))
        registries = self.folder / "registries.d"
        registries.mkdir(exist_ok=True)
        where = place or f"file://{self.folder}/lookaside"
        text = yaml.safe_dump({"docker": {self.registry.host: {"lookaside": where, "sigstore": where}}})
        (registries / "here.yaml").write_text(text)
        return self.skopeo(
            *("--policy", str(self.folder / "policy.json"), "--registries.d", str(registries)),
            *("--override-arch", "s390x", "copy", "--src-tls-verify=false", f"docker://{name}"),
            f"dir:{self.folder}/copy{next(_numbers)}",
        )

    def skopeo(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        environment = running.environment() | {"GNUPGHOME": str(self.gpg.folder)}
        command = [running.tool("skopeo"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)

    def accepted(self, key: str, image: Pinned, name: Reference) -> None:
        self.ours(key, image, name)
        copied = self.theirs(key, name)
        assert copied.returncode == 0, copied.stderr

    def refused(self, key: str, image: Pinned, name: Reference, reason: str, theirs: str) -> None:
        """Both refuse it, and for what the signature says."""
        with pytest.raises(RefusedError, match=reason):
            self.ours(key, image, name)
        copied = self.theirs(key, name)
        assert copied.returncode != 0
        assert theirs in copied.stderr.decode()


@pytest.fixture
def bench(short_path: Path, registry: RunningRegistry) -> Iterator[Bench]:
    need("gpg", "skopeo", "docker-registry", "busybox-amd64", "busybox-s390x")
    made = Bench(GpgHome(short_path / "gpg"), registry, short_path)
    made.gpg.make("builder")
    yield made
    made.gpg.stop()


def test_skopeo_takes_ours_by_tag_and_by_digest(bench: Bench) -> None:
    image, name = bench.image("a")
    bench.sign("builder", image, name)
    bench.accepted("builder", image, name)
    bench.ours("builder", image, None)
    assert bench.theirs("builder", image).returncode == 0


def test_we_take_what_skopeo_signs(bench: Bench) -> None:
    image, name = bench.image("a")
    raw = bench.skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{image}").stdout
    (bench.folder / "manifest.json").write_bytes(raw)
    signed = bench.folder / "signed"
    listed = bench.gpg.run("--with-colons", "--list-keys", "builder").decode().splitlines()
    fingerprint = next(line.split(":")[9] for line in listed if line.startswith("fpr:"))
    ended = bench.skopeo(
        *(
            "standalone-sign",
            str(bench.folder / "manifest.json"),
            str(name),
            fingerprint,
            "--output",
            str(signed),
        )
    )
    assert ended.returncode == 0, ended.stderr
    with gpg.opened_verifier(bench.gpg.public("builder"), bench.folder, "the key") as verifier:
        rhs.check(verifier, signed.read_bytes(), image, name)
        with pytest.raises(RefusedError, match="not for"):
            rhs.check(verifier, signed.read_bytes(), image, Reference(image.repository, "other"))


def test_what_decides_is_the_signature(bench: Bench) -> None:
    """Each of these is refused by skopeo and by us, and with the right signature both accept."""
    image, name = bench.image("a")
    other, other_name = bench.image("b")
    bench.gpg.make("stranger")
    # Signed by somebody else.
    bench.sign("stranger", image, name)
    bench.refused("builder", image, name, "signed by another key", "Invalid GPG signature")
    # The signature of another image.
    bench.sign("builder", other, other_name)
    for one, another in zip(bench.manifests(image), bench.manifests(other), strict=True):
        bench.tree.path(one, 1).write_bytes(bench.tree.read(another)[0])
    bench.refused("builder", image, name, "the signature is for sha256:", "does not match")
    # Signed for another repository, and for another tag of this one.
    for wrong in (other_name, Reference(image.repository, "1.0.1")):
        elsewhere = Pinned(wrong.repository, image.digest)
        with gpg.opened_key(bench.gpg.private("builder").encode(), None, bench.folder, "the key") as key:
            for one in bench.manifests(image):
                made = rhs.sign(key, Pinned(elsewhere.repository, one.digest), wrong)
                bench.tree.path(one, 1).write_bytes(made)
        bench.refused("builder", image, name, f"is for `{wrong}`", "not accepted")
    for one in bench.manifests(image):
        bench.tree.path(one, 1).unlink()
    bench.refused("builder", image, name, "there is no signature", "no signature exists")
    bench.sign("builder", image, name)
    bench.accepted("builder", image, name)
    # The tag now names another valid image, which has a signature of its own for its own name.
    moved = bench.skopeo(
        *("copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false"),
        *("--insecure-policy", f"docker://{other}", f"docker://{name}"),
    )
    assert moved.returncode == 0, moved.stderr
    assert bench.theirs("builder", name).returncode != 0


@pytest.mark.parametrize("state", ["expired", "revoked"])
def test_a_key_that_is_no_longer_good_convinces_nobody(bench: Bench, state: str) -> None:
    image, name = bench.image("a")
    key = bench.gpg.make("former", expires="seconds=4" if state == "expired" else "0")
    bench.sign("former", image, name)
    bench.accepted("former", image, name)
    if state == "revoked":
        revoke(bench.gpg, key)
    else:
        wait_for_expiry(bench.gpg, key)
    bench.refused("former", image, name, f"key that signed .*{state[:6]}", "Invalid GPG signature")
    with (
        pytest.raises(UsageError, match=state),
        gpg.opened_key(bench.gpg.private("former").encode(), None, bench.folder, "the key"),
    ):
        pass


def revoke(home: GpgHome, key: str) -> None:
    certificate = (home.folder / "openpgp-revocs.d" / f"{key}.rev").read_text()
    # It is kept with a colon in front, so that it is not used by mistake.
    home.run("--import", stdin=certificate.replace(":-----BEGIN", "-----BEGIN").encode())


def wait_for_expiry(home: GpgHome, key: str) -> None:
    from integration.processes import wait_until

    def expired() -> bool:
        return b"pub:e:" in home.run("--with-colons", "--list-keys", key)

    wait_until(expired, "the key expires")


def test_a_signing_subkey_is_enough_without_its_primary_key(bench: Bench) -> None:
    key = bench.gpg.make("team", usage="cert", subkey=SUBKEY)
    image, name = bench.image("a")
    alone = bench.gpg.run("--armor", "--export-secret-subkeys", key)
    with gpg.opened_key(alone, None, bench.folder, "the key") as opened:
        assert opened.fingerprint == key != opened.part
        assert opened.public_key == bench.gpg.public("team")
        for one in bench.manifests(image):
            bench.tree.add(one, rhs.sign(opened, one, name))
    bench.ours("team", image, name)
    bench.gpg.run("--verify", stdin=bench.tree.read(image)[0])
    # Why we warn of it: this version looks for the primary key's own fingerprint.
    assert f"Signature by key {opened.part} is not accepted" in bench.theirs("team", name).stderr.decode()


def test_a_primary_key_that_can_sign_does_so_although_it_has_a_subkey(bench: Bench) -> None:
    bench.gpg.make("both", subkey=SUBKEY)
    image, name = bench.image("a")
    bench.sign("both", image, name)
    bench.accepted("both", image, name)


def test_what_goes_into_the_contract_is_what_the_recipe_gives(bench: Bench) -> None:
    with gpg.opened_key(bench.gpg.private("builder").encode(), None, bench.folder, "the key") as opened:
        text = rhs.public_key_text(opened.public_key)
    recipe = f"gpg --homedir {bench.gpg.folder} -a --export builder | base64 -w0"
    assert text == subprocess.run(["sh", "-c", recipe], capture_output=True, check=True, text=True).stdout


def test_keys_that_cannot_sign_are_told_apart(bench: Bench) -> None:
    bench.gpg.make("second")
    cipher = bench.gpg.make("cipher", usage="cert", subkey=SUBKEY.replace("sign", "auth"))
    both = bench.gpg.run("--armor", "--export-secret-keys", "builder", "second")
    cases: list[tuple[bytes, str]] = [
        (bench.gpg.private(cipher).encode(), "cannot sign: it is for encryption only"),
        (both, "holds 2 private keys"),
        (bench.gpg.public("builder"), "is a public key, and a private one belongs there"),
        (bench.gpg.private("builder").encode() + b"junk\n", "nothing before and after it"),
        (bench.gpg.private("builder").replace("\n\n", "\n\nAAAA", 1).encode(), "is damaged"),
        (b"secret", "nothing before and after it"),
        (b"", "nothing before and after it"),
    ]
    for content, message in cases:
        with (
            pytest.raises(UsageError, match=message),
            gpg.opened_key(content, None, bench.folder, "the key"),
        ):
            pass
    assert not list(bench.folder.glob(".keys-*"))


@pytest.mark.parametrize(
    ("passphrase", "message"),
    [
        ("wrong one", "the passphrase is wrong"),
        (None, "it is encrypted, and there is no passphrase"),
        ("right\none", "has a line break"),
    ],
)
def test_hardening_53_passphrases(bench: Bench, passphrase: str | None, message: str) -> None:
    key = bench.gpg.make("locked", passphrase="right one")
    content = bench.gpg.private(key, passphrase="right one").encode()
    given = Secret(passphrase) if passphrase else None
    pinned = Pinned.parse("us.icr.io/acme/web@sha256:" + "0" * 64)
    with (
        pytest.raises(UsageError, match=message),
        gpg.opened_key(content, given, bench.folder, "it") as opened,
    ):
        rhs.sign(opened, pinned, Reference(pinned.repository, "1.0"))
    with gpg.opened_key(content, Secret("right one"), bench.folder, "it") as opened:
        assert rhs.sign(opened, pinned, Reference(pinned.repository, "1.0"))
    assert not list(bench.folder.glob(".keys-*"))


def test_a_key_of_this_machines_own_agent(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    key = bench.gpg.run("--with-colons", "--list-keys", "builder").decode()
    fingerprint = next(line.split(":")[9] for line in key.splitlines() if line.startswith("fpr:"))
    monkeypatch.setenv("GNUPGHOME", str(bench.gpg.folder))
    before = sorted(path.name for path in bench.gpg.folder.iterdir())
    own = gpg.own_key(fingerprint, None, bench.folder)
    image, name = bench.image("a")
    for one in bench.manifests(image):
        bench.tree.add(one, rhs.sign(own, one, name))
    bench.accepted("builder", image, name)
    assert sorted(path.name for path in bench.gpg.folder.iterdir()) == before
    with pytest.raises(UsageError, match="no private key"):
        gpg.own_key("0" * 40, None, bench.folder)


@pytest.fixture
def signature(bench: Bench) -> tuple[Bench, bytes, Pinned, Reference]:
    pinned = Pinned.parse("us.icr.io/acme/web@sha256:" + "5" * 64)
    name = Reference(pinned.repository, "1.0.0")
    with gpg.opened_key(bench.gpg.private("builder").encode(), None, bench.folder, "the key") as opened:
        return bench, rhs.sign(opened, pinned, name), pinned, name


def test_hardening_51_no_changed_byte_is_taken(signature: tuple[Bench, bytes, Pinned, Reference]) -> None:
    bench, content, pinned, name = signature
    with gpg.opened_verifier(bench.gpg.public("builder"), bench.folder, "the key") as verifier:
        rhs.check(verifier, content, pinned, name)

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.integers(0, len(content) * 8 - 1))
        def flipped(bit: int) -> None:
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            try:
                said = rhs.claim(verifier, bytes(changed))
            except RefusedError:
                return
            # Some bits of a packet's frame say nothing; what is signed is what it was.
            assert said == rhs.Claim(pinned.digest, name)

        flipped()
        for junk in (b"", b"junk", content[:-1], content[:40]):
            with pytest.raises(RefusedError):
                rhs.claim(verifier, junk)
        # What follows a whole message is nobody's word.
        assert rhs.claim(verifier, content + content) == rhs.Claim(pinned.digest, name)


class _Files(SimpleHTTPRequestHandler):
    """A web server with a tree of signatures that takes new ones from whoever has the login."""

    def do_PUT(self) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"ci:canary put").decode():
            self.send_error(401)
            return
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing is said."""


def files_in(folder: Path) -> Callable[..., _Files]:
    return lambda *arguments: _Files(*arguments, directory=str(folder))


def test_signatures_behind_an_address(bench: Bench, transport: Transport) -> None:
    served = bench.folder / "served"
    served.mkdir()
    image, name = bench.image("a")
    bench.sign("builder", image, name)
    bench.gpg.make("other")
    with Serving(ThreadingHTTPServer(("127.0.0.1", 0), files_in(served))) as server:
        place = f"http://{server.host}/signatures"
        login = Credential(place, "ci", Secret("canary put"))
        for one in bench.manifests(image):
            (signature,) = bench.tree.read(one)
            store = Upload(place, login, transport)
            assert lookaside.put(store, one, signature)
            assert not lookaside.put(store, one, signature)
            # Somebody else's stays.
            with gpg.opened_key(bench.gpg.private("other").encode(), None, bench.folder, "it") as key:
                another = rhs.sign(key, one, name)
            assert lookaside.put(store, one, another)
            assert store.read(one) == [signature, another]
            with pytest.raises(Exception, match="cannot put a signature"):
                lookaside.put(Upload(place, None, transport), one, b"third")
        copied = bench.theirs("builder", name, place)
        assert copied.returncode == 0, copied.stderr
