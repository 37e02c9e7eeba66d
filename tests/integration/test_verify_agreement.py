"""What `verify` finds of signatures is what skopeo, `notary` and cosign find, in hundreds of made cases.

Where we differ on purpose is in docs/verify.md, and each difference has a test here.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from integration import cosigns
from integration.cosigns import Cosigns, Published
from integration.test_rhs import Keyring, keyring, registries, revoke  # noqa: F401
from secure_build.attestations.classic import Signed as Classic
from secure_build.attestations.classic import payload as classic_payload
from secure_build.contract.decision.model import Answer, Entry, Question
from secure_build.contract.decision.questions import covering
from secure_build.reference import Digest, Pinned, Reference, Repository
from secure_build.registry.http import Transport
from secure_build.registry.signatures import SignatureExtension
from secure_build.signers import rhs
from secure_build.signers.classic import ClassicSigner
from secure_build.signers.cosign import CosignSigner
from secure_build.signers.cosign_key import FileKey
from secure_build.signers.dct import Keys as NotaryKeys
from secure_build.signers.dct import opened
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import RootCertificate, Target
from secure_build.steps.gathering import Means, gather
from services import certificates, running
from services.gpg_keys import GpgHome
from services.needed import need
from services.notary import Client, NotaryServer, notary
from services.running import RunningRegistry
from services.signatures import SignatureRegistry

SIMPLE, TRUSTED, KEYED = 200, 60, 60
_PAST = ("--faked-system-time", "20200101T000000", "--pinentry-mode", "loopback", "--passphrase", "")


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", running.environment()["PATH"])


@pytest.fixture
def transport() -> Iterator[Transport]:
    with Transport(connect_seconds=5, read_seconds=20) as made:
        yield made


def means(folder: Path, transport: Transport, **more: object) -> Means:
    folder.mkdir(exist_ok=True)
    return replace(Means(transport=transport, folder=folder, jobs=4, offline=False), **more)  # type: ignore[arg-type]


def entry(kind: str, name: str, key: bytes, notary_url: str | None = None) -> Entry:
    return Entry(kind, name, base64.b64encode(key).decode(), notary_url, "contract.yaml:1")  # type: ignore[arg-type]


# Red Hat simple signing, against skopeo's policy


@dataclass(frozen=True, slots=True)
class GpgKeys:
    """Homes with keys of gpg's, by what is the matter with each: fingerprint and public key."""

    home: GpgHome
    fingerprints: dict[str, str]
    public: dict[str, bytes]

    def sign(self, kind: str, content: bytes) -> bytes:
        past = _PAST[:2] if kind == "expired" else ()
        options = ("--pinentry-mode", "loopback", "--passphrase", "", "--output", "-")
        return self.home.run(
            *past, *options, "--local-user", self.fingerprints[kind], "--sign", stdin=content
        )


@pytest.fixture(scope="module")
def gpg_keys(keyring: Keyring, tmp_path_factory: pytest.TempPathFactory) -> GpgKeys:  # noqa: F811
    home = keyring.home
    home.run(*_PAST, "--quick-generate-key", "expired", "ed25519", "sign", "2d")
    prints = {name: home.fingerprint(name) for name in ("own", "foreign", "expired")}
    prints["revoked"] = home.make("revoked")
    public = {name: home.public(fingerprint) for name, fingerprint in prints.items()}
    # Revoked by its owner after it has signed.
    other = GpgHome(home.folder.parent / "other")
    other.folder.mkdir(mode=0o700)
    other.run("--import", stdin=home.run(*_PAST[2:], "--export-secret-keys", prints["revoked"]))
    certificate = home.folder / "openpgp-revocs.d" / f"{prints['revoked']}.rev"
    other.run("--import", stdin=certificate.read_bytes().replace(b":-----BEGIN", b"-----BEGIN"))
    public["revoked"] = other.public(prints["revoked"])
    public["both"] = home.run("--armor", "--export", prints["own"], prints["foreign"])
    other.stop()
    return GpgKeys(home, prints, public)


@dataclass(frozen=True, slots=True)
class SimpleCase:
    """Which signatures stand beside an image, and by which keys of the contract they are judged."""

    signatures: tuple[tuple[str, str], ...]
    entries: tuple[tuple[str, str], ...]

    @classmethod
    def drawn(cls, chance: random.Random) -> SimpleCase:
        signers, forms = (
            (*("own",) * 7, "foreign", "expired", "revoked"),
            (
                *("right",) * 7,
                *("index only", "member only"),
                *("other tag", "other repository", "other digest", "flipped", "no claim", "rubbish"),
            ),
        )
        count = chance.choice((0, 1, 1, 1, 2, 3))
        signatures = tuple((chance.choice(signers), chance.choice(forms)) for _ in range(count))
        scopes = ("repository", "tag", "above", "repository", "tag", "above", "other tag", "other repository")
        entries = tuple(
            (scope, chance.choice((*("own",) * 7, "foreign", "expired", "revoked", "both")))
            for scope in dict.fromkeys(chance.sample(scopes, chance.choice((1, 1, 2))))
        )
        return cls(signatures, entries)


@pytest.fixture
def signing_registry(registry: RunningRegistry) -> Iterator[SignatureRegistry]:
    with SignatureRegistry(registry.host) as front:
        yield front


def made_signatures(
    keys: GpgKeys, case: SimpleCase, name: Reference, image: Published
) -> list[tuple[Digest, bytes]]:
    """Each signature with the digest of the manifest that it is put beside."""
    repository = name.repository
    found = []
    for signer, form in case.signatures:
        for one in (*image.members, image.image):
            if (form, one == image.image) in (("index only", False), ("member only", True)):
                continue
            pinned = Pinned(repository, one.digest)
            named = {
                "other tag": Reference(repository, "other"),
                "other repository": Reference(Repository(repository.registry, "acme/other"), name.tag),
            }.get(form, name)
            said = Digest.of(b"other") if form == "other digest" else pinned.digest
            content = rhs.payload(Pinned(named.repository, said), named)
            if form == "no claim":
                content = b'{"critical": {}, "optional": {}}'
            made = keys.sign(signer, content)
            if form == "flipped":
                made = made[:-3] + bytes([made[-3] ^ 1]) + made[-2:]
            if form == "rubbish":
                made = b"\x90" + made[:20]
            found.append((pinned.digest, made))
    return found


def scope_name(scope: str, name: Reference) -> str:
    repository = str(name.repository)
    return {
        "repository": repository,
        "tag": str(name),
        "above": repository.rpartition("/")[0],
        "other tag": f"{repository}:other",
        "other repository": f"{repository}x",
    }[scope]


def skopeo_takes(folder: Path, name: Reference, entries: list[Entry]) -> bool:
    """Whether skopeo copies the image for the guest's platform under the equivalent policy."""
    folder.mkdir()
    demands = {
        one.name: [{"type": "signedBy", "keyType": "GPGKeys", "keyData": one.public_key}] for one in entries
    }
    policy = {"default": [{"type": "reject"}], "transports": {"docker": demands}}
    (folder / "policy.json").write_text(json.dumps(policy))
    said = subprocess.run(
        [
            *(running.tool("skopeo"), "--policy", folder / "policy.json"),
            *("--registries.d", registries(folder, name.repository.registry, None)),
            *("--override-arch", "s390x", "copy", "--src-tls-verify=false"),
            *(f"docker://{name}", f"dir:{folder}/copied"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if said.returncode:
        refused = ("Source image rejected", "invalid signature", "Error parsing", "signature")
        assert any(word in said.stderr for word in refused), said.stderr
    return said.returncode == 0


def test_rhs_as_skopeo(
    registry: RunningRegistry,
    signing_registry: SignatureRegistry,
    gpg_keys: GpgKeys,
    transport: Transport,
    tmp_path: Path,
) -> None:
    need("skopeo", "gpg")
    chance = random.Random(6)
    cases = [SimpleCase.drawn(chance) for _ in range(SIMPLE)]
    image = cosigns.publish(tmp_path, registry.host, transport, repository="acme/first")
    store = SignatureExtension(signing_registry.host, None, transport, push=True)
    asked: list[Question] = []
    policies: list[list[Entry]] = []
    for number, case in enumerate(cases):
        name = Reference(Repository(signing_registry.host, f"acme/case{number}/web"), "1.0")
        running.tool("skopeo")
        copy_all(image.image, name, registry.host)
        for digest, content in made_signatures(gpg_keys, case, name, image):
            store.add(Pinned(name.repository, digest), content)
        entries = [entry("rhs", scope_name(scope, name), gpg_keys.public[key]) for scope, key in case.entries]
        policies.append(entries)
        asked.append(Question(name, None, covering(name, entries)))
    with ThreadPoolExecutor(2) as pool:
        theirs = list(
            pool.map(
                lambda one: skopeo_takes(tmp_path / f"skopeo{one}", asked[one].reference, policies[one]),
                range(len(cases)),
            )
        )
    answers, _ = gather(asked, [], means(tmp_path / "work", transport))
    ours = [question.entry is not None and outcome(answers[question]) == "good" for question in asked]
    different = [
        (case, asked[number].reference, theirs[number], answers[asked[number]].signed)
        for number, case in enumerate(cases)
        if theirs[number] != ours[number]
    ]
    assert not different
    # Both happen, or nothing is shown.
    assert SIMPLE // 4 < sum(theirs) < SIMPLE * 3 // 4


def outcome(answer: Answer) -> str:
    assert answer.signed is not None
    assert answer.signed.outcome in ("good", "bad"), answer.signed
    return answer.signed.outcome


def copy_all(image: Pinned, name: Reference, host: str) -> None:
    target = f"{host}/{name.repository.path}:{name.tag}"
    subprocess.run(
        [
            *(running.tool("skopeo"), "--insecure-policy", "copy", "--all", "--quiet"),
            *("--src-tls-verify=false", "--dest-tls-verify=false"),
            *(f"docker://{image}", f"docker://{target}"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )


# Docker Content Trust, against `notary lookup` with the root pinned


@pytest.fixture(scope="module")
def notary_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotaryServer]:
    need("notary", "notary-server", "notary-signer", "openssl")
    with notary(tmp_path_factory.mktemp("notary")) as started:
        yield started


def test_dct_as_notary(
    registry: RunningRegistry, notary_server: NotaryServer, transport: Transport, tmp_path: Path
) -> None:
    chance = random.Random(7)
    roots: dict[Repository, str] = {}
    for number in range(6):
        repository = Repository(registry.host, f"acme/trusted{number}")
        root = NotaryKey(ec.generate_private_key(ec.SECP256R1()))
        keys = NotaryKeys(root, NotaryKey(ec.generate_private_key(ec.SECP256R1())))
        authority = notary_server.authority.read_bytes()
        with opened(tmp_path / "publish", notary_server.url, ca=authority, keys=keys) as here:
            targets = {f"{tag}.0": Target(Digest.of(f"{number}{tag}".encode()), 500) for tag in range(number)}
            signed = here.publish(repository, targets or {"only": Target(Digest.of(b"x"), 500)})
            roots[repository] = signed.root_certificate
    repositories = [*roots, Repository(registry.host, "acme/never")]
    asked = set()
    while len(asked) < TRUSTED:
        repository, other = chance.choice(repositories), chance.choice(list(roots))
        key = roots[chance.choice((repository if repository in roots else other, other))]
        name = Reference(repository, chance.choice(("0.0", "1.0", "2.0", "only", "none")))
        asked.add(Question(name, None, Entry("dct", str(repository), key, notary_server.url, "c:1")))
    ordered = sorted(asked, key=str)
    ready = means(tmp_path / "work", transport, notary_ca=notary_server.authority.read_bytes())
    answers, _ = gather(ordered, [], ready)
    different, found = [], 0
    for number, question in enumerate(ordered):
        assert question.entry is not None
        pin = RootCertificate.parse(question.entry.public_key).identifier
        trust = {"certs": {str(question.reference.repository): [pin]}, "disable_tofu": True}
        client = Client.at(
            tmp_path / f"client{number}", notary_server, notary_server.authority, trust_pinning=trust
        )
        said = client.try_to("lookup", str(question.reference.repository), str(question.reference.tag))
        theirs = said.stdout.split()[1] if said.returncode == 0 else None
        signed = answers[question].signed
        assert signed is not None
        assert signed.outcome != "unknown", signed
        found += theirs is not None
        if theirs != (str(signed.digest) if signed.outcome == "good" else None):
            different.append((question.reference, theirs, signed))
    assert not different
    assert 5 < found < TRUSTED - 5


def test_without_the_program_trust_data_is_unknown(
    registry: RunningRegistry, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, _ = certificates.self_signed(tmp_path, "web")
    name = Reference(Repository(registry.host, "acme/web"), "1.0")
    question = Question(name, None, entry("dct", "acme/web", certificate.read_bytes(), "https://localhost:9"))
    monkeypatch.setenv("PATH", str(tmp_path))
    answers, _ = gather([question], [], means(tmp_path / "work", transport))
    signed = answers[question].signed
    assert signed is not None
    assert signed.outcome == "unknown"
    assert "notary" in signed.why


# cosign with a key


def test_cosign_as_cosign(registry: RunningRegistry, transport: Transport, tmp_path: Path) -> None:
    need("cosign2", "skopeo")
    program = Cosigns(tmp_path)
    chance = random.Random(8)
    own, foreign = (FileKey(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))
    public = tmp_path / "own.pub"
    public.write_bytes(own.public.pem)
    asked, images = [], []
    for number in range(KEYED):
        image = cosigns.publish(tmp_path, registry.host, transport, repository=f"acme/keyed{number}")
        for _ in range(chance.choice((0, 1, 1, 2))):
            put_drawn(chance, image, own, foreign)
        images.append(image)
        reference = Reference(image.image.repository, digest=image.image.digest)
        asked.append(Question(reference, None, entry("cosign", str(reference.repository), own.public.pem)))
    answers, _ = gather(asked, [], means(tmp_path / "work", transport))
    with ThreadPoolExecutor(2) as pool:
        theirs = list(pool.map(lambda one: program.verify("cosign2", public, one.image), images))
    ours = [outcome(answers[question]) == "good" for question in asked]
    assert ours == theirs
    assert 5 < sum(ours) < KEYED - 5


def put_drawn(chance: random.Random, image: Published, own: FileKey, foreign: FileKey) -> None:
    """One signature, good or not, under the tag where cosign looks."""
    form = chance.choice(("own", "own", "foreign", "other digest", "flipped", "no base64", "member"))
    signed = ClassicSigner(foreign if form == "foreign" else own).sign(image.image)
    if form == "other digest":
        signed = ClassicSigner(own).sign(Pinned(image.image.repository, Digest.of(b"other")))
    elif form == "member":
        signed = ClassicSigner(own).sign(image.members[0])
    elif form == "flipped":
        content = bytearray(base64.b64decode(signed.signature))
        content[-1] ^= 1
        signed = replace(signed, signature=base64.b64encode(bytes(content)).decode())
    elif form == "no base64":
        signed = replace(signed, signature="?")
    image.put_classic(signed)


def test_unlike_cosign_the_repository_must_be_the_signed_one(
    registry: RunningRegistry, transport: Transport, tmp_path: Path
) -> None:
    need("cosign2", "skopeo")
    own = FileKey(ec.generate_private_key(ec.SECP256R1()))
    public = tmp_path / "own.pub"
    public.write_bytes(own.public.pem)
    image = cosigns.publish(tmp_path, registry.host, transport, repository="acme/here")
    elsewhere = Pinned(Repository(registry.host, "acme/elsewhere"), image.image.digest)
    content = classic_payload(elsewhere)
    image.put_classic(Classic(content, base64.b64encode(own.sign(content)).decode()))
    reference = Reference(image.image.repository, digest=image.image.digest)
    question = Question(reference, None, entry("cosign", str(reference.repository), own.public.pem))
    answers, _ = gather([question], [], means(tmp_path / "work", transport))
    assert Cosigns(tmp_path).verify("cosign2", public, image.image)
    assert outcome(answers[question]) == "bad"


def test_a_bundle_alone_is_unknown(registry: RunningRegistry, transport: Transport, tmp_path: Path) -> None:
    """cosign 3 takes it, and whether the guest does is not documented."""
    need("cosign3", "skopeo")
    own = FileKey(ec.generate_private_key(ec.SECP256R1()))
    public = tmp_path / "own.pub"
    public.write_bytes(own.public.pem)
    image = cosigns.publish(tmp_path, registry.host, transport, repository="acme/bundled")
    image.put_bundle(CosignSigner(own), image.about())
    reference = Reference(image.image.repository, digest=image.image.digest)
    question = Question(reference, None, entry("cosign", str(reference.repository), own.public.pem))
    answers, _ = gather([question], [], means(tmp_path / "work", transport))
    assert Cosigns(tmp_path).verify("cosign3", public, image.image)
    signed = answers[question].signed
    assert signed is not None
    assert signed.outcome == "unknown"
