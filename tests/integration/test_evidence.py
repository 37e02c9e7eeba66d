"""What people check of images that are signed in every way: `verify` finds it as other programs do."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import replace

import yaml

from integration.test_signed import GITHUB, HOST, IDENTITY, POD, World, rhs_is_accepted, world
from integration.verifying import verified
from secure_build.model import Finding
from services import certificates

__all__ = ["world"]

STRANGER = "https://github.com/evil/app/.github/workflows/release.yml@refs/tags/v1"


def evidence(world: World, environment: Mapping[str, str] | None = None) -> dict[str, Finding]:
    _, findings = verified(world.project, environment=environment)
    return {one.what: one for one in findings if one.check == "evidence"}


def pod(*names: str) -> str:
    return POD + "".join(f"    - {{name: {one}, image: '{HOST}/demo/{one}:1.0.0'}}\n" for one in names)


def of_kind(found: Mapping[str, Finding], kind: str) -> set[str]:
    """The levels of what is signed in one way, of images."""
    return {
        one.level
        for what, one in found.items()
        if f"({kind})" in what and not what.startswith("build record")
    }


def test_other_programs_accept_and_refuse_the_same(world: World) -> None:
    project = world.project
    project.run("run")
    found = evidence(world)
    assert {one.level for one in found.values()} == {"pass"}
    # Of four images: statements of two kinds, what the config signs of its own, and one enforced key.
    assert len(found) == 4 * 3 * 2 + 6 + 1 + 2
    assert found["tagged: signature (keyless)"].why == f"signed by {IDENTITY} (confirmed by {GITHUB})"
    assert found["tagged: signature (rhs)"].why.endswith("as `" + world.image("tagged")["reference"] + "`")
    assert found["pod: provenance (cosign)"].why.endswith(", beside 3 manifests")
    flags = ("--insecure-ignore-tlog", "--key", "cosign.pub")
    world.program("cosign3", "verify", *flags, world.pinned("tagged"))
    rhs_is_accepted(world)

    # Other keys under the same names.
    world.program("cosign3", "generate-key-pair", "--output-key-prefix", "other")
    other = {
        "COSIGN_KEY": (world.folder / "other.key").read_text(),
        "GPG_KEY": world.gpg.private(
            world.gpg.make("other", passphrase="canary phrase"), passphrase="canary phrase"
        ),
    }
    found = evidence(world, other)
    assert of_kind(found, "cosign") == {"fail"}
    assert of_kind(found, "rhs") == {"fail"}
    assert of_kind(found, "keyless") == of_kind(found, "dct") == {"pass"}
    assert "the config's own is" in found["pod: enforced key (rhs)"].why
    flags = ("--insecure-ignore-tlog", "--key", "other.pub")
    world.program("cosign3", "verify", *flags, world.pinned("tagged"), status=1)

    # Another root key of the Notary, and none.
    certificates.private_key(world.folder, "another", "ec:prime256v1", passphrase="canary root")
    assert of_kind(evidence(world, {"NOTARY_ROOT": (world.folder / "another.key").read_text()}), "dct") == {
        "fail"
    }
    absent = evidence(world, dict.fromkeys(("NOTARY_ROOT", "GPG_KEY"), ""))
    assert of_kind(absent, "dct") == of_kind(absent, "rhs") == {"unknown"}
    assert "`signing: dct: root-certificate:`" in str(absent["tagged: signature (dct)"].hint)
    assert "`signing: rhs: public-key:`" in str(absent["pod: enforced key (rhs)"].hint)

    # The evidence of one image in the place of another's, and that of a third one taken away.
    names = ("tagged", "keyed", "named")
    beside = {name: world.pinned(name).replace("@sha256:", ":sha256-") for name in names}
    world.program("crane", "copy", beside["tagged"], beside["keyed"])
    tags = (world.folder / "registry").rglob("named/_manifests/tags")
    shutil.rmtree(next(tags) / beside["named"].rpartition(":")[2])
    found = evidence(world)
    for name, why in (("keyed", "the statement is not about sha256:"), ("named", "there is none, beside ")):
        listed = [one for what, one in found.items() if what.startswith(f"{name}:")]
        assert {one.level for one in listed} == {"fail"}
        assert all(one.why.startswith(why) for one in listed)
    assert {one.level for what, one in found.items() if what.startswith(("tagged:", "pod:"))} == {"pass"}
    flags = ("--insecure-ignore-tlog", "--key", "cosign.pub")
    for name in ("keyed", "named"):
        for kind in ("slsaprovenance1", "spdxjson"):
            image = world.pinned(name)
            world.program("cosign3", "verify-attestation", *flags, "--type", kind, image, status=1)
    world.program("cosign3", "verify", *flags, world.pinned("keyed"), status=1)


def test_another_identity_is_refused_as_cosign_refuses_it(world: World) -> None:
    project = world.project
    image = project.config["images"]["named"]
    project.config |= {"images": {"named": image}, "attestations": {"sbom": []}}
    project.config["signing"] = {"keyless": project.config["signing"]["keyless"]}
    project.commit({"pod.yaml": pod("named")})
    project.run("run")
    assert of_kind(evidence(world), "keyless") == {"pass"}
    # The config names somebody else, and the record is of that config.
    before = (project.directory / "secure-build.yaml").read_bytes()
    project.config["signing"]["keyless"]["identity"] = STRANGER
    text = yaml.safe_dump(project.config, sort_keys=False)
    project.write({"secure-build.yaml": text})
    record = project.record_path.read_text()
    known, now = (hashlib.sha256(one).hexdigest() for one in (before, text.encode()))
    project.record_path.write_text(record.replace(known, now))
    refused = evidence(world)
    assert of_kind(refused, "keyless") == {"fail"}
    assert STRANGER in refused["named: signature (keyless)"].why
    by_name = ("--certificate-identity", STRANGER, "--certificate-oidc-issuer", GITHUB)
    root = ("--trusted-root", str(world.sigstore.files.trusted_root))
    world.program("cosign3", "verify", *by_name, *root, world.pinned("named"), status=1)


def test_public_halves_are_enough(world: World) -> None:
    project = world.project
    images = {name: project.config["images"][name] for name in ("pod", "keyed")}
    signing = project.config["signing"]
    signing["rhs"]["public-key"], signing["cosign"]["public-key"] = "builder.asc", "cosign.pub"
    project.config |= {
        "images": images,
        "signing": {kind: signing[kind] for kind in ("rhs", "cosign")},
        "attestations": {"sbom": []},
    }
    project.commit(
        {
            "pod.yaml": pod(*images),
            "builder.asc": world.gpg.public("builder").decode(),
            "cosign.pub": (world.folder / "cosign.pub").read_text(),
        }
    )
    project.run("run")
    keys = ("GPG_KEY", "GPG_KEY_PASSPHRASE", "COSIGN_KEY", "COSIGN_PASSWORD", "REGISTRY_PUSH")
    poor = {name: word for name, word in project.environment.items() if name not in keys}
    found = evidence(replace(world, project=replace(project, environment=poor)))
    assert {one.level for one in found.values()} == {"pass"}
    assert found["pod: enforced key (rhs)"].why.endswith(world.gpg.fingerprint("builder"))
    # The public half of another key beside the private one.
    world.gpg.make("other")
    project.write({"builder.asc": world.gpg.public("other").decode()})
    said = project.run("sign", status=2).stderr
    assert "`builder.asc` is not the public half of the OpenPGP key in the secret `GPG_KEY`" in said
