"""The SBOM of a release: its files, and the packages of requirements/main.txt that they are installed with.

CycloneDX JSON, a function of the commit alone. A package has the hashes of all files that the lock lets
be installed. The lock is flat, and so is the list: the release needs all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from pip_requirements_parser import RequirementsFile


def document(version: str, files: Iterable[Path], lock: Path, time: datetime) -> str:
    """The SBOM of these files as JSON, with the packages of the lock; `time` is that of the commit."""
    hashed = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    released = _component("secure-build", version, ComponentType.APPLICATION)
    released.licenses.add(DisjunctiveLicense(id="Apache-2.0"))
    released.external_references.update(_distribution(name, [found]) for name, found in hashed.items())
    packages = []
    for requirement in RequirementsFile.from_file(str(lock)).requirements:
        package = _component(requirement.name, requirement.get_pinned_version, ComponentType.LIBRARY)
        hashes = [text.removeprefix("sha256:") for text in requirement.hash_options]
        package.external_references.add(_distribution(str(package.purl), hashes))
        packages.append(package)
    bom = Bom(
        components=packages,
        metadata=BomMetaData(component=released, timestamp=time),
        serial_number=uuid5(NAMESPACE_URL, " ".join(hashed.values())),
    )
    bom.register_dependency(released, packages)
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return f"{text}\n"


def _component(name: str, version: str, kind: ComponentType) -> Component:
    address = PackageURL("pypi", name=name, version=version)
    return Component(name=name, version=version, type=kind, purl=address, bom_ref=str(address))


def _distribution(what: str, hashes: Iterable[str]) -> ExternalReference:
    return ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(what),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=one) for one in hashes],
    )
