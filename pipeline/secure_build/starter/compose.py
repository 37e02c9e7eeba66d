"""What a compose file says about images: which services run them, and how they are built.

The file is read as plain data, for a starter only: the contract's own reader decides later what may
stand in it. A variable counts with its default; where one has none, or a remote address stands, what
it would be is not known here, and a note says so. Keys: the Compose specification, `services` and
"Compose Build Specification".
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from secure_build import strict_yaml
from secure_build.config.tokens import token_reason
from secure_build.contract import interpolation
from secure_build.errors import UsageError
from secure_build.model import GUEST
from secure_build.reference import Reference
from secure_build.starter.draft import Note, shown
from secure_build.starter.folder import Folder
from secure_build.strict_yaml import Document

# Of `build`, what has a counterpart in the config; `platforms` is decided by the guest.
_BUILD_KEYS = frozenset(
    "context dockerfile target args secrets additional_contexts platforms dockerfile_inline".split()
)
# As the config takes them.
ARGUMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_CONTEXT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]*")
_REMOTE = ("://", "git@", "github.com/")
_IMAGE_SCHEME = "docker-image://"


@dataclass(frozen=True, slots=True)
class Service:
    """A service: the image that it names, how that is built, in the config's words, and where it stands."""

    name: str
    where: str
    image: Reference | None = None
    build: dict[str, Any] | None = None


def read(folder: Folder, path: str, notes: list[Note]) -> list[Service]:
    """The services of a compose file whose images can go into a config.

    Raises UsageError for a file that is none; everything that is left out has a note.
    """
    content = folder.read(path)
    if content is None:
        raise UsageError(f"the commit has no file `{path}`", hint="add and commit it, or name another")
    document = strict_yaml.load(content, path)
    services = document.data.get("services") if isinstance(document.data, dict) else None
    if not isinstance(services, dict) or not services:
        raise UsageError(f"{path}:1: this is no compose file: it has no `services`")
    return list(_Reader(folder, document, notes).services(services))


@dataclass(frozen=True, slots=True)
class _Reader:
    folder: Folder
    document: Document
    notes: list[Note]

    def services(self, services: dict[str, Any]) -> Iterator[Service]:
        for name, body in services.items():
            where = self._where("services", name)
            if not isinstance(body, dict):
                self._note(f"service `{shown(name)}` is no mapping, and was left out", where)
                continue
            service = Service(name, where)
            if "image" in body:
                service = replace(service, image=self._image(name, body["image"]))
            if "build" in body:
                build = self._build(name, body["build"])
                if build is None:
                    continue
                service = replace(service, build=build)
            if service.image or service.build:
                yield service
            elif "image" not in body:
                self._note(
                    f"service `{shown(name)}` has neither `image` nor `build`, and was left out", where
                )

    def _image(self, name: str, image: Any) -> Reference | None:
        where = self._where("services", name, "image")
        text = _with_defaults(image)
        if text is None:
            self._note(
                f"`image` of service `{shown(name)}` has a variable without default or is no text, "
                "so its name is not known",
                where,
                "write the name out: what runs must be decided in the commit",
            )
            return None
        if text != image:
            self._note(f"`{shown(image)}` is taken for `{shown(text)}`", where)
        try:
            reference = Reference.parse(text)
        except UsageError as error:
            self._note(shown(error.message), where, error.hint)
            return None
        if reference.tag is None and reference.digest is None:
            self._note(f"`{shown(text)}` has no tag, so `latest` was taken", where, "choose a version")
        return reference.tagged()

    def _build(self, name: str, build: Any) -> dict[str, Any] | None:
        """The build in the config's words; None when it cannot be one."""
        body = {"context": build} if isinstance(build, str) else build
        where = self._where("services", name, "build")
        title = f"service `{shown(name)}`"
        if not isinstance(body, dict):
            self._note(f"{title}: `build` is neither text nor a mapping; it was left out", where)
            return None
        if "dockerfile_inline" in body:
            self._note(
                f"{title}: the Dockerfile stands in the compose file, so it was left out",
                self._where("services", name, "build", "dockerfile_inline"),
                "put it into a file of its own",
            )
            return None
        paths = self._paths(name, body)
        if paths is None:
            return None
        result: dict[str, Any] = paths
        if target := _with_defaults(body.get("target")):
            result["target"] = target
        elif body.get("target") is not None:
            self._left_out(name, "target")
        if args := dict(self._args(name, body.get("args"))):
            result["args"] = args
        if secrets := dict(self._secrets(name, body.get("secrets"))):
            result["secrets"] = secrets
        if contexts := dict(self._contexts(name, body.get("additional_contexts"))):
            result["contexts"] = contexts
        platforms = body.get("platforms") or []
        if platforms and str(GUEST) not in platforms:
            self._note(
                f"{title} is not built for {GUEST} here; it is in this config",
                self._where("services", name, "build", "platforms"),
            )
        for key in sorted(body.keys() - _BUILD_KEYS):
            self._left_out(name, key)
        return {**result, "platforms": [str(GUEST)]}

    def _paths(self, name: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """`context` and, where it is not `Dockerfile`, `dockerfile`."""
        context, dockerfile = _with_defaults(body.get("context", ".")), body.get("dockerfile")
        title = f"service `{shown(name)}`"
        where = self._where("services", name, "build", "context")
        if context is None or any(mark in context for mark in _REMOTE):
            self._note(
                f"{title}: the build context is remote or not known, so it was left out",
                where,
                "contexts are folders of the commit",
            )
            return None
        path = self.folder.join(posixpath.dirname(self.document.name), context)
        if path is None:
            self._note(f"{title}: the build context lies outside the repository; it was left out", where)
            return None
        if dockerfile is None:
            dockerfile = _default_dockerfile(self.folder, path)
        elif (dockerfile := _with_defaults(dockerfile)) is None:
            self._left_out(name, "dockerfile")
            dockerfile = "Dockerfile"
        file = self.folder.join(path, dockerfile)
        if file is None:
            self._note(f"{title}: the Dockerfile lies outside the repository; it was left out", where)
            return None
        if not self.folder.has_file(file):
            self._note(
                f"{title}: the commit has no Dockerfile at `{shown(file)}`", where, "add and commit it"
            )
        return recipe(path, file)

    def _args(self, name: str, args: Any) -> Iterator[tuple[str, str]]:
        for key, value in _pairs(args):
            where = self._where("services", name, "build", "args", key)
            text = str(value).lower() if isinstance(value, bool) else value
            text = str(text) if isinstance(text, int | float) else _with_defaults(text)
            if text is None:
                self._note(
                    f"service `{shown(name)}`: the build argument `{shown(key)}` comes from the environment, "
                    "so it was left out",
                    where,
                    "write its value into the config, under `args:`",
                )
            elif not ARGUMENT_NAME.fullmatch(key):
                self._note(f"service `{shown(name)}`: `{shown(key)}` cannot name a build argument", where)
            elif looks_secret(key, text):
                self._note(
                    f"service `{shown(name)}`: the build argument `{shown(key)}` looks like a secret, "
                    "so it was left out",
                    where,
                    "build arguments can end up in the image: use `RUN --mount=type=secret` and `secrets:`",
                )
            else:
                yield key, text

    def _secrets(self, name: str, entries: Any) -> Iterator[tuple[str, dict[str, str]]]:
        declared = self.document.data.get("secrets")
        for entry in entries if isinstance(entries, list) else []:
            source = entry.get("source") if isinstance(entry, dict) else entry
            target = entry.get("target") or source if isinstance(entry, dict) else entry
            target = target if isinstance(target, str) and _SECRET_ID.fullmatch(target) else None
            found = declared.get(source) if isinstance(declared, dict) and isinstance(source, str) else None
            variable = found.get("environment") if isinstance(found, dict) else None
            file = found.get("file") if isinstance(found, dict) else None
            if isinstance(target, str) and isinstance(variable, str) and variable.isidentifier():
                yield target, {"secret": variable}
            elif isinstance(target, str) and isinstance(file, str) and "$" not in file:
                path = self.folder.join(posixpath.dirname(self.document.name), file)
                yield target, {"file": path or file}
            else:
                self._left_out(name, "secrets")

    def _contexts(self, name: str, entries: Any) -> Iterator[tuple[str, str]]:
        for key, value in _pairs(entries):
            if not _CONTEXT_NAME.fullmatch(key):
                self._left_out(name, "additional_contexts")
                continue
            if isinstance(value, str) and value.startswith(_IMAGE_SCHEME) and "@sha256:" in value:
                yield key, value
                continue
            text = _with_defaults(value)
            local = text is not None and not any(mark in text for mark in (":", "git@"))
            path = self.folder.join(posixpath.dirname(self.document.name), text) if text and local else None
            if path is None:
                self._left_out(name, "additional_contexts")
            else:
                yield key, path

    def _left_out(self, name: str, key: str) -> None:
        self._note(
            f"service `{shown(name)}`: `{shown(key)}` of its build was left out",
            self._where("services", name, "build", key),
        )

    def _note(self, words: str, where: str, hint: str | None = None) -> None:
        self.notes.append(Note(words, where, hint))

    def _where(self, *path: str) -> str:
        return f"{self.document.name}:{self.document.line(path)}"


def recipe(context: str, dockerfile: str) -> dict[str, Any]:
    """`context` and, where it is not the default, `dockerfile`, which is relative to the context."""
    relative = posixpath.relpath(dockerfile, context)
    return {"context": context, **({} if relative == "Dockerfile" else {"dockerfile": relative})}


def looks_secret(name: str, value: str = "") -> bool:
    """Whether a build argument is a secret by its name, or looks like one to the config."""
    if token_reason(name, value):
        return True
    words = name.upper().replace("-", "_").split("_")
    return bool({"TOKEN", "PASSWORD", "PASSWD", "SECRET", "APIKEY", "CREDENTIALS"} & set(words)) or (
        "KEY" in words and bool({"API", "ACCESS", "PRIVATE", "SSH"} & set(words))
    )


def _with_defaults(value: Any) -> str | None:
    """A text with its variables at their defaults; None when it is no text, or one has no default."""
    if not isinstance(value, str):
        return None
    try:
        return interpolation.with_defaults(value)
    except UsageError:
        return None


def _default_dockerfile(folder: Folder, context: str) -> str:
    for name in ("Dockerfile", "Containerfile"):
        path = folder.join(context, name)
        if path is not None and folder.has_file(path):
            return name
    return "Dockerfile"


def _pairs(entries: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values of a mapping, or of a list of `KEY=VALUE`; a key alone has None."""
    if isinstance(entries, dict):
        yield from entries.items()
    for entry in entries if isinstance(entries, list) else ():
        key, equals, value = str(entry).partition("=")
        yield key, value if equals else None
