"""Keys of gpg's: which are taken, and that nothing of them stays anywhere."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from integration.processes import Sampler, running_with, wait_until
from integration.test_rhs import revoke
from secure_build.errors import RefusedError, SecureBuildError, UsageError
from secure_build.reference import Digest, Reference
from secure_build.secret import Secret
from secure_build.signers import gpg, rhs
from services.gpg_keys import GpgHome
from services.needed import need

NAME = Reference.parse("us.icr.io/acme/web:1.4.0")
IMAGE = NAME.pin(Digest.of(b"an image"))
PASSPHRASE = "canary phrase? ä"
SUBKEY = "Subkey-Type: eddsa\nSubkey-Curve: ed25519\nSubkey-Usage: sign\n"


@pytest.fixture(scope="module")
def home() -> Iterator[GpgHome]:
    need("gpg", "gpgconf")
    with tempfile.TemporaryDirectory(prefix="sb-", ignore_cleanup_errors=True) as short:
        made = GpgHome(Path(short) / "gpg")
        made.make("own")
        made.make("locked", passphrase=PASSPHRASE)
        yield made
        made.stop()


def signs(content: bytes, folder: Path, passphrase: Secret | None = None) -> bytes:
    """Open the key, sign and check; returns the public key."""
    with gpg.opened_key(content, passphrase, folder, "the key") as key:
        public, signature = key.public_key, rhs.sign(key, IMAGE, NAME)
    with gpg.opened_verifier(public, folder, "the key") as verifier:
        rhs.check(verifier, signature, IMAGE, NAME)
        rhs.check(verifier, signature, IMAGE, None)
    return public


def test_what_was_made_here_is_checked_as_one(home: GpgHome, tmp_path: Path) -> None:
    with gpg.opened_key(private(home, "own"), None, tmp_path, "the key") as key:
        public, made = key.public_key, [rhs.sign(key, IMAGE, NAME) for _ in range(3)]
        other = key.sign(b"{}")
    home.make("foreign")
    with gpg.opened_key(private(home, "foreign"), None, tmp_path, "the key") as key:
        foreign = rhs.sign(key, IMAGE, NAME)
    with gpg.opened_verifier(public, tmp_path, "the key") as verifier:
        rhs.check_own(verifier, [(one, IMAGE, NAME) for one in made])
        cut = made[1][:-9]
        for bad in (foreign, other, cut, b"no message"):
            with pytest.raises(RefusedError):
                rhs.check_own(verifier, [(one, IMAGE, NAME) for one in (made[0], bad, made[2])])


def refused(content: bytes, folder: Path, passphrase: Secret | None = None) -> str:
    """What is said of a key before it has signed anything; nothing of it stays."""
    with pytest.raises(UsageError) as caught, gpg.opened_key(content, passphrase, folder, "the key"):
        pass
    assert list(folder.iterdir()) == []
    return f"{caught.value.message}; {caught.value.hint}"


def private(home: GpgHome, key: str) -> bytes:
    return home.private(key).encode()


# Which keys are taken


KEYS = {
    "ed25519": ("eddsa", "Key-Curve: ed25519"),
    "P-256": ("ecdsa", "Key-Curve: nistp256"),
    "P-384": ("ecdsa", "Key-Curve: nistp384"),
    "P-521": ("ecdsa", "Key-Curve: nistp521"),
    "RSA": ("rsa", "Key-Length: 3072"),
}


@pytest.mark.parametrize("kind", KEYS)
def test_kinds_of_keys(home: GpgHome, tmp_path: Path, kind: str) -> None:
    algorithm, size = KEYS[kind]
    parameters = f"%no-protection\nKey-Type: {algorithm}\n{size}\nKey-Usage: sign\nName-Real: kind {kind}\n"
    home.run("--gen-key", stdin=parameters.encode())
    signs(private(home, f"kind {kind}"), tmp_path)


def test_the_contract_has_what_the_recipe_makes(home: GpgHome, tmp_path: Path) -> None:
    """`gpg -a --export ID | base64 -w0`, also of a key that somebody else has certified."""
    home.run("--local-user", "locked", *loopback(), "--quick-sign-key", home.fingerprint("own"))
    recipe = f"gpg --homedir {home.folder} -a --export own | base64 -w0"
    made = subprocess.run(["sh", "-c", recipe], check=True, capture_output=True).stdout
    assert rhs.public_key_text(signs(private(home, "own"), tmp_path)) == made.decode()


def loopback() -> tuple[str, ...]:
    return ("--pinentry-mode", "loopback", "--passphrase", PASSPHRASE)


def test_binary_keys(home: GpgHome, tmp_path: Path) -> None:
    assert signs(home.run("--export-secret-keys", "own"), tmp_path) == home.public("own")


def test_a_signing_subkey_is_enough(home: GpgHome, tmp_path: Path) -> None:
    home.make("parts", subkey=SUBKEY, usage="cert")
    content = home.run("--armor", "--export-secret-subkeys", "parts")
    assert signs(content, tmp_path) == home.public("parts")


def test_an_encrypted_key(home: GpgHome, tmp_path: Path) -> None:
    content = home.private("locked", passphrase=PASSPHRASE).encode()
    signs(content, tmp_path, Secret(PASSPHRASE))
    for wrong in ("wrong", "", f"{PASSPHRASE} "):
        assert "cannot sign: the passphrase is wrong" in refused(content, tmp_path, Secret(wrong))
    assert "there is no passphrase for it; name it: `passphrase:`" in refused(content, tmp_path)
    for broken in (f"{PASSPHRASE}\n", f"{PASSPHRASE}\r\n", f"\n{PASSPHRASE}"):
        assert "has a line break" in refused(content, tmp_path, Secret(broken))


def test_a_passphrase_that_is_not_needed(home: GpgHome, tmp_path: Path) -> None:
    signs(private(home, "own"), tmp_path, Secret(PASSPHRASE))


def test_keys_that_cannot_sign(home: GpgHome, tmp_path: Path) -> None:
    home.make("old", subkey=SUBKEY)
    revoke(home, home.make("withdrawn"))
    encrypting = "Subkey-Type: ecdh\nSubkey-Curve: cv25519\nSubkey-Usage: encrypt\n"
    home.make("encrypting", usage="cert", subkey=encrypting)
    home.make("stub", usage="cert,sign", subkey=encrypting)
    past = ("--faked-system-time", "20200101T000000", "--passphrase", "")
    home.run(*past, "--quick-gen-key", "expired", "ed25519", "sign", "2d")
    assert "the key has expired" in refused(private(home, "expired"), tmp_path)
    assert "the key is revoked" in refused(private(home, "withdrawn"), tmp_path)
    assert "it is for encryption only" in refused(private(home, "encrypting"), tmp_path)
    stub = home.run("--armor", "--export-secret-subkeys", "stub")
    assert "its part that signs is not in it" in refused(stub, tmp_path)


def test_what_is_not_one_private_key(home: GpgHome, tmp_path: Path) -> None:
    one, other = private(home, "own"), home.private("locked", passphrase=PASSPHRASE).encode()
    assert "is a public key, and a private one belongs there" in refused(home.public("own"), tmp_path)
    assert "finds no private key" in refused(home.run("--export", "own"), tmp_path)
    both = home.run(*loopback(), "--armor", "--export-secret-keys", "own", "locked")
    assert "holds 2 private keys" in refused(both, tmp_path)
    for content in (b"", b"junk", one + other, one + b"junk", b"junk" + one, one[:-40]):
        assert "is not one OpenPGP private key with nothing before and after it" in refused(content, tmp_path)
    binary = home.run("--export-secret-keys", "own")
    for content in (binary + b"junk", binary[:-1], one.replace(b"=", b"+", 1)):
        assert "is damaged, or no OpenPGP key" in refused(content, tmp_path)


def test_what_is_not_one_public_key(home: GpgHome, tmp_path: Path) -> None:
    for content in (b"", private(home, "own"), home.public("own") * 2, home.run("--export", "own")):
        with pytest.raises(UsageError), gpg.opened_verifier(content, tmp_path, "the key"):
            pass
    with (
        pytest.raises(UsageError, match="the key holds 2 keys"),
        gpg.opened_verifier(home.run("--armor", "--export", "own", "locked"), tmp_path, "the key"),
    ):
        pass


# What stays


def test_nothing_stays_and_nothing_is_seen(home: GpgHome, tmp_path: Path) -> None:
    # Longer than the path of a socket may be.
    folder = tmp_path / ("long" * 40)
    folder.mkdir()
    content = home.private("locked", passphrase=PASSPHRASE).encode()
    own = subprocess.run(["sh", "-c", "echo $PPID"], check=True, capture_output=True).stdout
    with Sampler(int(own)) as sampler, gpg.opened_key(content, Secret(PASSPHRASE), folder, "the key") as key:
        (place,) = folder.iterdir()
        assert place.stat().st_mode & 0o777 == 0o700
        link = str(key._home.path)
        for _ in range(10):
            rhs.sign(key, IMAGE, NAME)
        assert running_with(link)
        agents = running_with(link)
    assert list(folder.iterdir()) == []
    assert not Path(link).parent.exists()
    wait_until(lambda: not set(agents) & set(running_with(link)), "the agent ends")
    assert any(b"--sign" in seen for seen in sampler.seen)
    for arguments, environment in sampler.seen.items():
        assert PASSPHRASE.encode() not in arguments + environment


def test_nothing_stays_after_a_failure(home: GpgHome, tmp_path: Path) -> None:
    links = []

    def fail() -> None:
        with gpg.opened_key(private(home, "own"), None, tmp_path, "the key") as key:
            links.append(str(key._home.path))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    wait_until(lambda: not running_with(links[0]), "the agent ends")


def test_a_key_of_this_machine(home: GpgHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the own home nothing is changed, and its options make no difference."""
    monkeypatch.setenv("GNUPGHOME", str(home.folder))
    (home.folder / "gpg.conf").write_text("armor\n")
    fingerprint = home.fingerprint("own")
    before = {path.name: path.read_bytes() for path in home.folder.iterdir() if path.suffix == ".kbx"}
    key = gpg.own_key(fingerprint, None, tmp_path)
    signature = rhs.sign(key, IMAGE, NAME)
    assert key.public_key == home.public("own")
    with gpg.opened_verifier(key.public_key, tmp_path, "the key") as verifier:
        rhs.check(verifier, signature, IMAGE, NAME)
    (home.folder / "gpg.conf").unlink()
    assert {name: (home.folder / name).read_bytes() for name in before} == before
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is not here: `gpg` finds no private key"):
        gpg.own_key("0" * 40, None, tmp_path)


# Hostile signatures and keys


def test_what_would_be_very_large_unpacked(home: GpgHome, tmp_path: Path) -> None:
    signature = home.run("--local-user", "own", "--sign", stdin=bytes(50 << 20))
    assert len(signature) < 100_000
    with (
        gpg.opened_verifier(home.public("own"), tmp_path, "the key") as verifier,
        pytest.raises(RefusedError),
    ):
        verifier.verify(signature)


def test_a_weak_hash(home: GpgHome, tmp_path: Path) -> None:
    home.run(*"--passphrase  --quick-gen-key weak rsa2048 sign 0".split(" "))
    signature = home.run("--local-user", "weak", "--digest-algo", "SHA1", "--sign", stdin=b"content")
    with (
        gpg.opened_verifier(home.public("weak"), tmp_path, "the key") as verifier,
        pytest.raises(RefusedError, match="its hash algorithm is too weak"),
    ):
        verifier.verify(signature)


def test_a_signature_that_expires(home: GpgHome, tmp_path: Path) -> None:
    home.run(
        "--faked-system-time", "20200101T000000", "--passphrase", "", "--quick-gen-key", "long", "ed25519"
    )
    options = ("--faked-system-time", "20200102T000000", "--default-sig-expire", "2d")
    signature = home.run(*options, "--local-user", "long", "--sign", stdin=rhs.payload(IMAGE, NAME))
    with (
        gpg.opened_verifier(home.public("long"), tmp_path, "the key") as verifier,
        pytest.raises(RefusedError, match="the signature has expired"),
    ):
        rhs.check(verifier, signature, IMAGE, NAME)


@pytest.fixture
def flipped(home: GpgHome, tmp_path: Path) -> Callable[[bytes, int], bytes]:
    def flip(content: bytes, bit: int) -> bytes:
        altered = bytearray(content)
        altered[bit // 8 % len(content)] ^= 1 << bit % 8
        return bytes(altered)

    return flip


SOME = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@SOME
@given(st.integers(0, 1 << 14))
def test_a_bit_of_the_payload(
    home: GpgHome, tmp_path: Path, flipped: Callable[[bytes, int], bytes], bit: int
) -> None:
    payload = rhs.payload(IMAGE, NAME)
    signature = home.run("--local-user", "own", "-z", "0", "--sign", stdin=payload)
    assert signature.count(payload) == 1
    altered = signature.replace(payload, flipped(payload, bit))
    with gpg.opened_verifier(home.public("own"), tmp_path, "the key") as verifier:
        assert rhs.claim(verifier, signature).digest == IMAGE.digest
        with pytest.raises(RefusedError, match="the signature is not of this content"):
            rhs.check(verifier, altered, IMAGE, NAME)


@SOME
@given(st.integers(0, 1 << 14))
def test_a_bit_of_the_signature(
    home: GpgHome, tmp_path: Path, flipped: Callable[[bytes, int], bytes], bit: int
) -> None:
    """Some bits of the envelope mean nothing; none makes another claim of it."""
    signature = home.run("--local-user", "own", "--sign", stdin=rhs.payload(IMAGE, NAME))
    with gpg.opened_verifier(home.public("own"), tmp_path, "the key") as verifier:
        try:
            content = verifier.verify(flipped(signature, bit)).content
        except RefusedError:
            return
        assert content == rhs.payload(IMAGE, NAME)


@SOME
@given(st.integers(0, 1 << 14))
def test_a_bit_of_the_key(
    home: GpgHome, tmp_path: Path, flipped: Callable[[bytes, int], bytes], bit: int
) -> None:
    """Some bits of the armor mean nothing; none makes another key of it that signed the same."""
    signature = home.run("--local-user", "own", "--sign", stdin=rhs.payload(IMAGE, NAME))
    altered = flipped(home.public("own"), bit)
    try:
        with gpg.opened_verifier(altered, tmp_path, "the key") as verifier:
            signed = verifier.verify(signature)
    except SecureBuildError:
        return
    assert signed.fingerprint == home.fingerprint("own")
    assert json.loads(signed.content)
