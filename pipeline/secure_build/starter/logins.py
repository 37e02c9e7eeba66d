"""`registries` of a starter: which registries want a login, under which names of secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_build.errors import UsageError
from secure_build.reference import Reference
from secure_build.starter.draft import KeyPath, Note
from secure_build.starter.wishes import ICR_USER, LoginWish, Wishes, is_icr, secret_name

_INTRODUCTION = """\
Logins, by the names of secrets: environment variables, or files in `$SECURE_BUILD_SECRETS`.
`push` publishes and stays on this machine; `runtime` is pull-only and long-lived, because it
goes into the contract and the guest uses it at every boot. Private base images want `pull:` too."""


def registries(
    images: Mapping[str, Mapping[str, Any]], wishes: Wishes
) -> tuple[dict[str, Any], dict[KeyPath, str], list[Note]]:
    """The section for these images, what to say above its keys, and what is missing in it.

    A registry whose user names are not known stands in a comment, ready to be filled in. Raises
    UsageError when the logins of the command line could be for several registries.
    """
    built = _hosts(image["image"] for image in images.values() if "image" in image)
    used = _hosts(image["use"] for image in images.values() if "use" in image)
    if (wishes.push or wishes.runtime) and len(built) != 1:
        names = ", ".join(f"`{host}`" for host in built) or "none"
        raise UsageError(
            f"`--push` and `--runtime` are for the one registry that images go to, and here it is {names}",
            hint="leave them out, and write the logins into the config",
        )
    section: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    for host in built:
        logins = {
            "push": wishes.push or _icr(host, "PUSH"),
            "runtime": wishes.runtime or _icr(host, "PULL"),
        }
        if known := {use: login.data for use, login in logins.items() if login}:
            section[host] = known
        if unknown := [use for use, login in logins.items() if not login]:
            missing[host] = unknown
    for host in used:
        pull = _icr(host, "PULL")
        if host not in built and pull:
            section[host] = {"pull": pull.data, "runtime": pull.data}
    comments: dict[KeyPath, str] = {("registries",): _INTRODUCTION}
    for host, uses in missing.items():
        path, lines = _to_fill_in(host, uses, section)
        comments[path] = "\n".join(filter(None, (comments.get(path), lines)))
    return section, comments, [_note(host) for host in missing]


def _to_fill_in(host: str, uses: list[str], section: Mapping[str, Any]) -> tuple[KeyPath, str]:
    """The lines that a user fills in for a registry, and the key that they stand above."""
    names = {"push": secret_name(host, "PUSH"), "runtime": secret_name(host, "PULL")}
    lines = [f"{use}: {{username: USER, password: {{secret: {names[use]}}}}}" for use in uses]
    if host in section:
        return ("registries", host, next(iter(section[host]))), "\n".join(lines)
    inside = [f"{host}:", *(f"  {line}" for line in lines)]
    if section:
        return ("registries", next(iter(section))), "\n".join(inside)
    return ("registries",), "\n".join(["registries:", *(f"  {line}" for line in inside)])


def _note(host: str) -> Note:
    return Note(
        f"the user names for `{host}` are not all known",
        None,
        "fill in what is a comment under `registries:`, or give `--push USER=SECRET_NAME` "
        "and `--runtime USER=SECRET_NAME`",
    )


def _hosts(references: Any) -> list[str]:
    return sorted({Reference.parse(reference).repository.registry for reference in references})


def _icr(host: str, use: str) -> LoginWish | None:
    return LoginWish(ICR_USER, secret_name(host, use)) if is_icr(host) else None
