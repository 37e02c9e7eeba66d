"""The `workload` section, and the fragment of it that people paste into a section of their own.

An image that is named by digest needs no entry in `images`; one that is named by a tag does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from secure_build.contract import text
from secure_build.contract.archive import Archive
from secure_build.contract.auths import contract_key
from secure_build.contract.images import Images
from secure_build.contract.text import SecretText
from secure_build.model import Credential, Finding
from secure_build.reference import Pinned, Reference
from secure_build.secret import Secret

NO_KEYS = "# Every image is named by digest, so the runtime needs no key to check it.\n"


@dataclass(frozen=True, slots=True)
class Packed:
    """What stands in the section: `compose`, `play` or `confidential-containers` with its content.

    `archive` is the one in it, if any; `pods` are those of `ccco`, pinned, which are no part of it.
    """

    body: dict[str, Any]
    archive: Archive | None = None
    pods: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def section(auths: Iterable[Credential], images: Images, content: Mapping[str, Any]) -> SecretText:
    """The body of a `workload` section; `content` is all that stands in it besides logins and keys."""
    named = {"auths": entries(auths), "images": images}
    return text.dump_secret(
        {"type": "workload"} | {name: part for name, part in named.items() if part} | dict(content)
    )


def fragment(
    auths: Iterable[Credential], images: Images, references: Mapping[str, Pinned | Reference]
) -> SecretText:
    """`images` and `auths` to paste below `workload`, with what to name each image as comments."""
    listed = "".join(f"#   {name}: {reference}\n" for name, reference in references.items())
    made = text.dump_secret({"images": images, "auths": entries(auths)})
    head = "" if images else NO_KEYS
    plain, masked = (f"{head}{body}# References:\n{listed}" for body in (made.plain, made.masked))
    return SecretText(plain, masked)


def entries(auths: Iterable[Credential]) -> dict[str, dict[str, str | Secret]]:
    """What stands under `auths` for these logins, by the contract's name of each registry."""
    return {
        contract_key(login.registry): {
            "username": login.username,
            "password": login.password,
        }
        for login in sorted(auths, key=lambda login: login.registry)
    }
