"""`init`: a starter config from a commit, here or elsewhere, or from another tool's configuration.

It writes one new file and nothing else; it has no work folder and takes no lock.
"""

from __future__ import annotations

import contextlib
import shlex
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from secure_build import config, files, process, secret, starter
from secure_build.address import Address
from secure_build.config import Source
from secure_build.errors import UsageError
from secure_build.report import Report
from secure_build.source import Checkout, open_source
from secure_build.starter import Carried, Draft, Folder, LoginWish, Note, RegistryWish, Wishes

DEFAULT_CONFIG = Path("secure-build.yaml")


@dataclass(frozen=True, slots=True)
class InitOptions:
    """What the command line says; `config` is relative to `directory`."""

    directory: Path = Path()
    config: Path = DEFAULT_CONFIG
    registry: str | None = None
    push: str | None = None
    runtime: str | None = None
    target: str | None = None
    compose: str | None = None
    play: str | None = None
    source: str | None = None
    ref: str | None = None
    token: str | None = None
    sbs: Path | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """The file that was written, what the user has to know of it, and what to do next."""

    path: Path
    images: tuple[str, ...]
    secrets: tuple[str, ...]
    notes: tuple[Note, ...]
    keys: tuple[Carried, ...]
    steps: tuple[str, ...]

    @property
    def data(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "path": str(self.path),
            "images": list(self.images),
            "secrets": list(self.secrets),
            "notes": [{"where": note.where, "text": note.text, "hint": note.hint} for note in self.notes],
            "keys": [
                {
                    "key": row.name,
                    "outcome": row.key.outcome if row.key else "unknown",
                    "to": row.key.to if row.key else "",
                    "why": row.said or (row.key.why if row.key else ""),
                }
                for row in self.keys
            ],
            "next": list(self.steps),
        }


def init(options: InitOptions, report: Report) -> Started:
    """Write the config; raises UsageError when it is there already, and where the user has to choose."""
    path = options.directory / options.config
    if path.exists() or path.is_symlink():
        raise UsageError(
            f"`{path}` is there already, and is never overwritten",
            hint="name another file with `--config FILE`, or remove this one",
        )
    _check(options)
    # Variables such as GIT_DIR make git look at another repository than the one at hand.
    process.forget_variables("GIT_")
    draft, keys = _convert(options) if options.sbs else (_survey(options, path), ())
    content = draft.text().encode()
    written = config.parse(content, path).config
    files.write(path, content)
    secrets = tuple(sorted(written.secret_names))
    started = Started(
        path, tuple(written.images), secrets, draft.notes, keys, tuple(_steps(options, path, secrets))
    )
    _tell(started, report)
    return started


def _check(options: InitOptions) -> None:
    for name in ("ref", "token"):
        if getattr(options, name) and not options.source:
            raise UsageError(
                f"`--{name}` goes with `--source`", hint="here the commit that is checked out counts"
            )
    others = [
        name
        for name in ("registry", "push", "runtime", "compose", "play", "source")
        if getattr(options, name) is not None
    ]
    if options.sbs and others:
        raise UsageError(f"`--from` and `--{others[0]}` do not go together", hint="leave one of them out")


def _convert(options: InitOptions) -> tuple[Draft, tuple[Carried, ...]]:
    assert options.sbs is not None
    try:
        with options.sbs.open("rb") as file:
            content = file.read(starter.LARGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read `{options.sbs}`: {error.strerror}") from None
    draft, keys = starter.convert(content, options.sbs.name)
    if options.target:
        draft = replace(draft, data={**draft.data, "target": options.target})
    return draft, keys


def _survey(options: InitOptions, path: Path) -> Draft:
    address = Address.parse(options.source) if options.source else None
    wishes = Wishes(
        target=options.target,
        registry=RegistryWish.parse(options.registry) if options.registry else None,
        push=LoginWish.parse(options.push) if options.push else None,
        runtime=LoginWish.parse(options.runtime) if options.runtime else None,
        compose=options.compose,
        play=options.play,
        source=starter.source(address, ref=options.ref, token=options.token) if address else {},
        comments=starter.source_comments(address) if address else {},
        name=(address.path if address else path.parent.resolve().name)
        .rpartition("/")[2]
        .removesuffix(".git"),
    )
    with _checkout(wishes.source, path.parent) as checkout:
        draft = starter.survey(Folder(checkout, PurePosixPath(checkout.source.subdir)), wishes)
        if checkout.source.clean:
            return draft
    changed = Note(
        "the working tree differs from the commit, and only the commit was looked at",
        None,
        "if that matters, commit, remove the new file and run this again",
    )
    return replace(draft, notes=(changed, *draft.notes))


@contextlib.contextmanager
def _checkout(section: dict[str, Any], directory: Path) -> Iterator[Checkout]:
    """The commit to look at; one from a server is kept in a temporary folder only."""
    settings = Source.model_validate(section)
    secret.take(named.secret for named in (settings.token, settings.ssh_key) if named)
    with (
        tempfile.TemporaryDirectory() as work,
        open_source(settings, directory, Path(work), allow_dirty=True) as checkout,
    ):
        yield checkout


def _steps(options: InitOptions, path: Path, secrets: tuple[str, ...]) -> list[str]:
    """What to do next, in order."""
    steps = []
    if secrets:
        steps.append(
            f"set the secrets {', '.join(secrets)}: environment variables, "
            "or files in the folder `SECURE_BUILD_SECRETS`"
        )
    if not options.source and not options.sbs:
        at = "" if path.parent == Path() else f" -C {shlex.quote(str(path.parent))}"
        name = shlex.quote(path.name)
        steps.append(f"`git{at} add {name} && git{at} commit -m 'Add {path.name}'`")
    named = "" if path == DEFAULT_CONFIG else f" --config {shlex.quote(str(path))}"
    steps.append(f"`secure-build plan{named}` says what would be done")
    steps.append(f"`secure-build run{named}` does it")
    return steps


def _tell(started: Started, report: Report) -> None:
    for row in started.keys:
        report.plain(" ".join(_columns(row)).rstrip())
    for note in started.notes:
        report.note(f"{note.where}: {note.text}" if note.where else note.text, note.hint)
    for line in ("next:", *(f"  {step}" for step in started.steps)):
        report.plain(line)


def _columns(row: Carried) -> tuple[str, str, str]:
    if row.key is None:
        return (f"{starter.shown(row.name):<34}", "unknown ", "not a key that is known; nothing was taken")
    what = "; ".join(filter(None, (row.key.to, row.said or row.key.why)))
    return (f"{row.name:<34}", f"{row.key.outcome:<8}", what)
