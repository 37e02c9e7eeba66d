"""A capsule for the air gap: a layout, and beside it in `evidence/` what shows who made what is in it.

Whoever has it checks it with the shell script that lies in it, or with the same one from elsewhere
(docs/capsule.md). It is a copy: the build record stays as it is, and so do its signatures. Nothing that
is secret goes into it, and so no plain section.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import get_args

from secure_build import files, record
from secure_build.contract.document import LARGEST, Contract, SectionName
from secure_build.contract.encryption.token import Token
from secure_build.errors import UsageError
from secure_build.layout import Layout
from secure_build.model import BuildRecord, Image, SignatureKind
from secure_build.reference import Digest
from secure_build.steps import record_signature
from secure_build.steps.emission import emitted, encrypted_line, encrypted_path, plain_path
from secure_build.steps.job import RECORD_NAME, Job, layout_directory
from secure_build.steps.keys import keys
from secure_build.steps.publish import publish
from secure_build.steps.record_signature import sign_record
from secure_build.steps.simple_signing import kept_files

EVIDENCE, SUMS, SCRIPT = "evidence", "SHA256SUMS", "check.sh"
_PUBLIC_KEYS: dict[SignatureKind, str] = {"cosign": "keys/cosign.pub", "rhs": "keys/openpgp.asc"}


def publish_capsule(work: Job) -> BuildRecord:
    """Publish all images to the layout that `to` names, with their evidence beside it; returns the record.

    The same again gives the same bytes. Raises UsageError for options that do not go together, for a
    public key that is not here, and where `evidence/` is somebody else's; RefusedError for a signature
    that is not good.
    """
    options = work.options
    if not options.to or options.by_digest or options.images:
        raise UsageError(
            "`--with-evidence` makes a layout that holds all images by name, and what is signed of them",
            hint="write `secure-build publish --to oci:DIR --with-evidence`, and no images",
        )
    directory = layout_directory(options.to)
    folder = directory / EVIDENCE
    if folder.exists() and not (folder / SCRIPT).is_file():
        raise UsageError(f"`{folder}` is there and holds something else", hint="name another folder")
    if options.records and work.loaded.config.signing.attests:
        # What was joined just now.
        sign_record(work, keys(work).at_hand)
    current, content = record.load(work.record_path)
    bundles = record_signature.bundles_beside(work.record_path)
    record_signature.require(str(work.record_path), content, bundles, keys(work).verifiers, work.report)
    evidence = {
        **_script(),
        **_record(work, content, bundles),
        **_public_keys(work, current.images),
        **_tokens(work, current),
    }
    for image in current.images:
        evidence |= kept_files(work, image)
    result = publish(work)
    layout = Layout.at(directory)
    for image in result.images:
        _keep_artifacts(work.layout, image, layout)
    evidence |= {PurePosixPath(SUMS): _sums(directory, evidence)}
    files.write_tree(folder, evidence)
    work.report.step(f"`sh {folder / SCRIPT} {directory}` checks the capsule, anywhere")
    return result


def _script() -> dict[PurePosixPath, bytes]:
    path = Path(__file__).parents[1] / "data" / "check-capsule.sh"
    return {PurePosixPath(SCRIPT): path.read_bytes()}


def _record(work: Job, content: bytes, bundles: Sequence[bytes]) -> dict[PurePosixPath, bytes]:
    found = {PurePosixPath(RECORD_NAME): content}
    for bundle in bundles:
        kind = record_signature.kind_of(RECORD_NAME, bundle)
        found[PurePosixPath(record_signature.bundle_path(Path(RECORD_NAME), kind))] = bundle
    if not bundles:
        work.report.step("the build record is unsigned, so nobody vouches for the tokens in the capsule")
    return found


def _public_keys(work: Job, images: Sequence[Image]) -> dict[PurePosixPath, bytes]:
    """What signatures are checked with; raises AbsentKeyError for a key that is not here."""
    own: dict[SignatureKind, Callable[[], bytes]] = {
        "cosign": lambda: keys(work).cosign_public.pem,
        "rhs": lambda: keys(work).rhs_public,
    }
    found = {}
    for kind, name in _PUBLIC_KEYS.items():
        enforced = [
            image.enforced.public_key for image in images if image.enforced and image.enforced.by == kind
        ]
        if enforced:
            found[PurePosixPath(name)] = base64.b64decode(enforced[0])
        elif getattr(work.loaded.config.signing, kind) is not None:
            found[PurePosixPath(name)] = own[kind]()
    return found


def _tokens(work: Job, current: BuildRecord) -> dict[PurePosixPath, bytes]:
    """What is encrypted of the contract, and the contract where all of it is and it is the recorded one."""
    found = {}
    names: tuple[SectionName, ...] = get_args(SectionName)
    for name in (one for one in names if one in current.sections):
        known = current.sections[name]
        section = emitted(work, name, known, draft=False) if known.token else None
        if section is None:
            work.report.step(f"{name}: no token of it is here, so the capsule has none")
            continue
        line = encrypted_line(name, Token.parse(section.value, section.name))
        found[_contract(encrypted_path(Path(), name, draft=False))] = line
    path = plain_path(work.options.workdir, "contract", draft=False)
    with contextlib.suppress(UsageError, KeyError):
        content = files.read(path, at_most=LARGEST)
        contract = Contract.parse(content, str(path))
        texts = (contract.workload, contract.env)
        if all(one.is_token and one.digest == current.sections[one.section].token for one in texts):
            found[_contract(path)] = content
    return found


def _contract(path: Path) -> PurePosixPath:
    return PurePosixPath("contract") / path.name


def _keep_artifacts(source: Layout, image: Image, destination: Layout) -> None:
    """Put each signature under the digest that the record has, also where another one has its tag."""
    for signature in image.signatures:
        if signature.kept.startswith("sha256:"):
            content = source.artifact(Digest.parse(signature.kept))
            assert content is not None, "it was published"
            for blob in content.blobs:
                destination.write_from(blob, functools.partial(source.chunks, blob))
            destination.write(content.content, content.media_type)


def _sums(directory: Path, evidence: dict[PurePosixPath, bytes]) -> bytes:
    """SHA-256 of every other file of the capsule, as `sha256sum --check` reads it in the capsule's folder."""
    sums = {f"{EVIDENCE}/{name}": Digest.of(content).hexadecimal for name, content in evidence.items()}
    for path in _files(directory):
        sums[path.relative_to(directory).as_posix()] = _sum(path)
    return "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()


def _files(directory: Path) -> Iterator[Path]:
    own = directory / EVIDENCE
    return (path for path in directory.rglob("*") if path.is_file() and own not in path.parents)


def _sum(path: Path) -> str:
    if path.parent.name == "sha256" and path.parent.parent.name == "blobs":
        # What it has to be; whether it is, is found out when the capsule is checked.
        return path.name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
