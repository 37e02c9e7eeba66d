"""Pods for OpenShift (`ccco`): the policy of what may run, and the pods with their init data.

The contract of this runtime names no pods: it carries a policy, and rides itself in the pods that the
cluster gets. So the workload step pins the pods and writes the policy, and what assembles the contract
puts it into them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from secure_build import files, manifest, stopping
from secure_build.contract import play
from secure_build.contract.confidential import initdata, pods_advice, policy, section
from secure_build.contract.confidential.container import ImageCommand
from secure_build.contract.confidential.pods import ConfidentialFile
from secure_build.contract.confidential.pods_advice import Flavour
from secure_build.contract.confidential.section import SealedSecrets
from secure_build.contract.places import Place
from secure_build.contract.workload import Packed
from secure_build.errors import UsageError
from secure_build.manifest import Manifest
from secure_build.model import GUEST, BuildRecord, Descriptor, Finding, Image
from secure_build.reference import Pinned, Reference, Repository
from secure_build.secret import Secret
from secure_build.source import Checkout
from secure_build.steps.job import Job
from secure_build.steps.pins import Pins
from secure_build.steps.sections import read_file, sealed_secrets

PODS = "pods"


@dataclass(frozen=True, slots=True)
class PodsWorkload:
    """The descriptors of the commit, by their path below the folder that is named."""

    files: Mapping[PurePosixPath, ConfidentialFile]
    flavour: Flavour

    @property
    def places(self) -> tuple[Place, ...]:
        return tuple(place for file in self.files.values() for place in file.places)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(
            finding for file in self.files.values() for finding in pods_advice.findings(file, self.flavour)
        )

    def check(self, texts: Mapping[Place, str]) -> None:
        """Raise UsageError for what cannot be pinned, whatever the digests are."""
        for file in self.files.values():
            file.pinned(texts)
            file.containers(texts)


def read_pods(work: Job, checkout: Checkout, path: str) -> PodsWorkload:
    """The pods of the commit; raises UsageError for what cannot go to the cluster pinned."""
    place = checkout.locate(path, what="the pods")
    entries = [place]
    if checkout.is_directory(place):
        entries = [entry.path for entry in checkout.files(place) if entry.path.suffix in play.ENDINGS]
    folder = place if checkout.is_directory(place) else place.parent
    found: dict[PurePosixPath, ConfidentialFile] = {}
    for entry in entries:
        content = checkout.read(entry, at_most=play.LARGEST)
        if content is None:
            raise UsageError(f"the commit has no file `{entry}`", hint="add and commit it")
        found[entry.relative_to(folder)] = ConfidentialFile.parse(content, str(entry))
    if not any(file.pods for file in found.values()):
        raise UsageError(
            f"`{place}` of the commit has no pods",
            hint="name the file or folder with the pods: `workload: pods:`",
        )
    return PodsWorkload(found, "bmtl" if work.loaded.config.boot else "peerpod")


def confidential_parts(work: Job, current: BuildRecord, described: PodsWorkload, pins: Pins) -> Packed:
    """The policy that lets exactly these pods run, with the keys that the config names."""
    containers = [one for file in described.files.values() for one in file.containers(pins.texts)]
    unsaid = sorted({one.image for one in containers if not one.command})
    commands = dict(
        zip(
            unsaid,
            stopping.side_by_side(
                lambda image: _command(work, current, image), unsaid, jobs=work.options.requests
            ),
            strict=True,
        )
    )
    containers = [replace(one, image_command=commands.get(one.image)) for one in containers]
    settings = work.loaded.config.workload
    assert settings is not None
    wanted = settings.confidential_containers
    cosign = {
        Reference.parse(name).repository: read_file(work, key.public_key.file)
        for name, key in wanted.cosign.items()
    }
    for image in pins.own:
        if image.enforced is not None and image.enforced.by == "cosign":
            _add_key(cosign, image)
    secret = None
    if wanted.secret is not None:
        keys = sealed_secrets(work, wanted.secret)
        decryption = keys["decryptionKey"]
        assert isinstance(decryption, Secret)
        secret = SealedSecrets(str(keys["verificationKey"]), decryption)
    return Packed(
        {"confidential-containers": section.content(policy.policy(containers), cosign, secret)},
        pods={name: file.pinned(pins.texts) for name, file in described.files.items()},
        findings=(*policy.findings(containers), *section.cosign_findings(cosign)),
    )


def _add_key(cosign: dict[Repository, bytes], image: Image) -> None:
    """The key that signed an image; raises UsageError when its repository has another one."""
    assert image.enforced is not None
    key = base64.b64decode(image.enforced.public_key)
    if cosign.setdefault(image.reference.repository, key).strip() != key.strip():
        raise UsageError(
            f"{image.name} is signed with another key than `confidential-containers: cosign:` names for "
            f"`{image.reference.repository}`",
            hint="leave that entry out: the key that signs is put there",
        )


def _command(work: Job, current: BuildRecord, image: Pinned) -> ImageCommand | None:
    """What an image runs by itself on the guest's platform; None where the network is not to be used."""
    own = next((one for one in current.images if one.pinned == image), None)
    if own is not None:
        layout = work.layout
        return _command_in(layout.manifest(own.descriptor), layout.manifest, layout.config)
    if work.options.offline:
        return None
    registry, repository = work.reader(image.repository), image.repository
    return _command_in(
        registry.resolve(Reference(repository, digest=image.digest)),
        lambda member: registry.get_manifest(repository, member),
        lambda found: registry.config(repository, found),
    )


def _command_in(
    found: Manifest,
    member_of: Callable[[Descriptor], Manifest],
    config_of: Callable[[Manifest], bytes],
) -> ImageCommand | None:
    guests = [member for member in found.members if member.platform == GUEST]
    image = member_of(guests[0]) if guests else found
    return None if image.config is None else ImageCommand(*manifest.command_of_config(config_of(image)))


def write_pods(work: Job, pinned: Mapping[PurePosixPath, bytes]) -> None:
    """The pinned pods, for whoever assembles the contract."""
    folder = work.options.workdir / PODS
    files.write_tree(folder, pinned)
    work.report.step(f"pods: pinned in {folder}")


def annotated_pods(work: Job, contract: str) -> dict[PurePosixPath, bytes]:
    """The pods with the contract in them; none where there are no pinned pods.

    Raises UsageError for pods that are named and cannot take it.
    """
    source = work.options.pods or work.options.workdir / PODS
    if work.options.pods is None and (work.loaded.config.target != "ccco" or not source.exists()):
        return {}
    if work.loaded.config.target != "ccco":
        raise UsageError(
            f"`--pods` is for the contracts of `ccco`, and `{work.loaded.path}` is for "
            f"`{work.loaded.config.target}`"
        )
    data = initdata.initdata(contract).annotation()
    folder = source if source.is_dir() else source.parent
    paths = [path for path in source.rglob("*") if path.suffix in play.ENDINGS and path.is_file()]
    made = {}
    for path in sorted(paths) if source.is_dir() else [source]:
        content = files.read(path, at_most=play.LARGEST)
        file = ConfidentialFile.parse(content, str(path))
        made[PurePosixPath(path.relative_to(folder))] = file.annotated(content, data)
    return made


def write_annotated(
    work: Job, pods: Mapping[PurePosixPath, bytes], *, draft: bool, mode: int
) -> tuple[Path, ...]:
    """Write the pods that are ready for the cluster, as private as the contract; returns where they are."""
    if not pods:
        return ()
    target = work.options.workdir / f"{PODS}.ready{'.draft' if draft else ''}"
    files.write_tree(target, pods, mode=mode)
    work.report.step(f"pods: with the contract in them in {target}")
    return tuple(target / name for name in pods)
