"""Red Hat simple signing: OpenPGP signatures in a tree of their own, and on to where they are served."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path, PurePosixPath

from secure_build import files, secret, stopping
from secure_build.errors import RefusedError, UsageError
from secure_build.model import Credential, Enforced, Finding, Image, Signature
from secure_build.reference import Digest, Pinned, Repository
from secure_build.registry.signatures import SignatureExtension
from secure_build.signers import lookaside, rhs
from secure_build.signers.gpg import GpgKey, GpgVerifier, opened_verifier
from secure_build.signers.lookaside import SignatureStore, Tree, Upload
from secure_build.steps import transfer
from secure_build.steps.job import Job
from secure_build.steps.keys import keys

SIGNATURES = "signatures"


def sign_simply(work: Job, images: Sequence[Image]) -> dict[str, tuple[Enforced, list[Signature]]]:
    """For each image, by name, the signatures of the index and its members under the image's name.

    They are kept in the tree; those that are there already stay. Raises UsageError when the key cannot
    sign.
    """
    if not images:
        return {}
    key = keys(work).rhs
    public = key.public_key
    enforced = Enforced("rhs", rhs.public_key_text(public))
    if key.part != key.fingerprint:
        work.report.finding(_by_subkey(key))
    with opened_verifier(public, work.options.workdir, key.what) as verifier:
        wanted = [
            (image, Pinned(image.reference.repository, one.descriptor.digest))
            for image in images
            for one in transfer.manifests_of(work.layout, work.layout.manifest(image.descriptor))
        ]

        def signed(one: tuple[Image, Pinned]) -> int | bytes:
            """The number of the signature that is there, or a new one."""
            image, pinned = one
            number = _number(_tree(work, image), verifier, pinned, image)
            return rhs.sign(key, pinned, image.reference) if number is None else number

        found = stopping.side_by_side(signed, wanted, jobs=work.options.jobs)
        made = [(*one, new) for one, new in zip(wanted, found, strict=True) if isinstance(new, bytes)]
        if made:
            rhs.check_own(verifier, [(new, pinned, image.reference) for image, pinned, new in made])
    signatures: dict[str, list[Signature]] = {image.name: [] for image in images}
    for (image, pinned), one in zip(wanted, found, strict=True):
        number = one if isinstance(one, int) else _add(_tree(work, image), pinned, one)
        kept = _kept(image, pinned, number)
        signatures[image.name].append(Signature("rhs", pinned, key.fingerprint, kept, name=image.reference))
    anew = {image.name for image, _, _ in made}
    for image in images:
        how = "signed with rhs" if image.name in anew else "unchanged, signed with rhs before"
        work.report.step(f"{image.name}: {how} as `{image.reference}`")
    return {image.name: (enforced, signatures[image.name]) for image in images}


def _add(tree: Tree, pinned: Pinned, signature: bytes) -> int:
    """Keep a signature; returns its number."""
    tree.add(pinned, signature)
    return tree.read(pinned).index(signature) + 1


def _by_subkey(key: GpgKey) -> Finding:
    return Finding(
        "signing",
        "warn",
        f"{key.what} signs with its subkey {key.part}",
        "older readers of such signatures take those of primary keys only, and which the runtime has is not "
        "documented",
        basis="inferred",
        hint="sign with a primary key that can sign: `gpg --quick-generate-key NAME default sign`",
    )


def _tree(work: Job, image: Image) -> Tree:
    """Where the work folder keeps the signatures of images of one registry."""
    return Tree(work.options.workdir / SIGNATURES / image.reference.repository.registry)


def _kept(image: Image, pinned: Pinned, number: int) -> str:
    """The path below the work folder, as the record has it."""
    registry = image.reference.repository.registry
    return f"{SIGNATURES}/{registry}/{lookaside.path_of(pinned)}/signature-{number}"


def _read(folder: Path, image: Image, signature: Signature) -> bytes:
    """A signature below a work folder; raises RefusedError for a path that no signature is kept at.

    Paths are compared and not used: a record may come from somebody else.
    """
    number = re.search(r"-([1-9][0-9]{0,2})$", signature.kept, re.ASCII)
    expected = _kept(image, signature.image, int(number[1])) if number else None
    if expected is None or expected != signature.kept or signature.name != image.reference:
        raise RefusedError(f"the record of {image.name} names a signature that cannot be its own")
    path = folder / expected
    if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
        raise RefusedError(f"the signature `{path}` of {image.name} lies elsewhere")
    return files.read(path, what="the signature")


def bring(work: Job, folder: Path, image: Image, signature: Signature) -> Signature | None:
    """Copy a signature of another work folder into this one; None when it is not there.

    Whether it is good is found out when it is published. Raises RefusedError as above.
    """
    try:
        content = _read(folder, image, signature)
    except UsageError:
        return None
    tree = _tree(work, image)
    there = tree.read(signature.image)
    if content not in there:
        tree.add(signature.image, content)
        there = [*there, content]
    return replace(signature, kept=_kept(image, signature.image, there.index(content) + 1))


def _number(tree: Tree, verifier: GpgVerifier, pinned: Pinned, image: Image) -> int | None:
    """Which of the kept signatures is the key's own under this name; None when none is."""
    for number, signature in enumerate(tree.read(pinned), 1):
        try:
            rhs.check(verifier, signature, pinned, image.reference)
        except RefusedError:
            continue
        return number
    return None


def store_of(work: Job, repository: Repository) -> SignatureStore:
    """Where the signatures of a repository's images are served; raises UsageError when nowhere."""
    if found := lookaside_of(work):
        return found
    login = work.push_login(repository)
    extension = SignatureExtension(repository.registry, login, work.transport, push=True)
    if not extension.is_there():
        raise UsageError(
            f"`{repository.registry}` has no place for OpenPGP signatures, so nobody could find them",
            hint="IBM Cloud Container Registry and OpenShift have one; elsewhere name "
            "`signing: rhs: lookaside:`, which the guest must be told of",
        )
    return extension


def lookaside_of(work: Job, *, reading: bool = False) -> SignatureStore | None:
    """Where the config puts signatures besides registries; None when it names no such place.

    To read, a login that is not here is left out: whoever pulls has none.
    """
    signing = work.loaded.config.signing.rhs
    if signing is None or signing.lookaside is None:
        return None
    if signing.lookaside.directory is not None:
        return Tree(work.loaded.directory / signing.lookaside.directory)
    assert signing.lookaside.upload is not None
    upload, named = signing.lookaside.upload, signing.lookaside.login
    credential = None
    if named is not None and (not reading or secret.is_known(named.password.secret)):
        credential = Credential(upload, named.username, secret.look_up(named.password.secret))
    return Upload(upload, credential, work.transport)


def kept_signatures(work: Job, image: Image, *, in_work_folder: bool) -> SignatureStore:
    """Where to read an image's signatures: where they are served, or where they wait to be."""
    if in_work_folder:
        return _tree(work, image)
    registry = image.reference.repository.registry
    return lookaside_of(work, reading=True) or SignatureExtension(
        registry, work.own_login(image.reference.repository), work.transport
    )


def check_stores(work: Job) -> None:
    """Raise UsageError when signatures are to be published, and there is no place for them."""
    built = work.loaded.config.built
    signed = [built[name].image.repository for name in work.selected() if "rhs" in built[name].signatures]
    for repository in dict.fromkeys(signed) if not work.options.to else ():
        store_of(work, repository)


def publish_simply(work: Job, image: Image, before: Digest | None) -> None:
    """Put an image's signatures to where they are served; `before` is what its tag names until now.

    Raises RefusedError for a signature that is not what the contract will ask for, and for a tag that
    another signed image has.
    """
    own = [one for one in image.signatures if one.kind == "rhs"]
    if not own:
        return
    store = store_of(work, image.reference.repository)
    with _verifier(work, image) as verifier:
        if verifier is not None and before not in (None, image.descriptor.digest):
            assert before is not None
            _refuse_reuse(work, store, verifier, image, before)
        for one in own:
            assert one.name is not None
            content = _read(work.options.workdir, image, one)
            if verifier is not None:
                rhs.check(verifier, content, one.image, one.name)
            lookaside.put(store, one.image, content)


def kept_files(work: Job, image: Image) -> dict[PurePosixPath, bytes]:
    """An image's signatures by their paths below the work folder, with others of the same manifests.

    Those have numbers without gaps, or readers do not find them. Raises RefusedError for a signature
    that is not what the contract asks for.
    """
    own = [one for one in image.signatures if one.kind == "rhs"]
    found = {}
    with _verifier(work, image) if own else nullcontext() as verifier:
        for one in own:
            content = _read(work.options.workdir, image, one)
            if verifier is not None:
                rhs.check(verifier, content, one.image, one.name)
            for number, kept in enumerate(_tree(work, image).read(one.image), 1):
                found[PurePosixPath(_kept(image, one.image, number))] = kept
    return found


@contextmanager
def _verifier(work: Job, image: Image) -> Iterator[GpgVerifier | None]:
    """By the key that the contract will have; None for signatures that no runtime looks at."""
    if image.enforced is None or image.enforced.by != "rhs":
        yield None
        return
    public = base64.b64decode(image.enforced.public_key)
    with opened_verifier(public, work.options.workdir, f"the key of {image.name}") as verifier:
        yield verifier


def _refuse_reuse(
    work: Job, store: SignatureStore, verifier: GpgVerifier, image: Image, before: Digest
) -> None:
    if work.loaded.config.built[image.name].reuse_tag:
        return
    other = image.reference.pin(before)
    for signature in store.read(other):
        try:
            rhs.check(verifier, signature, other, image.reference)
        except RefusedError:
            continue
        raise reused(image, before)


def reused(image: Image, before: Digest) -> RefusedError:
    """What to say of a tag that names another image signed by the same key."""
    return RefusedError(
        f"{image.name}: `{image.reference}` names {before}, which the same key has signed: the runtime would "
        "take either",
        hint="commit what differs, so that the tag is another one; `reuse-tag: true` allows it on purpose",
    )
