"""Every request to a Notary server, spoiled: signed is what was to be, or there is a clear error."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections import Counter
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from secure_build.errors import MachineError, RefusedError, ServiceError, UsageError
from secure_build.reference import Digest, Repository
from secure_build.signers.dct import Keys, opened
from secure_build.signers.notary_keys import NotaryKey
from secure_build.signers.trust_data import Target
from services import running
from services.needed import need
from services.notary import Client, notary
from torture.faulty import KINDS, FaultyProxy, Spoiled

ALL = os.environ.get("TORTURE") == "all"
pytestmark = pytest.mark.timeout(1200 if ALL else 300)
# Of all of them, one in so many is tried: each starts the program several times.
_EVERY = 4 if ALL else 41
_CLEAR = (ServiceError, RefusedError, UsageError, MachineError)


def test_every_request_to_a_notary_server_spoiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: Counter[str]
) -> None:
    need("notary", "notary-server", "notary-signer", "openssl")
    monkeypatch.setenv("PATH", running.environment()["PATH"])
    keys = Keys(*(NotaryKey(ec.generate_private_key(ec.SECP256R1())) for _ in range(2)))
    image = Target(Digest.of(b"an image"), 528)
    with (
        notary(tmp_path / "server") as server,
        FaultyProxy(server.url.partition("://")[2], authority=server.authority) as proxy,
    ):
        judge = Client.at(tmp_path / "judge", server, server.authority)

        def publish(name: str, spoiled: Spoiled | None) -> None:
            proxy.start(spoiled)
            with opened(tmp_path / "work", f"http://{proxy.host}", keys=keys) as here:
                here.publish(Repository("us.icr.io", name), {"1": image})

        publish("acme/first", None)
        kinds = [kind for kind in KINDS if not kind.startswith("kill")]
        points = list(itertools.product(range(len(proxy.requests)), kinds, (False, True)))
        for number, point in enumerate(points[::_EVERY]):
            spoiled, name = Spoiled(*point), f"acme/web{number}"
            said = False
            with contextlib.suppress(*_CLEAR):
                publish(name, spoiled)
                said = True
            found = judge.try_to("lookup", f"us.icr.io/{name}", "1")
            if said or found.returncode == 0:
                # Whatever is there is what was to be signed.
                assert image.digest.hexadecimal in found.stdout, f"{spoiled}: {found.stderr}"
            assert not any(proxy.elsewhere), f"{spoiled}: a login went to another host"
            publish(name, None)
            judge.forget()
            assert image.digest.hexadecimal in judge.do("lookup", f"us.icr.io/{name}", "1"), str(spoiled)
            figures["faults of a Notary server tried"] += 1
