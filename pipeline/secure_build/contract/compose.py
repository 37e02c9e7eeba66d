"""Compose files: which images the services use, and a copy in which each is pinned by digest.

The copy keeps order, comments and everything else byte for byte; only image references change and
`build` goes, since the guest builds nothing. Rules: IBM's page "About the contract", parts on
compose; what the runtime makes of a reference by tag is an error there (HPL06010E). Every key that
can name an image is known here, and a key that is not known is refused (Compose specification).
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from secure_build import strict_yaml
from secure_build.contract import interpolation, pinning
from secure_build.contract.advice import listed, mapping
from secure_build.contract.places import Place, name_at, place_of
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.strict_yaml import Document, Path

LARGEST = strict_yaml.LARGEST
_TOP_LEVEL = frozenset("version name services networks volumes secrets configs".split())
_SERVICE = frozenset(
    """annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs
    container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus
    cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search
    domainname entrypoint environment expose external_links extra_hosts gpus group_add healthcheck hostname
    image init ipc isolation labels links logging mac_address mem_limit mem_reservation mem_swappiness
    memswap_limit network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports
    post_start pre_start pre_stop privileged profiles pull_policy pull_refresh_after read_only restart
    runtime scale secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls
    tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir""".split()
)
_FLATTEN = "flatten it first: `docker compose config --no-interpolate > flat.yml`"
# What may stand in a service, in some version of compose, and cannot be taken into the guest.
_REFUSED = {
    "extends": ("brings in other files, and the runtime checks only this one", _FLATTEN),
    "env_file": (
        "is not supported: the runtime checks only this file",
        "write its lines under `environment`",
    ),
    "label_file": ("is not supported: the runtime checks only this file", "write its lines under `labels`"),
    "provider": (
        "starts a program of the machine, which the guest does not have",
        "run what it provides as a service of its own, or outside",
    ),
    "models": (
        "names models that are pulled by tag and cannot be pinned",
        "put the model into an image, and run it as a service",
    ),
}


@dataclass(frozen=True, slots=True)
class ComposeFile:
    """A compose file that can be pinned: parsed, and free of what cannot be decided from it alone."""

    document: Document
    places: tuple[Place, ...]

    @classmethod
    def parse(cls, content: bytes, name: str) -> ComposeFile:
        """Read a compose file; raises UsageError with file and line for what cannot be pinned."""
        document = strict_yaml.load(content, name)
        data = document.data
        if not isinstance(data, dict) or not isinstance(data.get("services"), dict) or not data["services"]:
            raise UsageError(
                f"{name}:1: a compose file needs `services`, a mapping with at least one service"
            )
        if "include" in data:
            raise UsageError(
                f"{place_of(document, ('include',))}: `include` brings in other files, "
                "and the runtime checks only this one",
                hint=_FLATTEN,
            )
        if "models" in data:
            raise _refused(document, ("models",), "models", "the file")
        _check_keys(document, (), _TOP_LEVEL, "compose files")
        places = [place for service in data["services"] for place in _service(document, service)]
        return cls(document, tuple(places))

    def pinned(self, texts: Mapping[Place, str]) -> bytes:
        """The file with these texts at its places; raises UsageError when more would change."""
        # Anchors often stand in `x-` blocks, which compose ignores; there a changed image is no change.
        return pinning.pinned([self.document], texts, meaning=_without_extensions)

    def local_files(self) -> list[tuple[str, Path]]:
        """Relative paths that the services read, each with its place in the file: (path, place).

        Not those with a variable, which are known in the guest only.
        """
        found: dict[str, Path] = {}
        for path, place in sources(self.document):
            if not path.startswith(("/", "~")) and "$" not in path:
                found.setdefault(path, place)
        return sorted(found.items())


def sources(document: Document) -> Iterator[tuple[str, Path]]:
    """Every path of the guest's file system that the services read, as it is written."""
    data = document.data
    for kind in ("configs", "secrets"):
        # What only builds read stays out of the guest.
        used = [
            mapping(entry).get("source", entry)
            for body in data["services"].values()
            for entry in listed(body.get(kind))
        ]
        for name, entry in mapping(data.get(kind)).items():
            if name in used and isinstance(path := mapping(entry).get("file"), str):
                yield path, (kind, name, "file")
    for name, body in data["services"].items():
        for index, volume in enumerate(body.get("volumes") or []):
            if path := _bound(volume):
                yield path, ("services", name, "volumes", index)


def _service(document: Document, name: str) -> Iterator[Place]:
    path: Path = ("services", name)
    what = f"service `{name}`"
    body = document.data["services"][name]
    if not isinstance(body, dict):
        raise UsageError(f"{place_of(document, path)}: {what} must be a mapping with keys")
    for key in _REFUSED:
        if key in body:
            raise _refused(document, (*path, key), key, what)
    _check_keys(document, path, _SERVICE, "a service")
    _check_pull(document, path, body, what)
    builds = "build" in body
    if "image" not in body and not builds:
        raise UsageError(
            f"{place_of(document, path)}: {what} has neither `image` nor `build`",
            hint="name the image that it runs: `image: registry/repository:tag`",
        )
    if "image" in body:
        image = name_at(document, (*path, "image"), "compose", what)
        yield Place(what, place_of(document, (*path, "image")), path, "image", image, name, builds)
    else:
        yield Place(what, place_of(document, path), path, "image", None, name, builds=True)
    yield from _volumes(document, path, body, what)
    for index, hook in enumerate(listed(body.get("pre_start"))):
        if "image" in mapping(hook):
            step, of = (*path, "pre_start", index), f"step {index + 1} of `pre_start` of {what}"
            image = name_at(document, (*step, "image"), "compose", of)
            yield Place(of, place_of(document, (*step, "image")), step, "image", image)


def _volumes(document: Document, path: Path, body: dict[str, Any], what: str) -> Iterator[Place]:
    volumes = body.get("volumes") or []
    if not isinstance(volumes, list):
        raise UsageError(f"{place_of(document, (*path, 'volumes'))}: `volumes` of {what} must be a list")
    for index, volume in enumerate(volumes):
        kind = str(mapping(volume).get("type", ""))
        entry: Path = (*path, "volumes", index)
        if "$" in kind:
            raise UsageError(
                f"{place_of(document, (*entry, 'type'))}: the type of a volume of {what} is a variable, "
                "so it may be an image",
                hint="write the type out",
            )
        if kind == "image":
            of = f"a volume of {what}"
            if "source" not in volume:
                raise UsageError(f"{place_of(document, entry)}: {of} of type `image` has no `source`")
            image = name_at(document, (*entry, "source"), "compose", of)
            yield Place(of, place_of(document, (*entry, "source")), entry, "source", image)


def _check_keys(document: Document, path: Path, known: frozenset[str], what: str) -> None:
    """Refuse keys that are not known: compose would too, or one day they name an image."""
    body = document.data
    for part in path:
        body = body[part]
    for key in body:
        if key not in known and not key.startswith("x-"):
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            raise UsageError(
                f"{place_of(document, (*path, key))}: `{key}` is no key of {what} that is known here",
                hint=f"did you mean `{close[0]}`?"
                if close
                else "take it out; for notes of your own use `x-…`",
            )


def _check_pull(document: Document, path: Path, body: dict[str, Any], what: str) -> None:
    """Refuse what would keep the guest from pulling the image that is pinned."""
    policy, platform = (
        _default(document, (*path, key), body.get(key)) for key in ("pull_policy", "platform")
    )
    if policy in ("build", "never"):
        raise UsageError(
            f"{place_of(document, (*path, 'pull_policy'))}: {what} would not be pulled, "
            "and the guest has no images",
            hint="leave `pull_policy` out",
        )
    if platform not in (None, str(GUEST)):
        raise UsageError(
            f"{place_of(document, (*path, 'platform'))}: {what} asks for {platform}, "
            f"and the guest is {GUEST}",
            hint="leave `platform` out",
        )


def _default(document: Document, path: Path, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return interpolation.with_defaults(value)
    except UsageError as error:
        raise UsageError(f"{place_of(document, path)}: {error.message}", hint=error.hint) from None


def _bound(volume: Any) -> str | None:
    """The path, relative to the compose file or not, that a volume brings into a container."""
    if isinstance(volume, dict):
        path = volume.get("source") if volume.get("type") == "bind" else None
        return path if isinstance(path, str) else None
    # Without a leading dot, slash or tilde it is the name of a volume.
    text = str(volume)
    end = text.find("}") + 1 if text.startswith("${") else 0
    colon = text.find(":", end)
    return text[:colon] if colon > 0 and text.startswith((".", "/", "~", "$")) else None


def _without_extensions(data: Any) -> Any:
    return {key: value for key, value in data.items() if not key.startswith("x-")}


def _refused(document: Document, path: Path, key: str, what: str) -> UsageError:
    why, hint = _REFUSED[key]
    return UsageError(f"{place_of(document, path)}: `{key}` of {what} {why}", hint=hint)


def archive_path(descriptor: PurePosixPath, relative: str, where: str) -> PurePosixPath:
    """Where a file beside the compose file goes in the archive; raises UsageError outside of it."""
    path = PurePosixPath(posixpath.normpath(relative))
    if path.is_absolute() or ".." in path.parts:
        raise UsageError(
            f"{where}: `{relative}` lies outside the folder of `{descriptor.name}`, "
            "and so outside the archive",
            hint="move it beside the compose file, or copy it into the image",
        )
    return path
