"""Digests out of nothing, for tests that pin documents."""

from __future__ import annotations

from collections.abc import Iterable

from secure_build.contract.places import Place
from secure_build.reference import Digest, Pinned, Reference


def image_of(place: Place) -> Pinned:
    """An image for a place: always the same one for the same name."""
    name = place.name
    if name is None:
        return Reference.parse(f"registry.example.com/{place.alias}").pin(Digest.of(b"built"))
    known = name.reference or name.rest
    assert known is not None
    return known.pin(known.digest or Digest.of(str(known).encode()))


def texts(places: Iterable[Place]) -> dict[Place, str]:
    """What to write at each place."""
    return {
        place: place.name.pinned(image_of(place)) if place.name else str(image_of(place)) for place in places
    }
