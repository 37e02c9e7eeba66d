"""Checks of the public keys that a contract carries in plain text, and of what they signed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from secure_build.contract.advice import mapping
from secure_build.contract.checks.sections import finding
from secure_build.contract.document import Contract, SectionText
from secure_build.errors import UsageError
from secure_build.model import Finding

# The runtime gives notice daily from here on (IBM's page "About the contract", expiry).
_SOON = timedelta(days=30)
# The guest's clock counts, and may be a little behind.
_CLOCKS = timedelta(minutes=5)


def attestation_key(value: str, where: str) -> Iterator[Finding]:
    """Whether the attestation record can be encrypted for a key."""
    from secure_build.contract.encryption.key_material import public_material

    what, why, hint = "`attestationPublicKey`", None, None
    try:
        material = public_material(value.encode(), what)
        if material.certificate is not None:
            why = "is a certificate, and the runtime wants its public key"
            hint = "`openssl x509 -in CERTIFICATE -noout -pubkey` writes it"
    except UsageError as error:
        why, hint = error.message.removeprefix(f"{what} "), error.hint
    if why:
        yield finding("attestation-key", what, why, code="HPL11002E", hint=hint, where=where)
    elif material.encodings:
        why = "is base64 of PEM, which IBM documents and the published schema does not have"
        yield finding("attestation-key", what, why, level="pass", where=where)


def signing_key(value: str, now: datetime, where: str) -> Iterator[Finding]:
    """Whether `signingKey` can check a signature now."""
    from secure_build.contract.encryption.key_material import public_material

    what = "`signingKey`"
    try:
        material = public_material(value.encode(), what, most_encodings=2)
    except UsageError as error:
        why, hint = error.message.removeprefix(f"{what} "), error.hint
        yield finding("signing-key", what, why, basis="inferred", code="HPL12003E", hint=hint, where=where)
        return
    if material.encodings > 1:
        why = "is in base64 twice, and whether the runtime takes that is not known"
        hint = "encode the PEM text once"
        yield finding("signing-key", what, why, level="warn", basis="inferred", hint=hint, where=where)
    if material.certificate is not None:
        first, last = material.certificate.not_valid_before_utc, material.certificate.not_valid_after_utc
        yield from _dates(first, last, now, where)


def signature_finding(contract: Contract, env: SectionText | None) -> Iterator[Finding]:
    """Whether `envWorkloadSignature` is of these two values by the `signingKey` in the env, which is known.

    Only of tokens: which bytes of a plain section count is not known.
    """
    from secure_build.contract.encryption import signature
    from secure_build.contract.encryption.key_material import public_material

    if (
        contract.signature is None
        or env is None
        or not (contract.workload.is_token and contract.env.is_token)
    ):
        return
    key = mapping(env.document.data if env.document else None).get("signingKey")
    what, where = "`envWorkloadSignature`", contract.where("envWorkloadSignature")
    try:
        material = public_material(str(key).encode(), "`signingKey`", most_encodings=2)
    except UsageError:
        # That there is none, or what is wrong with it, is said already.
        return
    if signature.verify(contract.workload.value, contract.env.value, contract.signature, material.key):
        why = "is of these two sections, by the `signingKey` in `env`"
        yield finding("signature", what, why, level="pass", where=where)
    else:
        why = "is not of these two sections by the `signingKey` in `env`"
        hint = "sign again what stands in the contract: `secure-build contract assemble`"
        yield finding("signature", what, why, code="HPL12001E", hint=hint, where=where)


def _dates(first: datetime, last: datetime, now: datetime, where: str) -> Iterator[Finding]:
    if now > last:
        why = f"its certificate ended on {last:%Y-%m-%d}, so the guest does not start"
        hint = "sign the contract again, with a new certificate"
        yield finding("signing-key", "`signingKey`", why, code="HPL12007E", hint=hint, where=where)
    elif first - now > _CLOCKS:
        why = f"its certificate begins on {first:%Y-%m-%d}"
        yield finding("signing-key", "`signingKey`", why, basis="inferred", code="HPL12001E", where=where)
    elif now + _SOON > last:
        why = f"its certificate ends on {last:%Y-%m-%d}; after that the guest does not start"
        yield finding("signing-key", "`signingKey`", why, level="warn", code="HPL12006E", where=where)
    else:
        why = f"its certificate ends on {last:%Y-%m-%d}, and the contract with it"
        yield finding("signing-key", "`signingKey`", why, level="pass", code="HPL12005E", where=where)
