"""The keys of a contract, opened once each, and what is to be said of them whatever they signed."""

from __future__ import annotations

import base64
import contextlib
import threading
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from secure_build import stopping
from secure_build.contract.decision.model import Entry
from secure_build.errors import MachineError, UsageError
from secure_build.model import Credential, Finding
from secure_build.reference import Reference, Repository
from secure_build.signers import gpg
from secure_build.signers.gpg import GpgVerifier, PublicPart
from secure_build.steps.gathering.means import Means

if TYPE_CHECKING:
    from secure_build.signers.classic import ClassicVerifier
    from secure_build.signers.dct import Notary

# Contracts live for months.
_SOON = timedelta(days=30)
_CODES = {"rhs": "HPL16002E", "dct": "HPL06004E"}
_T = TypeVar("_T")


class OpenedKeys(contextlib.AbstractContextManager["OpenedKeys"]):
    """Each key is opened when it is first asked for. What is asked for raises UsageError when it cannot
    be used, each time."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._exits = contextlib.ExitStack()
        self._lock = threading.Lock()
        self._opened: dict[object, object] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def rhs(self, entry: Entry) -> GpgVerifier:
        """The OpenPGP keys of an entry."""

        def opened() -> GpgVerifier:
            found = gpg.opened_verifier(
                content_of(entry), self._means.folder, f"the key for `{entry.name}`", several=True
            )
            return self._exits.enter_context(found)

        return self._once(("rhs", entry.public_key), opened)

    def dct(self, entry: Entry, login: Credential | None) -> Notary:
        """The Notary server of an entry."""
        from secure_build.signers import dct

        assert entry.notary is not None
        server = entry.notary

        def opened() -> Notary:
            found = dct.opened(self._means.folder, server, ca=self._means.notary_ca, login=login)
            return self._exits.enter_context(found)

        return self._once(("dct", server, login), opened)

    def cosign(self, entry: Entry) -> ClassicVerifier:
        """The cosign key of an entry. Whether the guest wants a log entry too is not documented."""
        from secure_build.signers import cosign_key
        from secure_build.signers.classic import ClassicVerifier

        key = cosign_key.public_key(content_of(entry), f"the cosign key for `{entry.name}`")
        return ClassicVerifier(key)

    def _once(self, name: object, opened: Callable[[], _T]) -> _T:
        with self._lock:
            if name not in self._opened:
                try:
                    self._opened[name] = opened()
                except UsageError as error:
                    self._opened[name] = error
            found = self._opened[name]
        if isinstance(found, UsageError):
            raise found
        return found  # type: ignore[return-value]


def content_of(entry: Entry) -> bytes:
    """The key itself; raises UsageError for what is no base64."""
    try:
        return base64.b64decode(entry.public_key, validate=True)
    except ValueError:
        raise UsageError(f"the key for `{entry.name}` is no base64") from None


def findings(entries: Collection[Entry], keys: OpenedKeys, jobs: int) -> tuple[Finding, ...]:
    """What is wrong with the keys themselves, or will be soon."""
    now = datetime.now(UTC)
    found = stopping.side_by_side(lambda entry: list(_findings(entry, keys, now)), list(entries), jobs=jobs)
    return tuple(finding for part in found for finding in part)


def _findings(entry: Entry, keys: OpenedKeys, now: datetime) -> Iterator[Finding]:
    what = f"the {entry.kind} key for `{entry.name}`"
    code = _CODES.get(entry.kind)
    try:
        if entry.kind == "cosign":
            keys.cosign(entry)
        elif entry.kind == "dct":
            yield from _of_root(entry, what, now)
        else:
            for part in keys.rhs(entry).parts():
                yield from _of_gpg(part, entry, what, now)
    except UsageError as error:
        yield Finding("key", "fail", what, error.message, "documented", error.hint, entry.where, code)
    except MachineError as error:
        yield Finding("key", "unknown", what, error.message, "documented", error.hint, entry.where)


def _of_root(entry: Entry, what: str, now: datetime) -> Iterator[Finding]:
    from secure_build.signers.dct import server_findings
    from secure_build.signers.trust_data import RootCertificate

    certificate = RootCertificate.parse(entry.public_key)
    repository: Repository = Reference.parse(entry.name).repository
    assert entry.notary is not None
    if not entry.notary.startswith("https://"):
        why = f"`{entry.notary}` is no HTTPS address"
        yield Finding("key", "fail", what, why, "inferred", "write `https://HOST`", entry.where)
    for finding in (*certificate.findings(repository, now), *server_findings(entry.notary)):
        code = _CODES["dct"] if finding.level == "fail" else None
        why = f"{finding.what}: {finding.why}"
        yield Finding("key", finding.level, what, why, finding.basis, finding.hint, entry.where, code)


def _of_gpg(part: PublicPart, entry: Entry, what: str, now: datetime) -> Iterator[Finding]:
    named = f"its key {part.fingerprint}"
    code = _CODES["rhs"]
    again = "export the key anew, once it is good: `gpg -a --export ID | base64 -w0`"
    if part.fault:
        why = f"{named} {part.fault}, so nothing that it signed counts"
        yield Finding("key", "fail", what, why, "inferred", again, entry.where, code)
    elif not part.can_sign:
        why = f"{named} cannot sign, and no subkey of it can"
        yield Finding("key", "fail", what, why, "inferred", again, entry.where, code)
    elif part.ends is not None and part.ends - now < _SOON:
        why = f"{named} ends on {part.ends:%Y-%m-%d}; from then on guests refuse what it signed"
        hint = "renew it, and put what is exported then into a new contract"
        yield Finding("key", "warn", what, why, "inferred", hint, entry.where)
    elif part.by_subkey:
        why = f"{named} signs by a subkey only, which older readers of such signatures do not take"
        hint = "sign with a primary key that can sign"
        yield Finding("key", "warn", what, why, "inferred", hint, entry.where)
