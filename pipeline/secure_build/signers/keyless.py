"""Keyless signatures: sigstore confirms who signs, for ten minutes, and a public log keeps the signature.

The only module that uses sigstore's library, which is imported when it is needed: that takes half a
second. Where the OIDC token comes from is the business of `identity.py`; that a statement is about a
certain image is found out in `attestations/statement.py`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from cryptography import x509

from secure_build import manifest
from secure_build.attestations.statement import PAYLOAD_TYPE
from secure_build.errors import MachineError, RefusedError, SecureBuildError, ServiceError, UsageError
from secure_build.model import SignatureKind
from secure_build.registry.http import Transport
from secure_build.secret import Secret, mask
from secure_build.signers.fulcio import Identity, identity_of

if TYPE_CHECKING:
    from sigstore.models import Bundle, ClientTrustConfig
    from sigstore.sign import Signer

Instance = Literal["production", "staging"]
_REPOSITORIES: dict[Instance, str] = {
    "production": "https://tuf-repo-cdn.sigstore.dev",
    "staging": "https://tuf-repo-cdn.sigstage.dev",
}
_ROOT, _SERVICES = "trusted_root.json", "signing_config.v0.2.json"
_TRUST_CONFIG = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
# A certificate that has less left is not begun with; a log may take its time.
_MARGIN_SECONDS = 120.0
_DETECTION_SECONDS = 60.0
_CLOCKS = "the clocks of the services must agree: a signature holds only in its certificate's ten minutes"

# It would print its own warnings, where there is a message or nothing to say.
logging.getLogger("sigstore").addHandler(logging.NullHandler())


class Trust:
    """One instance of sigstore: by which keys it is trusted, and where its services are."""

    def __init__(self, config: bytes) -> None:
        """The instance of a trust config; raises UsageError when that cannot be used."""
        _need_library()
        from sigstore.models import ClientTrustConfig
        from sigstore.verify import Verifier

        try:
            self.config: ClientTrustConfig = ClientTrustConfig.from_json(config.decode())
            self._verifier = Verifier(trusted_root=self.config.trusted_root)
        except Exception as error:  # noqa: BLE001 - whatever is wrong in it, it is the file's
            raise UsageError(
                f"the trust config of sigstore cannot be used: {_why(error)}",
                hint=f"it must be of the type `{_TRUST_CONFIG}`",
            ) from None

    def verify(self, bundle: bytes, wanted: Identity | None) -> tuple[Identity, bytes]:
        """Who signed the statement in a bundle, and the statement; makes no connection.

        Raises RefusedError when it does not verify, or is by somebody else than who is wanted.
        """
        from sigstore.models import Bundle

        policy = _Policy(wanted)
        try:
            kind, payload = self._verifier.verify_dsse(Bundle.from_json(_complete(bundle)), policy)
            found = policy.found
            assert found is not None
        except Exception as error:  # noqa: BLE001 - a stranger's bundle may break any parser on the way
            raise RefusedError(f"the keyless signature does not verify: {_why(error)}") from None
        if kind != PAYLOAD_TYPE:
            raise RefusedError(f"what is signed is no in-toto statement but `{kind[:80]}`")
        return found, payload


def embedded(instance: Instance) -> Trust:
    """An instance as sigstore's library knows it: no connection, and as old as the library."""
    _need_library()
    return _joined(_shipped(instance, _ROOT), _shipped(instance, _SERVICES))


def fetched(instance: Instance, folder: Path, transport: Transport) -> Trust:
    """An instance as it is today, by its TUF repository, of which `folder` keeps a copy.

    Raises ServiceError when it cannot be had, or does not verify, and MachineError when it cannot be
    kept.
    """
    _need_library()
    from secure_build.signers import sigstore_tuf

    root = _shipped(instance, "root.json")
    return _joined(*sigstore_tuf.fetch(_REPOSITORIES[instance], root, (_ROOT, _SERVICES), folder, transport))


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


def signer_of(trust: Trust, bundle: bytes) -> tuple[Identity, bytes]:
    """Who has signed a bundle, whoever it is, and the statement; verified, but for who it should be.

    Raises RefusedError when it does not verify.
    """
    return trust.verify(bundle, None)


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
                f"the OIDC token cannot be used: {_why(error.__cause__ or error)}",
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
    _need_library()
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
        raise UsageError(f"the CI system gives no OIDC token: {_why(error)}") from None
    return Secret(token) if token else None


@dataclass(frozen=True, slots=True)
class _Certified:
    """A key with a certificate, until a time of the monotonic clock."""

    signer: Signer
    identity: Identity
    until: float


class _Policy:
    """Exactly who is wanted, or whoever it is; afterwards `found` says who."""

    def __init__(self, wanted: Identity | None) -> None:
        self._wanted = wanted
        self.found: Identity | None = None

    def verify(self, certificate: x509.Certificate) -> None:
        self.found = identity_of(certificate)
        if self._wanted not in (None, self.found):
            raise ValueError(f"it is by {self.found}, not by {self._wanted}")


def _complete(bundle: bytes) -> bytes:
    """The bundle with what JSON of Protocol Buffers leaves out: zeros and empty lists."""
    document = manifest.load_object(bundle)
    for entry in document["verificationMaterial"].get("tlogEntries", []):
        entry.setdefault("logIndex", "0")
        if proof := entry.get("inclusionProof"):
            proof.setdefault("logIndex", "0")
            proof.setdefault("hashes", [])
    return json.dumps(document).encode()


def _timestamps(bundle: Bundle) -> int:
    data = bundle.verification_material.timestamp_verification_data
    return len(data.rfc3161_timestamps) if data else 0


def _joined(root: bytes, services: bytes) -> Trust:
    parts: dict[str, Any] = {"trustedRoot": json.loads(root), "signingConfig": json.loads(services)}
    return Trust(json.dumps({"mediaType": _TRUST_CONFIG, **parts}).encode())


def _shipped(instance: Instance, name: str) -> bytes:
    """A file about an instance that comes with sigstore's library."""
    folder = quote(_REPOSITORIES[instance], safe="")
    return resources.files("sigstore._store").joinpath(folder, name).read_bytes()


def _need_library() -> None:
    """Raise MachineError where the library is missing."""
    try:
        import sigstore  # noqa: F401
    except ImportError:
        raise MachineError(
            "keyless signatures need the Python package `sigstore`, which is not on this machine",
            hint="there is none for s390x: sign and verify on another machine, or sign with a key",
        ) from None


class _Services:
    """Those of one instance, spoken to through the transport."""

    def __init__(self, config: ClientTrustConfig, transport: Transport) -> None:
        from sigstore.sign import SigningContext

        from secure_build.signers import sigstore_http

        try:
            services = config.signing_config
            fulcio, log, authorities = services.get_fulcio(), services.get_tlogs()[0], services.get_tsas()
        except Exception as error:  # noqa: BLE001 - whatever is wrong in it, it is the file's
            raise UsageError(f"the trust config of sigstore names no services: {_why(error)}") from None
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
            raise ServiceError(f"sigstore's services failed: {_why(error)}") from None


def _why(error: BaseException) -> str:
    """The reason in one line, or its kind where it says nothing."""
    text = " ".join(str(error).split())
    return mask(text or type(error).__name__)[:300]
