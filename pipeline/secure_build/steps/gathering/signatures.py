"""Signatures, looked for where the guest looks, and checked as its own readers check them.

`rhs` by containers-policy.json(5): what counts is the manifest that the guest runs, signed under the name
that it is pulled by. `dct` by trust data that rests on the contract's root key. cosign in its older form,
which is the one that IBM's recipe makes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from secure_build.attestations import publication, statement
from secure_build.contract.decision.model import Answer, Entry, Outcome, Question, Signed
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.model import Credential
from secure_build.reference import Pinned, Reference
from secure_build.registry.client import RemoteRegistry
from secure_build.registry.signatures import SignatureExtension
from secure_build.signers import rhs
from secure_build.signers.gpg import GpgVerifier
from secure_build.signers.lookaside import Tree
from secure_build.steps.gathering.keys import OpenedKeys
from secure_build.steps.gathering.means import Means
from secure_build.steps.gathering.pulls import Pulled, Registries

if TYPE_CHECKING:
    from secure_build.signers.classic import ClassicVerifier

_OFFLINE = "the network is not to be used, so nobody was asked for its signature"


@dataclass(slots=True)
class Signatures:
    """Answers questions, one after the other or side by side."""

    means: Means
    registries: Registries
    keys: OpenedKeys
    _extensions: dict[tuple[str, Credential | None], SignatureExtension] = field(default_factory=dict)

    def answer(self, question: Question) -> Answer:
        """What is known of an image: whether it can be pulled, and whether it is signed."""
        entry = question.entry
        if entry is not None and entry.kind == "dct":
            return self._content_trust(question, entry)
        pulled = self.registries.pull(question)
        if entry is None:
            return Answer(pulled.pull)
        if entry.kind == "cosign":
            return Answer(pulled.pull, self._cosign(question, entry, pulled))
        return Answer(pulled.pull, self._simple(question, entry, pulled))

    # Docker Content Trust

    def _content_trust(self, question: Question, entry: Entry) -> Answer:
        if self.means.offline:
            return Answer(self.registries.pull(question).pull, Signed("unknown", _OFFLINE))
        reference = question.reference
        assert reference.tag is not None
        signed = self._trusted(question, entry)
        if signed.digest is None:
            return Answer(self.registries.pull(question).pull, signed)
        runs = self.registries.pull(question, Reference(reference.repository, digest=signed.digest)).pull
        if runs.outcome != "good":
            return Answer(runs, signed)
        # What the tag names is of no weight for the guest, but people go by it.
        named = None
        try:
            client = self.registries.client(reference.repository.registry, question.login)
            named = client.tagged(reference)
        except SecureBuildError:
            pass
        return Answer(replace(runs, digest=named), signed)

    def _trusted(self, question: Question, entry: Entry) -> Signed:
        from secure_build.signers.notary import NoTrustDataError

        reference = question.reference
        assert reference.tag is not None
        sign = f"sign the tag: `notary addhash {reference.repository} {reference.tag} …`, or `enforce: dct`"
        try:
            notary = self.keys.dct(entry, question.login)
        except UsageError as error:
            # A login or an authority that the program does not take says nothing of the contract.
            return Signed("unknown", error.message, error.hint)
        try:
            target = notary.lookup(reference.repository, reference.tag, entry.public_key)
        except NoTrustDataError as error:
            return Signed("bad", error.message, sign)
        except UsageError as error:
            return Signed("bad", error.message, error.hint, key=True)
        except RefusedError as error:
            return Signed("bad", error.message, error.hint)
        except (ServiceError, MachineError) as error:
            return Signed("unknown", error.message, error.hint)
        if target is None:
            return Signed(
                "bad", f"the trust data of {reference.repository} has no tag `{reference.tag}`", sign
            )
        return Signed("good", f"the trust data names {target.digest}", digest=target.digest)

    # Red Hat simple signing

    def _simple(self, question: Question, entry: Entry, pulled: Pulled) -> Signed:
        if pulled.guest is None:
            return _not_looked(pulled, offline=self.means.offline)
        image = question.reference.repository
        pinned = Pinned(image, pulled.guest)
        try:
            verifier = self.keys.rhs(entry)
        except UsageError as error:
            return Signed("bad", error.message, error.hint, key=True)
        except MachineError as error:
            return Signed("unknown", error.message, error.hint)
        if question.reference in self.means.local:
            assert self.means.signatures is not None
            kept = Tree(self.means.signatures / image.registry).read(pinned)
            return _judged(verifier, kept, pinned, question.reference, "in the work folder")
        return self._served(question, verifier, pinned)

    def _served(self, question: Question, verifier: GpgVerifier, pinned: Pinned) -> Signed:
        registry, reference = pinned.repository.registry, question.reference
        try:
            self.registries.client(registry, question.login)
            served = self._extension(registry, question.login).find(pinned)
        except (ServiceError, MachineError) as error:
            if isinstance(error, ServiceError):
                self.registries.silent(registry, error)
            return Signed("unknown", f"its signatures are not known: {error.message}", error.hint)
        if served is not None:
            return _judged(verifier, served, pinned, reference, f"served by {registry}")
        if self.means.lookaside is None:
            why = f"`{registry}` keeps no OpenPGP signatures, and the contract cannot name another place"
            why += "; whether the guest looks elsewhere is not documented"
            return Signed("unknown", why, "use a registry that keeps them, or pin the digest")
        try:
            aside = self.means.lookaside.read(pinned)
        except SecureBuildError as error:
            return Signed("unknown", f"its signatures are not known: {error.message}", error.hint)
        found = _judged(verifier, aside, pinned, reference, f"at {self.means.lookaside}")
        if found.outcome == "good":
            why = f"{found.why}; whether the guest looks there is not documented, and `{registry}` keeps none"
            return Signed("unknown", why, "use a registry that keeps signatures", found.digest)
        return found

    def _extension(self, registry: str, login: Credential | None) -> SignatureExtension:
        made = SignatureExtension(registry, login, self.means.transport)
        return self._extensions.setdefault((registry, login), made)

    # cosign

    def _cosign(self, question: Question, entry: Entry, pulled: Pulled) -> Signed:
        digest = pulled.pull.digest
        if pulled.pull.outcome != "good" or digest is None:
            return _not_looked(pulled, offline=self.means.offline)
        image = Pinned(question.reference.repository, digest)
        sign = f"sign it: `cosign sign --key KEY {image}`, or `enforce: cosign`"
        try:
            verifier = self.keys.cosign(entry)
        except UsageError as error:
            return Signed("bad", error.message, error.hint, key=True)
        try:
            client = self.registries.client(image.repository.registry, question.login)
            kept = publication.read_classic(client, image)
            if any(verifier.accepts(one, image) for one in kept):
                return Signed("good", f"its key {verifier.key.digest}", digest=digest)
            if self._has_bundle(client, image, verifier):
                why = "it is signed by a bundle only, and whether the guest reads those is not documented"
                return Signed("unknown", why, "sign it in the older form: `enforce: cosign`")
        except (ServiceError, MachineError) as error:
            return Signed("unknown", f"its signatures are not known: {error.message}", error.hint)
        if not kept:
            outcome: Outcome = "deferred" if image.repository in self.means.unsigned else "bad"
            return Signed(outcome, "it has no signature under cosign's tag", sign)
        return Signed("bad", f"none of its {len(kept)} signatures is by the key {verifier.key.digest}", sign)

    def _has_bundle(self, client: RemoteRegistry, image: Pinned, verifier: ClassicVerifier) -> bool:
        """Whether the key has signed the image in the newer form, which cosign 3 writes."""
        from secure_build.signers.cosign import CosignVerifier

        by_key = CosignVerifier(verifier.key, verifier.log)
        kinds = (statement.SIGNATURE,)
        for one in publication.read_bundles(client, image.repository, image.digest, predicate_types=kinds):
            try:
                payload = by_key.verify(one.content)
                statement.predicate(payload, predicate_type=statement.SIGNATURE, subject=image.digest)
            except RefusedError:
                continue
            return True
        return False


def _not_looked(pulled: Pulled, *, offline: bool) -> Signed:
    """Without the image's own bytes nobody can say which manifest must be signed."""
    return Signed("unknown", _OFFLINE if offline else pulled.pull.why, pulled.pull.hint)


def _judged(
    verifier: GpgVerifier, signatures: Iterable[bytes], pinned: Pinned, name: Reference, place: str
) -> Signed:
    """Whether one of the signatures convinces; the reader of the guest wants no more than one."""
    reasons = []
    for signature in signatures:
        try:
            rhs.check(verifier, signature, pinned, name)
        except RefusedError as error:
            reasons.append(error.message)
            continue
        except MachineError as error:
            return Signed("unknown", error.message, error.hint)
        return Signed("good", f"`{name}`, {place}", digest=pinned.digest)
    hint = f"sign {pinned.digest} as `{name}`, or pin the digest"
    if not reasons:
        return Signed("bad", f"no signature of {pinned.digest} is {place}", hint)
    count = f"none of {len(reasons)} signatures" if len(reasons) > 1 else "its signature does not"
    verb = "convinces" if len(reasons) > 1 else "convince"
    return Signed("bad", f"{count} {verb}: {'; '.join(dict.fromkeys(reasons))}", hint)
