"""Every request to the sigstore services, spoiled in every way: a good signature, or a clear error."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from pathlib import Path
from typing import Literal

import pytest

from integration.keyless import WE, about
from secure_build import stopping
from secure_build.errors import MachineError, RefusedError, ServiceError, UsageError
from secure_build.registry.http import Transport
from secure_build.secret import Secret
from secure_build.signers.keyless import KeylessSigner
from secure_build.signers.sigstore_trust import Trust
from services.sigstore import LocalSigstore
from torture.faulty import KINDS, FaultyProxy, Spoiled

# What says what happened, why and what next; anything else would be a bug.
_CLEAR = (ServiceError, RefusedError, UsageError, MachineError)


@pytest.mark.parametrize("version", [1, 2])
def test_every_request_to_the_sigstore_services_spoiled(
    tmp_path: Path, version: Literal[1, 2], monkeypatch: pytest.MonkeyPatch, figures: Counter[str]
) -> None:
    monkeypatch.setattr(stopping, "pause", lambda _: None)
    with LocalSigstore(tmp_path, rekor_version=version) as sigstore, FaultyProxy(sigstore.host) as proxy:
        told = sigstore.files.trust_config.read_bytes()
        trust = Trust(told)
        through = Trust(told.replace(sigstore.host.encode(), proxy.host.encode()))

        def sign(spoiled: Spoiled | None) -> bytes:
            proxy.start(spoiled)
            with Transport(read_seconds=2, deadline_seconds=0.9) as transport:
                return KeylessSigner(through, lambda: Secret(sigstore.token()), transport).sign(about())

        assert trust.verify(sign(None), WE)[1] == about()
        numbers = range(len(proxy.requests))
        # A certificate, a timestamp and an entry of the log.
        assert len(numbers) >= 3
        kinds = [kind for kind in KINDS if not kind.startswith("kill")]
        for number, kind, always in itertools.product(numbers, kinds, (False, True)):
            spoiled = Spoiled(number, kind, always)
            bundle = None
            with contextlib.suppress(*_CLEAR):
                bundle = sign(spoiled)
            if bundle is not None:
                # As good as without a fault, for whoever asks the services themselves.
                assert trust.verify(bundle, WE)[1] == about(), str(spoiled)
            assert not any(proxy.elsewhere), f"{spoiled}: a token went to another host"
            figures["faults of sigstore services tried"] += 1
        assert trust.verify(sign(None), WE)[1] == about()
