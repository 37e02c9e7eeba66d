"""A starter from `sbs-config.json`, the configuration of IBM's Secure Build Server.

What becomes of each key stands in `sbs_keys`; here is how. Values of keys that hold secrets stay
out of the draft, of its notes and of every message.
"""

from __future__ import annotations

import json
import posixpath
import re
import textwrap
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from secure_build.address import Address
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.reference import DOCKER_HUB, Reference, registry_name
from secure_build.starter.compose import ARGUMENT_NAME, looks_secret, recipe
from secure_build.starter.draft import Draft, KeyPath, Note, shown
from secure_build.starter.sbs_keys import BY_NAME, Key
from secure_build.starter.wishes import DEFAULT_TAG, KNOWN_HOSTS, secret_name, source, source_comments

LARGEST = 1 << 20
_DEEPEST = 16
_TARGETS = {"vpc": "hpvs", "on-prem": "ccrt"}
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAG_TEXT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# A user name and password in an address over HTTPS.
_LOGIN = re.compile(r"^(https://)[^/@]*@")
# What neither a file nor a process can take.
_UNTEXT = re.compile(r"[\0\ud800-\udfff]")

_NO_WORKLOAD = """\
The server ended with a digest for a contract of your own. `secure-build contract images` gives the
pinned reference and the logins for it, or the workload section is made here:
workload:
  compose: docker-compose.yml    # or `play:`; a path in the repository of `source`"""


@dataclass(frozen=True, slots=True)
class Carried:
    """A key of the file that was read and what became of it; None for a key that nobody knows."""

    name: str
    key: Key | None
    # What the user has to do or know about this one.
    said: str = ""


def convert(content: bytes, name: str) -> tuple[Draft, tuple[Carried, ...]]:
    """The starter and the account of every key; raises UsageError, never with a value from the file."""
    values = _Values(_read(content, name), name)
    draft = _draft(values)
    rows = tuple(Carried(key, BY_NAME.get(key), values.said.get(key, "")) for key in values.given)
    notes = [
        Note(f"the key `{shown(row.name)}` is none of the Secure Build Server's that are known", name)
        for row in rows
        if row.key is None
    ]
    return Draft(draft.data, draft.comments, _head(rows), (*draft.notes, *notes)), rows


class _Values:
    """The file's keys; each value is asked for by the name of a key that the table keeps."""

    def __init__(self, given: dict[str, Any], name: str) -> None:
        self.given = given
        self.name = name
        self.said: dict[str, str] = {}

    def get(self, key: str) -> Any:
        """The value, None when there is none; an empty one counts as none."""
        assert BY_NAME[key].outcome != "dropped"
        value = self.given.get(key)
        return None if value in ("", [], {}) else value

    def text(self, key: str) -> str | None:
        value = self.get(key)
        if value is not None and (not isinstance(value, str) or not value.isprintable()):
            raise self.wrong(key, "must be text on one line")
        return None if value is None else str(value).strip()

    def flag(self, key: str) -> bool:
        value = self.get(key)
        text = str(value).lower() if isinstance(value, bool | str) else value
        if text not in (None, "true", "false"):
            raise self.wrong(key, "must be `true` or `false`")
        return text == "true"

    def has(self, key: str) -> bool:
        return self.get(key) is not None

    def say(self, key: str, words: str) -> None:
        self.said[key] = words

    def wrong(self, key: str, why: str) -> UsageError:
        return UsageError(f"{self.name}: `{key}` {why}")


def _draft(values: _Values) -> Draft:
    comments: dict[KeyPath, str] = {("workload",): _NO_WORKLOAD}
    image = _image(values)
    name = _image_name(image)
    data: dict[str, Any] = {"version": 1, "target": _target(values, comments)}
    if section := _source(values, comments):
        data["source"] = section
    data["images"] = {name: {"image": str(image), "build": _build(values)}}
    if image.tag == DEFAULT_TAG and not values.has("IMAGE_TAG_PREFIX"):
        comments[("images", name, "image")] = "Choose the tag."
    if registries := _registries(values, image):
        data["registries"] = registries
    return Draft(data, comments)


def _target(values: _Values, comments: dict[KeyPath, str]) -> str:
    runtime = values.text("RUNTIME_TYPE") or "vpc"
    if runtime not in _TARGETS:
        comments[("target",)] = "To be checked: `ccrt`, `hpvs` or `ccrv`."
    values.say("RUNTIME_TYPE", f"is now `{_TARGETS.get(runtime, 'ccrt')}`")
    return _TARGETS.get(runtime, "ccrt")


def _source(values: _Values, comments: dict[KeyPath, str]) -> dict[str, Any]:
    url, ref, submodules = (
        values.text("GITHUB_URL"),
        values.text("GITHUB_BRANCH"),
        values.flag("GITHUB_RECURSE_SUBMODULES"),
    )
    if url is None:
        return {}
    plain = _LOGIN.sub(r"\1", url)
    try:
        address = Address.parse(plain)
    except UsageError as error:
        raise values.wrong("GITHUB_URL", f"cannot be used: {error.message}") from None
    token = secret_name(address.host, "TOKEN")
    result = source(address, ref=ref, token=None if plain == url else token)
    comments |= source_comments(address)
    if plain != url:
        values.say("GITHUB_URL", f"held a login, which was taken out: put the token into the secret {token}")
    if "ssh-key" in result:
        values.say(
            "GITHUB_KEY_FILE",
            f"put the content of that file into the secret {result['ssh-key']['secret']}, "
            f"and the public keys of {address.host} into the file {KNOWN_HOSTS}",
        )
    elif values.has("GITHUB_KEY_FILE"):
        values.say("GITHUB_KEY_FILE", "is not needed for an address with https")
    return result | ({"submodules": True} if submodules else {})


def _image(values: _Values) -> Reference:
    repository = values.text("DOCKER_REPO")
    if repository is None:
        raise UsageError(f"{values.name}: `DOCKER_REPO` is missing, so nothing says where the image goes")
    host = _host(values, "DOCKER_PUSH_SERVER")
    tag = values.text("IMAGE_TAG_PREFIX") or DEFAULT_TAG
    if not _TAG_TEXT.fullmatch(tag):
        raise values.wrong("IMAGE_TAG_PREFIX", "is no tag")
    written = repository if repository.startswith(f"{host}/") else f"{host}/{repository}"
    try:
        return Reference.parse(f"{written}:{tag}")
    except UsageError:
        raise values.wrong("DOCKER_REPO", "is no repository, with or without its registry") from None


def _host(values: _Values, key: str) -> str:
    address = values.text(key) or DOCKER_HUB
    try:
        return registry_name(address.removeprefix("https://").rstrip("/"))
    except UsageError:
        raise values.wrong(key, "is no host of a registry") from None


def _image_name(image: Reference) -> str:
    return re.sub(r"[^a-z0-9_.-]+", "-", image.repository.path.rpartition("/")[2])[:63]


def _build(values: _Values) -> dict[str, Any]:
    context = _path(values, "DOCKER_BUILD_PATH") or "."
    dockerfile = _path(values, "DOCKERFILE_PATH") or "Dockerfile"
    result: dict[str, Any] = recipe(context, dockerfile)
    arguments = values.get("ARG") or {}
    if not isinstance(arguments, dict):
        raise values.wrong("ARG", "must be a mapping of names to values")
    secrets = _names(values)
    plain = {}
    for name, value in arguments.items():
        if not ARGUMENT_NAME.fullmatch(name):
            raise values.wrong("ARG", "has a name that no build argument can have")
        if looks_secret(name, value if isinstance(value, str) else ""):
            secrets.append(name)
        elif isinstance(value, bool):
            plain[name] = str(value).lower()
        elif isinstance(value, str) and not _UNTEXT.search(name + value):
            plain[name] = value
        else:
            raise values.wrong("ARG", "has a value that is neither text nor a number")
    if any(not _ENVIRONMENT_NAME.fullmatch(name) for name in secrets):
        raise UsageError(f"{values.name}: `ARG` or `SECRETS` has a secret whose name no variable can have")
    if plain:
        result["args"] = plain
    if secrets:
        result["secrets"] = {name: {"secret": name} for name in dict.fromkeys(secrets)}
    moved = [name for name in secrets if name in arguments]
    if moved:
        values.say("ARG", f"named secrets now: {_listed(moved)}; put the values there")
    if len(moved) < len(secrets):
        values.say("SECRETS", f"put the values into the secrets {_listed(secrets)}")
    return {**result, "platforms": [str(GUEST)]}


def _names(values: _Values) -> list[str]:
    """The names in SECRETS that can name a secret here."""
    given = values.get("SECRETS") or []
    names = list(given) if isinstance(given, dict) else []
    if given and not names:
        values.say("SECRETS", "is no mapping, so its names are not known: write `build: secrets:` by hand")
    return names


def _path(values: _Values, key: str) -> str | None:
    path = values.text(key)
    if path is None:
        return None
    # The server took both from the top of its clone.
    normal = posixpath.normpath(path.lstrip("/") or ".")
    if normal.startswith(".."):
        raise values.wrong(key, "leads out of the repository")
    return normal


def _registries(values: _Values, image: Reference) -> dict[str, Any]:
    result: dict[str, dict[str, Any]] = {}
    host, base = image.repository.registry, _host(values, "DOCKER_BASE_SERVER")
    for prefix, use, where, secret in (
        ("DOCKER_", "push", host, secret_name(host, "PUSH")),
        ("DOCKER_BASE_", "pull", base, secret_name(base, "BASE_PULL")),
        ("DOCKER_RO_", "runtime", host, secret_name(host, "PULL")),
    ):
        password = f"{prefix}PASSWORD"
        username = values.text(f"{prefix}USER")
        if username is None:
            if values.has(password):
                values.say(password, "has no user name beside it, so there is no login")
            continue
        if len(username) < 3:
            raise values.wrong(f"{prefix}USER", "has fewer than three characters, which the contract refuses")
        result.setdefault(where, {})[use] = {"username": username, "password": {"secret": secret}}
        values.say(password, f"put the value into the secret {secret}")
    if values.has("DOCKER_RO_PASSWORD") and values.get("DOCKER_RO_PASSWORD") == values.get("DOCKER_PASSWORD"):
        values.say(
            "DOCKER_RO_PASSWORD", f"put a pull-only one into {secret_name(host, 'PULL')}, not this one"
        )
    return result


def _head(rows: Iterable[Carried]) -> str:
    lines = ["Written by `secure-build init --from` out of a configuration of the Secure Build Server."]
    for outcome in ("carried", "replaced", "dropped"):
        names = [row.name for row in rows if row.key and row.key.outcome == outcome]
        listed = f"{outcome}: {', '.join(names) or 'nothing'}"
        lines += textwrap.wrap(listed, 98, subsequent_indent="  ", break_long_words=False)
    lines.append("What became of each key, and why: secure-build's docs/migrate-from-secure-build-server.md")
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(shown(name) for name in dict.fromkeys(names))


# Reading


def _read(content: bytes, name: str) -> dict[str, Any]:
    """The keys of the file, in capitals as the server takes them; raises UsageError for odd JSON.

    Numbers stay the text that they are in the file.
    """
    if len(content) > LARGEST:
        raise UsageError(f"{name} has {len(content)} bytes; the limit is {LARGEST}")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(pairs) > len(dict(pairs)):
            raise UsageError(f"{name}: a key stands twice: {_listed(_twice(key for key, _ in pairs))}")
        return dict(pairs)

    def no_number(_: str) -> NoReturn:
        raise UsageError(f"{name}: NaN and Infinity are no JSON")

    try:
        document = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=unique,
            parse_constant=no_number,
            parse_int=str,
            parse_float=str,
        )
        if _depth(document) > _DEEPEST:
            raise RecursionError
    except json.JSONDecodeError as error:
        raise UsageError(f"{name}:{error.lineno}: this is not JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is not UTF-8 text") from None
    except RecursionError:
        raise UsageError(f"{name} is nested too deeply") from None
    if not isinstance(document, dict):
        raise UsageError(f"{name}: a configuration is a mapping of keys")
    if twice := _twice(key.upper() for key in document):
        raise UsageError(f"{name}: a key stands twice, in other letter case: {_listed(twice)}")
    return {key.upper(): value for key, value in document.items()}


def _twice(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _depth(value: Any) -> int:
    deepest = 0
    waiting = [(value, 1)]
    while waiting:
        part, depth = waiting.pop()
        deepest = max(deepest, depth)
        inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
        waiting.extend((item, depth + 1) for item in inner)
    return deepest
