"""What an audit found: links of a chain, each with what was checked of it. Decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secure_build.model import Finding, Level

_WORST: Sequence[Level] = ("fail", "unknown", "warn", "deferred", "pass")


@dataclass(frozen=True, slots=True)
class Link:
    """One link: a stable name, what holds where it is good, and the findings that say so or not."""

    name: str
    title: str
    findings: tuple[Finding, ...]

    @property
    def level(self) -> Level:
        """The worst of the findings."""
        return min((one.level for one in self.findings), key=_WORST.index)


@dataclass(frozen=True, slots=True)
class AuditedImage:
    """An image as it was found: `size` in bytes, compressed; `packages` by platform, from its SBOMs.

    `bases` are what its build took, by the build record; `signed` says what was signed by whom.
    """

    pinned: str
    platforms: tuple[str, ...]
    size: int
    bases: tuple[str, ...]
    signed: tuple[str, ...]
    packages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AuditedSource:
    """The commit by the build record; `url` is the repository's, without a login."""

    commit: str
    url: str | None
    clean: bool
    committed: str


@dataclass(frozen=True, slots=True)
class Audited:
    """The chain from a machine's attestation record towards the source; `version` is of the image.

    `shown` are the lines of the record about the contract: name and SHA-256.
    """

    record: str
    version: str | None
    links: tuple[Link, ...]
    shown: tuple[tuple[str, str], ...] = ()
    source: AuditedSource | None = None
    images: tuple[AuditedImage, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(one for link in self.links for one in link.findings)

    @property
    def broken(self) -> Link | None:
        """The first link that fails."""
        return next((link for link in self.links if link.level == "fail"), None)
