"""What is to be asked for each container: with which login of the contract, and signed by whose key.

A key covers images by its name: `rhs` by the rules for scopes of containers-policy.json(5), the most
specific first, `dct` the repository, cosign the repository as well, which is not documented. Keys that
are asked for nothing are findings, since people believe that they protect something.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from secure_build.contract import keys
from secure_build.contract.advice import mapping
from secure_build.contract.auths import HUB_KEY, registry_of
from secure_build.contract.decision.containers import data_of
from secure_build.contract.decision.model import Container, Entry, Kind, Question
from secure_build.contract.document import SectionText
from secure_build.contract.enforcement import Way
from secure_build.contract.places import place_of
from secure_build.errors import UsageError
from secure_build.model import Credential, Finding
from secure_build.reference import DOCKER_HUB, Reference
from secure_build.secret import Secret
from secure_build.strict_yaml import Path

# Which keys the runtime looks at, by what it runs.
KIND_OF: Mapping[Way, Kind] = {"compose": "dct", "play": "rhs", "pods": "cosign"}
_WAY_OF: Mapping[str, Way] = {"compose": "compose", "play": "play", "confidential-containers": "pods"}
_KEYS: Mapping[Kind, Path] = {
    "dct": ("images", "dct"),
    "rhs": ("images", "rhs"),
    "cosign": ("confidential-containers", "config", "cosign"),
}
# The pause container of a pod comes from there (OpenShift's release images), and no pod names it.
_OF_THE_CLUSTER = "quay.io"
_MOST_COMPARED = 100


def entries(workload: SectionText | None) -> list[Entry]:
    """The keys of a plain workload section, in its order; those whose form is wrong are left out."""
    return list(_entries(workload)) if workload is not None else []


def questions(
    containers: Sequence[Container],
    workload: SectionText | None,
    env: SectionText | None,
    *,
    are_all: bool = True,
    logins_may_follow: bool = False,
) -> tuple[dict[Container, Question | None], list[Finding]]:
    """The question of each container, None where nothing can be asked; and what enforces nothing.

    `logins_may_follow` tells that an env which is not known will be there too. `are_all` tells that the
    workload names no images besides these. Nothing is said to be unused that an
    image may need which is not known.
    """
    known = entries(workload)
    logins = [_logins(data_of(section)) for section in (workload, env)]
    asked: dict[Container, Question | None] = {}
    for container in containers:
        reference = container.reference
        if reference is None:
            asked[container] = None
            continue
        entry = None
        if reference.digest is None or container.way == "pods":
            entry = covering(reference, [one for one in known if one.kind == KIND_OF[container.way]])
        login = _login(container.way, reference, logins)
        may_follow = logins_may_follow and login is None
        asked[container] = Question(reference.tagged(), login, entry, may_follow)
    used = {question.entry for question in asked.values() if question and question.entry}
    ways = _ways(containers, workload)
    are_known = bool(containers) and are_all and not any(map(_is_open, containers))
    found: list[Finding] = []
    for entry in known:
        if ways and entry.kind not in {KIND_OF[way] for way in ways}:
            found.append(_of_other_kind(entry, ways))
        elif entry not in used and are_known:
            found.append(_idle(entry, known, containers))
    if containers and are_all:
        found += _idle_logins(workload, env, containers)
    return asked, found


def _ways(containers: Sequence[Container], workload: SectionText | None) -> set[Way]:
    """What the workload runs, also when its containers are not known."""
    data = data_of(workload) or {}
    return {one.way for one in containers} or {way for key, way in _WAY_OF.items() if key in data}


def _is_open(container: Container) -> bool:
    """Whether the image may turn out to be one that a key is looked up for."""
    reference = container.reference
    if reference is None:
        return not container.is_broken and container.digest is None
    return reference.tag is not None and reference.digest is not None


def covering(reference: Reference, known: Iterable[Entry]) -> Entry | None:
    """The most specific of these keys that covers a reference, None when none does."""
    fitting = [one for one in known if _covers(one, reference)]
    return max(fitting, key=lambda one: len(one.name), default=None)


def _covers(entry: Entry, reference: Reference) -> bool:
    name, repository = entry.name, str(reference.repository)
    if entry.kind != "rhs":
        return name == repository
    tagged = reference.tagged()
    exact = f"{repository}@{tagged.digest}" if tagged.digest else f"{repository}:{tagged.tag}"
    return name in (exact, repository) or repository.startswith(f"{name}/")


def _entries(workload: SectionText) -> Iterator[Entry]:
    data, document = data_of(workload), workload.document if data_of(workload) is not None else None
    if data is None or document is None:
        return
    for kind, path in _KEYS.items():
        for name, body in _at(data, path).items():
            key, notary = mapping(body).get("publicKey"), mapping(body).get("notary")
            if not isinstance(key, str) or (kind == "dct" and not isinstance(notary, str)):
                continue
            if kind == "cosign" or keys.is_key(kind, name):
                where = place_of(document, (*path, name))
                yield Entry(kind, name, key, notary if kind == "dct" else None, where)


def _at(data: Any, path: Path) -> dict[str, Any]:
    for part in path:
        data = mapping(data).get(str(part))
    return mapping(data)


def _logins(data: Mapping[str, Any] | None) -> dict[str, tuple[str, str]]:
    """User name and password by the keys of `auths`."""
    found = {}
    for key, login in mapping((data or {}).get("auths")).items():
        username, password = mapping(login).get("username"), mapping(login).get("password")
        if isinstance(username, str) and isinstance(password, str):
            found[key] = (username, password)
    return found


def _login(way: Way, reference: Reference, logins: Sequence[dict[str, tuple[str, str]]]) -> Credential | None:
    """The login that the guest finds for a registry; the workload's keys win over equal ones of the env."""
    registry = reference.repository.registry
    merged = {**logins[0], **{key: login for key, login in logins[1].items() if key not in logins[0]}}
    fitting = [key for key in merged if registry_of(key) == registry and key == key.lower()]
    if way == "compose" and registry == DOCKER_HUB:
        # Docker's client looks for Docker Hub under the whole address only.
        fitting = [key for key in fitting if key == HUB_KEY]
    if not fitting:
        return None
    # podman takes any spelling of Docker Hub, but its own first (containers-auth.json(5)).
    username, password = merged[registry if registry in fitting else fitting[0]]
    return Credential(registry, username, Secret(password))


def _unused(entry: Entry, why: str, hint: str) -> Finding:
    what = f"the {entry.kind} key for `{entry.name}`"
    return Finding("unused-key", "warn", what, f"enforces nothing: {why}", "inferred", hint, entry.where)


def _of_other_kind(entry: Entry, ways: Iterable[Way]) -> Finding:
    runs = " and ".join(sorted("pods" if way == "play" else way for way in ways))
    looks = " or ".join(f"`{kind}`" for kind in sorted(KIND_OF[way] for way in ways))
    why = f"for {runs} the runtime looks at {looks} keys only"
    return _unused(entry, why, "take it out, and pin by digest")


def _idle(entry: Entry, known: Sequence[Entry], containers: Sequence[Container]) -> Finding:
    """Why a key enforces nothing for these images, all of which are known."""
    same = [one for one in containers if one.reference is not None]
    pinned = [
        one for one in same if _covers_repository(entry, one) and one.reference and one.reference.digest
    ]
    tagged = [one for one in same if _covers_repository(entry, one) and one not in pinned]
    others = [one for one in known if one.kind == entry.kind and one is not entry]
    narrower = [one for one in others if len(one.name) > len(entry.name)]
    if any(
        covering(one.reference, narrower) for one in tagged if one.reference and _covers(entry, one.reference)
    ):
        return _unused(entry, "narrower keys cover every image under it", "take it out, or them")
    if pinned and not tagged:
        return _unused(
            entry,
            f"{pinned[0].what} is named by digest, and the runtime looks at keys for tags only",
            "take the key out, or name the image by its tag",
        )
    has_tag = ":" in entry.name.rpartition("/")[2]
    named = [one.reference for one in same if one.reference]
    names = {str(one.tagged() if has_tag else one.repository) for one in named}
    # With very many names the likeness of all to all would take minutes.
    near = sorted(names) if len(names) <= _MOST_COMPARED else []
    close = difflib.get_close_matches(entry.name, near, n=1, cutoff=0.75)
    hint = f"did you mean `{close[0]}`?" if close else "take it out, or name the image as the workload does"
    return _unused(entry, "no image of the workload has this name", hint)


def _covers_repository(entry: Entry, container: Container) -> bool:
    """Whether a key is of the repository of a container's image, whatever the tag."""
    assert container.reference is not None
    repository = str(container.reference.repository)
    name = entry.name.partition("@")[0]
    head, slash, last = name.rpartition("/")
    name = head + slash + last.partition(":")[0]
    return repository == name or repository.startswith(f"{name}/")


def _idle_logins(
    workload: SectionText | None, env: SectionText | None, containers: Sequence[Container]
) -> Iterator[Finding]:
    if any(one.reference is None or one.chooser for one in containers):
        # Somebody else decides where those come from.
        return
    needed = {one.reference.repository.registry for one in containers if one.reference}
    if any(one.way == "pods" for one in containers):
        needed.add(_OF_THE_CLUSTER)
    for section in (workload, env):
        document = _document(section)
        for key in mapping(mapping(data_of(section)).get("auths")) if document else ():
            if registry_of(key) not in needed and document is not None:
                yield Finding(
                    "unused-login",
                    "warn",
                    f"the login for `{key}`",
                    "no image comes from there, and whoever reads the contract could use it",
                    "inferred",
                    "take it out",
                    place_of(document, ("auths", key)),
                )


def _document(section: SectionText | None) -> Any:
    try:
        return section.document if section is not None else None
    except UsageError:
        return None
