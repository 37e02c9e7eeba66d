"""`registries` of a starter: which registries want a login, under which names of secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from secure_build.errors import UsageError
from secure_build.reference import Reference
from secure_build.starter.draft import Note
from secure_build.starter.wishes import ICR_USER, LoginWish, Wishes, is_icr, secret_name

_INTRODUCTION = """\
Logins, by the names of secrets: environment variables, or files in `$SECURE_BUILD_SECRETS`.
`push` publishes and stays on this machine; `runtime` is pull-only and long-lived, because it
goes into the contract and the guest uses it at every boot. Private base images want `pull:` too."""


def registries(
    images: Mapping[str, Mapping[str, Any]], wishes: Wishes
) -> tuple[dict[str, Any], str, list[Note]]:
    """The section for these images, what to say above it, and what is missing in it.

    A registry whose user name is not known stands in the comment, ready to be filled in. Raises
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
    unknown = []
    for host in built:
        push, runtime = wishes.push or _icr(host, "PUSH"), wishes.runtime or _icr(host, "PULL")
        section[host] = {
            **({"push": push.data} if push else {}),
            **({"runtime": runtime.data} if runtime else {}),
        }
        if not (push and runtime):
            unknown.append(host)
        if not section[host]:
            del section[host]
    for host in used:
        pull = _icr(host, "PULL")
        if host not in built and pull:
            section[host] = {"pull": pull.data, "runtime": pull.data}
    notes = [
        Note(
            f"the user names for `{host}` are not known",
            None,
            "fill in what is a comment under `registries:`, or give `--push USER=SECRET_NAME` "
            "and `--runtime USER=SECRET_NAME`",
        )
        for host in unknown
    ]
    return section, "\n".join((_INTRODUCTION, *(_example(host, section) for host in unknown))), notes


def _hosts(references: Any) -> list[str]:
    return sorted({Reference.parse(reference).repository.registry for reference in references})


def _icr(host: str, use: str) -> LoginWish | None:
    return LoginWish(ICR_USER, secret_name(host, use)) if is_icr(host) else None


def _example(host: str, section: Mapping[str, Any]) -> str:
    """The lines that a user fills in for a registry."""
    known = section.get(host, {})
    lines = [] if known else ([] if section else ["registries:"]) + [f"  {host}:"]
    if known:
        lines.append(f"Of `{host}` this is still missing:")
    for key, use in (("push", "PUSH"), ("runtime", "PULL")):
        if key not in known:
            lines.append(f"    {key}: {{username: USER, password: {{secret: {secret_name(host, use)}}}}}")
    return "\n".join(lines)
