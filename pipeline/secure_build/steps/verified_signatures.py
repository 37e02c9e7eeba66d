"""Signatures of built images that are no statements, checked by the config's keys.

That is cosign's older form and the entries of trust data, and OpenPGP's where nobody but people looks at
them; what a runtime asks of images is decided elsewhere. Also here: with which keys, and where to look.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from secure_build.attestations import classic, publication
from secure_build.attestations.classic import Signed
from secure_build.errors import (
    AbsentKeyError,
    MachineError,
    RefusedError,
    SecureBuildError,
    ServiceError,
    UsageError,
)
from secure_build.manifest import Manifest
from secure_build.model import Descriptor, Finding, Image, Level, SignatureKind
from secure_build.reference import Digest, Pinned
from secure_build.signers import StatementVerifier
from secure_build.steps.job import Job
from secure_build.steps.keys import keys
from secure_build.steps.simple_signing import kept_signatures

if TYPE_CHECKING:
    from secure_build.signers.cosign_key import PublicKey
    from secure_build.signers.gpg import GpgVerifier

CHECK = "evidence"
MAKE = "run `secure-build sign`, which makes it, and `secure-build publish`, which puts it there"
_KEY = "run `secure-build build` and `sign` again with the config's key, or correct `signing:`"
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Checkers:
    """Who can tell what the config's keys and identities signed, or why nobody here can.

    `cosign` and `rhs` are None where nothing is to be checked with them.
    """

    statements: Mapping[SignatureKind, StatementVerifier | SecureBuildError]
    cosign: PublicKey | SecureBuildError | None
    rhs: GpgVerifier | SecureBuildError | None
    log: PublicKey | None

    @property
    def known(self) -> tuple[StatementVerifier, ...]:
        return tuple(one for one in self.statements.values() if not isinstance(one, SecureBuildError))

    def verifier(self, kind: SignatureKind) -> StatementVerifier:
        """Raises what stands in the way."""
        return _here(self.statements[kind])

    def lack(self, kind: SignatureKind) -> SecureBuildError | None:
        """What stands in the way, if anything."""
        found = self.statements.get(kind)
        return found if isinstance(found, SecureBuildError) else None


def checkers(work: Job) -> Checkers:
    """Opened before anything is asked, each once; raises UsageError for keys that cannot be used."""
    config, known = work.loaded.config, keys(work)
    signing, built = config.signing, config.built.values()
    statements: dict[SignatureKind, StatementVerifier | SecureBuildError] = {}
    if signing.cosign is not None:
        statements["cosign"] = _opened(lambda: known.cosign_verifier)
    if signing.keyless is not None:
        statements["keyless"] = _opened(lambda: known.keyless_verifier)
    by_key = any(image.enforce == "cosign" for image in built)
    by_openpgp = any("rhs" in image.signatures for image in built)
    return Checkers(
        statements,
        _opened(lambda: known.cosign_public) if by_key else None,
        _opened(lambda: known.rhs_verifier) if by_openpgp else None,
        known.log,
    )


def _opened(opening: Callable[[], _Key]) -> _Key | SecureBuildError:
    try:
        return opening()
    except (AbsentKeyError, MachineError, ServiceError) as error:
        return error


def _here(one: _Key | SecureBuildError | None) -> _Key:
    if isinstance(one, SecureBuildError):
        raise one
    assert one is not None
    return one


def finding(work: Job, level: Level, what: str, why: str, hint: str | None = None) -> Finding:
    return Finding(CHECK, level, what, why, hint=hint, where=str(work.loaded.path))


def unknown(work: Job, what: str, error: SecureBuildError) -> Finding:
    return finding(work, "unknown", what, error.message, error.hint)


def is_served(work: Job, image: Image) -> bool:
    """Whether the image's registry is to be asked; else what is signed is still in the work folder."""
    return not work.options.offline and image.published == image.reference.repository.registry


def is_wanted(work: Job, image: Image, opened: Checkers) -> bool:
    """Whether the config promises anything that is beside the manifests of an image."""
    built = work.loaded.config.built[image.name]
    own = built.enforce == "cosign" or ("rhs" in built.sign and built.enforce != "rhs")
    return own or bool(opened.statements)


def content_of(work: Job, image: Image) -> Manifest | SecureBuildError:
    """The image's manifest or index, or why it cannot be had."""
    repository = image.reference.repository
    try:
        if work.layout.has(image.descriptor) or not is_served(work, image):
            return work.layout.manifest(image.descriptor)
        return work.own_reader(repository).get_manifest(repository, image.descriptor)
    except (UsageError, ServiceError, MachineError) as error:
        return error


def signatures(
    work: Job, image: Image, content: Manifest | SecureBuildError | None, opened: Checkers
) -> Iterator[Finding]:
    """Of one image, whose manifest is `content`: the enforced key, and what the config has signed."""
    built = work.loaded.config.built[image.name]
    if built.enforce != "digest":
        yield _asked(
            work, f"{image.name}: enforced key ({built.enforce})", lambda: _enforced(work, image, opened)
        )
    if built.enforce == "cosign":
        what = f"{image.name}: signature for the runtime (cosign)"
        yield _asked(work, what, lambda: _classic(work, image, _manifests(image, content), opened))
    if "rhs" in built.sign and built.enforce != "rhs":
        yield _asked(
            work,
            f"{image.name}: signature (rhs)",
            lambda: _openpgp(work, image, _manifests(image, content), opened),
        )
    if "dct" in built.sign and built.enforce != "dct":
        yield _asked(work, f"{image.name}: signature (dct)", lambda: _trusted(work, image))


class _DeferredError(Exception):
    """It is made while the image is published."""


def _asked(work: Job, what: str, ask: Callable[[], str]) -> Finding:
    try:
        return finding(work, "pass", what, ask())
    except _DeferredError:
        return finding(work, "deferred", what, "it is signed when the image is published")
    except RefusedError as error:
        return finding(work, "fail", what, error.message, error.hint or MAKE)
    except (UsageError, MachineError, ServiceError) as error:
        return unknown(work, what, error)


def _enforced(work: Job, image: Image, opened: Checkers) -> str:
    """Whose key the record has for the contract: it must be the config's own."""
    wanted = work.loaded.config.built[image.name].enforce
    if image.enforced is None:
        if wanted == "dct" and image.published is None:
            raise _DeferredError
        raise RefusedError("the build record has no key for the contract", hint=MAKE)
    if image.enforced.by != wanted:
        raise RefusedError(
            f"the build record has a key of the kind `{image.enforced.by}`, and the config wants `{wanted}`",
            hint=_KEY,
        )
    if wanted == "dct":
        return _enforced_root(work, image)
    what = f"the key of {image.name} in the build record"
    own, found = _key_of_config(opened, wanted), _key_of_record(work, image, what)
    if own != found:
        raise RefusedError(f"{what} is {found}, and the config's own is {own}", hint=_KEY)
    return f"the build record has the config's own key, {own}"


def _key_of_config(opened: Checkers, kind: str) -> str:
    if kind == "cosign":
        return str(_here(opened.cosign).digest)
    return _here(opened.rhs).fingerprint


def _key_of_record(work: Job, image: Image, what: str) -> str:
    from secure_build.signers import cosign_key, gpg

    assert image.enforced is not None
    try:
        content = base64.b64decode(image.enforced.public_key, validate=True)
        if image.enforced.by == "cosign":
            return str(cosign_key.public_key(content, what).digest)
        with gpg.opened_verifier(content, work.options.workdir, what) as verifier:
            return verifier.fingerprint
    except ValueError:
        raise RefusedError(f"{what} is no base64", hint=_KEY) from None
    except UsageError as error:
        raise RefusedError(error.message, hint=_KEY) from None


def _enforced_root(work: Job, image: Image) -> str:
    from secure_build.signers.trust_data import RootCertificate

    signing, enforced = work.loaded.config.signing.dct, image.enforced
    assert signing is not None
    assert enforced is not None
    if enforced.notary != signing.server:
        raise RefusedError(
            f"the build record names the Notary server `{enforced.notary}`, "
            f"and the config `{signing.server}`",
            hint=_KEY,
        )
    try:
        found = RootCertificate.parse(enforced.public_key)
    except UsageError as error:
        raise RefusedError(error.message, hint=_KEY) from None
    if not keys(work).is_own_root(found, image.reference.repository):
        raise RefusedError(
            f"the root certificate of {image.name} in the build record is not of the config's own key",
            hint=_KEY,
        )
    return "the build record has a certificate of the config's own root key"


def _manifests(image: Image, content: Manifest | SecureBuildError | None) -> list[Pinned]:
    """The image, and every manifest in it, as each is signed; raises why they are not known."""
    members: tuple[Descriptor, ...] = (image.descriptor, *_here(content).members)
    repository = image.reference.repository
    return [Pinned(repository, digest) for digest in dict.fromkeys(one.digest for one in members)]


def _classic(work: Job, image: Image, manifests: list[Pinned], opened: Checkers) -> str:
    from secure_build.signers.classic import ClassicVerifier

    verifier = ClassicVerifier(_here(opened.cosign), opened.log)
    for pinned in manifests:
        _one_of(
            pinned,
            _kept_classic(work, image, pinned),
            lambda signed, pinned=pinned: verifier.verify(signed, pinned),  # type: ignore[misc]
        )
    return f"signed by {verifier.key.digest}{beside(len(manifests))}"


def _kept_classic(work: Job, image: Image, pinned: Pinned) -> list[Signed]:
    if is_served(work, image):
        return publication.read_classic(work.own_reader(pinned.repository), pinned)
    found: list[Signed] = []
    for known in image.signatures:
        if (known.kind, known.predicate, known.image) == ("cosign", "", pinned):
            content = work.layout.artifact(Digest.parse(known.kept))
            found += classic.signatures(content, work.layout.read) if content else []
    return found


def _openpgp(work: Job, image: Image, manifests: list[Pinned], opened: Checkers) -> str:
    from secure_build.signers import rhs

    verifier = _here(opened.rhs)
    store = kept_signatures(work, image, in_work_folder=not is_served(work, image))
    for pinned in manifests:
        _one_of(
            pinned,
            store.read(pinned),
            lambda one, pinned=pinned: rhs.check(verifier, one, pinned, image.reference),  # type: ignore[misc]
        )
    return f"signed by {verifier.fingerprint} as `{image.reference}`{beside(len(manifests))}"


def _one_of(pinned: Pinned, found: list[_Key], check: Callable[[_Key], None]) -> None:
    """Raise RefusedError unless one of the signatures of a manifest is as it should be."""
    reasons = []
    for one in found:
        try:
            check(one)
        except RefusedError as error:
            reasons.append(error.message)
        else:
            return
    raise RefusedError(f"{reasons[0] if reasons else 'there is none'}, beside {pinned.digest}")


def beside(count: int) -> str:
    """How many manifests were looked at, where it is not the image's own alone."""
    return f", beside {count} manifests" if count > 1 else ""


def _trusted(work: Job, image: Image) -> str:
    """What the trust data names by the image's tag, which needs the server."""
    reference, signing = image.reference, work.loaded.config.signing.dct
    assert signing is not None
    assert reference.tag is not None
    if image.published is None:
        raise _DeferredError
    if work.options.offline:
        raise UsageError(f"`--offline` does not ask {signing.server}", hint="leave `--offline` out")
    named = keys(work).notary_reader(reference.repository).lookup(reference.repository, reference.tag)
    if named is None:
        raise RefusedError(f"{signing.server} names nothing by `{reference}`", hint=MAKE)
    if (named.digest, named.size) != (image.descriptor.digest, image.descriptor.size):
        raise RefusedError(f"{signing.server} names {named.digest} by `{reference}`", hint=MAKE)
    return f"{signing.server} names it by `{reference}`"
