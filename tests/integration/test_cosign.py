"""cosign 2 and 3 accept what we sign, we accept what they sign, and both refuse the same."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fakes.registry import FakeRegistry
from integration import cosigns
from integration.cosigns import COSIGNS, PASSPHRASE, Cosigns, Published
from secure_build import process
from secure_build.attestations import classic, publication, statement
from secure_build.contract.confidential import section
from secure_build.errors import RefusedError, ServiceError
from secure_build.process import Program
from secure_build.reference import Pinned, Reference, Repository
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers import StatementVerifier, cosign_key
from secure_build.signers.classic import ClassicSigner, ClassicVerifier
from secure_build.signers.cosign import CosignSigner, CosignVerifier
from secure_build.signers.cosign_key import CommandKey, FileKey
from secure_build.signers.rekor import Rekor
from services import running
from services.counting import CountingProxy
from services.needed import need
from services.running import RunningRegistry
from services.sigstore import LocalSigstore

PROVENANCE = "https://slsa.dev/provenance/v1"


@dataclass(frozen=True, slots=True)
class Keys:
    """A key of ours, in a file that cosign made, and its public file; `foreign` is somebody else's."""

    private: Path
    public: Path
    own: FileKey
    foreign: FileKey

    @property
    def verifier(self) -> CosignVerifier:
        return CosignVerifier(self.own.public)


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Cosigns:
    need(*COSIGNS, "skopeo", "openssl")
    return Cosigns(tmp_path_factory.mktemp("cosign"))


@pytest.fixture(scope="module")
def keys(programs: Cosigns) -> Keys:
    private, public = programs.make_key("cosign3", "own")
    foreign, _ = programs.make_key("cosign2", "foreign")
    loaded = [cosign_key.load(one.read_bytes(), Secret(PASSPHRASE), "the key") for one in (private, foreign)]
    return Keys(private, public, *loaded)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSigstore]:
    with LocalSigstore(tmp_path_factory.mktemp("sigstore")) as started:
        yield started


@pytest.fixture
def rekor(log: LocalSigstore) -> Iterator[Rekor]:
    with Transport(connect_seconds=5, read_seconds=5) as transport:
        yield Rekor(log.url, cosign_key.public_key(log.files.rekor.read_bytes(), "the log's key"), transport)


@pytest.fixture
def make_image(
    programs: Cosigns, registry: RunningRegistry, tmp_path: Path
) -> Iterator[Callable[..., Published]]:
    with Transport() as transport:
        yield lambda **names: cosigns.publish(tmp_path, registry.host, transport, **names)


@pytest.fixture
def image(make_image: Callable[..., Published]) -> Published:
    return make_image()


def signed(found: list[bytes], verifier: StatementVerifier, pinned: Pinned) -> bool:
    """Whether one of these bundles says that the image is signed."""
    for bundle in found:
        with contextlib.suppress(RefusedError):
            payload = verifier.verify(bundle)
            statement.predicate(payload, predicate_type=statement.SIGNATURE, subject=pinned.digest)
            return True
    return False


def read_bundles(image: Published, pinned: Pinned) -> list[bytes]:
    return [one.content for one in publication.read_bundles(image.registry, pinned.repository, pinned.digest)]


def signed_classic(image: Published, verifier: ClassicVerifier, pinned: Pinned) -> bool:
    return any(verifier.accepts(one, pinned) for one in publication.read_classic(image.registry, pinned))


# Keys


@pytest.mark.parametrize("program", COSIGNS)
def test_key_files_are_the_same_for_both(programs: Cosigns, program: str) -> None:
    private, public = programs.make_key(program, f"made-{program}")
    key = cosign_key.load(private.read_bytes(), Secret(PASSPHRASE), "the key")
    assert key.public.pem == public.read_bytes()
    ours = programs.folder / f"ours-{program}.key"
    ours.write_bytes(cosign_key.dump(key.private, Secret(PASSPHRASE)))
    assert programs.done(program, "public-key", "--key", ours).encode() == key.public.pem


def test_the_contract_has_what_the_recipe_makes(keys: Keys) -> None:
    """`base64 -w0 cosign.pub`."""
    made = subprocess.run(["base64", "-w0", keys.public], check=True, capture_output=True, text=True).stdout
    repository = Repository.parse("us.icr.io/acme/web")
    content = section.content("package p", {repository: keys.own.public.pem})
    assert content["config"]["cosign"]["us.icr.io/acme/web"]["publicKey"] == made
    assert base64.b64encode(keys.own.public.pem).decode() == made


def test_cosign_3_imports_the_keys_of_openssl(programs: Cosigns, tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", pem)
    programs.done("cosign3", "import-key-pair", "--key", pem, "--output-key-prefix", "imported")
    imported = cosign_key.load((programs.folder / "imported.key").read_bytes(), Secret(PASSPHRASE), "the key")
    assert imported.public == cosign_key.load(pem.read_bytes(), None, "the key").public


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    return subprocess.run(
        [running.tool("openssl"), *map(str, arguments)], check=True, capture_output=True, input=stdin
    ).stdout


@pytest.mark.parametrize("encrypted", [False, True])
def test_keys_of_openssl(programs: Cosigns, tmp_path: Path, encrypted: bool) -> None:
    key, pem = tmp_path / "key", tmp_path / "pem"
    cipher = ["-aes-256-cbc", "-pass", f"pass:{PASSPHRASE}"] if encrypted else []
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", *cipher, "-out", key)
    loaded = cosign_key.load(key.read_bytes(), Secret(PASSPHRASE), "the key")
    pem.write_bytes(loaded.public.pem)
    assert pem.read_bytes() == openssl("pkey", "-in", key, "-passin", f"pass:{PASSPHRASE}", "-pubout")
    (tmp_path / "signature").write_bytes(loaded.sign(b"content"))
    checked = openssl(
        "dgst", "-sha256", "-verify", pem, "-signature", tmp_path / "signature", stdin=b"content"
    )
    assert b"Verified OK" in checked
    der = openssl("pkey", "-pubin", "-in", pem, "-outform", "DER")
    assert openssl("dgst", "-sha256", stdin=der).decode().split()[-1] == loaded.public.digest.hexadecimal


def test_a_key_behind_a_command(programs: Cosigns, image: Published, tmp_path: Path) -> None:
    key, public = tmp_path / "key", tmp_path / "pub"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
    public.write_bytes(openssl("pkey", "-in", key, "-pubout"))
    program = Program("openssl", "openssl")

    def command(digest: bytes) -> bytes:
        return process.run(program, ["pkeyutl", "-sign", "-inkey", str(key)], stdin=digest)

    signing = CommandKey(cosign_key.public_key(public.read_bytes(), "the key"), command)
    image.put_classic(ClassicSigner(signing).sign(image.image))
    image.put_bundle(CosignSigner(signing), image.about())
    for cosign in COSIGNS:
        assert programs.verify(cosign, public, image.image)


def test_openssl_verifies_what_is_signed(keys: Keys, image: Published, tmp_path: Path) -> None:
    made = ClassicSigner(keys.own).sign(image.image)
    envelope = json.loads(CosignSigner(keys.own).sign(image.about()))["dsseEnvelope"]
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    # DSSE v1, "Signature Definition".
    encoding = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    for content, text in ((made.payload, made.signature), (encoding, envelope["signatures"][0]["sig"])):
        (tmp_path / "signature").write_bytes(base64.b64decode(text))
        arguments = ["dgst", "-sha256", "-verify", keys.public, "-signature", tmp_path / "signature"]
        assert b"Verified OK" in openssl(*arguments, stdin=content)


# Theirs and ours


def test_cosign_accepts_our_classic_signatures(programs: Cosigns, keys: Keys, image: Published) -> None:
    for pinned in (image.image, *image.members):
        kept = classic.write(image.layout, ClassicSigner(keys.own).sign(pinned))
        publication.publish_classic(image.layout, kept, image.registry, pinned)
        for program in COSIGNS:
            assert programs.verify(program, keys.public, pinned)
            assert not programs.verify(program, programs.folder / "foreign.pub", pinned)
        assert signed_classic(image, ClassicVerifier(keys.own.public), pinned)
        assert not signed_classic(image, ClassicVerifier(keys.foreign.public), pinned)


def test_cosign_accepts_our_bundles(programs: Cosigns, keys: Keys, image: Published) -> None:
    assert not programs.verify("cosign3", keys.public, image.image)
    image.put_bundle(CosignSigner(keys.own), image.about())
    assert programs.verify("cosign3", keys.public, image.image)
    assert not programs.verify("cosign3", programs.folder / "foreign.pub", image.image)
    for program in COSIGNS:
        assert programs.verify(program, keys.public, image.image, kind=statement.SIGNATURE)
        assert not programs.verify(
            program, programs.folder / "foreign.pub", image.image, kind=statement.SIGNATURE
        )
    assert signed(image.bundles(), keys.verifier, image.image)


@pytest.mark.parametrize("program", COSIGNS)
def test_we_accept_what_cosign_signs_in_the_classic_form(
    programs: Cosigns, keys: Keys, image: Published, program: str
) -> None:
    for pinned in (image.image, *image.members):
        programs.sign(program, keys.private, pinned)
        assert signed_classic(image, ClassicVerifier(keys.own.public), pinned)
        assert not signed_classic(image, ClassicVerifier(keys.foreign.public), pinned)


def test_we_accept_the_bundles_of_cosign(programs: Cosigns, keys: Keys, image: Published) -> None:
    for pinned in (image.image, *image.members):
        programs.sign("cosign3", keys.private, pinned, bundle=True)
        assert signed(read_bundles(image, pinned), keys.verifier, pinned)
        assert not signed(read_bundles(image, pinned), CosignVerifier(keys.foreign.public), pinned)


@pytest.mark.parametrize("program", COSIGNS)
def test_ours_and_theirs_stand_side_by_side(
    programs: Cosigns, keys: Keys, image: Published, program: str
) -> None:
    """In either order; each signer sees its own, and what was there before stays."""
    theirs = programs.folder / "foreign.key"
    foreign = programs.folder / "foreign.pub"
    programs.sign(program, theirs, image.image)
    before = image.registry.find(classic.tag(image.image.repository, image.image.digest))
    image.put_classic(ClassicSigner(keys.own).sign(image.image))
    after = image.registry.find(classic.tag(image.image.repository, image.image.digest))
    assert before is not None
    assert after is not None
    assert after.layers[: len(before.layers)] == before.layers
    programs.sign(program, theirs, image.image)
    for cosign in COSIGNS:
        assert programs.verify(cosign, keys.public, image.image)
        assert programs.verify(cosign, foreign, image.image)
    programs.sign("cosign3", theirs, image.image, bundle=True)
    image.put_bundle(CosignSigner(keys.own), image.about())
    programs.sign("cosign3", theirs, image.image, bundle=True)
    assert len(image.bundles()) == 3
    assert programs.verify("cosign3", keys.public, image.image)
    assert signed(image.bundles(), CosignVerifier(keys.foreign.public), image.image)


# The log


def test_signatures_in_a_log(
    programs: Cosigns, keys: Keys, image: Published, log: LocalSigstore, rekor: Rekor
) -> None:
    image.put_classic(ClassicSigner(keys.own, rekor).sign(image.image))
    for program in COSIGNS:
        assert programs.verify(program, keys.public, image.image, log=log)
    image.put_bundle(CosignSigner(keys.own, rekor), image.about())
    assert programs.verify("cosign3", keys.public, image.image, log=log)
    for program in COSIGNS:
        assert programs.verify(program, keys.public, image.image, log=log, kind=statement.SIGNATURE)
    assert signed(image.bundles(), CosignSigner(keys.own, rekor), image.image)


def test_a_signature_without_the_log_that_is_demanded(
    programs: Cosigns, keys: Keys, image: Published, log: LocalSigstore, rekor: Rekor
) -> None:
    image.put_classic(ClassicSigner(keys.own).sign(image.image))
    image.put_bundle(CosignSigner(keys.own), image.about())
    for program in COSIGNS:
        assert not programs.verify(program, keys.public, image.image, log=log)
    assert not signed_classic(image, ClassicVerifier(keys.own.public, rekor.key), image.image)
    assert not signed(image.bundles(), CosignVerifier(keys.own.public, rekor.key), image.image)


@pytest.mark.parametrize("program", COSIGNS)
def test_entries_that_cosign_has_made(
    programs: Cosigns, keys: Keys, image: Published, log: LocalSigstore, rekor: Rekor, *, program: str
) -> None:
    programs.sign(program, keys.private, image.image, log=log)
    assert signed_classic(image, ClassicVerifier(keys.own.public, rekor.key), image.image)
    if program == "cosign3":
        programs.sign(program, keys.private, image.image, bundle=True, log=log)
        assert signed(image.bundles(), CosignVerifier(keys.own.public, rekor.key), image.image)


def test_a_log_entry_of_another_signature_is_refused_by_all(
    programs: Cosigns, keys: Keys, image: Published, log: LocalSigstore, rekor: Rekor
) -> None:
    signer = ClassicSigner(keys.own, rekor)
    good, other = signer.sign(image.image), signer.sign(image.image)
    mixed = replace(good, log=other.log)
    image.put_classic(mixed)
    for program in COSIGNS:
        assert not programs.verify(program, keys.public, image.image, log=log)
    assert not signed_classic(image, signer.verifier, image.image)
    image.put_classic(good)
    for program in COSIGNS:
        assert programs.verify(program, keys.public, image.image, log=log)
    assert signed_classic(image, signer.verifier, image.image)


def test_a_bundle_with_the_entry_of_another_signature_is_refused_by_all(
    programs: Cosigns, keys: Keys, image: Published, log: LocalSigstore, rekor: Rekor
) -> None:
    signer = CosignSigner(keys.own, rekor)
    good, other = (json.loads(signer.sign(image.about())) for _ in range(2))
    mixed = json.loads(json.dumps(good))
    mixed["verificationMaterial"]["tlogEntries"] = other["verificationMaterial"]["tlogEntries"]
    for document, accepted in ((mixed, False), (good, True)):
        image.put(json.dumps(document).encode(), statement.SIGNATURE)
        assert programs.verify("cosign3", keys.public, image.image, log=log) is accepted
        for program in COSIGNS:
            kind = statement.SIGNATURE
            assert programs.verify(program, keys.public, image.image, log=log, kind=kind) is accepted
        assert signed(image.bundles(), signer, image.image) is accepted


def test_hardening_14_an_entry_that_is_there_already_is_taken(
    keys: Keys, log: LocalSigstore, rekor: Rekor
) -> None:
    log.rekor.lost = 1
    log.requests.clear()
    statement_bytes = statement.statement(PROVENANCE, {}, [])
    signer = CosignSigner(keys.own, rekor)
    assert signer.verify(signer.sign(statement_bytes)) == statement_bytes
    assert [line.split()[0] for line in log.requests] == ["POST", "POST", "GET"]


@pytest.mark.parametrize("status", [400, 403])
def test_a_log_that_refuses(keys: Keys, log: LocalSigstore, rekor: Rekor, status: int) -> None:
    log.rekor.status = status
    try:
        with pytest.raises(ServiceError, match=f"the transparency log took no entry.*{status}"):
            ClassicSigner(keys.own, rekor).sign(Pinned.parse(f"us.icr.io/a/b@sha256:{'0' * 64}"))
    finally:
        log.rekor.status = None


def test_a_log_that_is_silent_is_given_up(keys: Keys, log: LocalSigstore, rekor: Rekor) -> None:
    log.rekor.silent = True
    try:
        with Transport(read_seconds=0.2, deadline_seconds=0.1) as transport:
            signer = ClassicSigner(keys.own, replace(rekor, transport=transport))
            with pytest.raises(ServiceError, match="timed out"):
                signer.sign(Pinned.parse(f"us.icr.io/a/b@sha256:{'0' * 64}"))
    finally:
        log.rekor.silent = False


def test_a_log_with_another_key_is_not_believed(keys: Keys, rekor: Rekor) -> None:
    other = replace(rekor, key=keys.foreign.public)
    with pytest.raises(RefusedError, match="is not signed by the log's key"):
        CosignSigner(keys.own, other).sign(statement.statement(PROVENANCE, {}, []))


# Refusals


def test_hardening_17_a_signature_stays_with_its_digest(
    programs: Cosigns, keys: Keys, make_image: Callable[..., Published]
) -> None:
    """The tag moves to another valid image: what is signed is refused there, and accepted when it is back."""
    first = make_image()
    path = first.image.repository.path
    second = make_image(repository=path, variable="OTHER=1")
    reference = Reference(first.image.repository, "moving")
    first.put_classic(ClassicSigner(keys.own).sign(first.image))
    first.put_bundle(CosignSigner(keys.own), first.about())
    for named, accepted in ((first, True), (second, False), (first, True)):
        first.registry.tag(reference, named.layout.manifest(named.descriptor))
        digest = first.registry.tagged(reference)
        assert digest is not None
        pinned = reference.pin(digest)
        for program in COSIGNS:
            ended = programs.run(
                program, "verify", "--key", keys.public, "--insecure-ignore-tlog=true", str(reference)
            )
            assert (ended.returncode == 0) is accepted
        assert signed_classic(first, ClassicVerifier(keys.own.public), pinned) is accepted
        assert signed(read_bundles(first, pinned), keys.verifier, pinned) is accepted


def test_hardening_52_a_signature_of_another_image(
    programs: Cosigns, keys: Keys, make_image: Callable[..., Published]
) -> None:
    """B's signatures, put beside A."""
    first = make_image()
    second = make_image(repository=first.image.repository.path, variable="OTHER=1")
    first.put_classic(ClassicSigner(keys.own).sign(second.image))
    first.put_bundle(CosignSigner(keys.own), second.about())
    for program in COSIGNS:
        assert not programs.verify(program, keys.public, first.image)
    assert not signed_classic(first, ClassicVerifier(keys.own.public), first.image)
    assert not signed(first.bundles(), keys.verifier, first.image)
    first.put_classic(ClassicSigner(keys.own).sign(first.image))
    first.put_bundle(CosignSigner(keys.own), first.about())
    for program in COSIGNS:
        assert programs.verify(program, keys.public, first.image)
    assert signed_classic(first, ClassicVerifier(keys.own.public), first.image)
    assert signed(first.bundles(), keys.verifier, first.image)


def test_a_signature_is_not_found_in_another_repository(
    programs: Cosigns, keys: Keys, make_image: Callable[..., Published]
) -> None:
    """Nor believed, where somebody has copied it: cosign then accepts a classic one, and we do not."""
    first, second = make_image(), make_image()
    assert first.image.digest == second.image.digest
    first.put_classic(ClassicSigner(keys.own).sign(first.image))
    first.put_bundle(CosignSigner(keys.own), first.about())
    for program in COSIGNS:
        assert not programs.verify(program, keys.public, second.image)
    assert not signed(second.bundles(), keys.verifier, second.image)
    assert not signed_classic(second, ClassicVerifier(keys.own.public), second.image)
    second.put_classic(ClassicSigner(keys.own).sign(first.image))
    assert programs.verify("cosign2", keys.public, second.image)
    assert not signed_classic(second, ClassicVerifier(keys.own.public), second.image)


def test_a_provenance_is_no_signature(programs: Cosigns, keys: Keys, image: Published) -> None:
    """cosign 3's `verify` takes it for one; its `verify-attestation` with a type does not, nor do we."""
    image.put_bundle(CosignSigner(keys.own), image.about(PROVENANCE))
    assert programs.verify("cosign3", keys.public, image.image)
    for program in COSIGNS:
        assert not programs.verify(program, keys.public, image.image, kind=statement.SIGNATURE)
        assert programs.verify(program, keys.public, image.image, kind=PROVENANCE)
    assert not signed(image.bundles(), keys.verifier, image.image)
    image.put_bundle(CosignSigner(keys.own), image.about())
    for program in COSIGNS:
        assert programs.verify(program, keys.public, image.image, kind=statement.SIGNATURE)
    assert signed(image.bundles(), keys.verifier, image.image)


def test_hardening_54_both_forms_are_reported_each(programs: Cosigns, keys: Keys, image: Published) -> None:
    """A good classic signature beside a bundle of somebody else: each is told apart."""
    image.put_classic(ClassicSigner(keys.own).sign(image.image))
    image.put_bundle(CosignSigner(keys.foreign), image.about())
    assert signed_classic(image, ClassicVerifier(keys.own.public), image.image)
    assert not signed(image.bundles(), keys.verifier, image.image)
    assert programs.verify("cosign2", keys.public, image.image)


# Requests


def test_requests_to_a_registry_without_lists(
    programs: Cosigns, keys: Keys, registry: RunningRegistry, tmp_path: Path
) -> None:
    with CountingProxy(registry.host) as proxy, Transport() as transport:
        image = cosigns.publish(tmp_path, proxy.host, transport)
        proxy.taken()
        for expected in (1 + 8, 5):
            image.put_bundle(CosignSigner(keys.own), image.about())
            assert len(proxy.taken()) == expected, proxy.requests
        for _ in range(2):
            image.put_classic(ClassicSigner(keys.own).sign(image.image))
            assert len(proxy.taken()) == 6
        found = publication.read_bundles(image.registry, image.image.repository, image.image.digest)
        assert keys.verifier.verify(next(found).content) == image.about()
        assert len(proxy.taken()) == 3
        # Somebody who only verifies asks for the list too, once.
        reader = RemoteRegistry(proxy.host, None, transport)
        for expected in (3 + 1, 3):
            next(publication.read_bundles(reader, image.image.repository, image.image.digest))
            assert len(proxy.taken()) == expected
        assert programs.verify("cosign3", keys.public, image.image)


def test_a_registry_with_lists(programs: Cosigns, keys: Keys, tmp_path: Path) -> None:
    """cosign reads there what we write, and the other way round."""
    with FakeRegistry() as registry, Transport() as transport:
        registry.lists_referrers = True
        image = cosigns.publish(tmp_path, registry.host, transport)
        registry.requests.clear()
        for expected in (7, 4):
            image.put_bundle(CosignSigner(keys.own), image.about())
            assert len(registry.requests) == expected
            registry.requests.clear()
        assert programs.verify("cosign3", keys.public, image.image)
        assert programs.verify("cosign2", keys.public, image.image, kind=statement.SIGNATURE)
        programs.sign("cosign3", programs.folder / "foreign.key", image.image, bundle=True)
        assert signed(image.bundles(), CosignVerifier(keys.foreign.public), image.image)
