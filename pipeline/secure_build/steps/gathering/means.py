"""With what is asked: nothing of this machine's own logins is among it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from secure_build.layout import Layout
from secure_build.model import Descriptor
from secure_build.reference import Digest, Reference, Repository
from secure_build.registry.http import Transport

if TYPE_CHECKING:
    from secure_build.signers.lookaside import SignatureStore


@dataclass(frozen=True, slots=True)
class Means:
    """With what is asked. `folder` is there to work in, `jobs` is how much is done side by side.

    `notary_ca` are the authorities for Notary servers, PEM. `lookaside` is where the config puts OpenPGP
    signatures besides registries. `local` are images in the `layout` that are not at their registry yet,
    and `signatures` is the folder with theirs, by registry. `guests` are images whose config was read
    already, and is the guest's. `coming` are images of others whose copies may not be there yet, and
    `unsigned` repositories whose images somebody else signs with cosign once they are published.
    """

    transport: Transport
    folder: Path
    jobs: int
    offline: bool
    notary_ca: bytes | None = None
    lookaside: SignatureStore | None = None
    layout: Layout | None = None
    local: Mapping[Reference, Descriptor] = field(default_factory=dict)
    signatures: Path | None = None
    coming: frozenset[Reference] = frozenset()
    guests: frozenset[Digest] = frozenset()
    unsigned: frozenset[Repository] = frozenset()
