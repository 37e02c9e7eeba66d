"""The keys of the contract's `images`: which image names `dct` and `rhs` can express.

Grammar: `images` of IBM's contract schema. An image that is named by digest needs no such key and
has none of these limits.
"""

from __future__ import annotations

import re
from typing import Literal

from secure_build.reference import Reference, Repository

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_SHORT_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DCT = re.compile(rf"{_LABEL}(?:\.{_LABEL})*/[a-z0-9_-]{{3,30}}/[a-z0-9_-]{{2,255}}")
_RHS = re.compile(
    rf"{_SHORT_LABEL}(?:\.{_SHORT_LABEL})+(?:/[a-z0-9_-]+)+"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{2,127})?(?:@sha256:[a-f0-9]{64})?"
)
_RHS_HOST = re.compile(rf"{_SHORT_LABEL}(?:\.{_SHORT_LABEL})+")
_DCT_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PART = re.compile(r"[a-z0-9_-]+")
Kind = Literal["dct", "rhs"]


def is_key(kind: Kind, text: str) -> bool:
    """Whether the schema takes the text as a key of `images: dct` or `images: rhs`."""
    return bool((_DCT if kind == "dct" else _RHS).fullmatch(text))


def expressible(kind: Kind, image: Repository | Reference) -> str | None:
    """Why a key cannot express this image, with the change that would help; None when it can.

    A `dct` key never has a tag, so only the repository counts there. An `rhs` key may have tag and
    digest; a repository alone covers all of them.
    """
    repository = image if isinstance(image, Repository) else image.repository
    if reason := _host(kind, repository.registry):
        return reason
    parts = repository.path.split("/")
    for part in parts:
        if not _PART.fullmatch(part):
            return f"`{part}` has a dot, which `{kind}` keys cannot have: rename it with `-` or `_`"
    if kind == "dct":
        return _dct_path(parts)
    tag = image.tag if isinstance(image, Reference) else None
    if tag is not None and len(tag) < 3:
        return (
            f"the tag `{tag}` has fewer than 3 characters: "
            "use a longer tag, or a key for the whole repository, without a tag"
        )
    return None if is_key(kind, str(image)) else f"the schema of `{kind}` keys does not take `{image}`"


def _host(kind: Kind, registry: str) -> str | None:
    if registry.startswith("["):
        return f"`{registry}` is an address, which `{kind}` keys cannot have: use a host name"
    host, colon, _ = registry.partition(":")
    if colon:
        return f"`{registry}` has a port, which `{kind}` keys cannot have: serve it on port 443"
    if kind == "rhs" and "." not in host:
        return f"`{host}` has no dot, which hosts of `rhs` keys must have: use the full host name"
    if not (_RHS_HOST if kind == "rhs" else _DCT_HOST).fullmatch(host):
        return f"a part of `{host}` has more than 63 characters: use a shorter host name"
    return None


def _dct_path(parts: list[str]) -> str | None:
    if len(parts) != 2:
        return (
            f"`{'/'.join(parts)}` has {len(parts)} parts, and `dct` keys have a namespace and a name: "
            "use a repository with two"
        )
    namespace, name = parts
    if not 3 <= len(namespace) <= 30:
        return f"the namespace `{namespace}` must have 3 to 30 characters in `dct` keys: use another one"
    if len(name) < 2:
        return f"the name `{name}` must have at least 2 characters in `dct` keys: use a longer one"
    return None
