"""What people check of images and records: by the config's keys, whatever is beside them by whomever."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fakes import cosign
from fakes.registry import FakeRegistry, Fault
from flow.attesting import PACKAGES, opened
from flow.conftest import Project
from secure_build import secret
from secure_build.attestations import artifact, provenance, publication, sbom, statement
from secure_build.errors import RefusedError
from secure_build.layout import Layout
from secure_build.model import Finding
from secure_build.reference import Digest, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.http import Transport
from secure_build.signers.cosign import CosignSigner
from secure_build.steps.verified_evidence import evidence

OWN, OTHER = cosign.key("own"), cosign.key("other")
SIGNATURE, PROVENANCE = "web: signature (cosign)", "web: provenance (cosign)"
BOTH = ["linux/s390x", "linux/amd64"]


def configured(project: Project, *, cosign: dict[str, Any] | None = None, **changes: Any) -> None:
    image = {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}, "sign": ["cosign"]}
    changes = {"attestations": {"sbom": []}, "images": {"web": image}, **changes}
    project.configure(signing={"cosign": cosign or {"key": {"secret": "COSIGN_KEY"}}}, **changes)


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that signs, in the environment."""
    pem = OWN.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    monkeypatch.setenv("COSIGN_KEY", pem.decode())


@pytest.fixture
def published(project: Project, private: None, registry: FakeRegistry) -> Project:
    """One image with its signature and provenance, published."""
    registry.lists_referrers = True
    configured(project)
    outcome = project.run("run")
    assert outcome.code == 0, outcome.err
    return project


def found(project: Project, **options: Any) -> dict[str, Finding]:
    with opened(project, **options) as work:
        listed = evidence(work, work.current_record())
    assert {(one.check, one.where) for one in listed} == {("evidence", "secure-build.yaml")}
    assert len({one.what for one in listed}) == len(listed)
    return {one.what: one for one in listed}


def levels(project: Project, **options: Any) -> dict[str, str]:
    return {what: one.level for what, one in found(project, **options).items()}


def record_of(listed: dict[str, Finding]) -> Finding:
    (one,) = (finding for what, finding in listed.items() if what.startswith("build record"))
    return one


def test_what_was_signed_is_found_with_one_request_for_each_thing(
    published: Project, registry: FakeRegistry
) -> None:
    registry.requests.clear()
    listed = found(published)
    assert {one.level for one in listed.values()} == {"pass"}
    commit = published.record["source"]["commit"]
    assert listed[PROVENANCE].why == f"signed by {OWN.public.digest}, commit {commit}"
    assert listed[SIGNATURE].why == f"signed by {OWN.public.digest}"
    assert record_of(listed).why == f"signed with cosign ({OWN.public.digest})"
    # A list: what it names is in the layout, as the image itself is.
    assert [one.method for one in registry.requests] == ["GET"]
    forget_statements(published)
    registry.requests.clear()
    assert found(published) == listed
    # A list, and a manifest and a blob for each of the two.
    assert [one.method for one in registry.requests] == ["GET"] * 5
    assert len({one.path for one in registry.requests}) == 5


def forget_statements(project: Project) -> None:
    """Take what is signed out of the layout, so that only the registry has it."""
    for one in project.record["images"][0]["signatures"]:
        (project.workdir / "layout" / "blobs" / one["kept"].replace(":", "/")).unlink()


def test_each_platform_has_its_own(project: Project, private: None, registry: FakeRegistry) -> None:
    for name, content in PACKAGES.items():
        project.write(f"app/{name}", content)
    build = {"context": "app", "platforms": BOTH}
    image = {"image": f"{project.host}/acme/web:1.0", "build": build, "sign": ["cosign"]}
    configured(project, images={"web": image}, attestations={"sbom": ["spdx", "cyclonedx"]})
    assert project.run("run").code == 0
    listed = found(project)
    assert {one.level for one in listed.values()} == {"pass"}
    assert listed[SIGNATURE].why.endswith(", beside 3 manifests")
    assert listed[PROVENANCE].why.endswith(", beside 3 manifests")
    for kind in ("spdx", "cyclonedx"):
        assert "packages, beside 2 manifests" in listed[f"web: SBOM in {kind} (cosign)"].why
    # Of one platform everything is taken away.
    index = json.loads((project.workdir / "layout" / "blobs" / blob_path(project)).read_bytes())
    member = index["manifests"][1]
    del registry.tags["acme/web", f"sha256-{member['digest'].partition(':')[2]}"]
    listed = found(project)
    assert {one.level for what, one in listed.items() if what.startswith("web")} == {"fail"}
    assert f"there is none, beside {member['digest']} for linux/s390x" in {one.why for one in listed.values()}
    assert "`secure-build publish`" in str(listed[SIGNATURE].hint)


def blob_path(project: Project) -> str:
    return str(project.record["images"][0]["descriptor"]["digest"]).replace(":", "/")


@dataclass(frozen=True)
class Beside:
    """What is kept beside the published image, to be changed by somebody who may write there."""

    project: Project
    registry: FakeRegistry

    @property
    def digest(self) -> Digest:
        return Digest.parse(self.project.record["images"][0]["descriptor"]["digest"])

    def bundles(self, predicate_type: str) -> list[bytes]:
        """Taken away from there."""
        taken = []
        for key, (_, content) in list(self.registry.manifests.items()):
            document = json.loads(content)
            if document.get("annotations", {}).get(artifact.PREDICATE_TYPE) == predicate_type:
                taken.append(self.registry.blobs[key[0], Digest.parse(document["layers"][0]["digest"])])
                del self.registry.manifests[key]
        return taken

    def put(self, bundle: bytes, predicate_type: str = provenance.PREDICATE) -> None:
        with Transport() as transport:
            layout = Layout(self.project.workdir / "layout")
            reference = Reference.parse(self.project.record["images"][0]["reference"])
            (descriptor,) = (one for _, one in layout.entries() if one.digest == self.digest)
            kept = artifact.write(layout, bundle, predicate_type, descriptor)
            place = RemoteRegistry(self.registry.host, None, transport, push=True)
            publication.publish_bundles(layout, [kept], place, reference.repository)

    def statement(self, change: Callable[[dict[str, Any]], None]) -> bytes:
        """The provenance, taken away and changed."""
        (bundle,) = self.bundles(provenance.PREDICATE)
        claimed = artifact.claim(bundle)
        assert claimed is not None
        document = json.loads(claimed.payload)
        change(document)
        return json.dumps(document).encode()


def another_image(document: dict[str, Any]) -> None:
    document["subject"][0]["digest"]["sha256"] = "5" * 64


def another_type(document: dict[str, Any]) -> None:
    document["predicateType"] = statement.SIGNATURE


def another_commit(document: dict[str, Any]) -> None:
    for one in document["predicate"]["buildDefinition"]["resolvedDependencies"]:
        one["digest"] = {"gitCommit": "5" * 40}


def another_host(document: dict[str, Any]) -> None:
    document["predicate"]["runDetails"]["builder"]["id"] = "https://ci.example.com"


def another_builder(document: dict[str, Any]) -> None:
    document["predicate"]["runDetails"]["builder"]["version"]["buildah"] = "9"


def another_source(document: dict[str, Any]) -> None:
    source = document["predicate"]["buildDefinition"]["externalParameters"].setdefault("source", {})
    source["repository"] = "https://git.example.com/evil.git"


def no_provenance(document: dict[str, Any]) -> None:
    document["predicate"] = {"buildDefinition": [], "runDetails": {"builder": 1}}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (another_image, "the statement is not about sha256:"),
        (another_type, "there is none"),
        (another_commit, f"its commit is `{'5' * 40}`, and in the build record `"),
        (another_host, "its host is `https://ci.example.com`, and in the build record `"),
        (another_builder, "its builder is `9`, and in the build record `0`"),
        (another_source, "its repository is `https://git.example.com/evil.git`, and in the build record "),
        (no_provenance, "its commit is `None`"),
    ],
)
def test_a_statement_of_the_own_key_that_says_something_else_is_refused(
    published: Project, registry: FakeRegistry, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    beside = Beside(published, registry)
    beside.put(CosignSigner(OWN).sign(beside.statement(change)))
    listed = found(published)
    assert listed[PROVENANCE].level == "fail"
    assert listed[PROVENANCE].why.startswith(why)
    assert f"beside {beside.digest}" in listed[PROVENANCE].why
    assert listed[SIGNATURE].level == "pass"


def test_another_key_is_refused_and_one_beside_the_own_does_no_harm(
    published: Project, registry: FakeRegistry
) -> None:
    beside = Beside(published, registry)
    (own,) = beside.bundles(provenance.PREDICATE)
    claimed = artifact.claim(own)
    assert claimed is not None
    beside.put(CosignSigner(OTHER).sign(claimed.payload))
    refused = found(published)[PROVENANCE]
    assert refused.level == "fail"
    assert refused.why.startswith(f"the bundle is not signed by the key {OWN.public.digest}, beside")
    assert "correct `signing:`" in str(refused.hint)
    beside.put(own)
    assert levels(published)[PROVENANCE] == "pass"


def test_a_flipped_bit_is_refused(published: Project, registry: FakeRegistry) -> None:
    beside = Beside(published, registry)
    (own,) = beside.bundles(provenance.PREDICATE)
    bundle = json.loads(own)
    signature = bytearray(base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"]))
    signature[-1] ^= 1
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    beside.put(json.dumps(bundle).encode())
    assert levels(published)[PROVENANCE] == "fail"


def test_what_is_taken_away_is_missed(published: Project, registry: FakeRegistry) -> None:
    Beside(published, registry).bundles(statement.SIGNATURE)
    listed = found(published)
    assert listed[SIGNATURE].level == "fail"
    assert listed[SIGNATURE].why.startswith("there is none, beside sha256:")
    assert listed[PROVENANCE].level == "pass"


def test_what_cannot_be_asked_is_unknown(published: Project, registry: FakeRegistry) -> None:
    registry.faults.append(Fault("GET", "/referrers/", status=403, times=9))
    listed = found(published)
    assert (listed[SIGNATURE].level, listed[PROVENANCE].level) == ("unknown", "unknown")
    assert registry.host in listed[SIGNATURE].why


def test_a_statement_that_cannot_be_read_may_be_the_right_one(
    published: Project, registry: FakeRegistry
) -> None:
    for key, (media_type, content) in list(registry.manifests.items()):
        if json.loads(content).get("annotations", {}).get(artifact.PREDICATE_TYPE) == provenance.PREDICATE:
            registry.manifests[key] = (media_type, content + b" ")
    forget_statements(published)
    assert levels(published)[PROVENANCE] == "unknown"
    assert levels(published)[SIGNATURE] == "pass"


def test_before_publishing_the_layout_is_asked(
    project: Project, private: None, registry: FakeRegistry
) -> None:
    configured(project)
    assert project.run("build").code == 0
    listed = found(project)
    assert (listed[SIGNATURE].level, listed[PROVENANCE].level) == ("fail", "fail")
    assert record_of(listed).level == "pass"
    assert project.run("sign").code == 0
    registry.requests.clear()
    assert set(levels(project).values()) == {"pass"}
    assert not registry.requests
    kept = project.record["images"][0]["signatures"][0]["kept"]
    (project.workdir / "layout" / "blobs" / kept.replace(":", "/")).unlink()
    missing = found(project)[SIGNATURE]
    assert missing.level == "unknown"
    assert f"{kept} is not in `" in missing.why


def test_offline_asks_nobody(published: Project, registry: FakeRegistry) -> None:
    registry.requests.clear()
    assert set(levels(published, offline=True).values()) == {"pass"}
    assert not registry.requests


def test_a_part_of_an_image_is_not_signed_yet(project: Project, private: None) -> None:
    build = {"context": "app", "platforms": BOTH}
    image = {"image": f"{project.host}/acme/web:1.0", "build": build, "sign": ["cosign"]}
    configured(project, images={"web": image})
    assert project.run("build", "--platform", "linux/s390x").code == 0
    part = found(project)["web: signatures and statements"]
    assert part.level == "deferred"
    assert part.why == "it was not built for linux/amd64, and is signed as a whole"


@pytest.mark.parametrize(
    ("kind", "document"),
    [
        ("spdx", {"bomFormat": "CycloneDX", "components": []}),
        ("cyclonedx", {"spdxVersion": "SPDX-2.3", "packages": []}),
        ("spdx", {"spdxVersion": "SPDX-2.3", "packages": {"a": 1}}),
    ],
)
def test_what_is_no_sbom_is_refused(kind: str, document: dict[str, Any]) -> None:
    with pytest.raises(RefusedError, match=f"no document of the format `{kind}`"):
        sbom.count(kind, document)


# Keys


def test_without_the_key_it_is_unknown_and_nobody_is_asked(
    published: Project, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secret, "_taken", {})
    registry.requests.clear()
    listed = found(published)
    assert {one.level for one in listed.values()} == {"unknown"}
    for one in listed.values():
        assert "`COSIGN_KEY`" in one.why
        assert "`signing: cosign: public-key:`" in str(one.hint)
    assert not registry.requests


def test_the_public_half_is_enough(
    project: Project, private: None, registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("cosign.pub", OWN.public.pem.decode())
    configured(project, cosign={"key": {"secret": "COSIGN_KEY"}, "public-key": "cosign.pub"})
    assert project.run("run").code == 0
    monkeypatch.setattr(secret, "_taken", {})
    assert set(levels(project).values()) == {"pass"}


def test_two_halves_of_different_keys_are_refused(project: Project, private: None) -> None:
    project.write("cosign.pub", OTHER.public.pem.decode())
    configured(project, cosign={"key": {"secret": "COSIGN_KEY"}, "public-key": "cosign.pub"})
    outcome = project.run("run")
    assert outcome.code == 2
    assert "`cosign.pub` is not the public half of the cosign key in the secret `COSIGN_KEY`" in outcome.err
    assert not project.builder.recipes


def test_whoever_signs_without_a_key_must_be_named(published: Project, private: None) -> None:
    image = published.record["images"][0]
    text = yaml.safe_load((published.folder / "secure-build.yaml").read_text())
    text["signing"] = {"keyless": {}}
    text["images"]["web"]["sign"] = ["keyless"]
    published.write("secure-build.yaml", yaml.safe_dump(text))
    record = published.record | {
        "config": str(Digest.of((published.folder / "secure-build.yaml").read_bytes()))
    }
    published.write(".secure-build/build-record.json", json.dumps(record))
    listed = found(published, offline=True)
    assert image["name"] == "web"
    unknown = listed["web: signature (keyless)"]
    assert unknown.level == "unknown"
    assert "`signing: keyless: identity:` and `issuer:`" in str(unknown.hint)


# The record


def changed(project: Project, change: Callable[[dict[str, Any]], None]) -> None:
    record = project.record
    change(record)
    project.write(".secure-build/build-record.json", json.dumps(record))


def test_a_changed_record_is_refused(published: Project) -> None:
    changed(published, lambda record: record["source"].update(clean=False))
    refused = record_of(found(published))
    assert refused.level == "fail"
    assert "is not signed with cosign as it should be" in refused.why


def test_an_unsigned_record_is_said_to_be_so_where_it_could_be_signed(published: Project) -> None:
    for path in published.workdir.glob("build-record.cosign.json"):
        path.unlink()
    unsigned = record_of(found(published))
    assert unsigned.level == "warn"
    assert "nobody has signed it" in unsigned.why


def test_nothing_is_said_where_nothing_is_promised(project: Project) -> None:
    assert project.run("run").code == 0
    with opened(project) as work:
        assert evidence(work, work.current_record()) == ()


def test_a_record_of_another_repository_is_refused(published: Project) -> None:
    changed(
        published,
        lambda record: record["images"][0].update(reference=f"{published.host}/evil/web:1.0", signatures=[]),
    )
    assert found(published)["web"].level == "fail"
    assert "evil/web" in found(published)["web"].why
    changed(published, lambda record: record["images"][0].update(name="db"))
    assert found(published)["db"].level == "fail"


# The key that the contract gets

POD = (
    "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: a, image: '{}'}}]}}}}\n"
)


@pytest.fixture
def enforced(project: Project, private: None, registry: FakeRegistry) -> Project:
    """An image that `ccco` takes by cosign's older signature, published."""
    project.write("pods.yaml", POD.format(f"{project.host}/acme/web:1.0"))
    image = {"image": f"{project.host}/acme/web:1.0", "build": {"context": "app"}, "enforce": "cosign"}
    configured(project, target="ccco", images={"web": image}, workload={"pods": "pods.yaml"})
    assert project.run("build").code == 0
    assert project.run("sign").code == 0
    outcome = project.run("publish")
    assert outcome.code == 0, outcome.err
    return project


KEY, CLASSIC = "web: enforced key (cosign)", "web: signature for the runtime (cosign)"


def test_the_enforced_key_and_its_signature(enforced: Project, registry: FakeRegistry) -> None:
    for offline in (False, True):
        listed = found(enforced, offline=offline)
        assert {one.level for one in listed.values()} == {"pass"}
        assert str(OWN.public.digest) in listed[KEY].why
        assert listed[CLASSIC].why == f"signed by {OWN.public.digest}"
    (tag,) = (key for key in registry.tags if key[1].endswith(".sig"))
    del registry.tags[tag]
    assert found(enforced)[CLASSIC].why.startswith("there is none, beside sha256:")


def test_another_key_in_the_record_is_refused(enforced: Project) -> None:
    other = base64.b64encode(OTHER.public.pem).decode()
    for text, why in (
        (other, f"is {OTHER.public.digest}, and the config's own is {OWN.public.digest}"),
        ("?", "is no base64"),
        (base64.b64encode(b"x").decode(), "is no public key"),
    ):
        changed(enforced, lambda record, text=text: record["images"][0]["enforced"].update(public_key=text))
        refused = found(enforced)[KEY]
        assert refused.level == "fail"
        assert why in refused.why
    changed(enforced, lambda record: record["images"][0].update(enforced=None))
    assert found(enforced)[KEY].level == "fail"


def test_a_signature_of_another_image_is_refused(enforced: Project, registry: FakeRegistry) -> None:
    from secure_build.attestations import classic
    from secure_build.signers.classic import ClassicSigner

    pinned = Reference.parse(enforced.record["images"][0]["reference"]).pin(Digest(f"sha256:{'5' * 64}"))
    (tag,) = (key for key in registry.tags if key[1].endswith(".sig"))
    layout = Layout(enforced.workdir / "layout")
    content = classic.write(layout, ClassicSigner(OWN).sign(pinned))
    for blob in content.blobs:
        registry.blobs["acme/web", blob.digest] = layout.read(blob)
    registry.tags[tag] = registry._add_manifest("acme/web", content)
    refused = found(enforced)[CLASSIC]
    assert refused.level == "fail"
    assert f"the signature is for sha256:{'5' * 64}" in refused.why
