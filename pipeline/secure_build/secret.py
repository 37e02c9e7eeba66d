"""Secrets: found by name, printed as `***`, and masked wherever text leaves the program.

A secret's value is reachable through `reveal` only, and revealing registers it with the masker
first. Names are looked up as an environment variable, then as a file in `$SECURE_BUILD_SECRETS`.
Variables with secrets are taken out of the environment as soon as their names are known.
"""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, quote_plus

from secure_build.errors import UsageError

DIRECTORY_VARIABLE = "SECURE_BUILD_SECRETS"
MASK = "***"
# The contract's schema refuses credentials under three characters, and masking one or two
# characters would blank out half of a log.
SHORTEST = 3
_LARGEST = 1 << 20

_lock, _telling = threading.Lock(), threading.RLock()
_masked: set[str] = set()
_listeners: list[Callable[[list[str]], None]] = []
_taken: dict[str, str] = {}


class Secret:
    """A value that prints as `***`."""

    # No dataclass: `dataclasses.asdict` of whatever holds a secret would take the value out of it.
    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself. From here on the masker hides it, each of its lines and its
        base64, JSON and URL forms."""
        _hide(self._value)
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return MASK

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written out")


def take(names: Iterable[str]) -> None:
    """Take these secrets out of the environment, so that no child process inherits them."""
    for name in names:
        if value := os.environ.pop(name, None):
            _taken[name] = value


def look_up(name: str) -> Secret:
    """The secret called `name`; raises UsageError that says where it was looked for."""
    value = _taken.get(name) or os.environ.get(name) or _from_file(name)
    if not value:
        directory = os.environ.get(DIRECTORY_VARIABLE)
        places = f"environment variable `{name}`" + (
            f" or file `{Path(directory) / name}`" if directory else ""
        )
        raise UsageError(
            f"the secret `{name}` is missing",
            hint=f"set the {places}"
            + (
                "" if directory else f", or point `{DIRECTORY_VARIABLE}` at a folder with a file of that name"
            ),
        )
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in value):
        raise UsageError(f"the secret `{name}` is not UTF-8 text")
    if len(value) < SHORTEST:
        raise UsageError(f"the secret `{name}` is shorter than {SHORTEST} characters")
    return Secret(value)


def is_known(name: str) -> bool:
    """Whether the secret called `name` can be looked up."""
    return bool(_taken.get(name) or os.environ.get(name) or _from_file(name))


def mask(text: str) -> str:
    """`text` with every secret revealed so far as `***`, also in base64, JSON and URL form."""
    with _lock:
        values = sorted(_masked, key=len, reverse=True)
    for value in values:
        text = text.replace(value, MASK)
    return text


def tell(listener: Callable[[list[str]], None]) -> None:
    """Tell it of the texts that are hidden from now on, before anybody can use them."""
    _listeners.append(listener)


def basic_authorization(username: str, password: str) -> str:
    """`username:password` in base64 (RFC 7617), hidden by the masker like the password itself."""
    encoded = base64.b64encode(f"{username}:{password}".encode()).decode()
    _hide(encoded)
    return encoded


def _from_file(name: str) -> str | None:
    directory = os.environ.get(DIRECTORY_VARIABLE)
    if not directory:
        return None
    path = Path(directory) / name
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read the secret file `{path}`: {error.strerror}") from None
    if len(content) > _LARGEST:
        raise UsageError(f"the secret file `{path}` is larger than {_LARGEST} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"the secret file `{path}` is not UTF-8 text") from None
    # Editors and `echo` end a file with a newline that nobody means as part of a password.
    return text.removesuffix("\n").removesuffix("\r")


def _hide(value: str) -> None:
    forms = {
        value,
        *value.splitlines(),
        *(quote(value), quote(value, safe=""), quote_plus(value)),
        json.dumps(value)[1:-1],
        base64.b64encode(value.encode()).decode(),
    }
    # Whoever is second waits until all have been told.
    with _telling:
        with _lock:
            new = {form for form in forms if len(form) >= SHORTEST} - _masked
            _masked.update(new)
        for listener in _listeners if new else ():
            listener(sorted(new))
