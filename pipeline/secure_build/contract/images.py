"""The `images` section: the keys that the runtime checks signatures with, for images named by a tag.

Rules: contract page of IBM's documentation ("About the contract", image subsections). `rhs` is looked
at for pods, `dct` for compose; the name of an entry decides what it covers. cosign keys stand
elsewhere, see `confidential/section.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from secure_build.contract import keys
from secure_build.errors import UsageError
from secure_build.model import Enforced
from secure_build.reference import Reference

Images = dict[str, dict[str, dict[str, str]]]


def entries(enforced: Iterable[tuple[Reference, Enforced]]) -> Images:
    """What stands under `images` for these references; empty when none of them is named by a tag.

    Raises UsageError for an image that no key of the grammar names, and for two keys of one name.
    """
    found: Images = {}
    for reference, one in sorted(enforced, key=lambda pair: str(pair[0])):
        if one.by == "cosign":
            continue
        entry = {"publicKey": one.public_key}
        if one.by == "dct":
            assert one.notary is not None
            entry = {"notary": one.notary, **entry}
        of_kind = found.setdefault(one.by, {})
        name = _name(reference, one)
        if of_kind.setdefault(name, entry) != entry:
            raise UsageError(
                f"`{name}` would need two keys, and the contract takes one for each name",
                hint="sign the images of one repository with one key",
            )
    return {kind: found[kind] for kind in ("dct", "rhs") if kind in found}


def _name(reference: Reference, enforced: Enforced) -> str:
    """The narrowest name that the schema takes: `repository:tag` for `rhs`, else the repository."""
    if enforced.by == "rhs" and keys.expressible("rhs", reference) is None:
        return str(reference)
    reason = keys.expressible("dct" if enforced.by == "dct" else "rhs", reference.repository)
    if reason is not None:
        raise UsageError(f"`images: {enforced.by}:` cannot name `{reference}`: {reason}")
    return str(reference.repository)
