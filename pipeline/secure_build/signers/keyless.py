"""Keyless signatures: sigstore confirms who signs, for ten minutes, and a public log keeps the signature.

By which keys an instance is trusted is the business of `sigstore_trust.py`, and where the OIDC token
comes from that of `identity.py`; that a statement is about a certain image is found out in
`attestations/statement.py`.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from secure_build.errors import RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.model import SignatureKind
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers.fulcio import Identity, identity_of
from secure_build.signers.sigstore_trust import Trust, need_library, why

if TYPE_CHECKING:
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.sign import Signer

# A certificate that has less left is not begun with; a log may take its time.
_MARGIN_SECONDS = 120.0
_DETECTION_SECONDS = 60.0
_CLOCKS = "the clocks of the services must agree: a signature holds only in its certificate's ten minutes"


class KeylessVerifier:
    """Verifies what exactly this identity, confirmed by exactly this issuer, has signed."""

    kind: SignatureKind = "keyless"

    def __init__(self, trust: Trust, identity: str, issuer: str) -> None:
        self._trust, self._wanted = trust, Identity(identity, issuer)

    @property
    def signer(self) -> str:
        """Whose signatures these are."""
        return str(self._wanted)

    def verify(self, bundle: bytes) -> bytes:
        """The statement; raises RefusedError for every bundle that is not theirs."""
        return self._trust.verify(bundle, self._wanted)[1]


class KeylessSigner:
    """Signs as whom the token names. One certificate serves many statements, from several threads.

    With `wanted`, nothing is signed as anybody else. What is signed is verified at once: services that
    disagree on the time make signatures that nobody accepts.
    """

    kind: SignatureKind = "keyless"

    def __init__(
        self,
        trust: Trust,
        token: Callable[[], Secret],
        transport: Transport,
        *,
        wanted: Identity | None = None,
    ) -> None:
        """`token` is asked for each certificate, as tokens are as short-lived."""
        self._trust, self._token, self._wanted = trust, token, wanted
        self._services = _Services(trust.config, transport)
        self._lock = threading.Lock()
        self._certified: _Certified | None = None

    @property
    def identity(self) -> Identity:
        """Who signs. Only a certificate tells, so the first time one is asked for: raises as `sign` does."""
        return (self._certified or self._current()).identity

    @property
    def signer(self) -> str:
        """The same as text."""
        return str(self.identity)

    def sign(self, statement: bytes) -> bytes:
        """The bundle, JSON.

        Raises UsageError when there is no usable token, RefusedError when it names somebody else than
        wanted, and ServiceError when a service fails.
        """
        from secure_build.signers.sigstore_http import AlreadyLoggedError

        try:
            bundle = self._sign(statement)
        except AlreadyLoggedError:
            # The log's answer was lost. No two signatures are equal, so that a new one is a new entry.
            bundle = self._sign(statement)
        try:
            signed = self.verify(bundle)
        except RefusedError as error:
            raise ServiceError(
                f"sigstore's services made a signature that nobody accepts: {error.message}", hint=_CLOCKS
            ) from None
        if signed != statement:
            raise ServiceError("sigstore's library signed something else than it was given")
        return bundle

    def verify(self, bundle: bytes) -> bytes:
        """The statement; raises RefusedError when it is not signed by whom we sign as.

        When it is given who that is, nobody is asked.
        """
        return self._trust.verify(bundle, self._wanted or self.identity)[1]

    def _sign(self, statement: bytes) -> bytes:
        from sigstore.dsse import Statement

        content, certified = Statement(statement), self._current()
        with self._services.asked():
            bundle = certified.signer.sign_dsse(content)
        if _timestamps(bundle) < self._services.timestamps:
            raise ServiceError("the timestamp authority gave no timestamp that can be read")
        return bundle.to_json().encode()

    def _current(self) -> _Certified:
        with self._lock:
            if self._certified is None or time.monotonic() > self._certified.until:
                self._certified = self._certify()
            return self._certified

    def _certify(self) -> _Certified:
        from sigstore.oidc import IdentityError, IdentityToken
        from sigstore.sign import Signer

        from secure_build.signers.sigstore_http import ServiceRefusedError

        try:
            token = IdentityToken(self._token().reveal())
        except IdentityError as error:
            raise UsageError(
                f"the OIDC token cannot be used: {why(error.__cause__ or error)}",
                hint="it must have the audience `sigstore` and be valid now; check this machine's clock too",
            ) from None
        begun = time.monotonic()
        with self._services.asked():
            try:
                signer = Signer(token, self._services.context)
            except ServiceRefusedError as error:
                if error.status not in (400, 401, 403):
                    raise
                raise UsageError(
                    f"sigstore does not confirm the identity: {error.message}",
                    hint="the instance must trust the token's issuer, and the token must be valid",
                ) from None
            certificate = signer._signing_cert()  # noqa: SLF001 - the first bundle would tell it too late
            named = identity_of(certificate)
        if self._wanted not in (None, named):
            raise RefusedError(f"the certificate is of {named}; who should sign is {self._wanted}")
        # A certificate later on must not make this signer somebody else.
        self._wanted = named
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        return _Certified(signer, named, begun + life.total_seconds() - _MARGIN_SECONDS)


def detected() -> Secret | None:
    """The token of a CI system that sigstore's library knows; raises UsageError when it gives none."""
    need_library()
    from sigstore.oidc import IdentityError, detect_credential

    found: Future[str | None] = Future()

    def detect() -> None:
        try:
            found.set_result(detect_credential())
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            found.set_exception(error)

    # It starts programs without a limit of time.
    threading.Thread(target=detect, daemon=True).start()
    try:
        token = found.result(timeout=_DETECTION_SECONDS)
    except TimeoutError:
        raise ServiceError("the CI system does not say who signs: it takes too long") from None
    except (IdentityError, OSError, ValueError) as error:
        raise UsageError(f"the CI system gives no OIDC token: {why(error)}") from None
    return Secret(token) if token else None


@dataclass(frozen=True, slots=True)
class _Certified:
    """A key with a certificate, until a time of the monotonic clock."""

    signer: Signer
    identity: Identity
    until: float


def _timestamps(bundle: Bundle) -> int:
    data = bundle.verification_material.timestamp_verification_data
    return len(data.rfc3161_timestamps) if data else 0


class _Services:
    """Those of one instance, spoken to through the transport."""

    def __init__(self, config: ClientTrustConfig, transport: Transport) -> None:
        from sigstore.sign import SigningContext

        from secure_build.signers import sigstore_http

        try:
            services = config.signing_config
            fulcio, log, authorities = services.get_fulcio(), services.get_tlogs()[0], services.get_tsas()
        except Exception as error:  # noqa: BLE001 - whatever is wrong in it, it is the file's
            raise UsageError(f"the trust config of sigstore names no services: {why(error)}") from None
        sigstore_http.mount(fulcio.session, transport)
        self._transport = transport
        # Every thread has sessions of its own with these, which have no other name.
        self._by_thread: tuple[Any, ...] = (log, *authorities)
        self.timestamps = len(authorities)
        self.context = SigningContext(
            fulcio=fulcio, rekor=log, trusted_root=config.trusted_root, tsa_clients=authorities
        )

    @contextlib.contextmanager
    def asked(self) -> Iterator[None]:
        """For requests of this thread: whatever is answered wrong is a ServiceError."""
        from secure_build.signers import sigstore_http

        for one in self._by_thread:
            sigstore_http.mount(one._session, self._transport)  # noqa: SLF001
        try:
            yield
        except SecureBuildError:
            raise
        except Exception as error:  # noqa: BLE001 - the library has no common error for wrong answers
            raise ServiceError(f"sigstore's services failed: {why(error)}") from None
