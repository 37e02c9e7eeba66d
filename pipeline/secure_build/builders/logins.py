"""Logins for a builder: a private Docker config folder that adds ours to the machine's own."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from secure_build import files
from secure_build.errors import UsageError
from secure_build.manifest import load_object
from secure_build.model import Credential
from secure_build.reference import DOCKER_HUB, Repository
from secure_build.registry.auth import HUB_KEY, docker_config_directory
from secure_build.secret import basic_authorization


@contextlib.contextmanager
def docker_config(
    logins: Sequence[Credential],
    folder: Path,
    *,
    store: str | None = None,
    repositories: Mapping[Repository, Credential] | None = None,
    only: bool = False,
) -> Iterator[Path | None]:
    """A Docker config folder with these logins, gone afterwards; None when none is needed.

    What the machine's own config says besides (other logins, contexts, plugins, builder instances)
    stays in force; with `only`, other logins do not. `store` is the credential helper to name for
    our registries: Docker reads `auths` where it is empty. Other readers know no such entry, and
    for them, with None, the machine's credential store is left out, since it would be asked before
    `auths`. They also take logins for single `repositories`.
    """
    if not logins and not repositories and not only:
        yield None
        return
    own = docker_config_directory()
    with tempfile.TemporaryDirectory(prefix=".login-", dir=folder) as made:
        for name in ("contexts", "cli-plugins", "buildx"):
            if (own / name).exists():
                (Path(made) / name).symlink_to((own / name).resolve())
        document = _own_document(own / "config.json")
        if only:
            document |= {"auths": {}, "credHelpers": {}}
        auths, helpers = document["auths"], document["credHelpers"]
        for login in logins:
            key = HUB_KEY if login.registry == DOCKER_HUB else login.registry
            auths[key] = _entry(login)
            helpers.pop(key, None)
            if store is not None:
                helpers[key] = store
        for repository, login in (repositories or {}).items():
            auths[str(repository)] = _entry(login)
        if store is None or only:
            document.pop("credsStore", None)
        files.write(Path(made) / "config.json", json.dumps(document).encode(), mode=files.PRIVATE)
        yield Path(made)


def _entry(login: Credential) -> dict[str, str]:
    return {"auth": basic_authorization(login.username, login.password.reveal())}


def _own_document(path: Path) -> dict[str, Any]:
    try:
        document = load_object(path.read_bytes())
    except FileNotFoundError:
        document = {}
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"the Docker config `{path}` cannot be read: {error}") from None
    for name in ("auths", "credHelpers"):
        section = document.setdefault(name, {})
        if not isinstance(section, dict):
            raise UsageError(f"the Docker config `{path}` cannot be read: `{name}` is no object")
    return document
