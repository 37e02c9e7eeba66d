"""Who vouches for a build record: bundles beside it, records that are joined, records handed on."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from sigstore.dsse import Statement

from fakes.registry import FakeRegistry, Fault
from fakes.statements import KeySigner
from flow.attesting import attested, opened
from flow.conftest import Project
from flow.test_join import BOTH, change, job
from secure_build.attestations import statement
from secure_build.errors import RefusedError, UsageError
from secure_build.model import BuildRecord
from secure_build.reference import Digest, Pinned
from secure_build.report import Report
from secure_build.signers import StatementSigner, StatementVerifier
from secure_build.signers.cosign import CosignVerifier
from secure_build.signers.cosign_key import PublicKey
from secure_build.steps.handover import hand_on
from secure_build.steps.job import Job, Options
from secure_build.steps.job import opened as opened_job
from secure_build.steps.join import join
from secure_build.steps.record_signature import PREDICATE, bundles_beside, check, sign_record


@pytest.fixture
def built(project: Project) -> Project:
    assert project.run("build").code == 0
    return project


def sign(project: Project, *signers: StatementSigner) -> dict[str, bytes]:
    """Sign the record; returns the bundles beside it."""
    with opened(project) as work:
        sign_record(work, signers)
    return {path.name: path.read_bytes() for path in project.workdir.glob("build-record.*.json")}


def path_of(project: Project) -> Path:
    return project.workdir / "build-record.json"


def test_a_record_is_signed_once_as_it_is(built: Project) -> None:
    key, identity = KeySigner(), KeySigner("keyless")
    made = sign(built, key, identity)
    assert set(made) == {"build-record.cosign.json", "build-record.keyless.json"}
    content = path_of(built).read_bytes()
    for signer, bundle in zip((key, identity), made.values(), strict=True):
        payload = signer.verify(bundle)
        Statement(payload)
        assert json.loads(payload) == {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "build-record.json", "digest": {"sha256": Digest.of(content).hexadecimal}}],
            "predicateType": PREDICATE,
            "predicate": {},
        }
    assert check("it", content, bundles_beside(path_of(built)), (key, identity)) == (
        f"cosign ({key.signer})",
        f"keyless ({identity.signer})",
    )
    assert sign(built, key, identity) == made
    assert sign(built) == made
    assert path_of(built).read_bytes() == content


def test_a_changed_record_is_signed_again_or_unsigned(
    built: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    key, identity = KeySigner(), KeySigner("keyless")
    made = sign(built, key, identity)
    assert built.run("publish").code == 0
    capsys.readouterr()
    again = sign(built, key)
    assert set(again) == {"build-record.cosign.json"}
    assert "build-record.json` has changed: with keyless, whose key is not here, it is now unsigned" in (
        capsys.readouterr().err
    )
    assert again["build-record.cosign.json"] != made["build-record.cosign.json"]
    assert check("it", path_of(built).read_bytes(), again.values(), [key]) == (f"cosign ({key.signer})",)
    # Another key signs in the place of the first one, and what is no bundle is replaced too.
    other = KeySigner()
    assert check("it", path_of(built).read_bytes(), sign(built, other).values(), [other])
    (built.workdir / "build-record.cosign.json").write_text("{")
    assert check("it", path_of(built).read_bytes(), sign(built, key).values(), [key])
    (built.workdir / "build-record.cosign.json").write_text("{")
    assert sign(built) == {}


def test_nothing_is_signed_where_there_is_no_record(project: Project) -> None:
    assert sign(project, KeySigner()) == {}


def test_51_every_changed_byte_is_refused(built: Project) -> None:
    key = KeySigner()
    sign(built, key)
    content, (bundle,) = path_of(built).read_bytes(), bundles_beside(path_of(built))
    assert check("it", content, [bundle], [key])
    for position in (0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[position] ^= 1
        with pytest.raises(
            RefusedError, match=r"`it` is not signed with cosign as it should be: .*not about"
        ):
            check("it", bytes(changed), [bundle], [key])
    whole = json.loads(bundle)
    signature = bytearray(base64.b64decode(whole["dsseEnvelope"]["signatures"][0]["sig"]))
    signature[-1] ^= 1
    whole["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    with pytest.raises(RefusedError, match="is not signed by the key"):
        check("it", content, [json.dumps(whole).encode()], [key])


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"verificationMaterial":7}', b"\xff", b"[" * 9999]
)
def test_58_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(RefusedError, match="no sigstore bundle"):
        check("it", b"record", [content], [KeySigner()])


def test_statements_about_something_else_sign_no_record() -> None:
    key, content = KeySigner(), b"record"
    for predicate_type, subject in ((PREDICATE, b"other"), (statement.SIGNATURE, content)):
        said = statement.statement(predicate_type, {}, [("build-record.json", Digest.of(subject))])
        with pytest.raises(RefusedError, match="the statement is"):
            check("it", content, [key.sign(said)], [key])


def test_only_who_is_of_its_kind_is_asked() -> None:
    key, second, identity = KeySigner(), KeySigner(), KeySigner("keyless")
    said = statement.statement(PREDICATE, {}, [("build-record.json", Digest.of(b"record"))])
    bundle = key.sign(said)
    assert check("it", b"record", [bundle], [identity]) == ()
    assert check("it", b"record", [bundle], []) == ()
    assert check("it", b"record", [], [key]) == ()
    # One of several keys is enough, as when a key is replaced by another.
    assert check("it", b"record", [bundle], [second, key]) == (f"cosign ({key.signer})",)
    with pytest.raises(RefusedError):
        check("it", b"record", [bundle, second.sign(said)], [key])


@pytest.fixture
def signing(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project that signs with cosign's key."""
    monkeypatch.setenv(
        "COSIGN_KEY", (KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())).decode()
    )
    project.configure(signing={"cosign": {"key": {"secret": "COSIGN_KEY"}}}, attestations={"sbom": []})
    return project


KEY = ec.generate_private_key(ec.SECP256R1())
OWN = CosignVerifier(PublicKey(KEY.public_key()))


def test_a_run_that_fails_leaves_no_signature_of_another_record(
    signing: Project, registry: FakeRegistry
) -> None:
    assert signing.run("run").code == 0
    path = path_of(signing)
    assert check("it", path.read_bytes(), bundles_beside(path), [OWN])
    signing.write("app/hello.txt", "changed\n")
    signing.commit()
    registry.faults.append(Fault("PUT", "/manifests/", status=403, times=99))
    outcome = signing.run("run")
    assert outcome.code != 0
    assert bundles_beside(path) == ()
    assert "it is now unsigned" in outcome.err
    registry.faults.clear()
    assert signing.run("run").code == 0
    assert check("it", path.read_bytes(), bundles_beside(path), [OWN])


def test_the_command_line_signs_what_it_hands_on_and_checks_what_it_joins(
    signing: Project, tmp_path: Path
) -> None:
    assert signing.run("build").code == 0
    outcome = signing.run("publish", "--by-digest", "--output", "json")
    assert outcome.code == 0, outcome.err
    pinned = json.loads(outcome.out)["record"]
    joined = signing.run("sign", "--record", pinned, "--workdir", str(tmp_path / "next"))
    assert joined.code == 0, joined.err
    assert signing.run("publish", "--workdir", str(tmp_path / "next")).code == 0
    assert f"`{pinned}` is signed with cosign ({OWN.signer})" in joined.err
    path_of(signing).write_bytes(path_of(signing).read_bytes() + b"\n")
    joined = signing.run("publish", "--record", str(path_of(signing)), "--workdir", str(tmp_path / "other"))
    assert joined.code == 1
    assert "build-record.json` is not signed with cosign as it should be" in joined.err


# Joining


@pytest.fixture
def parts(project: Project, tmp_path: Path) -> list[Path]:
    """Work folders of two jobs, each with one platform of the one image."""
    build = {"context": "app", "platforms": BOTH}
    project.configure(
        images={"web": {"image": f"{project.host}/acme/web:1.0", "build": build}}, attestations={"sbom": []}
    )
    return [job(project, tmp_path, platform) for platform in BOTH]


@contextlib.contextmanager
def joined(workdir: Path, names: Sequence[str | Path], *verifiers: StatementVerifier) -> Iterator[Job]:
    given = Options(Path("secure-build.yaml"), workdir, records=tuple(map(str, names)))
    with opened_job(given, Report()) as work:
        join(work, verifiers)
        yield work


def record_of(project: Project, names: Sequence[str | Path], *verifiers: StatementVerifier) -> BuildRecord:
    with joined(project.workdir, names, *verifiers) as work:
        return work.current_record()


def sign_in(folder: Path, *signers: StatementSigner) -> None:
    with opened_job(Options(Path("secure-build.yaml"), folder), Report()) as work:
        sign_record(work, signers)


def test_16_records_that_are_joined_are_signed_by_whom_the_config_knows(
    project: Project, parts: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    key, other = KeySigner(), KeySigner()
    names = [folder / "build-record.json" for folder in parts]

    def said() -> str:
        return capsys.readouterr().err

    # Unsigned, with or without somebody who is expected.
    record_of(project, names, key)
    assert said().count("build-record.json` is unsigned") == 2
    # Signed by both jobs; named by folder too.
    for folder in parts:
        sign_in(folder, key)
    record_of(project, parts, key)
    assert said().count(f"build-record.json` is signed with cosign ({key.signer})") == 2
    # Nobody is expected: who it is cannot be told.
    record_of(project, names)
    assert said().count("is signed; by whom cannot be told here, without the key or identity") == 2
    # One is signed by somebody else.
    sign_in(parts[1], other)
    with pytest.raises(RefusedError, match=r"job-amd64/build-record\.json` is not signed with cosign"):
        record_of(project, names, key)
    sign_in(parts[1], key)
    record_of(project, names, key)
    # One was changed after it was signed.
    change(parts[0], image={"reproducible": False})
    with pytest.raises(RefusedError, match=r"job-s390x/build-record\.json` is not signed with cosign"):
        record_of(project, names, key)
    # And one has the signature of the other.
    bundle = "build-record.cosign.json"
    (parts[0] / bundle).write_bytes((parts[1] / bundle).read_bytes())
    with pytest.raises(RefusedError, match="is not about"):
        record_of(project, names, key)


def test_too_large_a_signature_is_not_read(project: Project, parts: list[Path]) -> None:
    (parts[0] / "build-record.cosign.json").write_bytes(b" " * (1 << 20) + b"{")
    with pytest.raises(UsageError, match="has more than"):
        record_of(project, parts, KeySigner())


def test_when_and_where_the_parts_were_built_is_kept(project: Project, parts: list[Path]) -> None:
    first, second = ({"host": f"urn:x-secure-build:host:{word}", "identity": word} for word in "ab")
    times = [f"2026-01-01T0{hour}:00:00Z" for hour in range(4)]
    change(parts[0], image={"invocation": first | {"started": times[2], "finished": times[3]}})
    change(parts[1], image={"invocation": second | {"started": times[0], "finished": times[1]}})
    (image,) = record_of(project, parts).images
    assert image.invocation is not None
    assert (image.invocation.host, image.invocation.identity) == ("urn:x-secure-build:host:several", None)
    assert [image.invocation.started.hour, image.invocation.finished.hour] == [0, 3]
    change(parts[1], image={"invocation": None})
    (image,) = record_of(project, parts).images
    assert image.invocation is None


def test_signatures_of_parts_are_not_those_of_the_whole(project: Project, parts: list[Path]) -> None:
    key = KeySigner()
    for folder in parts:
        assert len(attested(project, key, workdir=folder)) == 1
    (image,) = record_of(project, parts).images
    assert image.signatures == ()
    # What was signed here since stays when the same records are named again.
    assert len(attested(project, key)) == 3
    (image,) = record_of(project, parts).images
    assert len(image.signatures) == 3


def test_signatures_of_one_record_come_along(project: Project, parts: list[Path]) -> None:
    key = KeySigner()
    made = attested(project, key, workdir=parts[0])
    (image,) = record_of(project, parts[:1]).images
    assert image.signatures == made
    count = len(key.signed)
    assert attested(project, key) == made
    assert len(key.signed) == count


# Handing on


def test_a_record_is_handed_on_with_its_signatures(
    built: Project, registry: FakeRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, other = KeySigner(), KeySigner()

    def handed_on(*signers: StatementSigner) -> str:
        with opened(built, by_digest=True) as work:
            return str(hand_on(work, signers)[1])

    unsigned, place = handed_on(), handed_on(key)
    assert place != unsigned
    # Once more, it is the same, and not signed again.
    assert handed_on(key) == place
    assert handed_on() == place
    assert len(key.signed) == 1
    _, manifest = registry.manifests["acme/web", Pinned.parse(place).digest]
    assert [layer["mediaType"] for layer in json.loads(manifest)["layers"]] == [
        "application/vnd.secure-build.record.v1+json",
        "application/vnd.dev.sigstore.bundle.v0.3+json",
    ]
    said = f"`{place}` is signed with cosign ({key.signer})\n"
    for name, verifiers, expected in (
        (unsigned, [key], f"`{unsigned}` is unsigned\n"),
        (place, [key], said),
        (place, [], f"`{place}` is signed; by whom cannot be told here, without the key or identity\n"),
    ):
        with joined(tmp_path / "next", [name], *verifiers) as work:
            assert work.current_record().images[0].name == "web"
        assert expected in capsys.readouterr().err
    with pytest.raises(RefusedError, match="is not signed with cosign as it should be"):
        record_of(built, [place], other)


def test_a_changed_record_is_refused_without_any_key(signing: Project) -> None:
    assert signing.run("build").code == 0
    path = path_of(signing)
    content, bundles = path.read_bytes(), bundles_beside(path)
    assert check("it", content, bundles, []) == ()
    with pytest.raises(RefusedError, match="is not the record that its cosign signature is about"):
        check("it", content.replace(b"buildah", b"bui1dah"), bundles, [])
